"""formats_others.py - sparsify, sentence-transformers, OpenAI's files, and what people make."""
import collections

import numpy as np
import torch

from formats_out import begin, case, config, f32, path, pt, refused, rounding, safetensors, tensor
from grid import A, B, C, M, MEAN, THETA, b_dec, b_enc, rows, w_dec, w_enc, w_norm, w_skip
from producers import Gated, Model, Normalised, Rescaled, Skip, above, keep, relu

BD = b_dec()
X, XC = rows(w_enc(), b_enc()), rows(w_enc(), b_enc(), BD)
TOP3 = ["centre=b_dec", "activation=relu", "select=top_k:3"]


def top(k):
    return lambda v: keep(relu(v), k)


def model(act=relu, centre=None, shape=A, V=None, bd=None, b=None):
    return Model(w_enc(shape).T, b_enc(shape) if b is None else b,
                 w_dec(shape) if V is None else V, b_dec(shape[0]) if bd is None else bd, centre, act)


def sparsify():
    begin("sparsify")
    default = "centre = b_dec is sparsify's default for an absent transcode"
    act = "activation = relu is sparsify's default for an absent activation"

    def folder(name, cfg, tensors):
        safetensors(f"{name}/sae.safetensors", tensors)
        config(f"{name}/cfg.json", dict({"d_in": 5, "expansion_factor": 2}, **cfg))

    def files(shape=A):
        return f32(encoder__weight=w_enc(shape), encoder__bias=b_enc(shape), W_dec=w_dec(shape),
                   b_dec=b_dec(shape[0]))

    t = files()
    m = model(top(3), BD)
    folder("plain", {"k": 3, "foo": 1, "signed": False}, t)
    case("sparsify", "plain", "topk", TOP3, m, XC,
         [act, default, "cfg.json has a field that is not looked at: foo"])
    case("sparsify, the file", "plain/sae.safetensors", "topk", TOP3, m, XC,
         [act, default, "cfg.json has a field that is not looked at: foo"])
    folder("sae", {"k": 3, "activation": "topk", "transcode": False}, t)
    case("sparsify, transcode false", "sae", "topk", TOP3, m, XC)
    folder("transcode", {"k": 3, "transcode": True}, t)
    case("sparsify, a transcoder", "transcode", "topk_transcoder",
         ["kind=transcoder"] + TOP3[1:], model(top(3)), X, [act])
    folder("skip", {"k": 3, "transcode": True, "skip_connection": True},
           dict(t, **f32(W_skip=w_skip())))
    case("sparsify, a skip", "skip", "topk_skip_transcoder",
         ["kind=transcoder"] + TOP3[1:] + ["skip=W_skip@m,d"], Skip(model(top(3)), w_skip()), X, [act])
    # Transcoders of 2024-11 to 2025-02 have no transcode, and did subtract b_dec.
    folder("old_skip", {"k": 3}, dict(t, **f32(W_skip=w_skip())))
    case("sparsify, an old transcoder", "old_skip", "topk_skip_transcoder",
         ["kind=transcoder"] + TOP3 + ["skip=W_skip@m,d"], Skip(m, w_skip()), XC,
         [act, default])
    for name, shape in ("b", B), ("c", C):
        u = files(shape)
        folder(f"shape_{name}", {"k": 3, "transcode": False, "d_in": shape[0]}, u)
        case(f"sparsify, shape {name}", f"shape_{name}", "topk", TOP3,
             model(top(3), b_dec(shape[0]), shape),
             rows(w_enc(shape), b_enc(shape), b_dec(shape[0]), plain=True), [act])
    folder("default", {"transcode": False, "d_in": 19}, files(B))
    case("sparsify, k is 32 by default", "default", "topk", TOP3[:2] + ["select=top_k:32"],
         model(top(32), b_dec(19), B), rows(w_enc(B), b_enc(B), b_dec(19), plain=True),
         [act, "select = top_k:32 is sparsify's default for an absent k"])
    encoder = {k: v for k, v in t.items() if k != "W_dec"}
    folder("encoder", {"k": 3, "transcode": False}, encoder)
    case("sparsify without a decoder", "encoder", "topk", TOP3, m, XC, [act], m=0)
    refused("sparsify without a decoder, a score", "encoder:score=decoder_norm", "\"W_dec\"")
    folder("signed", {"k": 3, "signed": True}, t)
    refused("sparsify, signed", "signed", "cfg.json", "signed", "magnitude")
    folder("groupmax", {"k": 3, "activation": "groupmax", "transcode": False}, t)
    refused("sparsify, groupmax", "groupmax", "groupmax")
    folder("other", {"k": 3, "activation": "gelu"}, t)
    refused("sparsify, another activation", "other", "cfg.json", "\"gelu\"")


def sentence_transformers():
    begin("sentence_transformers")
    lines = ["centre=pre_bias", "activation=relu", "select=top_k:3"]
    cfg = {"input_dim": 5, "hidden_dim": 7, "k": 3, "normalize": False}

    def tied(shape=A, k=3):  # sparse_auto_encoder.py: the decoder is the encoder's transpose
        return model(top(k), b_dec(shape[0]), shape, w_enc(shape))

    def files(shape=A, key="decoder__linear__weight"):
        return f32(**{key: w_enc(shape)}, pre_bias=b_dec(shape[0]), latent_bias=b_enc(shape))

    one = files()
    m = tied()
    safetensors("one/model.safetensors", dict(one, stats_last_nonzero=np.arange(7)))
    config("one/config.json", cfg)
    case("the name that safetensors keeps", "one", "topk", lines, m, XC)
    case("the file", "one/model.safetensors", "topk", lines, m, XC)
    safetensors("encoder/model.safetensors", files(key="encoder__weight"))
    config("encoder/config.json", cfg)
    case("encoder.weight alone", "encoder", "topk", lines, m, XC)
    both = dict(one, **f32(encoder__weight=w_enc()))
    safetensors("both/model.safetensors", both)
    config("both/config.json", cfg)
    case("both, equal", "both", "topk", lines, m, XC)
    pt("bin/pytorch_model.bin", both)
    config("bin/config.json", cfg)
    case("pytorch_model.bin", "bin", "topk", lines, m, XC)
    safetensors("unequal/model.safetensors", dict(one, **f32(encoder__weight=w_dec())))
    config("unequal/config.json", cfg)
    refused("both, unequal", "unequal", "decoder.linear.weight", "tied")
    safetensors("normalize/model.safetensors", one)
    config("normalize/config.json", dict(cfg, normalize=True))
    case("normalize", "normalize", "topk", ["input=layer_norm", "output=follow"] + lines,
         Normalised(m, "layer_norm"), X, near=True)
    safetensors("absent/model.safetensors", files(B))
    config("absent/config.json", {"input_dim": 19, "hidden_dim": 37})
    case("k and normalize absent", "absent", "topk", lines[:2] + ["select=top_k:8"], tied(B, 8),
         rows(w_enc(B), b_enc(B), b_dec(19), plain=True),
         ["input = none is sentence-transformers's default for an absent normalize",
          "select = top_k:8 is sentence-transformers's default for an absent k"])
    safetensors("shape_c/model.safetensors", files(C))
    config("shape_c/config.json", dict(cfg, input_dim=6, hidden_dim=6))
    case("shape c", "shape_c", "topk", lines, tied(C),
         rows(w_enc(C), b_enc(C), b_dec(6), plain=True))


def openai():
    begin("openai")

    def files(shape=A):
        return f32(encoder__weight=w_enc(shape), decoder__weight=w_dec(shape).T,
                   pre_bias=b_dec(shape[0]), latent_bias=b_enc(shape))

    t = files()
    buffers = {"stats_last_nonzero": np.arange(7), **f32(latents_activation_frequency=np.ones(7),
                                                         latents_mean_square=np.ones(7))}
    lines = ["centre=pre_bias", "activation=relu", "select=top_k:3"]
    normalised = ["input=layer_norm, stated", "output=follow"]
    m = model(top(3), BD)
    entry = dict(activation="TopK", activation_state_dict={"k": 3, "postact_fn": "ReLU"})
    pt("topk.pt", dict(t, **buffers), top=True, **entry)
    refused("TopK without input", "topk.pt", "state input=layer_norm or input=none")
    case("TopK, as the loader", "topk.pt:input=layer_norm", "topk", normalised + lines,
         Normalised(m, "layer_norm"), X, near=True)
    case("TopK, as train.py", "topk.pt:input=none", "topk", lines, m, XC)
    pt("signed.pt", t, top=True, activation="TopK",
       activation_state_dict={"k": 3, "postact_fn": "Identity"})
    case("TopK, postact Identity", "signed.pt:input=none", "topk",
         [lines[0], "activation=linear", lines[2]], model(lambda v: keep(v, 3), BD), XC)
    state = dict(collections.OrderedDict((k, tensor(v)) for k, v in t.items()), **entry)
    for name, whole, note in (
            ("wrapped.pt", {"state_dict": state}, ['read from the entry "state_dict"']),
            ("prefixed.pt", {"sae." + k: v for k, v in state.items()},
             ['the prefix "sae." was taken off every key']),
            ("wrapped_prefixed.pt", {7: {"sae." + k: v for k, v in state.items()}},
             ['read from the entry "7"', 'the prefix "sae." was taken off every key'])):
        torch.save(whole, path("openai", name))
        case(name[:-3], name + ":input=none", "topk", lines, m, XC, note)
        refused(name[:-3] + ", without input", name, "state input=layer_norm or input=none")
    torch.save({"a": {"b": state}}, path("openai", "nested.pt"))
    case("nested", "nested.pt:prefix=a.b.:input=none", "topk", lines, m, XC)
    pt("gelu_after.pt", t, top=True, activation="TopK",
       activation_state_dict={"k": 3, "postact_fn": "GELU"})
    refused("TopK, postact GELU", "gelu_after.pt:input=none", "postact_fn", "\"GELU\"")
    pt("relu.pt", t, top=True, activation="ReLU", activation_state_dict={})
    case("ReLU", "relu.pt", "standard", lines[:2], model(relu, BD), XC)
    pt("identity.pt", t, top=True, activation="Identity", activation_state_dict={})
    case("Identity", "identity.pt", "linear", [lines[0], "activation=linear"],
         model(lambda v: v, BD), XC)
    pt("gelu.pt", t, top=True, activation="GELU", activation_state_dict={})
    refused("GELU", "gelu.pt", "\"GELU\"")
    pt("none.pt", dict(t, **buffers))
    case("no entry", "none.pt", "standard", lines[:2], model(relu, BD), XC,
         ["activation = relu is OpenAI's default for an absent activation"])
    odd = {"stats_last_nonzero": np.int64(3).reshape(()),
           **f32(latents_activation_frequency=np.zeros((0, 5)),
                 latents_mean_square=[np.nan, np.inf, 0, 0, 0, 0, 0])}
    safetensors("odd.safetensors", dict(t, **odd))
    case("what is ignored may be anything", "odd.safetensors:input=none:activation=relu",
         "standard", [lines[0], "activation=relu, stated"], model(relu, BD), XC)
    tied = dict({k: v for k, v in t.items() if k != "decoder.weight"},
                **f32(decoder__linear__weight=w_enc()))
    pt("tied.pt", tied, top=True, activation="ReLU", activation_state_dict={})
    case("tied", "tied.pt", "standard", lines[:2], model(relu, BD, V=w_enc()), XC)
    pt("untied.pt", dict(tied, **f32(decoder__linear__weight=w_dec())), top=True, activation="ReLU",
       activation_state_dict={})
    refused("tied by its name alone", "untied.pt", "decoder.linear.weight", "tied")
    safetensors("oa.safetensors", dict(t, **buffers))
    refused("safetensors, nothing said", "oa.safetensors", "input=", "k=N or activation=")
    case("safetensors, stated", "oa.safetensors:input=none:k=3", "topk",
         [lines[0], lines[1], lines[2] + ", stated"], m, XC)
    for name, shape in ("b", B), ("c", C):
        pt(f"shape_{name}.pt", files(shape), top=True, **entry)
        case(f"shape {name}", f"shape_{name}.pt:input=none", "topk", lines,
             model(top(3), b_dec(shape[0]), shape),
             rows(w_enc(shape), b_enc(shape), b_dec(shape[0]), plain=True))


def linear():
    begin("linear")

    def probe(W, b=None, act=lambda v: v):
        return Model(W.T, np.zeros(len(W)) if b is None else b, act=act)

    W = w_enc()
    lines, kept = ["activation=linear"], ["activation=linear", "select=top_k:3, stated"]
    np.save(path("linear", "probe.npy"), W.astype(np.float32))
    for name, source in ("format", "probe.npy:format=linear"), ("a matrix", "probe.npy:encoder=array@F,d:format=linear"):
        case(f"linear by {name}", source, "linear", lines, probe(W), X, m=0)
    case("linear, the largest", "probe.npy:format=linear:k=3", "topk", kept,
         probe(W, act=lambda v: keep(v, 3)), X, m=0)
    # Below a zero there may be a place: it is no floor.
    flat = W.copy()
    flat[[1, 4]] = 0
    np.save(path("linear", "zeros.npy"), flat.astype(np.float32))
    case("linear, zeros and negatives", "zeros.npy:format=linear:k=5", "topk",
         lines + ["select=top_k:5, stated"], probe(flat, act=lambda v: keep(v, 5)), X, m=0)
    np.save(path("linear", "direction.npy"), W[0].astype(np.float32))
    case("linear of one row", "direction.npy:format=linear", "linear", lines, probe(W[:1]), X, m=0)
    np.save(path("linear", "turned.npy"), W.T.astype(np.float32))
    case("linear, turned", "turned.npy:format=linear:encoder=array@d,F", "linear", lines, probe(W), X, m=0)
    np.savez(path("linear", "sklearn.npz"), coef_=W, intercept_=b_enc(), classes_=np.arange(7))
    case("linear of scikit-learn", "sklearn.npz:format=linear", "linear", lines, probe(W, b_enc()), X, m=0)
    pt("module.pt", f32(weight=W, bias=b_enc()))
    case("linear of a torch.nn.Linear", "module.pt:format=linear", "linear", lines, probe(W, b_enc()), X, m=0)
    np.savez(path("linear", "two.npz"), a=W, b=W)
    refused("linear, two candidates", "two.npz:format=linear", "2 tensors that could be the matrix: \"a\", \"b\"",
            "state encoder=KEY")
    case("linear, one of two", "two.npz:format=linear:encoder=b", "linear", lines, probe(W), X, m=0)
    with open(path("linear", "joblib.pkl"), "wb") as out:
        out.write(b"\x80\x04\x95\0\0\0\0\0\0\0\0\x8c\x1dsklearn.linear_model._logistic\x94.")
    refused("linear, a joblib pickle", "joblib.pkl:format=linear", "pickle", "numpy.save")
    square = w_enc(C)
    np.save(path("linear", "square.npy"), square.astype(np.float32))
    case("linear, shape c", "square.npy:format=linear", "linear", lines, probe(square),
         rows(square, b_enc(C), plain=True), m=0)
    np.save(path("linear", "wide.npy"), w_enc(B).astype(np.float16))
    case("linear, shape b, f16", "wide.npy:format=linear", "linear", lines, probe(w_enc(B)),
         rows(w_enc(B), b_enc(B), plain=True), [rounding("float16")], m=0)


IMPLIED = "activation = relu is implied by k="


def bare():
    begin("bare")
    four = f32(W_enc=w_enc().T, W_dec=w_dec(), b_enc=b_enc(), b_dec=BD)
    five = dict(four, **f32(threshold=THETA))
    safetensors("four.safetensors", four)
    safetensors("five.safetensors", five)
    for name in "four", "five":
        for more in "", ":centre=none", ":centre=none:threshold=none":
            refused(f"bare, {name}{more}", f"{name}.safetensors{more}", "state centre=b_dec",
                    "activation=, k= or threshold=")
    case("bare, relu", "four.safetensors:centre=b_dec:activation=relu", "standard",
         ["centre=b_dec, stated", "activation=relu, stated"], model(relu, BD), XC)
    case("bare, k", "four.safetensors:centre=none:k=3", "topk",
         ["activation=relu, stated", "select=top_k:3, stated"], model(top(3)), X, [IMPLIED])
    case("bare, a threshold", "five.safetensors:centre=none:threshold=threshold", "jumprelu",
         ["activation=threshold, stated", "threshold=threshold, stated"],
         model(lambda v: above(v, THETA)), rows(w_enc(), b_enc(), None, THETA))
    case("bare, a threshold that is not used", "five.safetensors:centre=none:k=3", "topk",
         ["activation=relu, stated", "select=top_k:3, stated"], model(top(3)), X,
         [IMPLIED, "threshold is not used under the stated reading"])
    pt("hook_z.pt", f32(W_enc=w_enc().T, W_dec=w_dec(), b_enc=b_enc(), b_dec=BD))
    case("bare, hook_z files", "hook_z.pt:centre=b_dec:activation=relu", "standard",
         ["centre=b_dec, stated", "activation=relu, stated"], model(relu, BD), XC)
    u = f32(W_enc=w_enc(B).T, W_dec=w_dec(B), b_enc=b_enc(B), b_dec=b_dec(19))
    safetensors("b.safetensors", u)
    case("bare, shape b", "b.safetensors:centre=none:k=3", "topk",
         ["activation=relu, stated", "select=top_k:3, stated"], model(top(3), None, B),
         rows(w_enc(B), b_enc(B), plain=True), [IMPLIED])
    u = f32(W_enc=w_enc(C).T, W_dec=w_dec(C), b_enc=b_enc(C), b_dec=b_dec(6))
    safetensors("c.safetensors", u)
    refused("bare, square", "c.safetensors:centre=none:k=3", "\"W_enc\"", "format=custom")
    refused("bare as sae_lens", "four.safetensors:format=sae_lens", "cfg.json")


def custom():
    begin("custom")
    W, V = "W@d,F", "V@F,m"
    t = f32(W=w_enc().T, V=w_dec(), b=b_enc(), c=BD, theta=THETA, act_mean=MEAN)
    safetensors("mine.safetensors", t)
    vectors = "enc_bias=b:dec_bias=c"
    relu_ = "activation=relu, stated"
    case("custom, oriented", f"mine.safetensors:encoder={W}:decoder={V}:{vectors}:centre=c:k=3",
         "topk", ["centre=c, stated", "activation=relu, stated", "select=top_k:3, stated"],
         model(top(3), BD), XC, [IMPLIED])
    case("custom, by its vectors", f"mine.safetensors:encoder=W:decoder=V:{vectors}:centre=none:activation=relu",
         "standard", [relu_], model(), X)
    case("custom, a mean", f"mine.safetensors:encoder=W:decoder=V:{vectors}:centre=act_mean:activation=relu",
         "standard", ["centre=act_mean, stated", relu_], model(relu, MEAN),
         rows(w_enc(), b_enc(), MEAN))
    case("custom, a sum", f"mine.safetensors:encoder=W:decoder=V:{vectors}:centre=c+act_mean:activation=relu",
         "standard", ["centre=c+act_mean, stated", relu_], model(relu, BD + MEAN),
         rows(w_enc(), b_enc(), BD + MEAN))
    case("custom, a threshold", f"mine.safetensors:encoder=W:decoder=V:{vectors}:centre=none:threshold=theta",
         "jumprelu", ["activation=threshold, stated", "threshold=theta, stated"],
         model(lambda v: above(v, THETA)), rows(w_enc(), b_enc(), None, THETA))
    case("custom, a signed threshold", f"mine.safetensors:encoder=W:decoder=V:{vectors}:centre=none:"
         "activation=threshold_signed:threshold=-0.5", "jumprelu",
         ["activation=threshold_signed, stated", "threshold=-0.5, stated"],
         model(lambda v: v * (v > -.5)), rows(w_enc(), b_enc(), None, -.5))
    safetensors("turned.safetensors", f32(W=w_enc(), V=w_dec().T, b=b_enc(), c=BD))
    case("custom, the other way round", f"turned.safetensors:encoder=W:decoder=V:{vectors}:centre=c:k=3",
         "topk", ["centre=c, stated", "activation=relu, stated", "select=top_k:3, stated"],
         model(top(3), BD), XC, [IMPLIED])
    safetensors("two.safetensors", f32(W=w_enc().T, V=w_enc().T))
    refused("custom, two matrices alone", "two.safetensors:encoder=W:decoder=V:centre=none:k=3",
            "which way round", "W@F,d or @d,F")
    safetensors("square.safetensors", f32(W=w_enc(C).T, V=w_dec(C), b=b_enc(C), c=b_dec(6)))
    refused("custom, square", f"square.safetensors:encoder=W:decoder=V:{vectors}:centre=none:k=3",
            "which way round", "W@F,d or @d,F")
    case("custom, square and oriented",
         f"square.safetensors:encoder=W@d,F:decoder=V@F,m:{vectors}:centre=none:k=3", "topk",
         ["activation=relu, stated", "select=top_k:3, stated"], model(top(3), None, C),
         rows(w_enc(C), b_enc(C), plain=True), [IMPLIED])
    safetensors("skip.safetensors", dict(t, **f32(S=w_skip())))
    stem = f"skip.safetensors:encoder=W:decoder=V:{vectors}:centre=none:activation=relu:skip="
    refused("custom, a square skip", stem + "S", "which way round", "S@m,d or @d,m")
    for name, m in ("S@m,d", w_skip()), ("S@d,m", w_skip().T):
        case(f"custom, a skip {name}", stem + name, "skip_transcoder",
             ["kind=transcoder", relu_, f"skip={name}, stated"], Skip(model(), m), X)
    # Goodfire's keys.
    pt("goodfire.pth", f32(encoder_linear__weight=w_enc(), encoder_linear__bias=b_enc(),
                           decoder_linear__weight=w_dec().T, decoder_linear__bias=BD))
    case("custom, Goodfire's", "goodfire.pth:encoder=encoder_linear.weight:enc_bias=encoder_linear.bias:"
         "decoder=decoder_linear.weight:dec_bias=decoder_linear.bias:centre=none:activation=relu",
         "standard", [relu_], model(), X)
    safetensors("gated.safetensors", f32(W=w_enc(), V=w_dec().T, g=b_enc(), r=np.zeros(7),
                                         m=b_enc()[::-1], c=BD))
    case("custom, gated", "gated.safetensors:encoder=W:decoder=V:gate_bias=g:r_mag=r:mag_bias=m:"
         "dec_bias=c:centre=c:activation=gated", "gated", ["centre=c, stated", "activation=gated, stated"],
         Gated(w_enc().T, b_enc()[::-1], w_dec(), BD, BD, gate=(np.zeros(7), b_enc())), XC)
    refused("custom without a centre", f"mine.safetensors:encoder={W}:decoder={V}:{vectors}:k=3",
            "centre=", status=2)
    refused("custom without an activation", f"mine.safetensors:encoder={W}:centre=none", "activation=",
            status=2)
    safetensors("scored.safetensors", f32(W=w_enc(), V=w_norm(), b=b_enc()))
    stem = "scored.safetensors:encoder=W@F,d:enc_bias=b:centre=none"
    case("custom without a decoder", stem + ":activation=relu", "standard", [relu_], model(), X, m=0)
    scored = Rescaled(w_enc().T, b_enc(), w_norm(), BD, None, top(3))
    case("custom, the decoder's norms alone",
         stem + ":decoder=V@F,m:k=3:score=decoder_norm_folded:parts=encoder", "topk",
         [relu_, "select=top_k:3, stated", "score=decoder_norm_folded, stated"], scored, X,
         [IMPLIED], m=0)
    long = f32(W=w_enc(), V=w_norm(), b=b_enc())
    long["V"][4, :2] = 3e38
    safetensors("long.safetensors", long)
    refused("custom, a norm that f32 cannot hold",
            "long.safetensors:encoder=W@F,d:decoder=V@F,m:centre=none:k=3:score=decoder_norm",
            "decoder", "the norm of feature 4", "inf")
    norms = np.linalg.norm(w_norm(), axis=1)
    ranked = Model(w_enc().T, b_enc(), w_norm(), np.zeros(5), None,
                   lambda h: np.where(keep(relu(h * norms), 3) != 0, relu(h), 0))
    case("custom, ranked by the decoder's norms", stem + ":decoder=V@F,m:k=3:score=decoder_norm",
         "topk", [relu_, "select=top_k:3, stated", "score=decoder_norm, stated"], ranked, X,
         [IMPLIED])


def write():
    for make in sparsify, sentence_transformers, openai, linear, bare, custom:
        make()
