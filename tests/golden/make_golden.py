#!/usr/bin/python3
"""Write the golden fixtures: state dicts and PyTorch's float32 answers. `make golden` runs it.

The classes below are written afresh from the formulae of dictionary.py of
saprmarks/dictionary_learning; names of parameters, and so the keys of the state dict, are theirs.
Each case is tests/golden/data/NAME.pt (what torch.save(module.state_dict(), path) writes) and
NAME.gold (weights as f32, inputs, answers), whose form and arrays tests/support/golden.h describes.
Needs Debian's python3-torch (1.13); the fixtures are committed, so tests need no Python.
"""
import glob
import os
import struct

import torch
from torch import nn

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
RELU = torch.relu


class AutoEncoder(nn.Module):
    aux = None

    def __init__(self, d, F):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(d))
        self.encoder = nn.Linear(d, F)
        self.decoder = nn.Linear(F, d, bias=False)

    def encode(self, x):
        return RELU(self.encoder(x - self.bias)), None

    def decode(self, f):
        return self.decoder(f) + self.bias

    def forward(self, x):
        f, aux = self.encode(x)
        return self.decode(f), f, aux

    def ghost(self, x, mask):
        return self.decoder(torch.exp(self.encoder(x - self.bias)) * mask)


class IdentityDict(nn.Module):
    def __init__(self, d, F):
        super().__init__()
        assert d == F

    def encode(self, x):
        return x, None

    def decode(self, f):
        return f

    def forward(self, x):
        return x, x, None


class GatedAutoEncoder(nn.Module):
    def __init__(self, d, F):
        super().__init__()
        self.decoder_bias = nn.Parameter(torch.zeros(d))
        self.encoder = nn.Linear(d, F, bias=False)
        self.r_mag = nn.Parameter(torch.zeros(F))
        self.gate_bias = nn.Parameter(torch.zeros(F))
        self.mag_bias = nn.Parameter(torch.zeros(F))
        self.decoder = nn.Linear(F, d, bias=False)

    def encode(self, x):
        p = self.encoder(x - self.decoder_bias)
        gate = p + self.gate_bias
        f = (gate > 0).float() * RELU(self.r_mag.exp() * p + self.mag_bias)
        return f, RELU(gate)

    def decode(self, f):
        return self.decoder(f) + self.decoder_bias

    def forward(self, x):
        f, aux = self.encode(x)
        return self.decode(f), f * self.decoder.weight.norm(dim=0, keepdim=True), aux


class JumpAutoEncoder(AutoEncoder):
    def __init__(self, d, F):
        super().__init__(d, F)
        self.jump = nn.Parameter(torch.zeros(F))

    def encode(self, x):
        pre = RELU(self.encoder(x - self.bias))
        return pre + self.jump * (pre > 0), pre


class AutoEncoderNew(nn.Module):
    def __init__(self, d, F):
        super().__init__()
        self.encoder = nn.Linear(d, F)
        self.decoder = nn.Linear(F, d)
        w = torch.randn(d, F)
        self.encoder.weight = nn.Parameter(w.clone().T)  # strides (1, F), as the original stores it
        self.decoder.weight = nn.Parameter(w.clone())

    def encode(self, x):
        return RELU(self.encoder(x)), None

    def decode(self, f):
        return self.decoder(f)

    def forward(self, x):
        f, aux = self.encode(x)
        return self.decode(f), f * self.decoder.weight.norm(dim=0, keepdim=True), aux


class JumpReluAutoEncoder(nn.Module):
    """The original multiplies before the relu, which makes NaN of -infinity; saed's is off there."""

    def __init__(self, d, F):
        super().__init__()
        self.W_enc = nn.Parameter(torch.randn(F, d).T)  # strides (1, d), as the original stores it
        self.b_enc = nn.Parameter(torch.zeros(F))
        self.W_dec = nn.Parameter(torch.zeros(F, d))
        self.b_dec = nn.Parameter(torch.zeros(d))
        self.threshold = nn.Parameter(torch.zeros(F))

    def encode(self, x):
        h = x @ self.W_enc + self.b_enc
        return RELU(h) * (h > self.threshold), None

    def decode(self, f):
        return f @ self.W_dec + self.b_dec

    def forward(self, x):
        f, aux = self.encode(x)
        return self.decode(f), f, aux


class AutoEncoderTopK(nn.Module):
    """k largest by a stable sort: torch.topk leaves open which of equal values it takes."""

    def __init__(self, d, F):
        super().__init__()
        self.register_buffer("k", torch.tensor(1, dtype=torch.int))
        self.register_buffer("threshold", torch.tensor(-1.0))
        self.encoder = nn.Linear(d, F)
        self.decoder = nn.Linear(F, d, bias=False)
        self.b_dec = nn.Parameter(torch.zeros(d))

    def encode(self, x):
        f = RELU(self.encoder(x - self.b_dec))
        best = torch.sort(f, dim=-1, descending=True, stable=True).indices[..., :self.k]
        return torch.zeros_like(f).scatter_(-1, best, f.gather(-1, best)), None

    def decode(self, f):
        return self.decoder(f) + self.b_dec

    def forward(self, x):
        f, aux = self.encode(x)
        return self.decode(f), f, aux


def randomise(m, d):
    """Values that are not zero in every tensor, in place, so that strides stay."""
    scale = {
        "encoder.weight": (0.0, d**-0.5), "decoder.weight": (0.0, d**-0.5),
        "bias": (0.05, 0.3), "decoder_bias": (0.05, 0.3), "decoder.bias": (0.05, 0.3),
        "encoder.bias": (-0.3, 0.4), "gate_bias": (-0.3, 0.4), "mag_bias": (-0.2, 0.4),
        "r_mag": (0.1, 0.4), "jump": (0.3, 0.5),
        "W_enc": (0.0, d**-0.5), "W_dec": (0.0, d**-0.5), "b_enc": (-0.3, 0.4),
        "b_dec": (0.05, 0.3), "threshold": (0.1, 0.3),
    }
    for name, p in m.named_parameters():
        mean, spread = scale[name]
        p.copy_(torch.randn(p.shape) * spread + mean)


def edge(m, d):
    """Small integers, so that every sum is exact; biases and centres zero, so that a zero row
    gives pre-activations of exactly 0: off, however large jump and magnitude are."""
    values = {"encoder.weight": [1, -2, 0, 3, -1], "decoder.weight": [2, -1, 1, 0, -3, 4],
              "mag_bias": [1, 2], "jump": [2, -3, 0, -1],
              "W_enc": [1, -2, 0, 3, -1], "W_dec": [2, -1, 1, 0, -3, 4], "threshold": [2, 0, -1, 5]}
    for name, p in m.named_parameters():
        v = torch.tensor(values.get(name, [0]), dtype=torch.float32)
        p.copy_(v.repeat(p.numel() // len(v) + 1)[: p.numel()].reshape(p.shape))


def ties(m, d):
    """Features that are equal, so that the k-th place is shared."""
    edge(m, d)
    m.encoder.weight.copy_(torch.tensor([1.0, 0, 1]).repeat(len(m.encoder.weight), 1))
    m.encoder.weight[1] *= 2


def rows(d):
    x = torch.randn(8, d)
    x[2] *= 30.0
    x[3] = 0.0
    tiny = torch.tensor([-0.0, 1e-40, -1e-40, 1.4e-45, 0.0, -1.4e-45, 1e-38])
    x[4] = tiny.repeat(d // 7 + 1)[:d]
    x[5, d // 2] = float("nan")
    x[6, d // 3] = float("inf")
    x[7, 0] = float("inf")
    x[7, -1] = float("-inf")
    return x


def edge_rows(d):
    x = rows(d)
    x[0] = torch.arange(d) - 1.0
    x[1] = 2.0 - torch.arange(d)
    x[2] = 1.0
    x[4] = -0.0
    return x


def decode_rows(F):
    f = torch.randn(5, F)
    f[1] *= (torch.arange(F) % 5 == 1).float()
    f[2] = -0.0
    f[3, F // 2] = float("nan")
    f[4, F // 3] = float("-inf")
    return f


def write_gold(path, cls, d, F, arrays):
    with open(path, "wb") as out:
        out.write(struct.pack("<8s32s3I", b"saegold1", cls.encode(), d, F, len(arrays)))
        for name, t in arrays.items():
            t = t.detach().to(torch.float32).contiguous()
            t = t if t.dim() else t.reshape(1)
            assert 0 < t.dim() <= 4 and len(name) < 32, name
            dims = list(t.shape) + [1] * (4 - t.dim())
            out.write(struct.pack("<32s5I", name.encode(), t.dim(), *dims))
            out.write(t.numpy().astype("<f4").tobytes())


def answers(m, cls, d, F, x):
    f, aux = m.encode(x)
    x_hat, f_fwd, _ = m(x)
    dec_f = decode_rows(F)
    a = {"x": x, "f": f, "x_hat": x_hat, "f_fwd": f_fwd, "dec_f": dec_f,
         "dec_x_hat": m.decode(dec_f)}
    if aux is not None:
        a["aux"] = aux
    if cls is AutoEncoder:
        a["mask"] = (torch.arange(F) % 3 != 0).float() * torch.linspace(0.5, 1.5, F)
        a["mask2"] = (torch.rand(len(x), F) < 0.4).float()
        a["x_ghost"] = m.ghost(x, a["mask"])
        a["x_ghost2"] = m.ghost(x, a["mask2"])
    return a


def scattered(state):
    """The same values as views into one storage: offsets, gaps, and transposed strides."""
    total = sum(4 * t.numel() + 3 for t in state.values())
    storage, at, out = torch.full((total,), float("nan")), 0, {}
    for name, t in state.items():
        at += 3
        if t.dim() == 2:  # every second row and column of a transposed block
            r, c = t.shape
            v = storage.as_strided((r, c), (2, 4 * r), at)
            at += 4 * r * c
        else:
            v = storage.as_strided(t.shape, (2,), at)
            at += 2 * t.numel()
        out[name] = v.copy_(t)
    return out


def stored(v, dtype):
    """As the file holds it; f64 gets digits that f32 has not, so that rounding is seen."""
    if not v.dtype.is_floating_point:
        return v
    v = v.to(dtype)
    return v * (1 + 3e-8 * torch.randn_like(v)) if dtype == torch.float64 else v


def case(name, cls, d, F, dtypes, fill=randomise, make_rows=rows, view=False, k=None):
    """dtypes: one for all tensors, or a dict by key with None for the rest."""
    torch.manual_seed(sum(map(ord, name)))
    m = cls(d, F)
    with torch.no_grad():
        fill(m, d)
        if k:
            m.k.fill_(k)
        kind = dtypes if isinstance(dtypes, dict) else {None: dtypes}
        state = {k: stored(v, kind.get(k, kind[None])) for k, v in m.state_dict().items()}
        if cls is JumpReluAutoEncoder and d > 1 and F > 1:
            assert state["W_enc"].stride() == (1, d)
        if cls is AutoEncoderNew and d > 1 and F > 1:
            assert state["encoder.weight"].stride() == (1, F)
        for k, p in m.named_parameters():  # arithmetic is float32 on the weights as stored
            p.copy_(state[k].to(torch.float32))
        arrays = {"w:" + k: v for k, v in m.state_dict().items()}
        arrays.update(answers(m, cls, d, F, make_rows(d)))
    if cls is not IdentityDict:
        if view:
            state = scattered(state)
        # an OrderedDict with its _metadata, exactly what module.state_dict() is
        whole = m.state_dict()
        for k in whole:
            whole[k] = state[k]
        torch.save(whole, os.path.join(HERE, name + ".pt"))
    write_gold(os.path.join(HERE, name + ".gold"), cls.__name__, d, F, arrays)


def main():
    os.makedirs(HERE, exist_ok=True)
    for old in glob.glob(os.path.join(HERE, "*.pt")) + glob.glob(os.path.join(HERE, "*.gold")):
        os.remove(old)
    f32, f16, bf16, f64 = torch.float32, torch.float16, torch.bfloat16, torch.float64
    short = {f32: "f32", f16: "f16", bf16: "bf16", f64: "f64"}
    classes = [("autoencoder", AutoEncoder), ("gated", GatedAutoEncoder),
               ("jump", JumpAutoEncoder), ("new", AutoEncoderNew),
               ("jumprelu", JumpReluAutoEncoder)]
    large = [f32, bf16, f16, bf16, f32]
    for i, (slug, cls) in enumerate(classes):
        turn = [f16, f64, bf16, f32]
        for d, F, t in [(1, 1, turn[i % 4]), (7, 5, turn[(i + 1) % 4]), (16, 48, turn[(i + 2) % 4]),
                        (33, 70, large[i]), (20, 12, turn[(i + 3) % 4])]:
            case(f"{slug}_{d}x{F}_{short[t]}", cls, d, F, t)
        case(f"{slug}_edge", cls, 3, 4, f32, fill=edge, make_rows=edge_rows)
    for d, F, k, t in [(1, 1, 1, f16), (7, 5, 5, f64), (16, 48, 8, bf16), (33, 70, 1, f32),
                       (33, 70, 8, f32), (20, 12, 12, f32)]:
        case(f"topk_{d}x{F}_k{k}_{short[t]}", AutoEncoderTopK, d, F, {None: t, "threshold": f32}, k=k)
    case("topk_edge", AutoEncoderTopK, 3, 4, f32, fill=ties, make_rows=edge_rows, k=2)
    case("identity_6", IdentityDict, 6, 6, f32)
    case("gated_mixed", GatedAutoEncoder, 9, 11,
         {None: f32, "encoder.weight": bf16, "decoder.weight": f16, "r_mag": f64})
    case("jump_views", JumpAutoEncoder, 12, 9, f32, view=True)


main()
