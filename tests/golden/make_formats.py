#!/usr/bin/python3
"""Write the fixtures of formats: the files that each producer writes, and what they compute.

`make golden` runs it. Tensors and rows are the exact ones of a grid of eighths: every product and
sum is exact in f32, so the answers are exact too (but for rms and layer_norm, marked near). They are
computed here in float64 from the producers' formulae, not by saed. Each case is a file or a folder
below tests/golden/formats and an entry of formats.gold:

    case NAME SOURCE         what stands behind the folder on the command line
    class, format            as shown
    line TEXT                a line of the reading that --check prints
    note TEXT
    dims N d F m [near]
    x, f, y NUMBERS          row after row, as hexadecimal floats

Needs Debian's python3-numpy and python3-torch; the fixtures are committed, so tests need no Python.
"""
import collections
import json
import os
import shutil
import struct

import numpy as np
import torch

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "formats")
D, F, M = 5, 7, 3
gold = []


def w_enc(F=F, d=D):
    return np.array([[((7 * j + 11 * k) % 31 - 15) / 8 for k in range(d)] for j in range(F)])


def w_dec(F=F, m=D):
    return np.array([[((5 * j + 13 * k + 3) % 29 - 14) / 8 for k in range(m)] for j in range(F)])


def w_norm(m=D):
    """Decoder rows whose norms are exact: 1/2 1 3 5 5 3 1."""
    rows = [(0, .5, 0), (1, 0, 0), (0, 0, -3), (3, 0, 4), (0, -3, 4), (2, 2, 1), (0, 1, 0)]
    return np.array([list(r) + [0] * (m - 3) for r in rows], float)


def w_skip(m=D, d=D):
    return np.array([[((3 * i + 17 * k + 5) % 23 - 11) / 8 for k in range(d)] for i in range(m)])


B_ENC = np.array([((9 * j + 4) % 17 - 8) / 8 for j in range(F)])


def b_dec(m=D):
    return np.array([(2 + ((5 * k) % 7) / 4) * (-1) ** k for k in range(m)])


X = np.array([[((13 * r + 7 * k + 2) % 33 - 16) / 4 for k in range(D)] for r in range(3)])
THETA = np.array([0, .5, -1, 1, .15625, .25, 2])


def compute(x, W, V, be, bd, centre=None, act="relu", theta=None, k=0, norms=False, inp="none",
            out="follow", skip=None, gate=None):
    """One row by formats 1, in float64."""
    x1, undo = x, lambda y: y
    if inp == "rms":
        s = np.sqrt(len(x)) / np.linalg.norm(x)
        x1, undo = x * s, lambda y: y / s
    elif inp == "layer_norm":
        mu, sd = x.mean(), x.std(ddof=1)
        x1, undo = (x - mu) / (sd + 1e-5), lambda y: y * sd + mu
    elif inp != "none":
        x1, undo = x * inp, lambda y: y / inp
    x2 = x1 if centre is None else x1 - centre
    p = W @ x2
    n = np.linalg.norm(V, axis=1) if norms else np.ones(len(W))
    h = (p + be if gate is None else p) * n
    if act == "relu":
        t = np.maximum(h, 0)
    elif act == "linear":
        t = h
    elif act == "threshold":
        t = np.maximum(h, 0) * (h > theta)
    elif act == "threshold_signed":
        t = h * (h > theta)
    else:
        g, r, mag = gate
        t = (p + g > 0) * np.maximum(np.exp(r) * p + mag, 0)
    f = t.copy()
    if k:
        best = sorted(range(len(t)), key=lambda j: (-t[j], j))[:k]
        f = np.array([t[j] if j in best else 0. for j in range(len(t))])
    y = (f / n) @ V + bd
    y = y if out == "none" else undo(y)
    return f, y if skip is None else y + skip @ x


def case(name, source, cls, fmt, lines, notes=(), near=False, x=X, parts="all", **formula):
    m, d = formula["V"].shape[1], formula["W"].shape[1]
    gold.append(f"case {name} {source}\nclass {cls}\nformat {fmt}\n")
    gold.extend(f"line {t}\n" for t in lines)
    gold.extend(f"note {t}\n" for t in notes)
    rows = [compute(r, **formula) for r in x]
    if parts == "encoder":
        m, rows = 0, [(f, ()) for f, _ in rows]
    gold.append(f"dims {len(x)} {d} {len(formula['W'])} {m}{' near' if near else ''}\n")
    for key, values in ("x", x), ("f", [r[0] for r in rows]), ("y", [r[1] for r in rows]):
        gold.append(key + "".join(" " + float(v).hex() for row in values for v in row) + "\n")


# ---- files ----

DTYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "int32": "I32", "int64": "I64"}


def f32(**tensors):
    return {k.replace("__", "."): np.ascontiguousarray(v, np.float32) for k, v in tensors.items()}


def path(*parts):
    p = os.path.join(HERE, *parts)
    os.makedirs(os.path.dirname(p), exist_ok=True)
    return p


def safetensors(name, tensors):
    head, blob = {}, b""
    for key, a in tensors.items():
        data = a.tobytes()
        head[key] = {"dtype": DTYPES[a.dtype.name], "shape": list(a.shape),
                     "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(head).encode()
    with open(path(name), "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + blob)


def config(name, value):
    with open(path(name), "w", encoding="utf-8") as out:
        out.write(value if isinstance(value, str) else json.dumps(value))


def pt(name, tensors, **beside):
    state = collections.OrderedDict((k, torch.from_numpy(np.array(v))) for k, v in tensors.items())
    torch.save(dict(beside, state_dict=state) if beside else state, path(name))


# ---- dictionary_learning ----

TOPK = f32(encoder__weight=w_enc(), encoder__bias=B_ENC, decoder__weight=w_dec().T, b_dec=b_dec())


def dictionary_learning():
    base = dict(W=w_enc(), V=w_dec(), be=B_ENC, bd=b_dec(), centre=b_dec())
    beside = "read as AutoEncoderTopK: BatchTopKSAE has the same keys"
    pt("topk.pt", dict(TOPK, k=np.int32(3)))
    mean = np.array([1, -.5, 0, .25, 2], np.float32)
    new = dict(f32(encoder__weight=w_enc(), encoder__bias=B_ENC, decoder__weight=w_dec().T),
               **{"decoder.bias": b_dec().astype(np.float32)})
    pt("new_mean.pt", new, act_mean=torch.from_numpy(mean))
    wrapped = "read from the entry \"state_dict\""
    case("a tensor beside", "new_mean.pt:centre=act_mean", "AutoEncoderNew", "dictionary_learning",
         ["centre=act_mean, stated", "activation=relu"], [wrapped], **dict(base, centre=mean))
    pt("topk_mean.pt", dict(TOPK, k=np.int32(3)), act_mean=torch.from_numpy(mean))
    case("the sum with a tensor beside", "topk_mean.pt:centre=b_dec+act_mean", "AutoEncoderTopK",
         "dictionary_learning",
         ["centre=b_dec+act_mean, stated", "activation=relu", "select=top_k:3"], [wrapped], k=3,
         **dict(base, centre=b_dec() + mean))
    case("topk", "topk.pt", "AutoEncoderTopK", "dictionary_learning",
         ["centre=b_dec", "activation=relu", "select=top_k:3"], [beside], k=3, **base)
    case("topk, k stated", "topk.pt:k=2", "AutoEncoderTopK", "dictionary_learning",
         ["centre=b_dec", "activation=relu", "select=top_k:2, stated, the file says top_k:3"],
         k=2, **base)
    pt("batch_topk/ae.pt", dict(TOPK, k=np.int32(3), threshold=np.float32(.5)))
    config("batch_topk/config.json", {"trainer": {"dict_class": "BatchTopKSAE", "k": 3}})
    note = "SAELens (6.18) reads such files as ReLU, without the threshold"
    lines = ["centre=b_dec", "activation=threshold", "threshold=threshold"]
    for name, source in ("batch_topk", "batch_topk"), ("batch_topk, the file", "batch_topk/ae.pt"):
        case(name, source, "BatchTopKSAE", "dictionary_learning", lines, [note], act="threshold",
             theta=.5, **base)
    case("batch_topk, k stated", "batch_topk:k=3", "BatchTopKSAE", "dictionary_learning",
         ["centre=b_dec", "activation=relu, stated", "select=top_k:3, stated"], [note], k=3, **base)
    pt("batch_topk_unset/ae.pt", dict(TOPK, k=np.int32(3), threshold=np.float32(-1)))
    config("batch_topk_unset/config.json", {"trainer": {"dict_class": "BatchTopKSAE", "k": 3}})
    case("batch_topk, a number", "batch_topk_unset:threshold=0.5", "BatchTopKSAE",
         "dictionary_learning",
         ["centre=b_dec", "activation=threshold", "threshold=0.5, stated"], [note],
         act="threshold", theta=.5, **base)
    mat = f32(W_enc=w_enc().T, b_enc=B_ENC, W_dec=w_dec(), b_dec=b_dec())
    mat.update(k=np.int32(3), threshold=np.float32(.5), group_sizes=np.array([2, 2, 3]))
    pt("matryoshka.pt", mat)
    case("matryoshka", "matryoshka.pt", "MatryoshkaBatchTopKSAE", "dictionary_learning", lines,
         act="threshold", theta=.5, **base)
    case("matryoshka, four", "matryoshka.pt:features=4", "MatryoshkaBatchTopKSAE",
         "dictionary_learning", lines + ["features=4, stated"], act="threshold", theta=.5,
         **dict(base, W=w_enc()[:4], V=w_dec()[:4], be=B_ENC[:4]))


# ---- SAELens ----

V6 = {"d_in": D, "d_sae": F, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
      "normalize_activations": "none", "reshape_activations": "none",
      "metadata": {"sae_lens_version": "6.18.0", "hook_name": "blocks.3.hook_resid_post"}}
NORMS = "Neuronpedia shows f times the decoder norm (normalize_decoder=unit)"
UNITS = "f is in units of the decoder norm; Neuronpedia shows these"


def sae_lens_files(name, cfg, **tensors):
    config(f"{name}/cfg.json", {**V6, **cfg})
    safetensors(f"{name}/sae_weights.safetensors", tensors)


def sae_lens():
    std = f32(W_enc=w_enc().T, b_enc=B_ENC, W_dec=w_norm(), b_dec=b_dec())
    base = dict(W=w_enc(), V=w_norm(), be=B_ENC, bd=b_dec())
    sae_lens_files("sae_lens_standard", {"architecture": "standard"}, **std,
                   **f32(scaling_factor=np.full(F, 1 + 1e-6)))
    sae_lens_files("sae_lens_scaled", {"architecture": "standard"}, **std,
                   **f32(scaling_factor=np.full(F, 1.5)))
    for name, source in (("sae_lens standard", "sae_lens_standard"),
                         ("sae_lens, the file", "sae_lens_standard/sae_weights.safetensors")):
        case(name, source, "standard", "sae_lens", ["centre=b_dec", "activation=relu"], [NORMS],
             centre=b_dec(), **base)
    case("sae_lens, stated", "sae_lens_standard:centre=none:k=2", "topk", "sae_lens",
         ["centre=none, stated, the file says b_dec", "activation=relu", "select=top_k:2, stated"],
         [NORMS], k=2, **base)
    sae_lens_files("sae_lens_jumprelu", {"architecture": "jumprelu", "apply_b_dec_to_input": False},
                   **std, **f32(threshold=THETA))
    case("sae_lens jumprelu", "sae_lens_jumprelu", "jumprelu", "sae_lens",
         ["activation=threshold", "threshold=threshold"], [NORMS], act="threshold", theta=THETA,
         **base)
    gated = f32(W_enc=w_enc().T, b_gate=B_ENC, b_mag=B_ENC[::-1], r_mag=np.zeros(F), W_dec=w_norm(),
                b_dec=b_dec())
    sae_lens_files("sae_lens_gated", {"architecture": "gated"}, **gated)
    case("sae_lens gated", "sae_lens_gated", "gated", "sae_lens", ["centre=b_dec", "activation=gated"],
         [NORMS, "SAELens folds exp(r_mag) into W_enc before the product; the same but for rounding"],
         centre=b_dec(), act="gated", gate=(B_ENC, np.zeros(F), B_ENC[::-1]), **base)
    sae_lens_files("sae_lens_topk", {"architecture": "topk", "k": 3,
                                     "rescale_acts_by_decoder_norm": True}, **std)
    case("sae_lens topk, rescaled", "sae_lens_topk", "topk", "sae_lens",
         ["centre=b_dec", "activation=relu", "select=top_k:3", "score=decoder_norm_folded"], [UNITS],
         centre=b_dec(), k=3, norms=True, **base)
    sae_lens_files("sae_lens_batchtopk", {"architecture": "batchtopk", "k": 3}, **std,
                   topk_threshold=np.float64(.5).reshape(()))
    case("sae_lens batchtopk", "sae_lens_batchtopk", "jumprelu", "sae_lens",
         ["centre=b_dec", "activation=threshold", "threshold=topk_threshold",
          "score=decoder_norm_folded"],
         ["score = decoder_norm_folded is SAELens's default for an absent "
          "rescale_acts_by_decoder_norm", UNITS],
         centre=b_dec(), act="threshold", theta=.5, norms=True, **base)
    flat = {"d_in": D, "d_sae": F, "hook_point": "blocks.1.attn.hook_z", "activation_fn_str": "topk",
            "activation_fn_kwargs": {"k": 2}, "normalize_activations": None}
    config("sae_lens_v5/cfg.json", flat)
    safetensors("sae_lens_v5/sae_weights.safetensors", std)
    case("sae_lens v5 topk", "sae_lens_v5", "topk", "sae_lens",
         ["centre=b_dec", "activation=relu", "select=top_k:2"],
         ["centre = b_dec is SAELens's default for an absent apply_b_dec_to_input",
          "score = value is SAELens's default for an absent rescale_acts_by_decoder_norm"],
         centre=b_dec(), k=2, **base)
    for name, value, inp in (("rms", "constant_norm_rescale", "rms"), ("ln", "layer_norm", "layer_norm")):
        sae_lens_files(f"sae_lens_{name}", {"architecture": "standard", "normalize_activations": value},
                       **std)
        case(f"sae_lens {inp}", f"sae_lens_{name}", "standard", "sae_lens",
             [f"input={inp}", "output=follow", "centre=b_dec", "activation=relu"], [NORMS], near=True,
             centre=b_dec(), inp=inp, **base)
    sae_lens_files("sae_lens_average", {"architecture": "standard",
                                        "normalize_activations": "expected_average_only_in"}, **std)
    case("sae_lens constant, stated", "sae_lens_average:input=scale:0.5", "standard", "sae_lens",
         ["input=scale:0.5, stated", "output=follow", "centre=b_dec", "activation=relu"], [NORMS],
         centre=b_dec(), inp=.5, **base)
    sae_lens_files("sae_lens_scaler", {"architecture": "standard",
                                       "normalize_activations": "expected_average_only_in"}, **std)
    config("sae_lens_scaler/activation_scaler.json", {"scaling_factor": 0.25})
    case("sae_lens constant of a file", "sae_lens_scaler", "standard", "sae_lens",
         ["input=scale:0.25", "output=follow", "centre=b_dec", "activation=relu"], [NORMS],
         centre=b_dec(), inp=.25, **base)
    tc = f32(W_enc=w_enc().T, b_enc=B_ENC, W_dec=w_dec(m=M), b_dec=b_dec(M))
    sae_lens_files("sae_lens_transcoder", {"architecture": "transcoder", "d_out": M,
                                           "apply_b_dec_to_input": False}, **tc)
    case("sae_lens transcoder", "sae_lens_transcoder", "transcoder", "sae_lens",
         ["kind=transcoder", "activation=relu"], W=w_enc(), V=w_dec(m=M), be=B_ENC, bd=b_dec(M))
    sae_lens_files("sae_lens_skip", {"architecture": "jumprelu_skip_transcoder", "d_out": M,
                                     "apply_b_dec_to_input": False}, **tc,
                   **f32(W_skip=w_skip(M), threshold=THETA))
    case("sae_lens skip", "sae_lens_skip", "jumprelu_skip_transcoder", "sae_lens",
         ["kind=transcoder", "activation=threshold", "threshold=threshold", "skip=W_skip@m,d"],
         W=w_enc(), V=w_dec(m=M), be=B_ENC, bd=b_dec(M), act="threshold", theta=THETA,
         skip=w_skip(M))
    # Refused.
    sae_lens_files("sae_lens_temporal", {"architecture": "temporal"}, **std)
    sae_lens_files("sae_lens_gap", {"architecture": "jumprelu"}, **std)
    sae_lens_files("sae_lens_surplus", {"architecture": "standard"}, **std, **f32(threshold=THETA))


# ---- Gemma Scope, circuit-tracer ----


def gemma_scope():
    npz = f32(W_enc=w_enc().T, w_dec=w_dec(), b_enc=B_ENC, b_dec=b_dec(), threshold=THETA)
    os.makedirs(path("gemma/average_l0_71", ""), exist_ok=True)
    np.savez_compressed(path("gemma/average_l0_71/params.npz"), **npz)
    base = dict(W=w_enc(), V=w_dec(), be=B_ENC, bd=b_dec(), act="threshold", theta=THETA)
    lines = ["activation=threshold", "threshold=threshold"]
    case("gemma_scope", "gemma/average_l0_71/params.npz", "jumprelu", "gemma_scope", lines, **base)
    case("gemma_scope, a folder", "gemma/average_l0_71", "jumprelu", "gemma_scope", lines, **base)
    np.savez(path("gemma/transcoder.npz"), **npz)
    case("gemma_scope, stated", "gemma/transcoder.npz:format=gemma_scope", "jumprelu_transcoder",
         "gemma_scope", ["kind=transcoder"] + lines, ["kind = transcoder comes from the path"], **base)
    two = f32(w_enc=w_enc().T, w_dec=w_dec(), b_enc=B_ENC, b_dec=b_dec(), threshold=THETA)
    safetensors("gemma2/plain/params.safetensors", two)
    case("gemma_scope_2", "gemma2/plain", "jumprelu", "gemma_scope_2", lines, **base)
    safetensors("gemma2/affine/params_layer_3.safetensors",
                dict(two, **f32(affine_skip_connection=w_skip().T)))
    case("gemma_scope_2 with a skip", "gemma2/affine/params_layer_3.safetensors",
         "jumprelu_skip_transcoder", "gemma_scope_2",
         ["kind=transcoder"] + lines + ["skip=affine_skip_connection@d,m"],
         ["the skip is x A as the producer computes it; SAELens (seen to 6.49) computes x A^T"],
         skip=w_skip(), **base)


def circuit_tracer():
    t = f32(W_enc=w_enc(), W_dec=w_dec(), b_enc=B_ENC, b_dec=b_dec())
    base = dict(W=w_enc(), V=w_dec(), be=B_ENC, bd=b_dec())
    theta = np.full(F, -.5)
    safetensors("ct/jump/layer_4.safetensors",
                dict(t, **f32(activation_function__threshold=theta, W_skip=w_skip())))
    case("circuit_tracer", "ct/jump/layer_4.safetensors", "jumprelu_skip_transcoder",
         "circuit_tracer",
         ["kind=transcoder", "activation=threshold_signed",
          "threshold=activation_function.threshold", "skip=W_skip@m,d"], act="threshold_signed",
         theta=theta, skip=w_skip(), **base)
    safetensors("ct/topk/layer_0.safetensors", t)
    config("ct/topk/config.yaml", "model_name: gpt2\nactivation: topk\nk: 3  # kept\nlist:\n- 1\n")
    case("circuit_tracer topk", "ct/topk", "topk_transcoder", "circuit_tracer",
         ["kind=transcoder", "activation=linear", "select=top_k:3"], act="linear", k=3, **base)
    safetensors("ct/relu/layer_0.safetensors", t)
    case("circuit_tracer relu", "ct/relu", "transcoder", "circuit_tracer",
         ["kind=transcoder", "activation=relu"],
         ["sets saved again by circuit-tracer's cache lose their activation: compare L0"], **base)


# ---- the others ----


def others():
    base = dict(W=w_enc(), V=w_dec(), be=B_ENC, bd=b_dec())
    top = ["centre=b_dec", "activation=relu", "select=top_k:3"]
    sp = f32(encoder__weight=w_enc(), encoder__bias=B_ENC, W_dec=w_dec(), b_dec=b_dec())
    default = "centre = b_dec is sparsify's default for an absent transcode"
    safetensors("sparsify/plain/sae.safetensors", sp)
    config("sparsify/plain/cfg.json", {"d_in": D, "expansion_factor": 2, "k": 3, "foo": 1})
    case("sparsify", "sparsify/plain", "topk", "sparsify", top,
         [default, "cfg.json has a field that is not looked at: foo"], k=3, centre=b_dec(), **base)
    safetensors("sparsify/skip/sae.safetensors", dict(sp, **f32(W_skip=w_skip())))
    config("sparsify/skip/cfg.json", {"d_in": D, "k": 3, "transcode": True, "signed": False})
    case("sparsify transcoder", "sparsify/skip", "topk_skip_transcoder", "sparsify",
         ["kind=transcoder", "activation=relu", "select=top_k:3", "skip=W_skip@m,d"], k=3,
         skip=w_skip(), **base)
    safetensors("sparsify/signed/sae.safetensors", sp)
    config("sparsify/signed/cfg.json", {"d_in": D, "k": 3, "signed": True})

    tied = dict(W=w_enc(), V=w_enc(), be=B_ENC, bd=b_dec(), centre=b_dec())
    lines = ["centre=pre_bias", "activation=relu", "select=top_k:3"]
    one = f32(decoder__linear__weight=w_enc(), pre_bias=b_dec(), latent_bias=B_ENC)
    cfg = {"input_dim": D, "hidden_dim": F, "k": 3, "normalize": False}
    safetensors("st/one/model.safetensors", one)
    config("st/one/config.json", cfg)
    case("sentence_transformers", "st/one", "topk", "sentence_transformers", lines, k=3, **tied)
    safetensors("st/both/model.safetensors", dict(one, **f32(encoder__weight=w_enc())))
    config("st/both/config.json", cfg)
    case("sentence_transformers, both", "st/both", "topk", "sentence_transformers", lines, k=3, **tied)
    safetensors("st/unequal/model.safetensors", dict(one, **f32(encoder__weight=w_dec())))
    config("st/unequal/config.json", cfg)

    qwen = f32(W_enc=w_enc(), W_dec=w_dec().T, b_enc=B_ENC, b_dec=b_dec())
    note = "SAELens applies relu after the top-k; they differ where fewer than k values are positive"
    for name in "a.pt", "X-L0_3/layer0.sae.pt":
        torch.save({k: torch.from_numpy(v) for k, v in qwen.items()}, path("qwen/" + name))
    case("qwen_scope", "qwen/X-L0_3/layer0.sae.pt", "topk", "qwen_scope",
         ["activation=linear", "select=top_k:3"],
         [note, "select = top_k:3 comes from the path component L0_3"], act="linear", k=3, **base)
    case("qwen_scope by its shapes", "qwen/a.pt:k=6", "topk", "qwen_scope",
         ["activation=linear", "select=top_k:6, stated"], [note], act="linear", k=6, **base)

    bare = f32(W_enc=w_enc().T, W_dec=w_dec(), b_enc=B_ENC, b_dec=b_dec())
    safetensors("bare.safetensors", bare)
    case("bare", "bare.safetensors:centre=b_dec:activation=relu", "standard", "bare",
         ["centre=b_dec, stated", "activation=relu, stated"], centre=b_dec(), **base)
    case("bare, k", "bare.safetensors:centre=none:k=3", "topk", "bare",
         ["activation=relu, stated", "select=top_k:3, stated"], k=3, **base)

    tail = dict(W=w_enc(), V=np.zeros((F, 0)), be=np.zeros(F), bd=np.zeros(0))
    np.save(path("probe.npy"), w_enc().astype(np.float32))
    case("linear", "probe.npy:format=linear", "linear",
         "linear", ["activation=linear"], act="linear", **tail)
    case("linear, the largest", "probe.npy:format=linear:k=3", "topk", "linear",
         ["activation=linear", "select=top_k:3, stated"], act="linear", k=3, **tail)
    np.savez(path("sklearn.npz"), coef_=w_enc(), intercept_=B_ENC)
    case("linear of scikit-learn", "sklearn.npz:format=linear", "linear", "linear",
         ["activation=linear"], act="linear", **dict(tail, be=B_ENC))
    np.save(path("direction.npy"), w_enc()[0].astype(np.float32))
    case("linear of one row", "direction.npy:format=linear", "linear", "linear",
         ["activation=linear"], act="linear",
         **dict(tail, W=w_enc()[:1], V=np.zeros((1, 0)), be=np.zeros(1)))
    np.savez(path("two.npz"), a=w_enc(), b=w_enc())
    scaled = f32(W_enc=w_enc(), W_dec=w_norm(), b_enc=B_ENC)
    safetensors("scaled.safetensors", scaled)
    keys = "scaled.safetensors:encoder=W_enc@F,d:enc_bias=b_enc:centre=none"
    case("custom without a decoder", keys + ":activation=relu", "standard", "custom",
         ["activation=relu, stated"], **dict(tail, be=B_ENC))
    case("custom, the decoder's norms alone",
         keys + ":decoder=W_dec@F,m:k=3:score=decoder_norm_folded:parts=encoder", "topk", "custom",
         ["activation=relu, stated", "select=top_k:3, stated", "score=decoder_norm_folded, stated"],
         k=3, norms=True, parts="encoder", **dict(base, V=w_norm(), bd=b_dec()))

    oa = f32(encoder__weight=w_enc(), decoder__weight=w_dec().T, pre_bias=b_dec(), latent_bias=B_ENC)
    state = collections.OrderedDict((k, torch.from_numpy(v)) for k, v in oa.items())
    torch.save(dict(state, activation="TopK", activation_state_dict={"k": 3, "postact_fn": "ReLU"}),
               path("openai.pt"))
    case("openai", "openai.pt:input=layer_norm", "topk", "openai",
         ["input=layer_norm, stated", "output=follow", "centre=pre_bias", "activation=relu",
          "select=top_k:3"], near=True, inp="layer_norm", k=3, centre=b_dec(), **base)
    torch.save(state, path("openai_plain.pt"))
    case("openai without an activation", "openai_plain.pt", "standard", "openai",
         ["centre=pre_bias", "activation=relu"],
         ["activation = relu is OpenAI's default for an absent activation"], centre=b_dec(), **base)


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    os.makedirs(HERE)
    for make in dictionary_learning, sae_lens, gemma_scope, circuit_tracer, others:
        make()
    with open(path("formats.gold"), "w", encoding="utf-8") as out:
        out.write("".join(gold))


if __name__ == "__main__":
    main()
