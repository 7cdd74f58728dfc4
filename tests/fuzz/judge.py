"""judge.py - what PyTorch makes of a .pt file, in a process of its own that may die of it.

Two readers of PyTorch's, both without running what a file names:
  weights_only  torch.load(path, weights_only=True), where the installed torch has it
  restricted    what torch.load calls for a zip, with a pickle.Unpickler whose find_class knows the
                functions that a state dict needs; every other name is a class that takes whatever
                is done to it. (torch.load itself does not heed pickle_module in every version.)
A file is opened by PyTorch when either reader opens it, and each that does must have the weights
that saed has. The weights are found in the object by weights_of, written from the contract.

PyTorch makes every entry, saed only the weights: an entry beside them whose making fails (a dtype
that is called, a tensor without its arguments) ends torch.load, and saed never learns of it. So
where both readers refuse, a third looks: `lenient` is the pickle module's machine in Python, to
which what fails on anything but a dict or list is a value of no use. If the weights that it finds
are saed's, the file is "beside" and no difference; a useless value among the weights is one.
"""
import collections
import inspect
import multiprocessing
import os
import pickle
import resource
import types

import numpy as np
import torch

import ptfile

HAS_WEIGHTS_ONLY = "weights_only" in inspect.signature(torch.load).parameters

CLASSES = {
    "AutoEncoder": {"bias", "encoder.weight", "encoder.bias", "decoder.weight"},
    "GatedAutoEncoder": {"decoder_bias", "encoder.weight", "r_mag", "gate_bias", "mag_bias",
                         "decoder.weight"},
    "JumpAutoEncoder": {"bias", "encoder.weight", "encoder.bias", "jump", "decoder.weight"},
    "AutoEncoderNew": {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"},
    "JumpReluAutoEncoder": {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"},
}



def rebuild_tensor_v2(*args):
    """With the metadata that PyTorch 2 added behind the sixth argument, where it says nothing."""
    if len(args) == 7 and (args[6] is None or (isinstance(args[6], dict) and not any(args[6].values()))):
        args = args[:6]
    return torch._utils._rebuild_tensor_v2(*args)


KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
}


class Opaque:
    """Stands for whatever a name may be. Nothing done to it has any effect."""

    def __new__(cls, *args, **kwargs):
        return object.__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def nothing(self, *args, **kwargs):
        return None

    __call__ = __setitem__ = __setstate__ = append = extend = add = update = nothing


class Unmade(Opaque):
    """A tensor whose making failed."""


class Restricted(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return type("Opaque", (Opaque,), {})


def forgiving(name):
    """The opcode's function in pickle._Unpickler, its failures on what is no dict or list undone."""
    run = getattr(pickle._Unpickler, name)
    makes = name in ("load_reduce", "load_newobj")

    def load(self):
        kept = list(self.stack), [list(s) for s in self.metastack]
        try:
            run(self)
        except Exception:
            self.stack[:], metastack = kept[0], kept[1]
            self.metastack[:] = metastack
            marked = name in ("load_setitems", "load_appends")
            if marked:
                self.pop_mark()
            else:
                del self.stack[-2 if name == "load_setitem" else -1:]
            if isinstance(self.stack[-1], (dict, list)):
                raise
            if makes:
                function = kept[0][-2]
                is_tensor = "rebuild" in getattr(function, "__name__", "")
                self.stack[-1] = Unmade() if is_tensor else Opaque()

    return load


class Lenient(pickle._Unpickler):
    find_class = Restricted.find_class
    dispatch = dict(pickle._Unpickler.dispatch)
    for code, name in ((pickle.REDUCE, "load_reduce"), (pickle.NEWOBJ, "load_newobj"),
                       (pickle.BUILD, "load_build"), (pickle.SETITEM, "load_setitem"),
                       (pickle.SETITEMS, "load_setitems"), (pickle.APPEND, "load_append"),
                       (pickle.APPENDS, "load_appends")):
        dispatch[code[0]] = forgiving(name)


def load_with(unpickler):
    def load(path):
        with open(path, "rb") as f, torch.serialization._open_zipfile_reader(f) as z:
            return torch.serialization._load(z, "cpu", types.SimpleNamespace(Unpickler=unpickler),
                                             encoding="utf-8")

    return load


load_restricted, load_lenient = load_with(Restricted), load_with(Lenient)


def load_weights_only(path):
    return torch.load(path, map_location="cpu", weights_only=True)


READERS = {"restricted": load_restricted}
if HAS_WEIGHTS_ONLY:
    READERS["weights_only"] = load_weights_only


def check_restricted(tmp):
    """Raise unless a name stays a name: nothing here may run what a file says."""
    path = os.path.join(tmp, "call.pt")
    with open(path, "wb") as f:
        f.write(ptfile.pt(ptfile.glob("os", "getpid") + b")R"))
    if not isinstance(load_restricted(path), Opaque):
        raise RuntimeError("this PyTorch does not use the restricted unpickler")


def tensors_of(d):
    """The tensors of a dict (what else stands in it is nobody's weight) by their keys without what
    stands before all of these; None when one of the keys is no string."""
    if any(not isinstance(k, str) and isinstance(v, (torch.Tensor, Unmade)) for k, v in d.items()):
        return None
    d = {k: v for k, v in d.items() if isinstance(v, torch.Tensor)}
    prefixes = ("_orig_mod.", "module.", "sae.")
    while p := next((p for p in prefixes if d and all(k.startswith(p) for k in d)), None):
        d = {k[len(p):]: v for k, v in d.items()}
    return d


def weights_of(obj):
    """The state dict in what torch.load gave, as the contract finds it: the top, or the one dict
    right below it whose tensors have a class's keys."""
    plain = (dict, collections.OrderedDict)
    if type(obj) not in plain:
        raise TypeError("no dict")
    found = {}
    for d in [obj] + [v for v in obj.values() if type(v) in plain]:
        tensors = tensors_of(d)
        if tensors is not None and set(tensors) in CLASSES.values():
            found[id(d)] = tensors
            if d is obj:
                break
    if len(found) != 1:
        raise TypeError(f"the tensors of {len(found)} dicts have a class's keys")
    return next(iter(found.values()))


def difference(obj, name, tensors):
    """How the weights of `obj` differ from saed's, or None."""
    sd = weights_of(obj)
    if set(sd) != CLASSES[name]:
        return f"torch's keys are {sorted(map(str, sd))}"
    for key, (shape, bits) in tensors.items():
        t = sd[key]
        is_row = len(shape) == 1 and tuple(t.shape) == (1, *shape)  # a vector may be stored so
        if tuple(t.shape) != shape and not is_row:
            return f"{key} has shape {tuple(t.shape)}, not {shape}"
        v = t.detach().to(torch.float32).contiguous().numpy().reshape(-1)
        if key == "r_mag":
            want = np.exp(v.astype(np.float64)).astype(np.float32).view(np.int32)
            same = (abs(want.astype(np.int64) - bits.view(np.int32)) <= 1).all()
        else:
            same = (v.view(np.uint32) == bits).all()
        if not same:
            return f"{key} has other values"
    return None


def read(load, path, name, tensors):
    """"refused: why", "same" or "differs: how"."""
    try:
        obj = load(path)
    except Exception as e:  # whatever a hostile file brings about
        return f"refused: {type(e).__name__}: {' '.join(str(e).split())[:200]}"
    try:
        d = difference(obj, name, tensors)
    except Exception as e:
        d = f"{type(e).__name__}: {e}"
    return f"differs: {d}" if d else "same"


def judge(path, name, tensors):
    """("same" | "beside" | "differs", what each reader said)."""
    said = {reader: read(load, path, name, tensors) for reader, load in READERS.items()}
    opened = [s for s in said.values() if not s.startswith("refused")]
    if opened:
        return "same" if all(s == "same" for s in opened) else "differs", said
    said["lenient"] = read(load_lenient, path, name, tensors)
    return "beside" if said["lenient"] == "same" else "differs", said


def serve(pipe):
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    torch.set_num_threads(1)
    while True:
        pipe.send(judge(*pipe.recv()))


class Judge:
    """The process that judges; started again when a file has killed it."""

    def __init__(self):
        self.start()

    def start(self):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def __call__(self, *case):
        try:
            self.pipe.send(case)
            if self.pipe.poll(60):
                return self.pipe.recv()
        except (EOFError, OSError):
            pass
        self.process.kill()
        self.process.join()
        self.start()
        return "differs", {"torch": "died or hung"}
