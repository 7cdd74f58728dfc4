"""fuzz_load.py - state dicts in wrappers, with what may stand beside them, opened by saed or refused.

    fuzz_load.py DUMP_PT [--seed N] [--seconds N] [--keep DIR]

Which dict of a .pt is the state dict, and whether what stands beside it may be part of the formula,
is decided by rules of saed's own (README, "Your own weights"): no other program does. They are
written here a second time, from the rules, and each file is held to them: it is opened with these
weights and class, or refused. Files are torch.save's; keys are chosen from few, odd ones among
them, so that they meet. Some are read with centre=.

The same seed makes the same files. Runs until the time is over; files that differ are kept, and so is
the one that ends DUMP_PT, which had best be built with sanitizers. Exit 1 when there is one.
"""
import argparse
import os
import random
import subprocess
import sys
import tempfile
import time

import torch

D, F = 2, 3
CLASSES = {
    "AutoEncoder": {"bias": (D,), "encoder.weight": (F, D), "encoder.bias": (F,),
                    "decoder.weight": (D, F)},
    "AutoEncoderNew": {"encoder.weight": (F, D), "encoder.bias": (F,), "decoder.weight": (D, F),
                       "decoder.bias": (D,)},
    "JumpAutoEncoder": {"bias": (D,), "encoder.weight": (F, D), "encoder.bias": (F,), "jump": (F,),
                        "decoder.weight": (D, F)},
    "GatedAutoEncoder": {"decoder_bias": (D,), "encoder.weight": (F, D), "r_mag": (F,),
                         "gate_bias": (F,), "mag_bias": (F,), "decoder.weight": (D, F)},
}
OF_A_K = ("AutoEncoder", "AutoEncoderNew")  # top-k files have their keys too
PREFIXES = ("_orig_mod.", "module.", "sae.")
MATHS = ("norm_factor", "scaling_factor", "scale", "mean", "std")
NAMES = ["", "a", "ae", "model", "a.b", "k", "top_k", "act_mean", "mean", "std", "scale", "norm_factor",
         "scaling_factor", "module.k", "sae.scale", "step", 5, True, None, (1, 2), "module.", "x\0y",
         "\u00e9"]


# ---- files --------------------------------------------------------------------------------------

def thing(r):
    """What may stand in a checkpoint and is no state dict."""
    t = torch.tensor
    return r.choice([3, 0, 1.0, 2.5, True, None, "x", [1], {}, {"k": 3}, {"k": {"k": 2}}, t(3), t(1.0),
                     t(2.0), t(True), torch.arange(3), torch.zeros(0), torch.zeros(1), torch.zeros(D),
                     torch.zeros(2, 2), {"a": torch.zeros(2)}])


def state_dict(r):
    prefix = "".join(r.choices(PREFIXES, k=r.choice([0, 0, 0, 1, 2])))
    sd = {prefix + k: torch.randn(s) for k, s in r.choice(list(CLASSES.values())).items()}
    if r.random() < 0.15:
        del sd[r.choice(list(sd))]
    if r.random() < 0.15:
        sd[r.choice([prefix, ""]) + r.choice(["k", "top_k", "scaling_factor", "mean", "step", ""])] = thing(r)
    return sd


def checkpoint(r):
    top = state_dict(r) if r.random() < 0.25 else {}
    top.update((r.choice(NAMES), thing(r)) for _ in range(r.randint(0, 4)))
    for _ in range(r.choice([0, 1, 1, 1, 1, 2])):
        sd = state_dict(r)
        top.update((r.choice(NAMES), sd) for _ in range(r.choice([1, 1, 1, 1, 2])))
    items = list(top.items())
    r.shuffle(items)
    return dict(items)


# ---- the rules ----------------------------------------------------------------------------------

def is_tensor(v):
    return isinstance(v, torch.Tensor)


def is_name(k):
    return isinstance(k, str) and "\0" not in k


def is_values(v):
    return is_tensor(v) and v.is_floating_point() and v.ndim > 0


def is_k(name, v):
    number = type(v) is int or is_tensor(v) and v.dtype == torch.int64 and v.ndim == 0
    return number and name in ("k", "top_k")


def bare(name):
    while p := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name[len(p):]
    return name


def class_of(d):
    """(class, its tensors) of a dict whose tensors are a class's, or None."""
    tensors = {k: v for k, v in d.items() if is_tensor(v)}
    if not all(map(is_name, tensors)):
        return None
    n = 0
    while p := next((p for p in PREFIXES if tensors and all(k.startswith(p, n) for k in tensors)), None):
        n += len(p)
    short = {k[n:]: v for k, v in tensors.items()}
    for name, keys in CLASSES.items():
        more = [k for k, v in tensors.items() if k[n:] not in keys and k[n:] != "scaling_factor" and
                not (name in OF_A_K and is_k(bare(k), v))]
        if set(keys) <= set(short) and not more:
            return name, short
    return None


def is_part_of_maths(name, v):
    number = type(v) in (int, float) or is_tensor(v) and v.ndim == 0
    floating = number and (not is_tensor(v) or v.is_floating_point())
    is_one = name == "scaling_factor" and floating and abs(float(v) - 1) <= 1e-5
    return number and name in MATHS and not is_one


def are_ones(v):
    return v.is_floating_point() and v.ndim < 2 and v.numel() > 0 and bool(((v - 1).abs() <= 1e-5).all())


def wanted(top, centre):
    """(class, weights) that saed is to find, None: it is to refuse. `centre`: keys that are added."""
    inner = list({id(v): v for v in top.values() if isinstance(v, dict)}.values())
    found = [top] if class_of(top) else [d for d in inner if any(map(is_tensor, d.values())) and class_of(d)]
    if len(found) != 1:
        return None
    chosen = found[0]
    name, weights = class_of(chosen)
    if name in OF_A_K and any(is_name(k) and is_k(bare(k), v) for d in [top] + inner for k, v in d.items()):
        return None
    for d in [chosen] if chosen is top else [top, chosen]:
        for k, v in d.items():
            if is_tensor(v) and d is chosen:
                continue
            if is_values(v) and chosen is not top and not (is_name(k) and k in centre):
                return None
            if is_name(k) and is_part_of_maths(bare(k), v):
                return None
    if "scaling_factor" in weights and not are_ones(weights["scaling_factor"]):
        return None
    for k in centre:
        v = weights.get(k, top.get(k) if chosen is not top else None)
        if not is_values(v) or tuple(v.shape) not in ((D,), (1, D)):
            return None
    return name, {k: weights[k] for k in CLASSES[name]}


# ---- saed ---------------------------------------------------------------------------------------

class Dump:
    """The process that loads; started again when a file has ended it."""

    def __init__(self, program):
        self.program = program
        self.start()

    def start(self):
        self.p = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, source):
        """("ok", class, {key: hex}), ("no", reason, None) or ("ended", "", None)."""
        self.p.stdin.write(source + "\n")
        self.p.stdin.flush()
        said, _, rest = self.p.stdout.readline().rstrip("\n").partition(" ")
        if said == "":
            self.p.wait()
            self.start()
            return "ended", "", None
        values = {}
        while said == "ok" and (line := self.p.stdout.readline()) not in ("end\n", ""):
            key, _, bits = line.rpartition(" : ")
            values[key.split()[0]] = bits.strip()
        return said, rest, values


def bits_of(v):
    return "".join(f"{b & 0xffffffff:08x}" for b in v.contiguous().view(torch.int32).reshape(-1).tolist())


def difference(want, said, what, values, centre):
    if said == "ended":
        return "it ended the program"
    if (said == "ok") != (want is not None):
        return f"wanted {want and want[0]}, got {said} {what}"
    if want and what != want[0]:
        return f"wanted {want[0]}, got {what}"
    for key, v in want[1].items() if want else ():
        if key != "r_mag" and not (centre and key in ("bias", "decoder_bias")) and values[key] != bits_of(v):
            return f"{key} has other values"
    return None


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("dump_pt")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--seconds", type=float, default=20)
    ap.add_argument("--keep", default="build/fuzz-load")
    args = ap.parse_args()
    dump, end = Dump(args.dump_pt), time.time() + args.seconds
    n = n_open = n_differ = 0
    while time.time() < end:
        r = random.Random(f"{args.seed}/{n}")
        torch.manual_seed(n)
        top = checkpoint(r)
        centre = r.choices(["bias", "decoder.bias", "act_mean", "", "mean", "a"],
                           k=r.choice([0, 0, 0, 1, 2]))
        centre = [] if centre == [""] else centre  # a statement has a value
        stated = ":centre=" + "+".join(centre) if centre else ""
        with tempfile.NamedTemporaryFile(suffix=".pt") as f:
            torch.save(top, f)
            f.flush()
            want = wanted(top, centre)
            said, what, values = dump(f.name + stated)
            why = difference(want, said, what, values, centre)
            if why:
                n_differ += 1
                print(f"{n}{stated}: {why}", flush=True)
                os.makedirs(args.keep, exist_ok=True)
                torch.save(top, os.path.join(args.keep, f"{args.seed}-{n}.pt"))
        n += 1
        n_open += said == "ok"
    print(f"{n} files, {n_open} opened, {n_differ} other than wanted")
    return 1 if n_differ else 0


if __name__ == "__main__":
    sys.exit(main())
