"""producers.py - what the producers of dictionaries compute, from their tensors as stored.

Each class is one formula of one producer, written after that producer's own code (named in its
comment) in float64 and nothing of saed's. A model has encode(x) -> f and decode(f, x) -> y; `state`
gives the row's own numbers where the input is normalised. What differs between machines there is
settled as in the contract: of equal values the lower id is kept, NaN counts as the largest, every
comparison is strict, -infinity below a threshold is off.
"""
import numpy as np


def relu(v):
    return np.maximum(v, 0)  # of NaN it is NaN


def keep(v, k):
    """The k largest of a row, where they are; 0 elsewhere."""
    order = sorted(range(len(v)), key=lambda j: (not np.isnan(v[j]), 0 if np.isnan(v[j]) else -v[j], j))
    out = np.zeros(len(v))
    out[order[:k]] = v[order[:k]]
    return out


def above(v, theta):
    """relu(v) where v is above theta: SAELens's and DeepMind's JumpReLU, TopK's use_threshold."""
    return relu(v) * (v > theta)


class Model:
    """An encoder and a decoder of vectors as x @ W; what is not given is not there."""

    def __init__(self, W, b, V=None, bd=None, centre=None, act=relu, gate=None):
        self.W, self.b, self.V, self.bd = W, b, V, bd  # W [d, F], V [F, m]
        self.centre = np.zeros(len(W)) if centre is None else centre
        self.act, self.gate = act, gate

    def encode(self, x):
        return self.act((x - self.centre) @ self.W + self.b)

    def decode(self, f, x):
        return f @ self.V + self.bd

    def state(self, x):
        return []


class Gated(Model):
    """dictionary_learning GatedAutoEncoder, SAELens GatedSAE: b is the magnitude's bias."""

    def encode(self, x):
        p = (x - self.centre) @ self.W
        r_mag, b_gate = self.gate
        return (p + b_gate > 0) * relu(np.exp(r_mag) * p + self.b)


class Jump(Model):
    """The seed's JumpAutoEncoder."""

    def encode(self, x):
        p = super().encode(x)
        return p + self.gate * (p > 0)


class Rescaled(Model):
    """SAELens TopKSAE and BatchTopK training with rescale_acts_by_decoder_norm (topk_sae.py,
    batchtopk_sae.py): what is selected and returned is scaled, and decode divides."""

    def norms(self):
        return np.linalg.norm(self.V, axis=1)

    def encode(self, x):
        n = self.norms()
        h = (x - self.centre) @ self.W + self.b
        return self.act(np.where(n > 0, h * n, 0))

    def decode(self, f, x):
        n = self.norms()
        return np.where(n > 0, f / np.where(n > 0, n, 1), 0) @ self.V + self.bd


class Normalised:
    """SAELens's normalize_activations around a model (sae.py _setup_activation_normalization):
    in first, b_dec subtracted after it; out last. A transcoder has no norm_out."""

    def __init__(self, model, how, has_out=True):
        self.model, self.how, self.has_out = model, how, has_out

    def state(self, x):
        if self.how == "rms":
            with np.errstate(all="ignore"):
                return [np.sqrt(len(x)) / np.sqrt((x * x).sum())]
        if self.how == "layer_norm":
            mu = x.sum() / len(x)
            with np.errstate(all="ignore"):
                return [mu, np.sqrt(((x - mu) ** 2).sum() / (len(x) - 1))]
        return []

    def encode(self, x):
        s = self.state(x)
        if self.how == "rms":
            return self.model.encode(x * s[0])
        if self.how == "layer_norm":
            return self.model.encode((x - s[0]) / (s[1] + 1e-5))
        return self.model.encode(x * self.how)

    def decode(self, f, x):
        s, y = self.state(x), self.model.decode(f, x)
        if not self.has_out:
            return y
        return y / s[0] if self.how == "rms" else y * s[1] + s[0] if s else y / self.how


class Skip:
    """A transcoder with a skip: y += W_skip x, of x as it came."""

    def __init__(self, model, W):
        self.model, self.W = model, W

    def __getattr__(self, name):
        return getattr(self.model, name)

    def decode(self, f, x):
        return self.model.decode(f, x) + self.W @ x
