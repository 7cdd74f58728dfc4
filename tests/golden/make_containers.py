"""Write the safetensors, .npz and .npy files of tests/golden/containers and tests/invalid/weights.

tests/golden/containers/NAME with NAME.want beside it, as make_pt.py describes; tests/invalid/weights/
NAME/input with `error`. Valid arrays are written by numpy itself, the rest byte by byte, where it can
be read what is wrong with it. Run with Debian's python3-torch: /usr/bin/python3
tests/golden/make_containers.py
"""
import io
import json
import os
import struct
import zlib

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "containers")
INVALID = os.path.join(HERE, os.pardir, "invalid", "weights")
FLOATS = (np.float16, np.float32, np.float64)


def want(tensors):
    """tensors: name -> array, or (array, dtype's name) where numpy has no such dtype."""
    lines = []
    for name, t in tensors.items():
        t, dtype = t if isinstance(t, tuple) else (t, t.dtype.name)
        lines.append(" ".join([name, dtype, str(t.ndim), *map(str, t.shape)]))
        if t.dtype.type in FLOATS and t.ndim in (1, 2):
            bits = np.ascontiguousarray(t.astype(np.float32)).reshape(-1).view(np.uint32)
            lines.append(" ".join(f"{b:08x}" for b in bits))
        elif t.dtype.kind in "iub" and t.ndim == 0:
            lines.append(str(int(t)))
    return "\n".join(lines) + "\n"


def golden(name, data, tensors):
    with open(os.path.join(GOLDEN, name), "wb") as f:
        f.write(data)
    with open(os.path.join(GOLDEN, name + ".want"), "w") as f:
        f.write(want(tensors))


def invalid(name, data, *fragments):
    d = os.path.join(INVALID, name)
    os.makedirs(d, exist_ok=True)
    with open(os.path.join(d, "input"), "wb") as f:
        f.write(data)
    with open(os.path.join(d, "error"), "w") as f:
        f.write("\n".join(fragments) + "\n")


# ---- safetensors ---------------------------------------------------------------------------------

NAMES = {"f2": "F16", "f4": "F32", "f8": "F64", "i1": "I8", "i2": "I16", "i4": "I32", "i8": "I64",
         "u1": "U8", "u2": "U16", "u4": "U32", "u8": "U64", "b1": "BOOL"}


def file(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(name, dtype="F32", shape="[4]", begin=0, end=16, more=""):
    return '"%s":{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]%s}' % (name, dtype, shape, begin,
                                                                        end, more)


def safetensors(tensors, metadata=None, spaces=0):
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, t in tensors.items():
        t, dtype = t if isinstance(t, tuple) else (t, NAMES[t.dtype.str[1:]])
        header[name] = {"dtype": dtype, "shape": list(t.shape),
                        "data_offsets": [len(data), len(data) + t.nbytes]}
        data += t.tobytes()
    return file(json.dumps(header, separators=(",", ":")) + " " * spaces, data)


def valid_safetensors():
    a = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
    golden("plain.safetensors", safetensors({"w": a, "b": a[0]}), {"w": a, "b": a[0]})
    kinds = {"half": a.astype("f2"), "single": a, "double": a.astype("f8") / 3, "byte": a.astype("i1"),
             "cube": np.ones((2, 1, 2), "f4"), "k": np.array(64), "k32": np.array(-7, "i4"),
             "u": np.array(200, "u1"), "u16": np.array(65535, "u2"), "yes": np.array(True),
             "most": np.array(2**63 - 1, "u8")}
    golden("kinds.safetensors", safetensors(kinds), kinds)
    brain = a.view(np.uint32) >> 16
    golden("brain.safetensors",
           safetensors({"w": (brain.astype(np.uint16), "BF16")}),
           {"w": ((brain << 16).astype(np.uint32).view(np.float32), "bfloat16")})
    golden("null_metadata.safetensors",
           file('{"__metadata__":null,' + entry("w") + "}", a.tobytes()[:16]), {"w": a.reshape(-1)[:4]})
    golden("metadata.safetensors",
           safetensors({"w": a[1]}, {"format": "pt", "k": "64", "é": "ü"}), {"w": a[1]})
    golden("spaces.safetensors", safetensors({"w": a[2]}, spaces=13), {"w": a[2]})
    empty = {"none": np.zeros((0, 5), "f4"), "w": a, "tail": np.zeros((0,), "f2"),
             "alone": np.array(0.5, "f4")}
    # One without bytes begins where the next does, and comes first.
    golden("empty.safetensors", safetensors(empty),
           {k: empty[k] for k in ("none", "w", "tail", "alone")})
    golden("no_tensors.safetensors", file("{}"), {})
    golden("escaped.safetensors", file('{"w\\u002e\\u00e9":' + entry("x")[4:] + "}", a.tobytes()[:16]),
           {"w.é": a.reshape(-1)[:4]})


def invalid_safetensors():
    z = bytes(64)
    one = "{" + entry("w") + "}"

    invalid("st-short", b"\x10\0\0\0\0\0\0", "file", "7 bytes are too few")
    invalid("st-length-beyond", file(one, z[:16], 1000), "the header length is 1000",
            "the file has 79 bytes")
    invalid("st-length-huge", file(one, z[:16], 2**63), "the header length is 9223372036854775808")
    invalid("st-first-byte", file(" " + one, z[:16]), "header: ", "does not begin with {")
    invalid("st-behind-header", file(one + "\n", z[:16]), "does not end with }, but for spaces")
    invalid("st-two-headers", file(one + " {}", z[:16]), "expected the end of the text")
    invalid("st-no-json", file('{"w":}', z[:16]), "expected a value")
    invalid("st-no-utf8", file(b'{"w\xff":' + entry("x")[4:].encode() + b"}", z[:16]), "no valid UTF-8")
    invalid("st-name-twice", file("{" + entry("w") + "," + entry("w", begin=16, end=32) + "}", z[:32]),
            'duplicate key "w"')
    invalid("st-key-twice", file("{" + entry("w", more=',"shape":[4]') + "}", z[:16]),
            'duplicate key "shape"')
    invalid("st-unknown-key", file("{" + entry("w", more=',"strides":[1]') + "}", z[:16]), "w: ",
            'the unknown key "strides"')
    invalid("st-no-dtype", file('{"w":{"shape":[4],"data_offsets":[0,16]}}', z[:16]),
            "not an object with dtype, shape and data_offsets")
    invalid("st-begin-above-end", file("{" + entry("w", begin=16, end=0) + "}", z[:16]),
            "data_offsets are not ascending, 16 and 0")
    invalid("st-offsets", file("{" + entry("w").replace("[0,16]", "[0,16,20]") + "}", z[:16]),
            "data_offsets are not two")
    invalid("st-size", file("{" + entry("w", end=12) + "}", z[:12]), "w: ",
            "4 values of F32 do not fit its 12 bytes")
    invalid("st-overlap", file("{" + entry("a") + "," + entry("b", begin=8, end=24) + "}", z[:24]), "b: ",
            "it begins at 8, the one before ends at 16: they overlap")
    invalid("st-hole", file("{" + entry("a") + "," + entry("b", begin=24, end=40) + "}", z[:40]), "b: ",
            "it begins at 24, the one before ends at 16: a hole")
    invalid("st-tail", file(one, z[:20]), "file: ", "16 bytes of the buffer's 20 belong to a tensor")
    invalid("st-cut", file(one, z[:12]), "w: ", "it ends at 16, the buffer has 12 bytes")
    invalid("st-metadata-number", file('{"__metadata__":{"k":64},' + entry("w") + "}", z[:16]),
            "__metadata__: ", 'the value of "k" is not a string')
    invalid("st-metadata-list", file('{"__metadata__":[],' + entry("w") + "}", z[:16]), "not an object")
    invalid("st-dimension", file("{" + entry("w", shape="[9223372036854775808,0]", end=0) + "}"),
            "dimension 0 of its shape is no integer of 0 to 9223372036854775807")
    invalid("st-negative", file("{" + entry("w", shape="[-4]") + "}", z[:16]), "dimension 0 of its shape")
    invalid("st-product", file("{" + entry("w", shape="[4294967296,4294967296]") + "}", z[:16]),
            "the product of its shape passes 64 bits")
    invalid("st-depth", file('{"w":{"dtype":"F32","shape":[[[4]]],"data_offsets":[0,16]}}', z[:16]),
            "nested deeper than 4")
    invalid("st-f8", file("{" + entry("w", "F8_E4M3", "[16]") + "}", z[:16]), "w: ",
            "its dtype is F8_E4M3; F32, F16")
    invalid("st-c64", file("{" + entry("w", "C64", "[2]") + "}", z[:16]), "its dtype is C64")
    invalid("st-no-such-dtype", file("{" + entry("w", "F33") + "}", z[:16]), 'no dtype "F33"')
    invalid("st-nine-dimensions", file("{" + entry("w", shape="[1,1,1,1,1,1,1,1,4]") + "}", z[:16]),
            "it has 9 dimensions, at most 8")
    invalid("st-nan", file(one, struct.pack("<4f", 1, 2, float("nan"), 4)), "w: ",
            "its value at [2] is ", "a finite number is wanted")


# ---- .npy ----------------------------------------------------------------------------------------

def saved(a, version=None):
    b = io.BytesIO()
    np.lib.format.write_array(b, a, version=version)
    return b.getvalue()


def npy(literal, data=b"", version=(1, 0), length=None):
    text = literal.encode()
    n = len(text) if length is None else length
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version[0] == 1 else "<I", n) + text + data


def literal(descr="'<f4'", order="False", shape="(4,)", more=""):
    return "{'descr': %s, 'fortran_order': %s, 'shape': %s, %s}\n" % (descr, order, shape, more)


def valid_npy():
    a = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
    golden("plain.npy", saved(a), {"array": a})
    golden("fortran.npy", saved(np.asfortranarray(a)), {"array": a})
    golden("double.npy", saved(np.asfortranarray(a.astype("f8") / 3)), {"array": a.astype("f8") / 3})
    golden("half.npy", saved(a.astype("f2")[0]), {"array": a.astype("f2")[0]})
    golden("version_2.npy", saved(a, (2, 0)), {"array": a})
    golden("version_3.npy", saved(a, (3, 0)), {"array": a})
    golden("scalar.npy", saved(np.array(-3, "i2")), {"array": np.array(-3, "i2")})
    golden("bytes.npy", saved(np.array([1, 200], "u1")), {"array": np.array([1, 200], "u1")})
    golden("yes.npy", saved(np.array(True)), {"array": np.array(True)})
    golden("empty.npy", saved(np.zeros((0, 5), "f4")), {"array": np.zeros((0, 5), "f4")})
    golden("tight.npy", npy('{"shape":(2,2),"fortran_order":True,"descr":"<f4"}', a.tobytes()[:16]),
           {"array": a.reshape(-1)[:4].reshape(2, 2).T})


def invalid_npy():
    z = bytes(16)
    invalid("npy-magic", npy(literal(), z)[:10], "array: ", "does not begin with \\x93NUMPY, a version")
    invalid("npy-version-0", npy(literal(), z, (0, 0)), "its version is 0.0, 1.0 to 3.0 are read")
    invalid("npy-version-4", npy(literal(), z, (4, 0)), "its version is 4.0")
    invalid("npy-version-1.1", npy(literal(), z, (1, 1)), "its version is 1.1")
    invalid("npy-header-beyond", npy(literal(), b"", length=5000), "its header of 5000 bytes ends behind")
    invalid("npy-header-65kb", npy(literal() + " " * 65536, z, (2, 0)), "at most 65536 are read")
    invalid("npy-key-missing", npy("{'descr': '<f4', 'shape': (4,)}", z), "lacks the key fortran_order")
    invalid("npy-key-surplus", npy(literal(more="'order': 'C'"), z), "has the key order, only descr")
    invalid("npy-key-twice", npy(literal(more="'shape': (4,)"), z), "has the key shape twice")
    invalid("npy-no-dict", npy("['descr', '<f4']", z), "no literal of a dict: '{' is wanted at byte 0")
    invalid("npy-call", npy(literal(shape="__import__('os').system('true')"), z), "a tuple is wanted")
    invalid("npy-shape-number", npy(literal(shape="(4)"), z), "a comma is wanted")
    invalid("npy-shape-negative", npy(literal(shape="(-4,)"), z), "a dimension is wanted")
    invalid("npy-order-number", npy(literal(order="0"), z), "True or False is wanted")
    invalid("npy-escape", npy(literal(descr="'\\x3cf4'"), z), "a string without escapes is wanted")
    invalid("npy-more-behind", npy(literal() + "1", z), "nothing more is wanted")
    invalid("npy-open", npy("{'descr': '<f4'", z), "',' or '}' is wanted")
    invalid("npy-nine-dimensions", npy(literal(shape="(1,1,1,1,1,1,1,1,4)"), z), "more than 8 dimensions")
    invalid("npy-dimension", npy(literal(shape="(9223372036854775808,)"), z), "passes 63 bits")
    invalid("npy-product", npy(literal(shape="(4294967296, 4294967296)"), z), "passes 64 bits")
    invalid("npy-too-small", npy(literal(shape="(3,)"), z), "3 values of float32 do not fit the 16 bytes")
    invalid("npy-too-large", npy(literal(shape="(5,)"), z), "5 values of float32 do not fit the 16 bytes")
    invalid("npy-objects", saved_objects(), "its descr is '|O': objects, which are pickles")
    invalid("npy-structures", saved(np.zeros(2, [("a", "f4"), ("b", "i4")])), "an array of structures")
    invalid("npy-void", saved(np.zeros(2, "V8")), "its descr is '|V8': structures")
    invalid("npy-big-endian", saved(np.zeros(4, ">f4")), "its descr is '>f4', big-endian")
    invalid("npy-complex", saved(np.zeros(2, "c8")), "its descr is '<c8': complex numbers")
    invalid("npy-text", saved(np.array(["a"])), "its descr is '<U1': strings")
    invalid("npy-native", npy(literal(descr="'=f4'"), z), "its descr is '=f4', wanted one of")
    invalid("npy-long-double", npy(literal(descr="'<f16'", shape="(1,)"), z), "its descr is '<f16'")
    invalid("npy-no-order", npy(literal(descr="'|f4'"), z), "its descr is '|f4'")
    invalid("npy-infinite", saved(np.array([1, np.inf], "f2")), "array: ", "its value at [1] is inf")
    invalid("npy-beyond-f32", saved(np.array([1e300])), "its value at [0] is 1e+300", "which float32 cannot hold")


def saved_objects():
    b = io.BytesIO()
    np.save(b, np.array([{}], dtype=object), allow_pickle=True)
    return b.getvalue()


# ---- .npz ----------------------------------------------------------------------------------------

def deflated(data):
    c = zlib.compressobj(9, zlib.DEFLATED, -15)
    return c.compress(data) + c.flush()


class Part:
    """One entry. What is None follows from the data."""

    def __init__(self, name, data, packed=None, crc=None, size=None, flags=0, method=None):
        self.name, self.flags = name.encode(), flags
        self.method = 8 if method is None and packed is not None else method or 0
        self.packed = data if packed is None else packed
        self.crc = zlib.crc32(data) if crc is None else crc
        self.size = len(data) if size is None else size


def archive(*parts):
    out, central = b"", b""
    for p in parts:
        sizes = (p.crc, len(p.packed), p.size)
        central += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, p.flags, p.method, 0, 0, *sizes,
                               len(p.name), 0, 0, 0, 0, 0, len(out)) + p.name
        out += struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, p.flags, p.method, 0, 0, *sizes,
                           len(p.name), 0) + p.name + p.packed
    return out + central + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, len(parts), len(parts),
                                       len(central), len(out), 0)


def savez(save, arrays):
    b = io.BytesIO()
    save(b, **arrays)
    return b.getvalue()


def valid_npz():
    a = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
    arrays = {"W_enc": a, "b_enc": a[0], "turned": np.asfortranarray(a.astype("f8") / 3),
              "half": a.astype("f2"), "k": np.array(64), "empty": np.zeros((0, 2), "f4")}
    golden("stored.npz", savez(np.savez, arrays), arrays)
    golden("deflated.npz", savez(np.savez_compressed, arrays), arrays)
    golden("folder.npz", archive(Part("layer/w.npy", saved(a))), {"layer/w": a})


def invalid_npz():
    whole = saved(np.arange(4, dtype=np.float32))
    good = Part("a.npy", whole)
    packed = deflated(whole)
    changed = whole[:-1] + b"\x41"

    invalid("npz-no-npy", archive(good, Part("readme.txt", b"x")), "readme.txt: ", "is no .npy")
    invalid("npz-no-name", archive(good, Part(".npy", whole)), "is no .npy")
    invalid("npz-name-twice", archive(good, good), "two entries have this name")
    invalid("npz-encrypted", archive(Part("a.npy", whole, flags=1)), "it is encrypted")
    invalid("npz-method", archive(Part("a.npy", whole, method=12)), "its method is 12")
    invalid("npz-stored-crc", archive(Part("a.npy", changed, crc=zlib.crc32(whole))), "a: ", "the CRC of")
    invalid("npz-deflated-crc", archive(Part("a.npy", whole, packed, zlib.crc32(changed))), "the CRC of")
    # Written without CRCs: fine in a .pt, never in one of numpy's.
    invalid("npz-no-crc", archive(Part("a.npy", whole, crc=0)), "the CRC of", "00000000 is recorded")
    invalid("npz-endless", archive(Part("a.npy", whole, deflated(whole + bytes(100)))),
            "goes on behind its %d bytes" % len(whole))
    invalid("npz-surplus-packed", archive(Part("a.npy", whole, packed + b"\0")), "goes on behind its")
    invalid("npz-packed-cut", archive(Part("a.npy", whole, deflated(whole[:-4]))), "ends before its")
    invalid("npz-packed-no-end", archive(Part("a.npy", whole, packed[:-3])), "ends before its")
    invalid("npz-packed-damaged", archive(Part("a.npy", whole, b"\x07" + packed[1:])), "is damaged")
    invalid("npz-bomb", archive(Part("a.npy", whole, packed, size=1 << 31)), "cannot give its 2147483648")
    invalid("npz-size-small", archive(Part("a.npy", whole[:-4])), "4 values of float32 do not fit the 12")
    invalid("npz-size-large", archive(Part("a.npy", whole + bytes(4))), "do not fit the 20 bytes")
    invalid("npz-objects", archive(good, Part("o.npy", saved_objects())), "o: ", "objects, which are")
    invalid("npz-nan", archive(Part("w.npy", saved(np.array([[1, 2], [np.nan, 4]], "f4")))), "w: ",
            "its value at [1, 0] is ")


# ---- dictionaries --------------------------------------------------------------------------------

def dictionaries():
    """Two of make_golden.py's state dicts in the other containers: tests/http/test_containers.c."""
    data = os.path.join(HERE, "data")
    for stem in ("gated_20x12_f16", "autoencoder_33x70_f32"):
        sd = {k: v.numpy() for k, v in torch.load(os.path.join(data, stem + ".pt")).items()}
        turned = {k: np.asfortranarray(v) for k, v in sd.items()}
        for ending, content in ((".safetensors", safetensors(sd)), (".npz", savez(np.savez, sd)),
                                (".turned.npz", savez(np.savez_compressed, turned))):
            with open(os.path.join(data, stem + ending), "wb") as f:
                f.write(content)


def main():
    os.makedirs(GOLDEN, exist_ok=True)
    dictionaries()
    for make in (valid_safetensors, invalid_safetensors, valid_npy, invalid_npy, valid_npz, invalid_npz):
        make()


main()
