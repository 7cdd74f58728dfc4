"""formats_saelens.py - SAELens's folders: sae_lens/saes/ and loading/ of its repository."""
import json

import numpy as np

from formats_out import begin, bf16, case, config, f32, refused, rounding, safetensors
from grid import A, B, C, M, THETA, b_dec, b_enc, rows, w_dec, w_enc, w_norm, w_skip
from producers import Gated, Model, Normalised, Rescaled, Skip, above, keep, relu

V6 = {"d_in": 5, "d_sae": 7, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
      "normalize_activations": "none", "reshape_activations": "none",
      "metadata": {"sae_lens_version": "6.18.0", "hook_name": "blocks.3.hook_resid_post"}}
V5 = {"d_in": 5, "d_sae": 7, "dtype": "torch.float32", "apply_b_dec_to_input": True,
      "hook_point": "blocks.3.hook_resid_post", "normalize_activations": "none"}
NEURONPEDIA = "Neuronpedia shows f times the decoder norm (normalize_decoder=unit)"
UNITS = "f is in units of the decoder norm; Neuronpedia shows these"
FOLDS = "SAELens folds exp(r_mag) into W_enc before the product; the same but for rounding"
CENTRE_DEFAULT = "centre = b_dec is SAELens's default for an absent apply_b_dec_to_input"
VALUE_DEFAULT = "score = value is SAELens's default for an absent rescale_acts_by_decoder_norm"
FOLDED_DEFAULT = ("score = decoder_norm_folded is SAELens's default for an absent "
                  "rescale_acts_by_decoder_norm")
RELU_DEFAULT = "activation = relu is SAELens's default for an absent architecture"
CENTRED = ["centre=b_dec", "activation=relu"]
OVER = ["activation=threshold", "threshold=threshold"]
BD = b_dec()


def folder(name, cfg, tensors, base=V6):
    """None takes a key out of the base."""
    cfg = {k: v for k, v in {**base, **cfg}.items() if v is not None}
    config(f"{name}/cfg.json", cfg)
    safetensors(f"{name}/sae_weights.safetensors", tensors)


def keys(V=None, shape=A, m=None):
    V = w_norm() if V is None else V
    return f32(W_enc=w_enc(shape).T, b_enc=b_enc(shape), W_dec=V, b_dec=b_dec(m or shape[0]))


def model(t, centre=None, act=relu, cls=Model):
    t = {k: np.asarray(v, float) for k, v in t.items()}
    return cls(t["W_enc"], t["b_enc"], t["W_dec"], t["b_dec"], centre, act)


def top(k):
    return lambda v: relu(keep(v, k))  # topk_sae.py: relu comes last


def over(theta):
    return lambda v: above(v, theta)


X, XC = rows(w_enc(), b_enc()), rows(w_enc(), b_enc(), BD)


def plain():
    t = keys()
    ones = f32(scaling_factor=np.full(7, 1 + 1e-6))
    folder("standard", {"architecture": "standard"}, dict(t, **ones))
    m = model(t, BD)
    for name, source in (("a folder", "standard"),
                         ("the file", "standard/sae_weights.safetensors")):
        case(f"standard, {name}", source, "standard", CENTRED, m, XC, [NEURONPEDIA])
    case("standard, stated", "standard:centre=none:k=2", "topk",
         ["centre=none, stated, the file says b_dec", "activation=relu", "select=top_k:2, stated"],
         model(t, act=top(2)), X, [NEURONPEDIA])
    folder("uncentred", {"architecture": "standard", "apply_b_dec_to_input": False}, t)
    case("standard, not centred", "uncentred", "standard", ["activation=relu"], model(t), X,
         [NEURONPEDIA])
    folder("silent", {"architecture": None, "apply_b_dec_to_input": None}, t)
    case("no architecture, nothing said of b_dec", "silent", "standard", CENTRED, m, XC,
         [RELU_DEFAULT, CENTRE_DEFAULT, NEURONPEDIA])
    for name, shape in ("b", B), ("c", C):
        u = keys(w_dec(shape), shape)
        folder(f"standard_{name}", {"architecture": "standard", "d_in": shape[0], "d_sae": shape[1]}, u)
        case(f"standard, shape {name}", f"standard_{name}", "standard", CENTRED,
             model(u, b_dec(shape[0])), rows(w_enc(shape), b_enc(shape), b_dec(shape[0]), plain=True),
             [NEURONPEDIA])
    gated = dict(t, **f32(b_gate=b_enc(), b_mag=b_enc()[::-1], r_mag=np.zeros(7)))
    del gated["b_enc"]
    folder("gated", {"architecture": "gated"}, gated)
    case("gated", "gated", "gated", ["centre=b_dec", "activation=gated"],
         Gated(gated["W_enc"], np.float64(gated["b_mag"]), w_norm(), BD, BD,
               gate=(np.zeros(7), b_enc())), XC, [NEURONPEDIA, FOLDS])


def jumprelu():
    t = keys()
    x = rows(w_enc(), b_enc(), None, THETA)
    no = {"architecture": "jumprelu", "apply_b_dec_to_input": False}
    folder("jumprelu", no, dict(t, **f32(threshold=THETA)))
    case("jumprelu", "jumprelu", "jumprelu", OVER, model(t, act=over(THETA)), x, [NEURONPEDIA])
    u = bf16(t, ("W_enc", "W_dec", "b_enc", "b_dec"))
    folder("jumprelu_bf16", dict(no, dtype="bfloat16"), dict(u, **f32(threshold=THETA)))
    case("jumprelu, bf16 beside a threshold of f32", "jumprelu_bf16", "jumprelu", OVER,
         model(t, act=over(THETA)), x, [NEURONPEDIA, rounding("bfloat16")])
    for name, said in ("float16", "float16"), ("torch.bfloat16", "bfloat16"):
        folder(f"jumprelu_{said}", dict(no, dtype=name), dict(t, **f32(threshold=THETA)))
        case(f"jumprelu, f32 and a config of {name}", f"jumprelu_{said}", "jumprelu", OVER,
             model(t, act=over(THETA)), x,
             [f"SAELens casts the weights to {said}; saed uses them as stored", NEURONPEDIA])
    folder("log_threshold", no, dict(t, **f32(log_threshold=[0, np.log(2)] * 3 + [0])))
    theta = np.exp(np.float64(np.float32([0, np.log(2)] * 3 + [0])))
    case("jumprelu, a log threshold", "log_threshold", "jumprelu",
         OVER[:1] + ["threshold=exp:log_threshold"], model(t, act=over(theta)), X, [NEURONPEDIA])
    folder("log_huge", no, dict(t, **f32(log_threshold=[0, 0, 0, 89, 0, 0, 0])))
    refused("jumprelu, a log threshold whose exponential is infinite", "log_huge", "log_threshold",
            "features=N")
    for name, shape in ("b", B), ("c", C):
        theta = np.resize(THETA, shape[1])
        u = dict(keys(w_dec(shape), shape), **f32(threshold=theta))
        folder(f"jumprelu_{name}", dict(no, d_in=shape[0], d_sae=shape[1]), u)
        case(f"jumprelu, shape {name}", f"jumprelu_{name}", "jumprelu", OVER,
             model(u, act=over(theta)), rows(w_enc(shape), b_enc(shape), plain=True), [NEURONPEDIA])
    folder("gap", {"architecture": "jumprelu"}, t)
    refused("jumprelu without a threshold", "gap", "\"jumprelu\"", "no tensor \"threshold\"",
            "state threshold=")


def topk():
    t = keys()
    lines = CENTRED + ["select=top_k:3"]
    folder("topk", {"architecture": "topk", "k": 3}, t)
    case("topk", "topk", "topk", lines, model(t, BD, top(3)), XC, [VALUE_DEFAULT])
    folder("rescaled", {"architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": True}, t)
    case("topk, rescaled", "rescaled", "topk", lines + ["score=decoder_norm_folded"],
         model(t, BD, top(3), Rescaled), XC, [UNITS])
    hole = w_norm()
    hole[3] = 0
    u = keys(hole)
    folder("hole", {"architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": True}, u)
    case("topk, rescaled, a decoder row of zeros", "hole", "topk",
         lines + ["score=decoder_norm_folded"], model(u, BD, top(3), Rescaled), XC,
         [UNITS, "1 features have a decoder row of zeros and are never on"])
    for name, shape in ("b", B), ("c", C):
        u = keys(w_dec(shape), shape)
        folder(f"topk_{name}", {"architecture": "topk", "k": 3, "d_in": shape[0], "d_sae": shape[1]}, u)
        case(f"topk, shape {name}", f"topk_{name}", "topk", lines,
             model(u, b_dec(shape[0]), top(3)),
             rows(w_enc(shape), b_enc(shape), b_dec(shape[0]), plain=True), [VALUE_DEFAULT])
    wide = (5, 128)
    u = keys(w_dec(wide), wide)
    folder("topk_default", {"architecture": "topk", "d_sae": 128}, u)
    case("topk, 100 by default", "topk_default", "topk", CENTRED + ["select=top_k:100"],
         model(u, BD, top(100)), rows(w_enc(wide), b_enc(wide), BD, plain=True),
         ["select = top_k:100 is SAELens's default for an absent k", VALUE_DEFAULT])


def flat():
    t = keys()
    m = model(t, BD)
    folder("v5", {}, t, V5)
    case("v5", "v5", "standard", CENTRED, m, XC, [RELU_DEFAULT, NEURONPEDIA])
    folder("v5_relu", {"activation_fn": "relu"}, t, V5)
    case("v5, relu", "v5_relu", "standard", CENTRED, m, XC, [RELU_DEFAULT, NEURONPEDIA])
    kept = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2}}
    folder("v5_topk", dict(kept, apply_b_dec_to_input=None), t, V5)
    case("v5, topk", "v5_topk", "topk", CENTRED + ["select=top_k:2"], model(t, BD, top(2)), XC,
         [CENTRE_DEFAULT, VALUE_DEFAULT])
    folder("v5_no_k", {"activation_fn_str": "topk", "activation_fn_kwargs": {}}, t, V5)
    refused("v5, topk without k", "v5_no_k", "cfg.json", "activation_fn_kwargs.k", "state k=N")
    case("v5, topk without k, stated", "v5_no_k:k=2", "topk", CENTRED + ["select=top_k:2, stated"],
         model(t, BD, top(2)), XC, [VALUE_DEFAULT])
    folder("v5_tanh", {"activation_fn_str": "tanh-relu"}, t, V5)
    refused("v5, tanh-relu", "v5_tanh", "cfg.json", "\"tanh-relu\"")
    for value in False, None, "none":
        name = f"v5_norm_{value}".lower()
        cfg = {k: v for k, v in V5.items() if k != "normalize_activations"}
        folder(name, {}, t, dict(cfg, **({} if value == "none" else {"normalize_activations": value})))
        if value is None:  # JSON's null, which `folder` would leave out
            config(f"{name}/cfg.json", dict(cfg, normalize_activations=None))
        case(f"v5, normalize_activations {value}", name, "standard", CENTRED, m, XC,
             [RELU_DEFAULT, NEURONPEDIA])
    folder("v5_norm_true", {"normalize_activations": True}, t, V5)
    refused("v5, normalize_activations true", "v5_norm_true", "normalize_activations",
            "state input=scale:C")
    case("v5, normalize_activations true, a constant", "v5_norm_true:input=scale:0.5", "standard",
         ["input=scale:0.5, stated", "output=follow"] + CENTRED, Normalised(m, .5), X[:3],
         [RELU_DEFAULT, NEURONPEDIA])
    folder("v5_hook_z", {"hook_point": "blocks.1.attn.hook_z"}, t, V5)
    case("v5, hook_z by the hook's name", "v5_hook_z", "standard", CENTRED, m, XC,
         [RELU_DEFAULT, "hook_z: x is the heads of the layer concatenated", NEURONPEDIA])
    folder("head", {"architecture": "standard", "reshape_activations": "hook_z",
                    "metadata": dict(V6["metadata"], hook_name="blocks.1.attn.hook_z",
                                     hook_head_index=2)}, t)
    case("hook_z, one head", "head", "standard", CENTRED, m, XC,
         ["hook_z: x is head 2 of the layer", NEURONPEDIA])


def checkpoints():
    t = keys()
    half = dict(t, topk_threshold=np.float64(.5).reshape(()))
    cfg = {"architecture": "batchtopk", "k": 3}
    lines = ["centre=b_dec", "activation=threshold", "threshold=topk_threshold",
             "score=decoder_norm_folded"]
    norms = np.linalg.norm(w_norm(), axis=1)
    x = rows(w_enc(), b_enc(), BD, .5, norms)
    m = model(t, BD, over(.5), Rescaled)
    for name in "batchtopk", "matryoshka_batchtopk":
        folder(name, dict(cfg, architecture=name), half)
        case(name, name, "jumprelu", lines, m, x, [FOLDED_DEFAULT, UNITS])
    # SAELens exports it as jumprelu with the norms folded, and the two answer alike.
    n = norms[:, None]
    folder("exported", {"architecture": "jumprelu"},
           f32(W_enc=(w_enc() * n).T, b_enc=b_enc() * norms, b_dec=BD, threshold=np.full(7, .5),
               W_dec=[(0, 1, 0, 0, 0), (1, 0, 0, 0, 0), (0, 0, -1, 0, 0), (.6, 0, .8, 0, 0),
                      (0, -.6, .8, 0, 0), (2 / 3, 2 / 3, 1 / 3, 0, 0), (0, 1, 0, 0, 0)]))
    case("batchtopk, exported", "exported", "jumprelu", ["centre=b_dec"] + OVER, m, x[:-2],
         [NEURONPEDIA], near=True)
    average = dict(cfg, normalize_activations="expected_average_only_in")
    for name, scaler in ("scaler", {"scaling_factor": .5}), ("scaler_null", {"scaling_factor": None}):
        folder(name, average, half)
        config(f"{name}/activation_scaler.json", scaler)
    case("batchtopk, the constant beside it", "scaler", "jumprelu",
         ["input=scale:0.5", "output=follow"] + lines, Normalised(m, .5), X[:3],
         [FOLDED_DEFAULT, UNITS])
    folder("scaler_absent", average, half)
    for name in "scaler_null", "scaler_absent":
        refused(f"batchtopk, {name}", name, "normalize_activations", "state input=scale:C")
        case(f"batchtopk, {name}, stated", name + ":input=scale:0.5", "jumprelu",
             ["input=scale:0.5, stated", "output=follow"] + lines, Normalised(m, .5), X[:3],
             [FOLDED_DEFAULT, UNITS])


def inputs():
    t = keys()
    for name, value, how in (("rms", "constant_norm_rescale", "rms"),
                             ("layer_norm", "layer_norm", "layer_norm")):
        for centre in True, False:
            folder(f"{name}_{centre}".lower(), {"architecture": "standard", "normalize_activations": value,
                                                "apply_b_dec_to_input": centre}, t)
            case(f"{name}, b_dec applied {centre}", f"{name}_{centre}".lower(), "standard",
                 [f"input={how}", "output=follow"] + CENTRED[not centre:],
                 Normalised(model(t, BD if centre else None), how), X, [NEURONPEDIA], near=True)
    # One dimension: a deviation of n - 1 = 0 numbers is NaN.
    one = f32(W_enc=[[1, -2, .5]], b_enc=[0, 1, 2], W_dec=[[1], [2], [-1]], b_dec=[.5])
    folder("layer_norm_1", {"architecture": "standard", "d_in": 1, "d_sae": 3,
                            "normalize_activations": "layer_norm"}, one)
    case("layer_norm of one dimension", "layer_norm_1", "standard",
         ["input=layer_norm", "output=follow"] + CENTRED,
         Normalised(model(one, np.array([.5])), "layer_norm"), np.array([[1.], [0.]]),
         [NEURONPEDIA], near=True)
    folder("other", {"architecture": "standard", "normalize_activations": "constant_scalar_rescale"}, t)
    refused("another normaliser", "other", "cfg.json", "constant_scalar_rescale")


def transcoders():
    no = {"apply_b_dec_to_input": False, "d_out": M}
    for m, name in (M, "m3"), (5, "m5"):
        t = keys(w_dec(m=m), m=m)
        skip = np.float32(w_skip(m))
        folder(f"transcoder_{name}", dict(no, architecture="transcoder", d_out=m), t)
        case(f"transcoder, {name}", f"transcoder_{name}", "transcoder",
             ["kind=transcoder", "activation=relu"], model(t), X)
        folder(f"skip_{name}", dict(no, architecture="skip_transcoder", d_out=m), dict(t, W_skip=skip))
        case(f"skip_transcoder, {name}", f"skip_{name}", "skip_transcoder",
             ["kind=transcoder", "activation=relu", "skip=W_skip@m,d"], Skip(model(t), w_skip(m)), X)
        folder(f"jumprelu_skip_{name}", dict(no, architecture="jumprelu_skip_transcoder", d_out=m),
               dict(t, W_skip=skip, **f32(threshold=THETA)))
        case(f"jumprelu_skip_transcoder, {name}", f"jumprelu_skip_{name}", "jumprelu_skip_transcoder",
             ["kind=transcoder"] + OVER + ["skip=W_skip@m,d"],
             Skip(model(t, act=over(THETA)), w_skip(m)), rows(w_enc(), b_enc(), None, THETA))
    t = keys(w_dec(m=M), m=M)
    folder("jumprelu_transcoder", dict(no, architecture="jumprelu_transcoder"),
           dict(t, **f32(threshold=THETA)))
    case("jumprelu_transcoder", "jumprelu_transcoder", "jumprelu_transcoder",
         ["kind=transcoder"] + OVER, model(t, act=over(THETA)), rows(w_enc(), b_enc(), None, THETA))
    # The skip sees x as it came, and the output is not undone.
    folder("skip_rms", dict(no, architecture="skip_transcoder",
                            normalize_activations="constant_norm_rescale"),
           dict(t, W_skip=np.float32(w_skip(M))))
    case("skip_transcoder, rms", "skip_rms", "skip_transcoder",
         ["kind=transcoder", "input=rms", "activation=relu", "skip=W_skip@m,d"],
         Skip(Normalised(model(t), "rms", False), w_skip(M)), X, near=True)
    folder("centred", dict(no, architecture="transcoder", apply_b_dec_to_input=True), t)
    refused("a transcoder with b_dec applied", "centred", "cfg.json", "apply_b_dec_to_input")
    folder("average", dict(no, architecture="transcoder",
                           normalize_activations="expected_average_only_in"), t)
    refused("a transcoder's constant", "average", "state input=scale:C")
    refused("a transcoder's constant, half of it", "average:input=scale:0.5", "state output=")
    case("a transcoder's constant, stated", "average:input=scale:0.5:output=none", "transcoder",
         ["kind=transcoder", "input=scale:0.5, stated", "activation=relu"],
         Normalised(model(t), .5, False), X[:3])
    case("a transcoder's constant and output", "average:input=scale:0.5:output=scale:4",
         "transcoder", ["kind=transcoder", "input=scale:0.5, stated", "output=scale:4, stated",
                        "activation=relu"],
         Normalised(model({k: v / 8 if k in ("W_dec", "b_dec") else v for k, v in t.items()}), .5),
         X[:3])
    refused("a transcoder as an SAE", "transcoder_m3:kind=sae", "kind=sae is stated", "3", "5")


def others():
    t = keys()
    for name in "temporal", "matching_pursuit", "new":
        folder(f"architecture_{name}", {"architecture": name}, t)
        refused(f"architecture {name}", f"architecture_{name}", "cfg.json", f"\"{name}\"")
    folder("scaled", {"architecture": "standard"}, dict(t, **f32(scaling_factor=np.full(7, 1.5))))
    refused("scaling_factor of 1.5", "scaled", "\"scaling_factor\"", "1.5")
    folder("surplus", {"architecture": "standard"}, dict(t, **f32(W_other=THETA)))
    refused("a surplus key", "surplus", "\"W_other\"")
    folder("unused", {"architecture": "standard"}, dict(t, **f32(threshold=THETA)))
    refused("a threshold under standard", "unused", "\"threshold\"", "does not use", "format=custom")
    folder("reshaped", {"architecture": "standard", "reshape_activations": "other"}, t)
    refused("reshape_activations other", "reshaped", "cfg.json", "reshape_activations", "\"other\"")


def configs():
    """What a config says is checked where it is used, and never taken for a shape."""
    t = keys()
    base = dict(V6, architecture="topk", k=3)
    text = json.dumps(base)
    for name, cfg, *said in (
            ("a width", json.dumps(dict(base, d_in=6)), "d_in", "6", "5"),
            ("a size", json.dumps(dict(base, d_sae=8)), "d_sae", "8", "7"),
            ("a text for k", json.dumps(dict(base, k="3")), "\"k\"", "a text", "an integer is wanted"),
            ("a real k", json.dumps(dict(base, k=3.5)), "\"k\"", "a fraction", "an integer is wanted"),
            ("k of 0", json.dumps(dict(base, k=0)), "\"k\"", "0", "1 or more"),
            ("NaN for k", json.dumps(dict(base, k=float("nan"))), "\"k\"", "NaN"),
            ("k beyond 64 bits", json.dumps(dict(base, k=2 ** 64)), "\"k\"", "beyond 64 bits"),
            ("k twice", text[:-1] + ", \"k\": 3}", "cfg.json", "\"k\" stands twice"),
            ("a text for a boolean", json.dumps(dict(base, apply_b_dec_to_input="yes")),
             "apply_b_dec_to_input", "a text", "a boolean is wanted"),
            ("a number for the architecture", json.dumps(dict(base, architecture=3)),
             "architecture", "an integer", "a text is wanted"),
            ("no JSON", "{\"architecture\": topk}", "cfg.json", "expected a value"),
            ("a list", "[]", "cfg.json"),
            ("nothing", "", "cfg.json", "expected a value")):
        folder_ = "config_" + name.replace(" ", "_")
        config(f"{folder_}/cfg.json", cfg)
        safetensors(f"{folder_}/sae_weights.safetensors", t)
        refused(f"cfg.json, {name}", folder_, *said)
    unused = dict(base, lr=float("nan"), seed=2 ** 70, metadata=dict(V6["metadata"], a=float("-inf")))
    config("config_unused/cfg.json", "\ufeff" + json.dumps(unused))
    safetensors("config_unused/sae_weights.safetensors", t)
    case("cfg.json, odd values that are not used, a BOM", "config_unused", "topk",
         CENTRED + ["select=top_k:3"], model(t, BD, top(3)), XC, [VALUE_DEFAULT])


def write():
    begin("sae_lens")
    for make in plain, jumprelu, topk, flat, checkpoints, inputs, transcoders, others, configs:
        make()
