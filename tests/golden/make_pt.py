"""make_pt.py - writes the .pt fixtures of tests/golden/pt, and of tests/invalid/pt.

tests/golden/pt/NAME.pt with NAME.want beside it: for each tensor a line "key dtype ndim sizes...",
followed, for 1-D and 2-D tensors of accepted dtypes, by a line of its values as f32 bits in hex,
row-major. tests/invalid/pt/NAME/input.pt with `error`: fragments that the message must contain,
one a line (case-* there came from outside). Run with Debian's python3-torch:
/usr/bin/python3 tests/golden/make_pt.py
"""
import argparse
import collections
import io
import os
import struct
import sys
import zipfile

import numpy as np
import torch
from torch import nn

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ptfile as P  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "pt")
CASES = os.path.join(HERE, "cases")
INVALID = os.path.join(HERE, "..", "invalid", "pt")
READ = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def want(tensors):
    lines = []
    for key, t in tensors.items():
        t = t.detach()
        lines.append(" ".join([key, str(t.dtype)[6:], str(t.dim()), *map(str, t.shape)]))
        if t.dtype in READ and t.dim() in (1, 2):
            bits = t.to(torch.float32).contiguous().numpy().reshape(-1).view(np.uint32)
            lines.append(" ".join(f"{b:08x}" for b in bits))
        elif t.dtype in INTEGERS and t.dim() == 0:
            lines.append(str(t.item()))
    return "\n".join(lines) + "\n"


def golden(name, obj, tensors=None, raw=None):
    path = os.path.join(GOLDEN, name + ".pt")
    if raw is None:
        torch.save(obj, path)
    else:
        with open(path, "wb") as f:
            f.write(raw)
    with open(os.path.join(GOLDEN, name + ".want"), "w") as f:
        f.write(want(obj if tensors is None else tensors))


def invalid(name, data, *fragments):
    d = os.path.join(INVALID, name)
    os.makedirs(d, exist_ok=True)
    with open(os.path.join(d, "input.pt"), "wb") as f:
        f.write(data)
    with open(os.path.join(d, "error"), "w") as f:
        f.write("\n".join(fragments) + "\n")


def saved(obj, **kw):
    b = io.BytesIO()
    torch.save(obj, b, **kw)
    return b.getvalue()


# ---- files that must load -----------------------------------------------------------------------

class AutoEncoder(nn.Module):
    def __init__(self, d, F):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(d))
        self.encoder = nn.Linear(d, F)
        self.decoder = nn.Linear(F, d, bias=False)


class AutoEncoderNew(nn.Module):
    def __init__(self, d, F):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(d, F), nn.Linear(F, d)
        w = torch.randn(d, F)
        self.encoder.weight = nn.Parameter(w.clone().T)  # strides (1, F)
        self.decoder.weight = nn.Parameter(w.clone())


def special(dtype):
    v = torch.randn(3, 5, dtype=torch.float64)
    v[0, 0], v[0, 1], v[1, 2] = -0.0, 6e-8, -60000.0
    return v.to(dtype)


def make_golden():
    golden("autoencoder", AutoEncoder(4, 10).state_dict())
    golden("autoencoder_new", AutoEncoderNew(3, 7).state_dict())
    golden("buffer", None, {"w": torch.arange(6.0)}, saved({"w": torch.arange(6.0)}))

    integers = collections.OrderedDict()
    for t in INTEGERS:
        top = torch.iinfo(t)
        integers["most." + str(t)[6:]] = torch.tensor(top.max, dtype=t)
        integers["least." + str(t)[6:]] = torch.tensor(top.min, dtype=t)
        integers["inside." + str(t)[6:]] = torch.arange(90, dtype=t).view(9, 10)[6, 4]
    integers["far"] = torch.arange(3000)[2777]  # past a buffer, and with as much behind it
    golden("integers", integers)

    dtypes = collections.OrderedDict()
    for t in READ:
        dtypes[f"matrix.{t}"[:7] + str(t)[6:]] = special(t)
        dtypes["turned." + str(t)[6:]] = special(t).t()
        dtypes["vector." + str(t)[6:]] = special(t)[2].clone()
    dtypes["f64.tiny"] = torch.tensor([1e-300, -1e-45, 1 + 2**-24, 1 + 3 * 2**-25, 3.4028235e38],
                                      dtype=torch.float64)
    for t in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
              torch.complex64, torch.complex128):
        dtypes["other." + str(t)[6:]] = torch.ones(2).to(t)
    dtypes["scalar"] = torch.tensor(2.5)
    dtypes["cube"] = torch.zeros(2, 1, 3)
    golden("dtypes", dtypes)

    base = torch.arange(48, dtype=torch.float32)
    golden("strides", {
        "rows": torch.randn(4, 6), "columns": torch.randn(6, 4).t(),
        "clone": base[5:29].clone().view(4, 6),
        "slice": base[7:31].view(4, 6), "slice.columns": base[3:27].view(6, 4).t(),
        "gaps": base.view(6, 8)[1:5, 2:7], "gaps.columns": base.view(6, 8)[:, 1::3].t(),
        "every.third": base[2::3], "expanded.slice": base[7:8].expand(9),
        "expanded.rows": base[5:8].expand(4, 3),
        "expanded.columns": base[5:8].view(3, 1).expand(3, 4),
        "one.row": base[4:9].view(1, 5), "one.column": base[4:9].view(5, 1),
        "one.row.strided": base.view(6, 8)[2:3, ::2], "one": base[11:12].view(1, 1),
        "empty": torch.zeros(0), "empty.rows": torch.zeros(0, 3), "empty.columns": torch.zeros(3, 0),
        "overlapping": torch.as_strided(base, (5, 4), (2, 1), 3),
        "half.columns": torch.randn(17, 33).half().t(), "wide": torch.randn(2, 40).t(),
    })
    golden("blocks", {"w": torch.randn(35, 50).t(), "v": torch.randn(50, 33)})
    golden("shared", {"encoder.weight": base.view(6, 8), "decoder.weight": base.view(6, 8).t(),
                      "encoder.bias": base[:8], "bias": base[40:46]})
    golden("many", {f"layer.{i}.weight": base[i % 40:i % 40 + 2] for i in range(90)})

    p = collections.OrderedDict(a=nn.Parameter(torch.randn(3, 2).t()),
                                b=nn.Parameter(torch.randn(4), requires_grad=False))
    golden("parameter", p)

    sd = {"encoder.weight": torch.randn(3, 2), "bias": torch.randn(2)}
    beside = {
        "cfg": {"lr": 1e-3, "steps": 10**5, "name": "test", "none": None, "flags": (True, False),
                "big": 2**80, "negative": -7, "nested": [[1, [2.5, []]], {}, ((),), set([1])]},
        "step": 70000, "epoch": -1, "act_mean": torch.zeros(3), "ids": torch.arange(4),
        "optimizer": {"state": {0: {"exp_avg": torch.randn(2)}}, "param_groups": [{"params": [0]}]},
        "complex": 1 + 2j, "bytes": b"\x00\xff", "shape": torch.Size([1, 2]),
        "device": torch.device("cpu"), "dtype": torch.float16, "np": np.float32(1.5),
        "array": np.arange(3), "counter": collections.Counter("aab"),
        "sparse": torch.eye(2).to_sparse(), "quantised": torch.quantize_per_tensor(
            torch.ones(2), 0.5, 0, torch.qint8),
        "class": collections.deque([1, 2]), "type": nn.Linear,
    }
    golden("wrapped", {**beside, "state_dict": sd, "after": 1}, sd)
    for protocol in (3, 4, 5):
        golden(f"protocol_{protocol}", None, sd, saved(
            {**beside, "state_dict": sd, "frozen": frozenset([1]), "array": bytearray(b"ab"),
             "long": "x" * 300, "huge": 10**700, "same": beside}, pickle_protocol=protocol))
    knot = ([],)
    knot[0].append(knot)  # POP, and POP_MARK for more than three
    knots = ([], 1, 2, 3)
    knots[0].append(knots)
    golden("knots", None, sd, saved({"state_dict": sd, "a": knot, "b": knots}))
    method = P.glob("__builtin__", "getattr") + P.tup(P.glob("os", "environ"), P.string("get")) + b"R"
    six = torch.arange(1.0, 7.0).view(2, 3)
    golden("code_beside", None, {"w": six}, P.pt(P.mapping(state_dict=P.mapping(w=P.tensor()), config=(
        P.mapping(f=method, x=P.glob("os", "system") + P.tup(P.string("exit 1")) + b"R")))))
    golden("wrapped_model", {"step": 3, "model": collections.OrderedDict(sd)}, sd)
    loop = {"state_dict": sd}
    loop["self"], loop["list"] = loop, [loop]
    golden("wrapped_loop", loop, sd)
    golden("empty", {}, {})
    old = P.glob("torch._utils", "_rebuild_tensor") + P.tup(
        P.storage(), P.integer(0), P.ints((3, 2)), P.ints((1, 3))) + b"R"
    golden("rebuild_v1", None, {"w": six.t()}, P.pt(P.mapping(w=old)))
    # Plain values in the state dict itself, and what they are as facts: tests/unit/load/test_pt_facts.c.
    golden("facts", None, {"w": six[0]}, saved({
        "w": six[0], "activation": "TopK", "activation_state_dict": {"k": 3, "postact_fn": "ReLU"},
        "lr": 1e-4, "inf": float("inf"), "big": 10**30, "none": None, "yes": True, "pair": (1, [2, "x"]),
        "bytes": b"a\xffb", "set": {5}, "dtype": torch.bfloat16, "device": torch.device("cuda", 1),
        "cpu": torch.device("cpu"), "size": torch.Size([2, 3]), 7: "seven", "ns": argparse.Namespace(a=1),
        "class": nn.Linear, "optimizer": {"step": torch.tensor(3), "n": 4}}))
    lists = [0]
    for _ in range(30):
        lists = [lists, lists]  # 2^30 zeros, if they were counted
    golden("shared_facts", None, {"w": six[0]}, saved({"w": six[0], "lists": lists}))

    real, torch.serialization.location_tag = torch.serialization.location_tag, lambda s: "cuda:0"
    try:
        golden("cuda", sd)
    finally:
        torch.serialization.location_tag = real
    make_golden_newer()


def make_golden_newer():
    """What newer PyTorch writes, and what others write that is right."""
    six = torch.arange(1.0, 7.0).view(2, 3)
    v3 = dict(fn="_rebuild_tensor_v3")
    untyped = P.storage("UntypedStorage", numel=24, module="torch.storage")
    newer = P.mapping(**{
        "v3": P.tensor(untyped, more=(P.glob("torch", "float32"),), **v3),
        "v3.metadata": P.tensor(untyped, more=(P.glob("torch", "float32"), P.NONE), **v3),
        "v3.fp8": P.tensor(untyped, size=(24,), stride=(1,), more=(P.glob("torch", "float8_e4m3fn"),
                                                                 P.NONE), **v3),
        "v2.metadata": P.tensor(P.storage(key="1"), more=(P.pairs((P.string("conj"), P.FALSE)),)),
        "parameter": P.glob("torch._utils", "_rebuild_parameter_with_state") +
        P.tup(P.tensor(P.storage(key="1")), P.TRUE, P.ORDERED_DICT, P.pairs((P.string("note"), P.integer(1)))) + b"R",
    })
    records = [P.Entry("new/data.pkl", P.pickled(newer)), P.Entry("new/.format_version", b"1"),
               P.Entry("new/.storage_alignment", b"64"), P.Entry("new/byteorder", b"little"),
               P.Entry("new/data/0", P.SIX), P.Entry("new/version", b"3\n"), P.Entry("new/data/1", P.SIX),
               P.Entry("new/.data/serialization_id", b"0" * 40)]
    wanted = {"v3": six, "v3.metadata": six, "v3.fp8": None, "v2.metadata": six, "parameter": six}
    text = want({k: v for k, v in wanted.items() if v is not None}).splitlines()
    text.insert(4, "v3.fp8 float8_e4m3fn 1 24")
    golden("newer", None, {}, P.archive(records))
    with open(os.path.join(GOLDEN, "newer.want"), "w") as f:
        f.write("\n".join(text) + "\n")

    unsigned = P.storage("UntypedStorage", numel=16, module="torch.storage")
    uint64 = dict(size=(), stride=(), more=(P.glob("torch", "uint64"), P.NONE), **v3)
    golden("unsigned", None, {}, P.pt(P.mapping(
        most=P.tensor(unsigned, **uint64), above=P.tensor(unsigned, offset=1, **uint64)),
        data=(struct.pack("<2Q", 2**63 - 1, 2**63),)))
    with open(os.path.join(GOLDEN, "unsigned.want"), "w") as f:
        f.write(f"most uint64 0\n{2**63 - 1}\nabove uint64 0\nrefused\n")

    untyped = P.storage("UntypedStorage", numel=27, module="torch.storage")
    golden("tail", None, {"w": six}, P.pt(P.mapping(w=P.tensor(
        untyped, more=(P.glob("torch", "float32"),), **v3)), data=(P.SIX + b"end",)))

    one = P.mapping(w=P.tensor())
    for e in records:
        e.zip64 = True
    records[0] = P.Entry("new/data.pkl", P.pickled(one), zip64=True)
    golden("zip64", None, {"w": six}, P.archive(records))
    plain = [P.Entry("x/data.pkl", P.pickled(one), flags=0), P.Entry("x/data/", b"", flags=0),
             P.Entry("x/data/0", P.SIX, flags=0, zip64=True), P.Entry("x/version", b"3\n", flags=0)]
    golden("rezipped", None, {"w": six}, P.archive(plain, align=1, zip64_end=False))
    times = bytearray(P.pt(one))  # of the first entry, in its local header alone
    times[10:14] = b"\x21\x08\x21\x50"
    golden("times", None, {"w": six}, bytes(times))
    long_key = "k" * 121 + "\u00e9" * 10
    cut = "k" * 121 + "\u00e9" * 3 + "..."
    golden("long_key", None, {cut: six}, P.pt(P.pairs((P.string(long_key), P.tensor()))))
    two = b"}(" + P.string("a") + P.tensor() + b"u(" + P.string("b") + P.tensor() + b"u"
    golden("batches", None, {"a": six, "b": six}, P.pt(two))


def make_cases():
    """Checkpoints of one dictionary, that of cases/plain.pt, in other forms (test_cases.c)."""
    def case(name, data):
        with open(os.path.join(CASES, name + ".pt"), "wb") as f:
            f.write(data)

    def without_crcs(data):
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            return P.archive([P.Entry(i.filename, z.read(i), crc=0) for i in z.infolist()])

    sd = torch.load(os.path.join(CASES, "ckpt_tutorial.pt"))["model_state_dict"]
    plain = saved(sd)
    case("plain", plain)
    case("no_crc", without_crcs(plain))
    case("no_crc_prefixed", without_crcs(saved({"sae": {"module._orig_mod." + k: v for k, v in sd.items()}})))
    zero = torch.tensor(0.0)
    for name, beside in (
            ("beside_k", {"cfg": {"k": 64}}), ("beside_k_tensor", {"top_k": torch.tensor(3)}),
            ("beside_mean", {"act_mean": torch.zeros(8)}),
            ("beside_mean_expanded", {"act_mean": zero.expand(8)}),
            ("beside_norm", {"norm_factor": 2.5}), ("beside_scale", {"scale": torch.tensor(0.5)}),
            ("beside_scaling", {"scaling_factor": torch.tensor(1.5)}),
            ("unscaled", {"scaling_factor": torch.tensor(1.0), "ids": torch.arange(3), "k": True,
                          "optimizer": {"exp_avg": torch.zeros(3)}})):
        case(name, saved({**beside, "sae_state": sd}))
    case("beside_backup", saved({"ae": sd, "norm_factor": 2.5, "optimizer": {"state": {}}}))
    case("beside_no_name", saved({"": torch.zeros(8), "sae_state": sd}))
    case("beside_no_name_dict", saved({"": sd, "act_mean": torch.zeros(8)}))
    case("beside_theta", saved({"theta": torch.tensor(0.5), "sae_state": sd}))
    case("beside_thetas", saved({"theta": torch.full((20,), 0.5), "sae_state": sd}))
    case("beside_int_key", saved({5: sd, 6: torch.zeros(8)}))
    case("under_int", saved({5: sd, 6: torch.arange(3), (7, 8): torch.tensor(0.5)}))
    case("two", saved({"a": sd, 5: dict(sd)}))
    parts = {"bias": sd["bias"], "decoder": {"weight": sd["decoder.weight"]},
             "encoder": {"bias": sd["encoder.bias"], "weight": sd["encoder.weight"]}}
    case("nested", saved({"epoch": 1, "model": {"lm": {"weight": torch.zeros(3)}, "sae": parts}}))
    mean, inner = torch.zeros(8), {"norm_factor": 4.0, "ae": sd}
    case("on_way_mean", saved({"lm": {"k": torch.zeros(3)}, "model": {"sae": sd, "act_mean": mean}}))
    case("on_way_norm", saved({"epoch": 1, "runs": {"last": inner}}))
    case("on_way_k", saved({"runs": {"k": 3, "last": {"sae": sd, "scheduler": {"k": 4}}}}))
    case("module_k", saved({"module.k": 3, **{"module." + k: v for k, v in sd.items()}}))
    whole = {k: P.tensor(size=size, stride=(1,) * len(size)) for k, size in (
        ("W_enc", (1, 1)), ("W_dec", (1, 1)), ("b_enc", (1,)), ("b_dec", (1,)), ("threshold", (1,)))}
    no_tensor = P.glob("torch", "QInt8Storage")
    case("no_threshold", P.pt(P.mapping(**{**whole, "threshold": no_tensor})))
    case("no_encoder", P.pt(P.mapping(**{**whole, "W_enc": no_tensor})))
    case("no_encoder_of_bare", P.pt(P.mapping(**{**whole, "W_enc": no_tensor, "threshold": P.tensor(
        size=(), stride=())})))
    case("no_bias_of_bare", P.pt(P.mapping(**{**whole, "b_enc": no_tensor, "threshold": P.tensor(
        size=(), stride=())})))
    case("no_encoder_of_a_layer", P.pt(P.mapping(W_enc_7=no_tensor, b_enc_7=whole["b_enc"])))
    case("no_encoder_of_groups", P.pt(P.mapping(
        W_enc=no_tensor, W_dec=whole["W_dec"], b_enc=whole["b_enc"], b_dec=whole["b_dec"], k=P.integer(1),
        group_sizes=P.tensor(P.storage("IntStorage", key="1", numel=1), size=(1,), stride=(1,))),
        data=(P.SIX, struct.pack("<i", 1))))
    case("among", saved({"scaling_factor": 2.0, **sd}))
    case("flat", saved({"lm.weight": torch.zeros(3), **{"ae." + k: v for k, v in sd.items()}}))
    endless = {}
    endless["a"] = endless
    case("endless", saved(endless))
    case("lightning", saved({"epoch": 1, "hparams": {"lr": 1e-3}, "state_dict": {
        "sae." + k: nn.Parameter(v) for k, v in sd.items()}}, pickle_protocol=4))


# ---- files that must be refused -----------------------------------------------------------------

RESAVE = ["torch.load(", "torch.save("]


def make_invalid_zip():
    good = P.pt(P.mapping(w=P.tensor()))
    E = P.Entry
    pkl, rec, ver = (E("a/data.pkl", P.pickled(P.mapping(w=P.tensor()))), E("a/data/0", P.SIX),
                     E("a/version", b"3\n"))

    def zipped(*entries, **kw):
        return P.archive([pkl, *entries], **kw)

    invalid("zip-truncated", good[:-1], "no end record")
    invalid("zip-head-only", good[:40], "no end record")
    invalid("zip-appended", good + b"\0", "no end record")
    invalid("zip-comment", P.pt(P.mapping(w=P.tensor()), comment=b"hi"), "a comment", "2 bytes")
    invalid("zip-comment-long", P.pt(P.mapping(w=P.tensor()), comment=b"c" * 65535), "a comment",
            "65535 bytes")
    invalid("crc-zero", zipped(E("a/data/0", P.SIX, crc=0), ver), "tensor w", "zip entry a/data/0",
            "CRC", "00000000 is recorded")
    invalid("zip-prefixed", b"PK\3\4" + good, "zip64 locator")
    invalid("zip-prefixed-plain", b"PK\3\4" + zipped(rec, zip64_end=False), "central directory",
            "does not end where the end record starts")
    invalid("zip-empty", P.archive([], zip64_end=False), "0 zip entries")
    invalid("zip-duplicate", zipped(rec, E("a/data/0", P.SIX)), "a/data/0", "two entries")
    invalid("zip-duplicate-pickle", zipped(rec, E("a/data.pkl", P.pickled(b"}"))), "two entries")
    invalid("zip-case", zipped(rec, E("a/DATA/0", P.SIX)), "the same but for case")
    invalid("zip-case-pickle", zipped(rec, E("a/Data.pkl", P.pickled(b"}"))), "the same but for case")
    invalid("zip-overlap", zipped(rec, E("a/data/1", P.SIX, header=64)), "cannot read zip entry")
    invalid("zip-same-bytes", zipped(rec, E("a/data/1", P.SIX, header=0)), "overlaps")
    invalid("zip-gap", zipped(E("a/data/0", P.SIX, before=b"hidden")),
            "a/data/0", "6 bytes that belong to no entry")
    invalid("zip-gap-at-end", P.archive([pkl, rec, E("a/v", b"", flags=0x808 & ~8, size=0)], align=1)
            .replace(b"PK\1\2", b"\0PK\1\2", 1), "zip64 locator")
    invalid("zip-local-name", zipped(E("a/data/0", P.SIX, local_name="a/data/1")),
            "a/data/0", "another name")
    invalid("zip-local-flags", zipped(rec).replace(b"PK\3\4\0\0\x08\x08", b"PK\3\4\0\0\x08\x00", 1),
            "local header differs")
    invalid("zip-encrypted", zipped(E("a/data/0", P.SIX, flags=0x0809)), "encrypted")
    invalid("zip-strong-encryption", zipped(E("a/data/0", P.SIX, flags=0x0840)), "encrypted")
    invalid("zip-unknown-flags", zipped(E("a/data/0", P.SIX, flags=0x0828)), "flags 0x0828")
    invalid("zip-past-eof", zipped(E("a/data/0", P.SIX, size=1 << 20, packed_size=1 << 20)),
            "a/data/0", "1048576 bytes", "reach past")
    invalid("zip-header-past-eof", zipped(E("a/data/0", P.SIX, header=1 << 20)), "reach past")
    invalid("zip-entry-disk", zipped(E("a/data/0", P.SIX, disk=1)), "disk 1")
    invalid("zip-disks", zipped(rec, disk=1), "several disks")
    invalid("zip-count-low", zipped(rec, ver, count=2), "bytes more than its 2 entries")
    invalid("zip-count-high", zipped(rec, ver, count=4), "no header")
    invalid("zip-count-huge", zipped(rec, ver, count=60000), "no header")
    invalid("zip-entry-comment", zipped(E("a/data/0", P.SIX, comment=b"x")), "comment")
    invalid("zip-folder", zipped(E("a/data/0", P.SIX, attributes=0x10), ver), "a/data/0", "a folder")
    invalid("zip-folder-name", zipped(rec, E("a/data/", P.SIX), ver), "a/data/", "a folder")
    invalid("zip-nul-name", zipped(E("a/data/\x001", P.SIX)), "NUL")
    invalid("zip-sizes-differ", zipped(E("a/data/0", P.SIX, packed_size=23)), "stored, but of 23")
    invalid("zip-locator", zipped(rec, locator=0), "zip64 locator")
    invalid("zip-descriptor", zipped(rec).replace(b"PK\7\x08", b"PK\7\x09", 1), "descriptor")
    invalid("zip-deflated", deflated(good), "compressed (method 8)", *RESAVE)
    invalid("crc-pickle", good.replace(b"FloatStorage", b"FloatStorbge", 1), "a/data.pkl", "CRC")
    invalid("crc-values", good.replace(P.SIX, P.SIX[:-1] + b"\x41", 1), "tensor w", "a/data/0", "CRC")


def deflated(data):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as src, \
            zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as dst:
        for i in src.infolist():
            dst.writestr(zipfile.ZipInfo(i.filename), src.read(i), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def make_invalid_kind():
    w = {"w": torch.ones(2)}
    one = P.mapping(w=P.tensor())
    invalid("kind-empty", b"", "empty (0 bytes)")
    invalid("kind-zeros", bytes(64), "00 00 00 00")
    invalid("kind-legacy", saved(w, _use_new_zipfile_serialization=False)[:120],  # then addresses
            "before torch 1.6",
            *RESAVE)
    invalid("kind-tar", b"sys_info".ljust(100, b"\0") + bytes(157) + b"ustar" + bytes(250), "tar",
            *RESAVE)
    invalid("kind-pytorch1", b"PYTORCH1" + bytes(64), "PYTORCH1", *RESAVE)
    invalid("kind-bare-pickle", P.pickled(one), "bare pickle")
    invalid("kind-lfs-pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS")
    invalid("kind-html", b"<!doctype html><title>404</title>", "HTML")
    invalid("kind-torchscript", P.pt(one, extra=[P.Entry("a/constants.pkl", b"")]), "TorchScript",
            "a/constants.pkl")
    invalid("kind-torchscript-code", P.pt(one, extra=[P.Entry("a/code/x.py", b"x")]), "TorchScript")
    invalid("kind-no-pickle", P.archive([P.Entry("a/data/0", P.SIX), P.Entry("a/version", b"3\n")]),
            "a/data.pkl")
    invalid("kind-no-version", P.archive([P.Entry("a/data.pkl", P.pickled(one)),
                                          P.Entry("a/data/0", P.SIX)]), "no entry a/version")
    invalid("kind-other-zip", P.archive([P.Entry("readme", b"x")]), "not in one folder")
    invalid("kind-two-folders", P.pt(one, extra=[P.Entry("b/data/0", P.SIX)]), "b/data/0",
            "folder a")
    invalid("kind-big-endian", P.archive([P.Entry("a/data.pkl", P.pickled(one)),
                                          P.Entry("a/version", b"3\n"),
                                          P.Entry("a/byteorder", b"big"),
                                          P.Entry("a/data/0", P.SIX)]), "byte order is big", *RESAVE)
    invalid("kind-version", P.archive([P.Entry("a/data.pkl", P.pickled(one)),
                                       P.Entry("a/version", b"11\n"),
                                       P.Entry("a/data/0", P.SIX)]), "version", "11")


def make_invalid_pickle():
    def of(value):
        return P.pt(value)

    def raw(pickle):
        return P.archive([P.Entry("a/data.pkl", pickle), P.Entry("a/data/0", P.SIX),
                          P.Entry("a/version", b"3\n")])

    T, S = P.tensor(), P.string
    attack = P.glob("os", "system") + P.tup(S("touch /tmp/x")) + b"R"
    posix = P.glob("posix", "system") + P.tup(S("touch /tmp/x")) + b"R"
    invalid("code-os-system", of(attack), "os.system", "GLOBAL at offset 2")
    invalid("code-posix", of(P.mapping(w=T, x=posix)), "posix.system", "offset")
    invalid("code-eval", of(P.mapping(w=P.glob("__builtin__", "eval") + P.tup(S("1")) + b"R")),
            "__builtin__.eval")
    invalid("code-reduce-tensor", of(P.mapping(w=P.glob("webbrowser", "open") + P.tup(S("x")) +
                                               b"R")), "webbrowser.open")
    invalid("global-unknown", of(P.mapping(w=P.glob("my.module", "make") + P.tup() + b"R")),
            "tensor w", "my.module.make", "offset", "allow-list")
    invalid("global-hooks", of(P.mapping(w=P.tensor(hooks=P.glob("x", "y") + b")R"))), "x.y")
    invalid("global-storage", of(P.mapping(w=P.tensor(P.storage("Storage", module="evil")))),
            "evil.Storage")
    invalid("global-dtype", of(P.mapping(w=P.tensor(
        P.storage("UntypedStorage", numel=24, module="torch.storage"), fn="_rebuild_tensor_v3",
        more=(P.glob("torch", "float3"),)))), "torch.float3")
    invalid("kind-module", of(P.glob("__main__", "AutoEncoder") + b")\x81}b"),
            "object of class __main__.AutoEncoder", "offset 2", "state_dict()")
    invalid("top-list", of(b"](" + T + b"e"), "a list, not a state dict")
    invalid("top-tuple", of(P.tup(T)), "a tuple, not a state dict")
    invalid("top-tensor", of(T), "torch._utils._rebuild_tensor_v2", "not a state dict")
    invalid("top-none", of(P.NONE), "None, not a state dict")
    invalid("top-int", of(P.integer(5)), "an int, not a state dict")
    invalid("entry-int", of(P.mapping(w=T, step=P.integer(5))), "tensor step", "an int")
    invalid("entry-list", of(P.mapping(w=b"](" + T + b"e")), "tensor w", "a list")
    invalid("entry-dict", of(P.mapping(ae=P.mapping(w=T))), "tensor ae", "a dict")
    invalid("entry-nested-wrapper", of(P.mapping(
        state_dict=P.mapping(state_dict=P.mapping(w=T)))), "tensor state_dict", "a dict")
    deep = b"]" * 32 + b"K\1" + b"a" * 32  # a list in each list, 32 of them below the top
    invalid("facts-deep", of(P.mapping(w=T, deep=b"]" + deep + b"a")), "nested deeper than 32")
    memo = b"]q\0K\1a" + b"".join(b"0](h\0h\0eq\0" for _ in range(40))
    invalid("facts-bomb", of(P.mapping(w=T, lists=memo)), "nested deeper than 32")
    invalid("entries-many", of(P.pairs(*[(P.integer(i), b"N") for i in range(70000)])), "70000 entries")
    invalid("dicts-many", of(P.pairs(*[(P.integer(i), b"}") for i in range(1001)])), "1000 dicts")
    invalid("key-int", of(P.pairs((P.integer(1), T))), "key", "an int")
    invalid("key-twice", of(P.pairs((S("w"), T), (S("v"), T), (S("w"), T))), "key w twice")
    invalid("key-newline", of(P.mapping(**{"a\nb": P.NONE})), "a?b", "None")
    invalid("key-nul", of(P.pairs((S("w\0"), T))), "NUL")
    S2, outer = P.string("state_dict"), P.mapping(w=T)
    invalid("key-twice-outer", of(P.pairs((S2, outer), (S("a"), P.NONE), (S2, outer))),
            "the dict at its top", "key state_dict twice")
    invalid("key-twice-beside", of(P.pairs((S("a"), P.NONE), (S2, outer), (S("a"), P.NONE))),
            "key a twice")
    invalid("key-twice-int", of(P.pairs((P.integer(1), P.NONE), (S2, outer), (P.TRUE, P.NONE))),
            "key twice", "offset")
    invalid("key-unhashable", of(P.pairs((P.tup(b"]"), P.NONE), (S2, outer))), "a tuple cannot be a key")
    six = P.ints((0, 0)) + P.integer(7)
    for name, change in (("setitem", six + b"s"), ("setitems", b"(" + six + b"u"),
                         ("append", P.integer(7) + b"a"), ("appends", b"(" + P.integer(7) + b"e"),
                         ("build", b"}b")):
        invalid("touched-" + name, of(P.mapping(w=T + change)), "tensor w", name.upper(),
                "changes it, so it is no tensor")
        invalid("touched-beside-" + name, of(P.mapping(state_dict=P.mapping(w=T), x=T + change)),
                name.upper(), "_rebuild_tensor_v2", "what shares its storage")
    invalid("touched-later", of(b"}(" + S("w") + T + b"q\1u" + S("x") + b"h\1" + six + b"s" + b"s"),
            "tensor w", "SETITEM")
    invalid("touched-parameter", of(P.mapping(w=P.glob("torch._utils", "_rebuild_parameter") + P.tup(
        T, P.TRUE, P.ORDERED_DICT) + b"R" + six + b"s")), "tensor w", "SETITEM")
    invalid("touched-in-parameter", of(P.mapping(w=P.glob("torch._utils", "_rebuild_parameter") + P.tup(
        T + six + b"s", P.TRUE, P.ORDERED_DICT) + b"R")), "tensor w", "SETITEM")
    invalid("pickle-build-dict", raw(b"\x80\2}}b."), "BUILD at offset 4", "a dict")
    invalid("pickle-build-state", raw(b"\x80\2" + P.ORDERED_DICT + b"]b."), "BUILD", "a list")
    invalid("pickle-empty", raw(b""), "truncated")
    invalid("pickle-no-proto", raw(b"}."), "PROTO")
    invalid("pickle-protocol-1", raw(b"\x80\1}."), "protocol 1")
    invalid("pickle-protocol-6", raw(b"\x80\6}."), "protocol 6")
    invalid("pickle-second-proto", raw(b"\x80\2\x80\2}."), "PROTO at offset 2")
    invalid("pickle-frame", raw(b"\x80\4\x95\3\0\0\0\0\0\0\0}."), "FRAME at offset 2",
            "3 bytes, 2 are left")
    invalid("pickle-long-negative", raw(b"\x80\2\x8b\xff\xff\xff\xff."), "LONG4", "negative")
    invalid("pickle-stack-global", raw(b"\x80\4K\1\x8c\1a\x93."), "STACK_GLOBAL at offset 7", "strings")
    invalid("pickle-set-item", raw(b"\x80\4\x8f(]\x90."), "ADDITEMS", "a list cannot be a key")
    invalid("pickle-frozenset-add", raw(b"\x80\4(\x91(N\x90."), "ADDITEMS", "a set")
    invalid("pickle-set-key", raw(b"\x80\4}\x8fNs."), "SETITEM", "a set cannot be a key")
    invalid("pickle-bytearray-key", raw(b"\x80\5}\x96\0\0\0\0\0\0\0\0Ns."), "bytes cannot be a key")
    invalid("pickle-keywords", raw(b"\x80\4ca\nb\n)]\x92."), "NEWOBJ_EX", "keywords")
    invalid("pickle-buffer", raw(b"\x80\5\x97."), "NEXT_BUFFER")
    invalid("pickle-unknown", raw(b"\x80\2\xfe."), "0xfe at offset 2")
    invalid("pickle-pop", raw(b"\x80\2}00."), "POP at offset 4", "underflow")
    invalid("pickle-dup", raw(b"\x80\2}2."), "DUP at offset 3")
    invalid("pickle-inst", raw(b"\x80\2(ios\nsystem\n."), "INST at offset 3")
    invalid("pickle-no-stop", raw(b"\x80\2}"), "truncated")
    invalid("pickle-behind-stop", raw(b"\x80\2}.}"), "1 bytes behind")
    invalid("pickle-two-values", raw(b"\x80\2}}."), "2 values")
    invalid("pickle-open-mark", raw(b"\x80\2}(."), "STOP at offset 4")
    invalid("pickle-underflow", raw(b"\x80\2\x86."), "TUPLE2 at offset 2", "underflow")
    invalid("pickle-underflow-mark", raw(b"\x80\2}}(\x85."), "TUPLE1 at offset 5", "underflow")
    invalid("pickle-no-mark", raw(b"\x80\2t."), "TUPLE at offset 2", "no MARK")
    invalid("pickle-memo", raw(b"\x80\2h\5."), "BINGET at offset 2", "memo index 5")
    invalid("pickle-memo-huge", raw(b"\x80\2}r\xff\xff\xff\xff."), "memo index 4294967295")
    invalid("pickle-text", raw(b"\x80\2X\2\0\0\0\xc3\x28."), "BINUNICODE at offset 2", "no UTF-8")
    invalid("pickle-text-global", raw(b"\x80\2cos\nSimple\x8cName\n."), "GLOBAL at offset 2", "no UTF-8")
    invalid("pickle-text-short", raw(b"\x80\2U\3\xed\xa0\x80."), "SHORT_BINSTRING", "no UTF-8")
    invalid("pickle-string", raw(b"\x80\2X\xff\xff\xff\xff."), "BINUNICODE at offset 2",
            "4294967295 bytes wanted, 1 are left")
    invalid("pickle-operand", raw(b"\x80\2J\0\0"), "BININT at offset 2", "4 bytes wanted, 2")
    invalid("pickle-global-line", raw(b"\x80\2ccollections"), "GLOBAL at offset 2", "end of line")
    invalid("pickle-setitem-list", raw(b"\x80\2]NNs."), "SETITEM at offset 5", "a list")
    invalid("pickle-setitems-tuple", raw(b"\x80\2)(NNu."), "SETITEMS at offset 6", "a tuple")
    invalid("pickle-setitems-odd", raw(b"\x80\2}(Nu."), "no pairs")
    invalid("pickle-append-dict", raw(b"\x80\2}Na."), "APPEND at offset 4", "a dict")
    invalid("pickle-build-int", raw(b"\x80\2K\1}b."), "BUILD at offset 5", "an int")
    invalid("pickle-reduce-int", raw(b"\x80\2K\1)R."), "REDUCE at offset 5", "an int")
    invalid("pickle-reduce-args", raw(b"\x80\2ca\nb\n}R."), "REDUCE at offset 8", "a dict")
    invalid("pickle-deep", raw(b"\x80\2" + b"(" * 10001), "MARKs")


def make_invalid_tensor():
    def of(*args, data=(P.SIX,), **kw):
        return P.pt(P.mapping(w=P.tensor(*args, **kw)), data=data)

    st, S = P.storage, P.string
    invalid("storage-numel-low", of(st(numel=5), size=(5,), stride=(1,)), "tensor w", "5 elements",
            "24", "a/data/0")
    invalid("storage-numel-high", of(st(numel=7)), "7 elements", "24")
    invalid("storage-numel-wraps", of(st(numel=0x4000000000000006)), "4611686018427387910 elements")
    invalid("storage-numel-negative", of(st(numel=-6)), "-6")
    invalid("storage-numel-long", of(st(numel=1 << 70)), "tensor w")
    tail = P.storage("UntypedStorage", numel=27, module="torch.storage")
    tail = P.pt(P.mapping(w=P.tensor(tail, more=(P.glob("torch", "float32"),), fn="_rebuild_tensor_v3")),
                data=(P.SIX + b"end",))
    invalid("crc-tail", tail.replace(P.SIX + b"end", P.SIX + b"enD"), "a/data/0", "CRC")
    invalid("storage-missing", of(st(key="1")), "no entry a/data/1")
    invalid("storage-path", of(st(key="../data/0")), "not a number")
    invalid("storage-key-empty", of(st(key="")), "not a number")
    invalid("storage-meta", of(st(location="meta")), "meta device")
    invalid("storage-module", of(P.tup(P.string("module"), P.glob("torch", "FloatStorage"),
                                       P.string("0"), P.string("cpu"), P.integer(6)) + b"Q"),
            "persistent id")
    invalid("storage-legacy-view", of(P.tup(P.string("storage"), P.glob("torch", "FloatStorage"),
                                            P.string("0"), P.string("cpu"), P.integer(6), P.NONE) +
                                      b"Q"), "persistent id")
    half = P.tensor(st("HalfStorage", numel=12), size=(2,), stride=(1,))
    invalid("storage-two-classes", P.pt(P.mapping(w=P.tensor(), v=half)), "a/data/0", "two classes",
            "torch.FloatStorage", "torch.HalfStorage")
    invalid("storage-two-classes-beside", P.pt(P.mapping(x=half, state_dict=P.mapping(w=P.tensor()))),
            "a/data/0", "two classes")
    other = P.tensor(st(location="meta2"))
    invalid("storage-two-places", P.pt(P.mapping(x=other, state_dict=P.mapping(w=P.tensor()))),
            "a/data/0", "two locations")
    quint = P.tensor(st("QUInt8Storage", numel=24)), P.tensor(st("QUInt8Storage", numel=23))
    invalid("storage-two-sizes", P.pt(P.mapping(x=quint[0], y=quint[1], state_dict=P.mapping())),
            "a/data/0", "24 elements", "23")
    invalid("storage-missing-beside", P.pt(P.mapping(x=P.tensor(st(key="5")), state_dict=P.mapping(
        w=P.tensor()))), "no entry a/data/5")
    invalid("storage-class-beside", P.pt(P.mapping(x=P.tensor(st("float32")), state_dict=P.mapping(
        w=P.tensor(st(key="1")))), data=(P.SIX, P.SIX)), "data.pkl:", "torch.float32 is no class of a storage")
    invalid("storage-class-int", of(P.tup(S("storage"), P.integer(1), S("0"), S("cpu"), P.integer(6)) +
                                    b"Q"), "tensor w", "an int", "class of its storage")
    invalid("storage-none", of(P.NONE), "None", "a storage")
    invalid("storage-quantised", of(st("QInt8Storage", numel=24)), "torch.QInt8Storage", "quantised")
    invalid("storage-untyped-v2", of(st("UntypedStorage", numel=24, module="torch.storage")),
            "torch.storage.UntypedStorage")
    invalid("tensor-offset", of(offset=1), "number 6 of a storage of 6")
    invalid("tensor-offset-negative", of(offset=-1), "storage offset is -1")
    invalid("tensor-offset-huge", of(offset=(1 << 63) - 1), "9223372036854775812 of a storage of 6")
    invalid("tensor-size", of(size=(2, 4), stride=(3, 1)), "number 6 of a storage of 6")
    invalid("tensor-size-negative", of(size=(-2, 3)), "size is -2")
    invalid("tensor-size-overflow", of(size=(1 << 62, 1 << 62), stride=(0, 0)), "overflow")
    invalid("tensor-expanded-huge", of(size=(1 << 62,), stride=(0,)),
            "tensor w", "4611686018427387904 values and its storage 6", "contiguous()")
    invalid("tensor-expanded-matrix", of(size=(7, 1), stride=(0, 1)), "7 values and its storage 6")
    invalid("tensor-expanded-vector", saved({"w": torch.ones(1).expand(9)}), "9 values and its storage 1")
    invalid("tensor-overlapping", of(size=(5, 2), stride=(1, 1)), "10 values and its storage 6")
    invalid("tensor-stride", of(stride=(4, 1)), "number 6 of a storage of 6")
    invalid("tensor-stride-negative", of(stride=(-3, 1)), "stride is -3")
    invalid("tensor-stride-overflow", of(size=(3, 3), stride=((1 << 63) - 1, 1)), "overflow")
    invalid("tensor-ndim-differ", of(stride=(1,)), "2 dimensions and its stride 1")
    invalid("tensor-ndim", of(size=(1,) * 9, stride=(1,) * 9), "9 dimensions")
    invalid("tensor-size-list", P.pt(P.mapping(w=P.glob("torch._utils", "_rebuild_tensor_v2") + P.tup(
        st(), P.integer(0), b"]", P.ints((1,)), P.FALSE, P.ORDERED_DICT) + b"R")), "size is a list")
    invalid("tensor-arguments", P.pt(P.mapping(w=P.glob("torch._utils", "_rebuild_tensor_v2") +
                                               P.tup(st()) + b"R")), "1 arguments, 6 to 7")
    invalid("tensor-grad", of(grad=P.integer(1)), "requires_grad")
    invalid("tensor-hooks", of(hooks=P.pairs((P.integer(0), P.glob("os", "system")))), "tensor w", "hooks")
    invalid("tensor-conj", of(more=(P.pairs((P.string("conj"), P.TRUE)),)), "'conj'")
    invalid("tensor-neg", of(more=(P.pairs((P.string("neg"), P.TRUE)),)), "'neg'")
    param = P.glob("torch._utils", "_rebuild_parameter")
    once = param + P.tup(P.tensor(), P.TRUE, P.ORDERED_DICT) + b"R"
    twice = param + P.tup(once, P.TRUE, P.ORDERED_DICT) + b"R"
    invalid("tensor-parameter-grad", P.pt(P.mapping(w=param + P.tup(P.tensor(), P.NONE, P.ORDERED_DICT) +
                                                    b"R")), "tensor w", "requires_grad")
    invalid("tensor-parameter-hooks", P.pt(P.mapping(w=param + P.tup(
        P.tensor(), P.TRUE, P.glob("x", "y")) + b"R")), "tensor w", "x.y")
    state = P.glob("torch._utils", "_rebuild_parameter_with_state")
    for name, attribute in (("data", P.pairs((S("data"), P.tensor(st(key="1"))))), ("key", P.pairs((P.NONE, P.NONE))),
                            ("list", b"]")):
        invalid("tensor-parameter-state-" + name, P.pt(P.mapping(w=state + P.tup(
            P.tensor(), P.TRUE, P.ORDERED_DICT, attribute) + b"R"), data=(P.SIX, P.SIX)), "tensor w", "attribute")
    invalid("tensor-metadata", of(more=(P.pairs((S("x"), P.FALSE)),)), "'x'")
    invalid("tensor-parameter-twice", P.pt(P.mapping(w=twice)), "parameter of a parameter")
    invalid("tensor-v1", of(fn="_rebuild_tensor"), "_rebuild_tensor at offset", "has 6 arguments")
    invalid("tensor-quantised", saved({"w": torch.quantize_per_tensor(torch.ones(2), 0.5, 0,
                                                                      torch.qint8)}),
            "tensor w", "_rebuild_qtensor", "quantised")
    invalid("tensor-sparse", saved({"w": torch.eye(2).to_sparse()}), "tensor w", "sparse")
    invalid("tensor-meta", saved({"w": torch.empty(2, device="meta")}), "tensor w", "meta")
    for name, bits, text in (("nan", 0x7FC00000, "nan"), ("inf", 0x7F800000, "inf"),
                             ("minus-inf", 0xFF800000, "-inf")):
        data = struct.pack("<5fI", 1, 2, 3, 4, 5, bits)
        invalid("value-" + name, of(data=(data,)), "tensor w", "[1, 2] is " + text, "finite")
    invalid("value-f64-range", of(st("DoubleStorage"), data=(struct.pack("<6d", 1, 1, 1, 1e39, 1, 1),)),
            "[1, 0] is 1e+39", "float32 cannot hold")
    invalid("value-f16-inf", of(st("HalfStorage"), data=(struct.pack("<6e", 0, float("-inf"), 0, 0, 0,
                                                                     0),)), "[0, 1] is -inf")
    invalid("value-vector", of(size=(6,), stride=(1,), data=(struct.pack("<6f", 0, 0, 0, 0,
                                                                         float("nan"), 0),)),
            "[4] is nan")
    invalid("value-expanded", of(size=(2, 3), stride=(0, 0),
                                 data=(struct.pack("<6f", float("nan"), 0, 0, 0, 0, 0),)),
            "[0, 0] is nan")


if __name__ == "__main__":
    torch.manual_seed(5)
    os.makedirs(GOLDEN, exist_ok=True)
    os.makedirs(INVALID, exist_ok=True)
    make_golden()
    make_cases()
    make_invalid_zip()
    make_invalid_kind()
    make_invalid_pickle()
    make_invalid_tensor()
