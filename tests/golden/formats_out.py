"""formats_out.py - writes the files of the fixtures of formats, and what is wanted of them.

A family's cases stand in formats/FAMILY.gold, a line each:

    case NAME                what follows is one case
    source TEXT              as on the command line, behind the folder
    class, format            as shown
    line TEXT                a line of the reading that --check prints
    note TEXT
    rows N d VALUES          rows of x for the cases from here on
    dims N d F m [near]      m 0: it does not decode; near: values are rounded
    f, y, s VALUES           N rows of each: features, x_hat, the rows' own numbers
    refused STATUS           in place of class to s: the exit status
    said TEXT                what its message holds

Values are decimals that read back to the same f32 (near ones: 9 digits), or nan, inf, -inf.
"""
import collections
import json
import os
import struct

import numpy as np
import torch

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "formats")
gold = collections.defaultdict(list)
family = [None]


def begin(name):
    family[0] = name


def put(text):
    gold[family[0]].append(text + "\n")


def finish():
    for name, lines in gold.items():
        with open(path(name + ".gold"), "w", encoding="utf-8") as out:
            out.write("".join(lines))


# ---- cases ----


def number(v, near):
    v = float(v) + 0.0  # no negative zero
    if near or not np.isfinite(v):
        return f"{v:.9g}"
    assert float(np.float32(v)) == v, v
    text = np.format_float_positional(np.float32(v), trim="-")
    return text[1:] if text.startswith("0.") else text


def values(key, rows, near=False):
    put(" ".join([key] + [number(v, near) for row in rows for v in row]))


def rounding(dtype):
    """What is said of matrices of 16 bits."""
    return f"the producer computes in {dtype}; differences of 1e-2 are its rounding"


last_rows = [None]


def case(name, source, cls, lines, model, x, notes=(), near=False, fmt=None, m=None):
    """m 0: it does not decode."""
    fs = [model.encode(r) for r in x]
    put(f"case {name}")
    put(f"source {family[0]}/{source}")
    put(f"class {cls}")
    put(f"format {fmt or family[0]}")
    for t in lines:
        put(f"line {t}")
    for t in notes:
        put(f"note {t}")
    ys = [() if m == 0 else model.decode(f, r) for f, r in zip(fs, x)]
    key = (family[0], x.tobytes())
    if key != last_rows[0]:
        last_rows[0] = key
        values(f"rows {len(x)} {len(x[0])}", x)
    put(f"dims {len(x)} {len(x[0])} {len(fs[0])} {len(ys[0])}{' near' if near else ''}")
    values("f", fs, near)
    if m != 0:
        values("y", ys, near)
    if near:
        values("s", [model.state(r) for r in x], near)


def refused(name, source, *said, status=1):
    put(f"case {name}")
    put(f"source {family[0]}/{source}")
    put(f"refused {status}")
    for t in said:
        put(f"said {t}")


# ---- files ----

DTYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "int32": "I32", "int64": "I64"}


def f32(**tensors):
    """Tensors by name, `__` for a dot."""
    return {k.replace("__", "."): np.array(v, np.float32) for k, v in tensors.items()}


def path(*parts):
    p = os.path.join(HERE, *parts)
    os.makedirs(os.path.dirname(p), exist_ok=True)
    return p


class BF16:
    """An array of bf16: the upper half of f32, of values that are exact in it."""

    def __init__(self, a):
        bits = np.ascontiguousarray(a, np.float32).view(np.uint32)
        assert not (bits & 0xffff).any()
        self.shape, self.bits, self.f32 = a.shape, (bits >> 16).astype(np.uint16), np.array(a)


def bf16(tensors, names):
    return {k: BF16(v) if k in names else v for k, v in tensors.items()}


def safetensors(name, tensors):
    head, blob = {}, b""
    for key, a in tensors.items():
        is_bf16 = isinstance(a, BF16)
        data = a.bits.tobytes() if is_bf16 else np.ascontiguousarray(a).tobytes()
        head[key] = {"dtype": "BF16" if is_bf16 else DTYPES[a.dtype.name], "shape": list(a.shape),
                     "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(head, separators=(",", ":")).encode()
    with open(path(family[0], name), "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + blob)


def config(name, value):
    with open(path(family[0], name), "w", encoding="utf-8") as out:
        out.write(value if isinstance(value, str) else json.dumps(value))


def tensor(v):
    if isinstance(v, BF16):
        return torch.from_numpy(v.f32).to(torch.bfloat16)
    return v if isinstance(v, torch.Tensor) else torch.from_numpy(np.array(v))


def pt(name, tensors, under=None, top=False, **beside):
    """The state dict alone, or under a key with what stands beside it, or all at the top."""
    state = collections.OrderedDict((k, tensor(v)) for k, v in tensors.items())
    beside = {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in beside.items()}
    whole = state if not under and not top else dict(beside, **state) if top else {**beside, under: state}
    torch.save(whole, path(family[0], name))


def transposed(a):
    """A tensor of a's values that lies in memory the other way round: strides (1, rows)."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(a).T)).T
