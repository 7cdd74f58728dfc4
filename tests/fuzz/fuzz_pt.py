"""fuzz_pt.py - archives of torch.save, changed in structure, read by saed and by PyTorch.

    fuzz_pt.py DUMP_PT [--seed N] [--seconds N] [--keep DIR]

A file begins as what torch.save writes for one of the classes in one of its forms; then some
changes are made to the opcodes of its pickle (ops.py) and to the entries of its archive. saed's
weights (dump_pt) are compared with PyTorch's (judge.py). Differing is: both have weights and a
value, shape or key is not the same; or saed opens what PyTorch does not (but see judge.py on what
stands beside the weights). A file that saed refuses is no difference: refusing more than PyTorch is
what saed's strictness is.

The same seed makes the same files. Runs until the time is over and 500 files were opened by both;
files that differ are kept. The last line sums up; exit 1 when one differs.
"""
import argparse
import collections
import enum
import io
import os
import random
import subprocess
import sys
import tempfile
import time
import types
import warnings
import zipfile

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "golden")]
import judge  # noqa: E402
import ops  # noqa: E402
import ptfile  # noqa: E402

WANTED = 500  # files opened by both
DTYPES = (torch.float32, torch.float32, torch.float16, torch.bfloat16, torch.float64)
SHAPES = {
    "AutoEncoder": {"bias": "d", "encoder.weight": "Fd", "encoder.bias": "F", "decoder.weight": "dF"},
    "GatedAutoEncoder": {"decoder_bias": "d", "encoder.weight": "Fd", "r_mag": "F", "gate_bias": "F",
                         "mag_bias": "F", "decoder.weight": "dF"},
    "JumpAutoEncoder": {"bias": "d", "encoder.weight": "Fd", "encoder.bias": "F", "jump": "F",
                        "decoder.weight": "dF"},
    "AutoEncoderNew": {"encoder.weight": "Fd", "encoder.bias": "F", "decoder.weight": "dF",
                       "decoder.bias": "d"},
    "JumpReluAutoEncoder": {"W_enc": "dF", "b_enc": "F", "W_dec": "Fd", "b_dec": "d", "threshold": "F"},
}


class Colour(enum.Enum):
    RED = 1


# ---- what torch.save writes ---------------------------------------------------------------------

def laid_out(r, shape, dtype, base):
    """A tensor of the shape, in one of the layouts that state dicts have."""
    n = int(np.prod(shape))
    way = r.randrange(7) if r.random() < 0.5 else 6
    values = torch.tensor([r.gauss(0, 1) for _ in range(n)], dtype=torch.float64).to(dtype)
    if way == 0 and base.numel() >= n:  # a view of the storage that the file's tensors share
        at = r.randint(0, base.numel() - n)
        return base[at:at + n].view(shape)
    if way == 1 and len(shape) == 2:
        return values.view(shape[1], shape[0]).t()
    if way == 2:  # every other element, behind an offset
        wide = torch.zeros(2 * n + 3, dtype=dtype)
        wide[3::2][:n] = values
        return wide[3::2][:n].view(shape) if len(shape) == 1 else wide.as_strided(
            shape, (2 * shape[1], 2), 3)
    if way == 3:
        return torch.nn.Parameter(values.view(shape), requires_grad=r.random() < 0.5)
    if way == 4 and r.random() < 0.1:  # more values than the storage has
        return values.view(shape)[:1].expand(shape)
    return values.view(shape)


def state_dict(r):
    name = r.choice(list(SHAPES))
    dims = {"d": r.randint(1, 5), "F": r.randint(1, 7)}
    dtype = r.choice(DTYPES)
    base = torch.tensor([r.gauss(0, 1) for _ in range(90)], dtype=torch.float64).to(dtype)
    keys = list(SHAPES[name].items())
    r.shuffle(keys)
    sd = collections.OrderedDict() if r.random() < 0.6 else {}
    for key, shape in keys:
        t = r.choice(DTYPES) if r.random() < 0.2 else dtype
        sd[key] = laid_out(r, [dims[c] for c in shape], t, base if t == dtype else base.to(t))
    if isinstance(sd, collections.OrderedDict) and r.random() < 0.5:
        sd._metadata = collections.OrderedDict([("", {"version": 1})])
    return sd


def company(r, sd):
    """Entries such as checkpoints have beside the weights."""
    t = r.choice(list(sd.values()))
    return dict(r.sample([
        ("step", r.randrange(10**6)), ("loss", r.random()), ("name", "run"), ("flags", (True, None)),
        ("cfg", {"lr": 1e-3, "betas": [0.9, 0.99], "big": 2**80, "deep": [[{}], ((),)]}),
        ("optimizer", {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"params": [0]}]}),
        ("dtype", torch.float16), ("device", torch.device("cpu")), ("shape", torch.Size([2, 3])),
        ("np", np.float32(1.5)), ("array", np.arange(3)), ("bytes", b"\0\xff"), ("set", {1, 2}),
        ("counter", collections.Counter("ab")), ("deque", collections.deque([1])),
        ("fn", torch.nn.functional.relu), ("complex", 1j), (3, "three"), ((1, "a"), None),
        ("copy", [sd]), ("ids", torch.arange(3)), ("again", {"w": t}), ("frozen", frozenset((1, 2))),
        ("enum", Colour.RED), ("object", types.SimpleNamespace(a=1)), ("array2", bytearray(b"ab")),
        ("ema", {k: v for k, v in sd.items() if r.random() < 0.9}), ("same", sd), ("k", 2.5),
    ], r.randint(0, 4)))


def saved(r):
    sd = state_dict(r)
    form = r.random()
    obj = sd
    if form > 0.4:
        items = list(company(r, sd).items())
        if r.random() < 0.3:
            p = "".join(r.choices(["module.", "_orig_mod.", "sae."], k=r.randint(1, 3)))
            sd = {p + k: v for k, v in sd.items()}
        key = r.choice(["state_dict", "state_dict", "model", "ae", "model_state_dict", "\u00e9"])
        items.insert(r.randint(0, len(items)), (key, sd))
        obj = dict(items)
    out = io.BytesIO()
    torch.save(obj, out, pickle_protocol=r.choice([2, 2, 2, 3, 4, 5]))
    with zipfile.ZipFile(out) as z:
        return [(i.filename.split("/", 1)[1], z.read(i)) for i in z.infolist()]


# ---- the archive --------------------------------------------------------------------------------

def change_records(r, records):
    """One change to the list of (name, bytes)."""
    what = r.randrange(8)
    i = r.randrange(len(records))
    name, data = records[i]
    if what == 0:
        r.shuffle(records)
    elif what == 1:
        del records[i]
    elif what == 2:  # the same name, or the same but for case, with another record's bytes
        records.insert(r.randint(0, len(records)),
                       (r.choice([name, name.upper(), name.title()]), r.choice(records)[1]))
    elif what == 3:
        records[i] = (name, data[:r.randint(0, len(data))] + bytes(r.randrange(4)))
    elif what == 4 and data:
        at = r.randrange(len(data))
        records[i] = (name, data[:at] + bytes([data[at] ^ 1 << r.randrange(8)]) + data[at + 1:])
    elif what == 5:
        j = r.randrange(len(records))
        records[i], records[j] = (name, records[j][1]), (records[j][0], data)
    elif what == 6:
        records.append((r.choice(["data/99", "extra", ".format_version", "byteorder", "version",
                                  ".data/serialization_id", "data.pkl/x", "data/0/0"]),
                        r.choice([b"", b"1", b"3\n", b"little", b"big", data])))
    else:
        records[i] = (r.choice(["data/0", "data/1", "data.pkl", "version", "x", "data/00"]), data)


def archive(r, records):
    no_crcs = r.random() < 0.05
    root = r.choice(["archive", "archive", "a", "x.y", "\u00e9"])
    if r.random() < 0.15:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as z, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that occur twice
            for name, data in records:
                z.writestr(f"{root}/{name}", data,
                           zipfile.ZIP_DEFLATED if r.random() < 0.05 else zipfile.ZIP_STORED)
        return out.getvalue()
    entries = []
    for name, data in records:
        knobs = {"flags": r.choice([0x0808, 0x0800, 0, 8]), "zip64": r.random() < 0.1}
        if r.random() < 0.02:
            knobs[r.choice(["crc", "size", "packed_size", "header", "disk", "attributes"])] = r.choice(
                [0, 1, 8, 16, 64])
        if r.random() < 0.01:
            knobs["local_name"] = r.choice(records)[0]
        if no_crcs:
            knobs["crc"] = 0
        entries.append(ptfile.Entry(f"{root}/{name}", data, **knobs))
    return ptfile.archive(entries, align=r.choice([1, 4, 64]), zip64_end=r.random() < 0.8,
                          comment=b"c" if r.random() < 0.01 else b"")


def make(r):
    """(bytes of a file, what was done to it)."""
    records = saved(r)
    done = []
    for i, (name, data) in enumerate(records):
        if name == "data.pkl":
            pickle = ops.Pickle(data)
            for _ in range(r.choice([0, 1, 1, 2, 2, 3, 5])):
                done.append(pickle.change(r))
            records[i] = (name, pickle.bytes())
    if r.random() < 0.15:
        change_records(r, records)
        done.append("records")
    data = archive(r, records)
    if r.random() < 0.05:  # half of them in the directory, where readers differ
        at = r.randrange(r.choice([0, data.find(b"PK\1\2")]), len(data))
        data = data[:at] + bytes([r.randrange(256)]) + data[at + 1:]
        done.append("byte")
    return data, done


# ---- saed ---------------------------------------------------------------------------------------

class Saed:
    def __init__(self, program):
        self.p = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                  errors="replace")

    def __call__(self, path):
        """(class, {key: (shape, bits)}), or None when it refuses."""
        self.p.stdin.write(path + "\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        if line.startswith("no "):
            return None
        if not line.startswith("ok "):
            sys.exit(f"dump_pt said {line!r} of {path}")
        name, tensors = line[3:-1], {}
        while (line := self.p.stdout.readline()) != "end\n":
            left, _, hexes = line.rstrip("\n").partition(" : ")
            key, *shape = left.split()
            bits = np.frombuffer(bytes.fromhex(hexes), dtype=">u4").astype(np.uint32)
            tensors[key] = (tuple(map(int, shape)), bits)
        return name, tensors


def main():
    a = argparse.ArgumentParser()
    a.add_argument("dump")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--seconds", type=float, default=30)
    a.add_argument("--keep", default="build/fuzz-pt")
    a = a.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"fuzz-pt: seed {a.seed}, PyTorch {torch.__version__}, weights_only "
          f"{'too' if judge.HAS_WEIGHTS_ONLY else 'is not there'}", flush=True)
    r = random.Random(a.seed)
    with tempfile.TemporaryDirectory() as tmp:
        judge.check_restricted(tmp)
    saed, torch_says = Saed(a.dump), judge.Judge()
    made = both = plain = beside = differing = 0
    end = time.monotonic() + a.seconds
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "f.pt")
        while time.monotonic() < end or both < WANTED:
            data, done = make(r)
            with open(path, "wb") as f:
                f.write(data)
            made += 1
            ours = saed(path)
            if ours is None:
                continue
            verdict, said = torch_says(path, *ours)
            if verdict == "same":
                both += 1
                plain += not done
                continue
            if verdict == "beside":
                beside += 1
                continue
            differing += 1
            os.makedirs(a.keep, exist_ok=True)
            kept = os.path.join(a.keep, f"seed{a.seed}-{made}.pt")
            with open(kept, "wb") as f:
                f.write(data)
            print(f"differs: {kept}: {', '.join(done)}: {said}", flush=True)
    print(f"fuzz-pt: seed {a.seed}: {made} files made, {both} opened by both ({both - plain} of them "
          f"changed), {beside} whose entries beside the weights PyTorch cannot make, {differing} "
          "differing")
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
