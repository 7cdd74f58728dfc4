"""formats_dl.py - dictionary_learning's files: dictionary.py and trainers/ of its repository."""
import numpy as np
import torch

from formats_out import begin, case, config, f32, bf16, pt, refused, rounding, transposed
from grid import A, B, C, MEAN, THETA, b_dec, b_enc, rows, w_dec, w_enc
from producers import Gated, Jump, Model, above, keep, relu


def linear(shape=A):
    """Linear's orientation: encoder [F,d], decoder [d,F]."""
    return f32(encoder__weight=w_enc(shape), encoder__bias=b_enc(shape),
               decoder__weight=w_dec(shape).T)


def topk_keys(shape=A):
    return dict(linear(shape), **f32(b_dec=b_dec(shape[0])))


def model(t, bias, centre=None, act=relu, cls=Model, b="encoder.bias", **more):
    t = {k: np.asarray(v, float) for k, v in t.items()}
    return cls(t["encoder.weight"].T, t[b], t["decoder.weight"].T, t[bias],
               None if centre is None else t[centre] if isinstance(centre, str) else centre,
               act, **more)


def params(t, act, centre=None):
    """Parameter's orientation: W_enc [d,F], W_dec [F,d]."""
    t = {k: np.asarray(v, float) for k, v in t.items()}
    return Model(t["W_enc"], t["b_enc"], t["W_dec"], t["b_dec"], centre, act)


def top(k):
    return lambda v: keep(relu(v), k)


def over(theta):
    return lambda v: above(v, theta)


X = rows(w_enc(), b_enc())
XC = rows(w_enc(), b_enc(), b_dec())
RELU = ["centre=bias", "activation=relu"]
NEW = ["activation=relu"]
TOP3 = ["centre=b_dec", "activation=relu", "select=top_k:3"]
OVER = ["centre=b_dec", "activation=threshold", "threshold=threshold"]
SAME_KEYS = "read as AutoEncoderTopK: BatchTopKSAE has the same keys"
AS_RELU = "SAELens (6.18) reads such files as ReLU, without the threshold"


NORMALISED = ("dictionary_learning's from_pretrained normalises the decoder unless told not to: its features "
              "are these times the decoder norm (normalize_decoder=unit)")
REPORTED = "dictionary_learning of 2024-07 to 2025-01 reported these features times the decoder norm"


def unused(key):
    return f"{key} is not used under the stated reading"


def trainer(name, **more):
    return {"trainer": dict({"dict_class": name}, **more)}


def the_five():
    t = dict(linear(), **f32(bias=b_dec()))
    # Strides (1, F), as AutoEncoder since 8b95ec9 and AutoEncoderNew always have them.
    strided = dict(t, **{"encoder.weight": transposed(t["encoder.weight"])})
    pt("auto/ae.pt", strided)
    pt("auto/checkpoints/ae_4.pt", strided)
    config("auto/config.json", trainer("AutoEncoder"))
    for name, source in (("in a folder", "auto"), ("the file", "auto/ae.pt"),
                         ("a checkpoint", "auto/checkpoints/ae_4.pt")):
        case(f"AutoEncoder, {name}", source, "AutoEncoder", RELU, model(t, "bias", "bias"), XC,
             [NORMALISED])
    new = dict(linear(), **{"decoder.bias": np.float32(b_dec())})
    pt("new/ae.pt", dict(new, **{"encoder.weight": transposed(new["encoder.weight"])}))
    config("new/config.json", trainer("AutoEncoder"))
    case("AutoEncoderNew, a config that says AutoEncoder", "new", "AutoEncoderNew", NEW,
         model(new, "decoder.bias"), X,
         ["config.json has the dict_class AutoEncoder; its keys are AutoEncoderNew's"])
    gated = {k: v for k, v in linear().items() if k != "encoder.bias"}
    gated.update(f32(decoder_bias=b_dec(), r_mag=np.zeros(7), gate_bias=b_enc(),
                     mag_bias=b_enc()[::-1]))
    pt("gated.pt", gated)
    case("GatedAutoEncoder", "gated.pt", "GatedAutoEncoder",
         ["centre=decoder_bias", "activation=gated"],
         model(gated, "decoder_bias", "decoder_bias", cls=Gated, b="mag_bias",
               gate=(np.zeros(7), b_enc())), XC, [REPORTED])
    jump = dict(t, **f32(jump=THETA))
    pt("jump.pt", jump)
    case("JumpAutoEncoder", "jump.pt", "JumpAutoEncoder", ["centre=bias", "activation=jump"],
         model(jump, "bias", "bias", cls=Jump, gate=THETA), XC)


def jump_relu():
    t = f32(W_enc=w_enc().T, b_enc=b_enc(), W_dec=w_dec(), b_dec=b_dec(), threshold=THETA)
    lines = ["activation=threshold", "threshold=threshold"]
    pt("jumprelu.pt", dict(t, W_enc=transposed(t["W_enc"])))
    case("JumpReluAutoEncoder", "jumprelu.pt", "JumpReluAutoEncoder", lines,
         params(t, over(THETA)), rows(w_enc(), b_enc(), None, THETA), [REPORTED])
    case("JumpReluAutoEncoder, the lost attribute stated", "jumprelu.pt:centre=b_dec",
         "JumpReluAutoEncoder", ["centre=b_dec, stated"] + lines,
         params(t, over(THETA), b_dec()), rows(w_enc(), b_enc(), b_dec(), THETA))
    pt("jumprelu_bf16.pt", bf16(t, ("W_enc", "W_dec", "b_enc", "b_dec")))
    case("JumpReluAutoEncoder, bf16 beside f32", "jumprelu_bf16.pt", "JumpReluAutoEncoder", lines,
         params(t, over(THETA)), rows(w_enc(), b_enc(), None, THETA),
         [REPORTED, rounding("bfloat16")])
    inf = np.array(THETA)
    inf[3] = np.inf  # with which some people prune
    pt("jumprelu_inf.pt", dict(t, **f32(threshold=inf)))
    refused("JumpReluAutoEncoder, an infinite threshold", "jumprelu_inf.pt", "threshold", "[3]",
            "inf", "features=")
    for name, shape in ("b", B), ("c", C):
        theta = np.resize(THETA, shape[1])
        t = f32(W_enc=w_enc(shape).T, b_enc=b_enc(shape), W_dec=w_dec(shape), b_dec=b_dec(shape[0]),
                threshold=theta)
        pt(f"jumprelu_{name}.pt", t)
        case(f"JumpReluAutoEncoder, shape {name}", f"jumprelu_{name}.pt", "JumpReluAutoEncoder",
             lines, params(t, over(theta)), rows(w_enc(shape), b_enc(shape), plain=True), [REPORTED])


def topk():
    t = topk_keys()
    m = model(t, "b_dec", "b_dec", top(3))
    pt("topk_i32.pt", dict(t, k=np.int32(3)))
    pt("topk_i64.pt", dict(t, k=np.int64(3), threshold=np.float32(-1)))
    for name in "topk_i32", "topk_i64":
        case(f"{name}, no config", name + ".pt", "AutoEncoderTopK", TOP3, m, XC, [SAME_KEYS])
    pt("topk_rows.pt", dict(t, k=np.int32(3), b_dec=t["b_dec"][None],
                            **{"encoder.bias": t["encoder.bias"][None]}))
    case("TopK, vectors as [1, n]", "topk_rows.pt", "AutoEncoderTopK", TOP3, m, XC, [SAME_KEYS])
    case("TopK, k stated", "topk_i32.pt:k=2", "AutoEncoderTopK",
         TOP3[:2] + ["select=top_k:2, stated, the file says top_k:3"],
         model(t, "b_dec", "b_dec", top(2)), XC)
    case("TopK, more than are positive", "topk_i32.pt:k=6", "AutoEncoderTopK",
         TOP3[:2] + ["select=top_k:6, stated, the file says top_k:3"],
         model(t, "b_dec", "b_dec", top(6)), XC)
    refused("TopK, k above F", "topk_i32.pt:k=8", "k is 8", "which is 7 by encoder.weight")
    pt("topk_config/ae.pt", t)
    config("topk_config/config.json", trainer("AutoEncoderTopK", k=3))
    case("TopK, k of the config", "topk_config", "AutoEncoderTopK", TOP3, m, XC)
    pt("topk_nowhere.pt", t)
    refused("TopK, no k", "topk_nowhere.pt", "topk_nowhere.pt", "\"k\"", "state k=N")
    pt("topk_two/ae.pt", dict(t, k=np.int32(3)))
    config("topk_two/config.json", trainer("AutoEncoderTopK", k=4))
    refused("TopK, two k", "topk_two", "\"k\" is 3", "config.json", "\"k\": 4", "state k=N")
    case("TopK, two k and a stated", "topk_two:k=3", "AutoEncoderTopK",
         TOP3[:2] + ["select=top_k:3, stated"], m, XC)
    pt("topk_half/ae.pt", dict(t, k=np.int32(3), threshold=np.float32(.5)))
    pt("topk_threshold.pt", dict(t, k=np.int32(3), threshold=np.float32(.5)))
    refused("TopK keys with a threshold, no config", "topk_threshold.pt",
            "\"threshold\" is 0.5", "state k=N or activation=threshold")
    pt("topk_plain.pt", dict(t, k=np.int32(3)), top=True, threshold=0.5)
    refused("TopK keys with a number for a threshold", "topk_plain.pt", "\"threshold\" is 0.5",
            "state k=N or activation=threshold")
    refused("... and that is stated", "topk_plain.pt:activation=threshold", "state threshold=NUMBER")
    case("... or a k", "topk_plain.pt:k=3", "AutoEncoderTopK", TOP3[:2] + ["select=top_k:3, stated"],
         m, XC, [SAME_KEYS])
    config("topk_half/config.json", trainer("AutoEncoderTopK", k=3))
    case("TopK by its config, with a threshold", "topk_half", "AutoEncoderTopK", TOP3, m, XC)
    case("TopK, the stored threshold", "topk_half:activation=threshold", "AutoEncoderTopK",
         ["centre=b_dec", "activation=threshold, stated",
          "select=all, stated, the file says top_k:3", "threshold=threshold"],
         model(t, "b_dec", "b_dec", over(.5)), rows(w_enc(), b_enc(), b_dec(), .5),
         [unused("k")])
    refused("TopK, a threshold of -1", "topk_i64.pt:activation=threshold", "\"threshold\"",
            "-1, never set", "state threshold=NUMBER")
    for name, shape in ("b", B), ("c", C):
        u = dict(topk_keys(shape), k=np.int32(3))
        pt(f"topk_{name}.pt", u)
        case(f"TopK, shape {name}", f"topk_{name}.pt", "AutoEncoderTopK", TOP3,
             model(u, "b_dec", "b_dec", top(3)),
             rows(w_enc(shape), b_enc(shape), b_dec(shape[0]), plain=True), [SAME_KEYS])
    for name, dtype in ("f16", torch.float16), ("bf16", torch.bfloat16), ("f64", torch.float64):
        pt(f"topk_{name}.pt", dict({k: torch.from_numpy(v).to(dtype) for k, v in t.items()},
                                   k=np.int32(3)))
        short = [] if name == "f64" else [rounding(str(dtype)[len("torch."):])]
        case(f"TopK, {name}", f"topk_{name}.pt", "AutoEncoderTopK", TOP3, m, XC, [SAME_KEYS] + short)
    config("topk_other/config.json", trainer("AutoEncoder"))
    pt("topk_other/ae.pt", dict(t, k=np.int32(3), threshold=np.float32(-1)))
    case("TopK keys, a config that says AutoEncoder", "topk_other", "AutoEncoderTopK", TOP3, m, XC,
         ["config.json has the dict_class AutoEncoder; its keys are AutoEncoderTopK's", SAME_KEYS])


def batch_topk():
    t = topk_keys()
    m, x = model(t, "b_dec", "b_dec", over(.5)), rows(w_enc(), b_enc(), b_dec(), .5)
    pt("batch/ae.pt", dict(t, k=np.int32(3), threshold=np.float32(.5)))
    config("batch/config.json", trainer("BatchTopKSAE", k=3))
    case("BatchTopK", "batch", "BatchTopKSAE", OVER, m, x, [AS_RELU])
    case("BatchTopK, the file", "batch/ae.pt", "BatchTopKSAE", OVER, m, x, [AS_RELU])
    case("BatchTopK, row by row", "batch:k=3", "BatchTopKSAE",
         ["centre=b_dec", "activation=relu, stated", "select=top_k:3, stated"],
         model(t, "b_dec", "b_dec", top(3)), XC, [AS_RELU, unused("threshold")])
    case("BatchTopK, relu", "batch:activation=relu", "BatchTopKSAE",
         ["centre=b_dec", "activation=relu, stated"], model(t, "b_dec", "b_dec"), XC,
         [AS_RELU, unused("threshold")])
    for name, more in ("unset", {"threshold": np.float32(-1)}), ("none", {}):
        pt(f"batch_{name}/ae.pt", dict(t, k=np.int32(3), **more))
        config(f"batch_{name}/config.json", trainer("BatchTopKSAE", k=3))
        refused(f"BatchTopK, threshold {name}", f"batch_{name}", "\"threshold\"", "state k=N",
                "activation=relu")
        refused(f"BatchTopK, threshold {name}, activation alone",
                f"batch_{name}:activation=threshold", "\"threshold\"", "state threshold=NUMBER")
        case(f"BatchTopK, {name} and a number", f"batch_{name}:threshold=0.5", "BatchTopKSAE",
             OVER[:2] + ["threshold=0.5, stated"], m, x,
             [AS_RELU, unused("threshold")] if more else [AS_RELU])


def matryoshka():
    t = f32(W_enc=w_enc().T, b_enc=b_enc(), W_dec=w_dec(), b_dec=b_dec())
    t.update(k=np.int32(3), threshold=np.float32(.5))
    x = rows(w_enc(), b_enc(), b_dec(), .5)
    m = params(t, over(.5), b_dec())
    pt("groups.pt", dict(t, W_dec=transposed(t["W_dec"]), group_sizes=np.array([2, 2, 3])))
    pt("prefixes.pt", dict(t, group_indices=np.array([0, 2, 4, 7])))
    for name in "groups", "prefixes":
        case(f"Matryoshka, {name}", name + ".pt", "MatryoshkaBatchTopKSAE", OVER, m, x)
        refused(f"Matryoshka, {name}, no prefix", name + ".pt:features=3", "features=3", "group_")
    # The producer selects over all features and then leaves out those behind the prefix.
    cut = {k: v[:, :4] if k == "W_enc" else v[:4] if k in ("b_enc", "W_dec") else v
           for k, v in t.items()}
    case("Matryoshka, four", "groups.pt:features=4", "MatryoshkaBatchTopKSAE",
         OVER + ["features=4, stated"], params(cut, over(.5), b_dec()), x)
    case("Matryoshka, relu", "groups.pt:activation=relu", "MatryoshkaBatchTopKSAE",
         ["centre=b_dec", "activation=relu, stated"], params(t, relu, b_dec()), XC,
         [unused("threshold")])
    case("Matryoshka, row by row", "groups.pt:k=3", "MatryoshkaBatchTopKSAE",
         ["centre=b_dec", "activation=relu, stated", "select=top_k:3, stated"],
         params(t, top(3), b_dec()), XC, [unused("threshold")])
    refused("Matryoshka, k and a prefix", "groups.pt:k=3:features=4", "features=4",
            "select=top_k:3", status=2)
    pt("groups_short.pt", dict(t, group_sizes=np.array([2, 2, 2])))
    refused("Matryoshka, sizes that are not F", "groups_short.pt", "group_sizes", "6", "7")
    pt("groups_unset.pt", dict(t, threshold=np.float32(-1), group_sizes=np.array([2, 2, 3])))
    refused("Matryoshka, threshold unset", "groups_unset.pt", "-1, never set", "state k=N",
            "activation=relu")
    u = f32(W_enc=w_enc(C).T, b_enc=b_enc(C), W_dec=w_dec(C), b_dec=b_dec(6))
    u.update(k=np.int32(3), threshold=np.float32(.5), group_sizes=np.array([2, 4]))
    pt("groups_c.pt", u)
    case("Matryoshka, shape c", "groups_c.pt", "MatryoshkaBatchTopKSAE", OVER,
         params(u, over(.5), b_dec(6)), rows(w_enc(C), b_enc(C), b_dec(6), plain=True))


def beside():
    new = dict(linear(), **{"decoder.bias": np.float32(b_dec())})
    m = model(new, "decoder.bias")
    wrapped = "read from the entry \"state_dict\""
    pt("k_beside.pt", new, "state_dict", k=3)
    pt("k_in_config.pt", new, "state_dict", config={"top_k": 3})
    pt("k_trainer/ae.pt", new)
    config("k_trainer/config.json", {"trainer": {"k": 3}})
    pt("k_plain/ae.pt", new)
    config("k_plain/config.json", {"hidden_dim": 7, "k": 3})
    for name, key in (("k_beside.pt", "\"k\""), ("k_in_config.pt", "\"top_k\""),
                      ("k_trainer", "\"k\": 3 in \"trainer\""), ("k_plain", "\"k\": 3")):
        notes = [wrapped if name.endswith(".pt")
                 else "config.json beside it was looked at for a k alone"]
        refused(f"a k beside ReLU's keys, {name}", name, key, "k=none")
        case(f"a k beside, none: {name}", name + ":k=none", "AutoEncoderNew", NEW, m, X, notes)
        case(f"a k beside, stated: {name}", name + ":k=3", "AutoEncoderNew",
             NEW + ["select=top_k:3, stated"], model(new, "decoder.bias", act=top(3)), X, notes)
    pt("new_mean.pt", new, "state_dict", act_mean=np.float32(MEAN))
    refused("a tensor beside", "new_mean.pt", "a tensor \"act_mean\"", "state centre=act_mean")
    case("a tensor beside, stated", "new_mean.pt:centre=act_mean", "AutoEncoderNew",
         ["centre=act_mean, stated", "activation=relu"], model(new, "decoder.bias", MEAN),
         rows(w_enc(), b_enc(), MEAN), [wrapped])
    t = topk_keys()
    pt("topk_mean.pt", dict(t, k=np.int32(3)), "state_dict", act_mean=np.float32(MEAN))
    refused("a tensor beside TopK", "topk_mean.pt", "state centre=b_dec+act_mean")
    refused("a tensor beside, misspelt", "topk_mean.pt:centre=act_means", "a tensor \"act_mean\"")
    case("the sum with a tensor beside", "topk_mean.pt:centre=b_dec+act_mean", "AutoEncoderTopK",
         ["centre=b_dec+act_mean, stated", "activation=relu", "select=top_k:3"],
         model(t, "b_dec", b_dec() + MEAN, top(3)), rows(w_enc(), b_enc(), b_dec() + MEAN),
         [wrapped])
    pt("scaled.pt", new, "sae", scaling_factor=2.0)
    pt("unscaled.pt", new, "sae", scaling_factor=1.0)
    refused("a number beside", "scaled.pt", "a number \"scaling_factor\"", "input=scale:C")
    case("a factor of one beside", "unscaled.pt", "AutoEncoderNew", NEW, m, X,
         ["read from the entry \"sae\""])
    pt("training.pt", new, "model_state_dict", epoch=3, loss=.25,
       optimizer_state_dict={"state": {0: {"exp_avg": torch.zeros(7, 5)}}, "param_groups": []})
    case("a checkpoint of training", "training.pt", "AutoEncoderNew", NEW, m, X,
         ["read from the entry \"model_state_dict\""])
    pt("backup.pt", t, "ae", step=4, norm_factor=4.0, optimizer={}, config={})
    refused("a training backup", "backup.pt", "training backup", "\"norm_factor\"")


def write():
    begin("dictionary_learning")
    for make in the_five, jump_relu, topk, batch_topk, matryoshka, beside:
        make()
