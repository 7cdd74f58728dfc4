"""formats_scopes.py - Gemma Scope, Gemma Scope 2, Qwen-Scope and circuit-tracer's transcoders."""
import os

import numpy as np

from formats_out import begin, case, config, f32, path, pt, refused, safetensors
from grid import A, B, C, M, THETA, b_dec, b_enc, rows, w_dec, w_enc, w_skip
from producers import Model, Normalised, Skip, above, keep, relu

CLT = "encoder only: the reconstruction needs all layers"
OVER = ["activation=threshold", "threshold=threshold"]
X = rows(w_enc(), b_enc())
XT = rows(w_enc(), b_enc(), None, THETA)


SIGNED = "circuit-tracer keeps negative values above a negative threshold"


def over(theta):
    return lambda v: above(v, theta)


def signed(theta):
    return lambda v: v * (v > theta)  # circuit-tracer activation_functions.py: without a ReLU


def npz(name, tensors, packed=False):
    (np.savez_compressed if packed else np.savez)(path("gemma_scope", name), **tensors)


def gemma(shape=A, theta=THETA, m=None):
    """relu(x @ W_enc + b_enc) where above the threshold; b_dec is not subtracted."""
    t = f32(W_enc=w_enc(shape).T, W_dec=w_dec(shape, m), b_enc=b_enc(shape), b_dec=b_dec(m or shape[0]),
            threshold=theta)
    return t, Model(w_enc(shape).T, b_enc(shape), w_dec(shape, m), b_dec(m or shape[0]), None, over(theta))


def scope(name, source, cls, lines, m, x, notes=()):
    """Some of THETA is below zero."""
    case(name, source, cls, lines, m, x, [*notes, SIGNED])


def gemma_scope():
    begin("gemma_scope")
    t, m = gemma()
    npz("average_l0_71/params.npz", {k[0].lower() + k[1:]: v for k, v in t.items()}, packed=True)
    for name, source in (("a file", "average_l0_71/params.npz"), ("a folder", "average_l0_71")):
        scope(f"gemma_scope, {name}", source, "jumprelu", OVER, m, XT)
    npz("stored/params.npz", dict({k: np.float64(v) for k, v in t.items()},
                                  W_enc=np.asfortranarray(t["W_enc"])))
    scope("gemma_scope, stored, f8, Fortran order", "stored", "jumprelu", OVER, m, XT)
    for name, shape in ("b", B), ("c", C):
        theta = np.resize(THETA, shape[1])
        u, n = gemma(shape, theta)
        npz(f"shape_{name}/params.npz", u, packed=True)
        scope(f"gemma_scope, shape {name}", f"shape_{name}", "jumprelu", OVER, n,
              rows(w_enc(shape), b_enc(shape), plain=True))
    npz("x-transcoders/params.npz", t)
    scope("gemma_scope, a transcoder by its path", "x-transcoders", "jumprelu_transcoder",
          ["kind=transcoder"] + OVER, m, XT, ["kind = transcoder comes from the path component x-transcoders"])
    u, n = gemma(m=M)
    npz("narrow/params.npz", u)
    scope("gemma_scope, a transcoder by its widths", "narrow", "jumprelu_transcoder",
          ["kind=transcoder"] + OVER, n, XT)
    npz("embedding/layer_0/params.npz", t)
    refused("gemma_scope, embedding", "embedding/layer_0/params.npz", "embedding", "input=none",
            "input=scale:")
    note = "SAELens scales W_enc and W_dec by sqrt(d) here and leaves b_dec unscaled"
    scope("gemma_scope, embedding, rows of its table", "embedding/layer_0:input=none", "jumprelu",
          OVER, m, XT, [note])
    scope("gemma_scope, embedding, scaled", "embedding/layer_0:input=scale:0.5", "jumprelu",
          ["input=scale:0.5, stated", "output=follow"] + OVER, Normalised(m, .5), X[:3], [note])
    npz("other.npz", t)
    scope("gemma_scope, stated", "other.npz:format=gemma_scope", "jumprelu", OVER, m, XT)


def gemma_scope_2():
    begin("gemma_scope_2")
    t, m = gemma()
    t = {k.lower(): v for k, v in t.items()}
    safetensors("plain/params.safetensors", t)
    scope("gemma_scope_2", "plain", "jumprelu", OVER, m, XT)
    hooks = {"model_name": "gemma-3", "hf_hook_point_in": "a", "hf_hook_point_out": "a"}
    safetensors("sae/params.safetensors", t)
    config("sae/config.json", hooks)
    scope("gemma_scope_2, one hook", "sae", "jumprelu", OVER, m, XT)
    safetensors("two_hooks/params.safetensors", t)
    config("two_hooks/config.json", dict(hooks, hf_hook_point_out="b"))
    scope("gemma_scope_2, two hooks", "two_hooks", "jumprelu_transcoder", ["kind=transcoder"] + OVER,
          m, XT)
    # The producer computes x @ A, A [d, m]: m = d hides which way round it is.
    A_ = w_skip().T
    safetensors("affine/params_layer_3.safetensors", dict(t, **f32(affine_skip_connection=A_)))
    skip = ["kind=transcoder"] + OVER + ["skip=affine_skip_connection@d,m"]
    note = "the skip is x A as the producer computes it; SAELens (seen to 6.49) computes x A^T"
    scope("gemma_scope_2, a skip", "affine/params_layer_3.safetensors", "jumprelu_skip_transcoder",
          skip, Skip(m, A_.T), XT, [note])
    for name, shape in ("b", B), ("c", C):
        theta = np.resize(THETA, shape[1])
        u, n = gemma(shape, theta)
        A_ = w_skip(shape[0], shape[0]).T
        u = dict({k.lower(): v for k, v in u.items()}, **f32(affine_skip_connection=A_))
        safetensors(f"shape_{name}/params.safetensors", u)
        scope(f"gemma_scope_2, a skip, shape {name}", f"shape_{name}", "jumprelu_skip_transcoder",
              skip, Skip(n, A_.T), rows(w_enc(shape), b_enc(shape), plain=True), [note])


    # A CLT's decoder has an axis of layers, and reconstructs with all of them.
    safetensors("clt/params_layer_3.safetensors",
                dict(t, w_dec=np.float32(np.stack([w_dec(), w_dec()], 1)),
                     b_dec=np.float32(np.stack([b_dec(), b_dec()]))))
    case("gemma_scope_2, a CLT", "clt", "jumprelu_transcoder", ["kind=transcoder"] + OVER, m, XT,
         [CLT, SIGNED], m=0)
    safetensors("coder/params_layer_3.safetensors",
                dict(t, w_enc=np.float32(np.stack([w_enc().T, w_enc().T]))))
    refused("gemma_scope_2, a crosscoder", "coder", "w_enc", "crosscoder")


def qwen_scope():
    begin("qwen_scope")

    def files(shape):
        return f32(W_enc=w_enc(shape), W_dec=w_dec(shape).T, b_enc=b_enc(shape), b_dec=b_dec(shape[0]))

    def model(k, shape=A):
        return Model(w_enc(shape).T, b_enc(shape), w_dec(shape), b_dec(shape[0]), None,
                     lambda v: keep(v, k))  # the card scatters the values of topk as they are

    t = files(A)
    note = "SAELens applies relu after the top-k; they differ where fewer than k values are positive"
    comes = "select = top_k:3 comes from the path component %sX-L0_3"
    lines = ["activation=linear", "select=top_k:3"]
    pt("a.pt", t)
    refused("qwen_scope without k", "a.pt", "state k=N", "format=custom")
    case("qwen_scope by its shapes", "a.pt:k=6", "topk", lines[:1] + ["select=top_k:6, stated"],
         model(6), X, [note])
    pt("X-L0_3/layer0.sae.pt", t)
    case("qwen_scope, k of the path", "X-L0_3/layer0.sae.pt", "topk", lines, model(3), X,
         [note, comes % ""])
    case("qwen_scope, signs kept", "X-L0_3/layer0.sae.pt:k=6", "topk",
         lines[:1] + ["select=top_k:6, stated, the file says top_k:3"], model(6), X, [note])
    # As the Hugging Face cache lays it out: a link three folders below the name with k.
    pt("models--X-L0_3/blobs/1", t)
    link = "models--X-L0_3/snapshots/0/layer0.sae.pt"
    os.symlink("../../blobs/1", path("qwen_scope", link))
    case("qwen_scope in a cache", link, "topk", lines,
         model(3), X, [note, comes % "models--"])
    pt("turned.pt", f32(W_enc=w_enc().T, W_dec=w_dec(), b_enc=b_enc(), b_dec=b_dec()))
    refused("SAELens's orientation", "turned.pt", "state centre=b_dec", "activation=, k= or threshold=")
    pt("b.sae.pt", files(B))
    case("qwen_scope, shape b", "b.sae.pt:k=6", "topk", lines[:1] + ["select=top_k:6, stated"],
         model(6, B), rows(w_enc(B), b_enc(B), plain=True), [note])
    pt("c.pt", files(C))
    refused("qwen_scope's keys, square", "c.pt", "\"W_enc\"", "format=custom")
    pt("c.sae.pt", files(C))
    case("qwen_scope, shape c by its name", "c.sae.pt:k=3", "topk",
         lines[:1] + ["select=top_k:3, stated"], model(3, C), rows(w_enc(C), b_enc(C), plain=True),
         [note])


def circuit_tracer():
    begin("circuit_tracer")
    again = "sets saved again by circuit-tracer's cache lose their activation: compare L0"

    def files(shape=A, m=None):
        return f32(W_enc=w_enc(shape), W_dec=w_dec(shape, m), b_enc=b_enc(shape), b_dec=b_dec(m or shape[0]))

    def model(act, shape=A, m=None):
        return Model(w_enc(shape).T, b_enc(shape), w_dec(shape, m), b_dec(m or shape[0]), None, act)

    t, half = files(), np.full(7, -.5)
    over_ = ["kind=transcoder", "activation=threshold_signed",
             "threshold=activation_function.threshold"]
    top = ["kind=transcoder", "activation=linear", "select=top_k:3"]
    three = model(lambda v: keep(v, 3))
    theta = f32(activation_function__threshold=half)
    # A threshold below zero keeps negative values above it.
    safetensors("jump/layer_4.safetensors", dict(t, **theta))
    for name, source in ("a file", "jump/layer_4.safetensors"), ("a folder", "jump"):
        case(f"circuit_tracer, a threshold, {name}", source, "jumprelu_transcoder", over_,
             model(signed(half)), rows(w_enc(), b_enc(), None, half))
    safetensors("skip/layer_4.safetensors", dict(t, **theta, **f32(W_skip=w_skip())))
    case("circuit_tracer, a skip", "skip/layer_4.safetensors", "jumprelu_skip_transcoder",
         over_ + ["skip=W_skip@m,d"], Skip(model(signed(half)), w_skip()), X)
    safetensors("narrow/layer_4.safetensors", dict(files(m=M), **f32(W_skip=w_skip(M))))
    case("circuit_tracer, a skip to another width", "narrow", "skip_transcoder",
         ["kind=transcoder", "activation=relu", "skip=W_skip@m,d"],
         Skip(model(relu, m=M), w_skip(M)), X, [again])
    safetensors("relu/layer_0.safetensors", t)
    case("circuit_tracer, nothing said", "relu", "transcoder", ["kind=transcoder", "activation=relu"],
         model(relu), X, [again])
    # h of the first row is 5 0 -1 -2 -3 ...: a zero takes its place and is not listed.
    kept = dict(t, k=np.int64(3).reshape(()))
    safetensors("k/layer_0.safetensors", kept)
    case("circuit_tracer, a tensor k", "k", "topk_transcoder", top, three, X)
    zeros = files()
    zeros.update(f32(b_enc=[5, 0, -1, -2, -3, -4, -5]))
    safetensors("zeros/layer_0.safetensors", dict(zeros, k=np.int64(3).reshape(())))
    case("circuit_tracer, a zero takes a place", "zeros", "topk_transcoder", top,
         Model(w_enc().T, np.float64(zeros["b_enc"]), w_dec(), b_dec(), None, lambda v: keep(v, 3)),
         np.array([np.zeros(5), X[0]]))
    yaml = "model_name: gpt2\nhooks:\n  - a\n  - k: 9\nmore:\n  k: 9\nactivation: topk\nk: 3  # kept\n"
    safetensors("yaml/layer_0.safetensors", t)
    config("yaml/config.yaml", yaml)
    case("circuit_tracer, k of the config", "yaml", "topk_transcoder", top, three, X)
    safetensors("yaml_both/layer_0.safetensors", kept)
    config("yaml_both/config.yaml", yaml)
    case("circuit_tracer, k of both", "yaml_both", "topk_transcoder", top, three, X)
    safetensors("yaml_four/layer_0.safetensors", dict(t, k=np.int64(4).reshape(())))
    config("yaml_four/config.yaml", yaml)
    refused("circuit_tracer, two k", "yaml_four", "\"k\" is 4", "config.yaml says 3", "state k=N")
    for name, text, said in (("no_k", "activation: topk\n", "state k=N"),
                             ("anchor", "activation: topk\nk: &a 3\n", "an anchor"),
                             ("twice", "activation: topk\nk: 3\nk: 3\n", "stands twice"),
                             ("other", "activation: gelu\n", "\"gelu\"")):
        safetensors(f"yaml_{name}/layer_0.safetensors", t)
        config(f"yaml_{name}/config.yaml", text)
        refused(f"circuit_tracer, config.yaml: {name}", f"yaml_{name}", said)
    for name, text in ("relu", "activation: relu\n"), ("topk", "activation: topk\nk: 3\n"):
        safetensors(f"jump_{name}/layer_0.safetensors", dict(t, **theta))
        config(f"jump_{name}/config.yaml", text)
        refused(f"circuit_tracer, a threshold and {name}", f"jump_{name}",
                "activation_function.threshold", "state activation=")
    clt = f32(W_enc_7=w_enc(), b_enc_7=b_enc(), b_dec_7=b_dec())
    safetensors("clt/W_enc_7.safetensors", clt)
    case("circuit_tracer, a CLT", "clt/W_enc_7.safetensors", "transcoder",
         ["kind=transcoder", "activation=relu"], model(relu), X, [CLT, again], m=0)
    safetensors("clt_jump/W_enc_7.safetensors", dict(clt, **f32(threshold_7=half)))
    case("circuit_tracer, a CLT with a threshold", "clt_jump", "jumprelu_transcoder",
         ["kind=transcoder", "activation=threshold_signed", "threshold=threshold_7"],
         model(signed(half)), rows(w_enc(), b_enc(), None, half), [CLT], m=0)
    for name, shape in ("b", B), ("c", C):
        u = dict(files(shape), **f32(W_skip=w_skip(shape[0], shape[0])), k=np.int64(3).reshape(()))
        safetensors(f"shape_{name}/layer_0.safetensors", u)
        case(f"circuit_tracer, shape {name}", f"shape_{name}", "topk_skip_transcoder",
             top + ["skip=W_skip@m,d"],
             Skip(model(lambda v: keep(v, 3), shape), w_skip(shape[0], shape[0])),
             rows(w_enc(shape), b_enc(shape), plain=True))
    for i in range(3):
        safetensors(f"set/layer_{i}.safetensors", t)
    refused("circuit_tracer, a folder of layers", "set", "3 weights files", "layer_0.safetensors",
            "layer_2.safetensors", "name one")


def write():
    for make in gemma_scope, gemma_scope_2, qwen_scope, circuit_tracer:
        make()
