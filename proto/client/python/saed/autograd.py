"""Gradients of what saed computes, for torch's autograd. Imported only where a tensor requires grad.

An answer comes as ever; its derivative is made here, of the rows of weights whose features are active and
of each row's own numbers. Thresholds, gates and selections are constants, and what is off has the
derivative 0: as torch has it for relu, the thresholds, jump, gated and top_k. Products are float32.
Second derivatives are not there.
"""
from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from .sparse import Sparse, TopK
from .weights import fetch_rows, fetch_vectors

if TYPE_CHECKING:
    from .dictionary import Dictionary

CHUNK_BYTES = 64 << 20  # of rows of weights at a time
SCALED = ("GatedAutoEncoder", "AutoEncoderNew")  # whose forward's f is times the decoder's norms
PICKED = 1 << 22  # numbers in a gather at a time


class _Served(torch.autograd.Function):  # type: ignore[misc]
    """`answers`, floats that came detached, as functions of `inputs`; `back` is the derivative."""

    @staticmethod
    def forward(ctx: Any, back: Any, answers: List[Any], *inputs: Any) -> Any:
        ctx.back, ctx.n_inputs = back, len(inputs)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *answers)
        return tuple(answers)

    @staticmethod
    @once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, *grads: Any) -> Any:
        saved = ctx.saved_tensors
        n = ctx.n_inputs
        found = ctx.back(saved[:n], saved[n:], grads, ctx.needs_input_grad[2:])
        return (None, None, *(None if g is None else g.to(x.dtype).reshape(x.shape)
                              for g, x in zip(found, saved[:n])))


def attach(found: Dict[str, Any], back: Any, inputs: Sequence[Any]) -> Dict[str, Any]:
    """The answers `found`, each on the graph of `inputs`."""
    back.forms = {name: _Form.of(a) for name, a in found.items()}
    served = _Served.apply(back, [_values(a) for a in found.values()], *inputs)
    return {name: _with_values(a, v) for (name, a), v in zip(found.items(), served)}


def _values(answer: Any) -> Any:
    return answer.values if isinstance(answer, (TopK, Sparse)) else answer


def _with_values(answer: Any, values: Any) -> Any:
    return dataclasses.replace(answer, values=values) if isinstance(answer, (TopK, Sparse)) else values


# ---- which features are on ----

class Entries(NamedTuple):
    """Features of rows. at: where each stands among the answer's values; v: what goes there."""
    rows: Any
    ids: Any
    at: Any
    v: Any


class _Form(NamedTuple):
    """Where an answer's values stand, without them (they would keep their own graph alive)."""
    ids: Any
    indptr: Any

    @classmethod
    def of(cls, answer: Any) -> _Form:
        return cls(answer.indices if isinstance(answer, (TopK, Sparse)) else None,
                   answer.indptr if isinstance(answer, Sparse) else None)

    def entries(self, values: Any, v: Any, columns: Any = None, all_on: bool = False) -> Entries:
        """Those whose value is not 0 (all_on, and of Sparse: all that there are), with what `v`, of the shape
        of `values`, has there. columns: ids of a dense answer's columns where they are not all features."""
        flat, every = values.reshape(-1), all_on or self.indptr is not None
        at = torch.arange(len(flat), device=flat.device) if every else flat.nonzero()[:, 0]
        rows = at // values.shape[-1]
        if self.indptr is not None:
            counts = _like(self.indptr, flat).diff()
            rows = torch.repeat_interleave(torch.arange(len(counts), device=flat.device), counts)[at]
        ids = at % values.shape[-1]
        if self.ids is not None:
            ids = _like(self.ids, flat).reshape(-1)[at].long()
        elif columns is not None:
            ids = _like(columns, flat)[ids]
        return Entries(rows, ids, at, None if v is None else v.reshape(-1)[at].float())


def _like(ids: Any, model: Any) -> Any:
    return torch.as_tensor(ids).to(model.device)


def _scaled(ae: Dictionary, e: Entries, vectors: Sequence[str]) -> Entries:
    """`e`, its values times the vectors `(dict_size)` of these names."""
    v = e.v
    for by in fetch_vectors(ae, vectors).values():
        v = v * torch.from_numpy(by).to(v.device)[e.ids]
    return e._replace(v=v)


# ---- rows of weights ----

def _chunks(ae: Dictionary, parts: Tuple[str, ...], all_ids: Any) -> Iterator[Tuple[Any, Any, List[Any]]]:
    """The distinct ids in pieces: which entries of all_ids are of the piece, at which of its rows each
    stands, and the rows of `parts`."""
    distinct, place = torch.unique(all_ids, return_inverse=True)
    step = max(1, CHUNK_BYTES // (4 * len(parts) * max(ae.activation_dim, ae.output_dim)))
    for begin in range(0, len(distinct), step):
        ids = distinct[begin:begin + step]
        rows = fetch_rows(ae, parts, ids.cpu().numpy())
        on = (place >= begin) & (place < begin + step)
        yield on, place[on] - begin, [torch.from_numpy(rows[part]).to(all_ids.device) for part in parts]


def _dots(g: Any, rows: Any, w: Any, place: Any) -> Any:
    """Of each entry: g of its row times its row of w."""
    if 4 * len(rows) > g.shape[0] * w.shape[0]:
        return (g @ w.T)[rows, place]
    step = max(1, PICKED // w.shape[1])
    return torch.cat([g.new_zeros(0), *((g[rows[i:i + step]] * w[place[i:i + step]]).sum(-1)
                                        for i in range(0, len(rows), step))])


def _to_decoder(ae: Dictionary, g: Any, e: Entries) -> Any:
    """Of each entry: g of its row times the decoder's row of its feature."""
    v = g.new_zeros(len(e.ids))
    for on, place, (w,) in _chunks(ae, ("decoder",), e.ids):
        v[on] = _dots(g, e.rows[on], w, place)
    return v


def _to_encoder(ae: Dictionary, g: Any, active: Optional[Entries], direct: List[Entries], n_rows: int,
                psi: Optional[Any], device: Any) -> Any:
    """What reaches encode's x2: `direct` entries times encoder rows, and those of `active` with g of its
    row times the decoder's row for value, times psi. Each row of weights comes once."""
    w_x = torch.zeros((n_rows, ae.activation_dim), device=device)
    lists = [*direct] if active is None else [active, *direct]
    rows, ids = torch.cat([e.rows for e in lists]), torch.cat([e.ids for e in lists])
    n_active = 0 if active is None else len(active.rows)
    v = torch.cat([torch.zeros(n_active, device=device), *(e.v for e in direct)])
    for on, place, (enc, *dec) in _chunks(ae, ("encoder", "decoder") if n_active else ("encoder",), ids):
        some = v[on]
        if dec:
            n = int(on[:n_active].sum())
            through = _dots(g, rows[:n_active][on[:n_active]], dec[0], place[:n])
            some[:n] = through if psi is None else through * psi[ids[:n_active][on[:n_active]]]
        matrix = torch.sparse_coo_tensor(torch.stack([rows[on], place]), some, (n_rows, len(enc)))
        w_x += torch.sparse.mm(matrix, enc)
    return w_x


# ---- the reading ----

class Input(NamedTuple):
    """How a dictionary scales a row before it encodes it, and whether the output undoes it."""
    kind: str
    by: float
    undone: bool
    out_by: float

    @classmethod
    def of(cls, ae: Dictionary) -> Input:
        reading = ae.info["reading"]
        kind, _, by = reading["input"].partition(":")
        out, _, out_by = reading["output"].partition(":")
        if out == "follow":
            out_by = by
        return cls(kind, float(by or 1), out == "follow", float(out_by or 1))

    def state(self, x: Any) -> Any:
        """The row's own numbers, as input_state."""
        x = x.double()
        if self.kind == "rms":
            return (x.shape[1] ** 0.5 / x.norm(dim=1, keepdim=True)).float()
        if self.kind == "layer_norm":
            return torch.stack([x.mean(1), x.std(1)], 1).float()
        return None

    def to_y0(self, g: Any, state: Any) -> Any:
        """The gradient before the output is scaled, from where x_hat goes."""
        if not self.undone or self.kind == "scale":
            return g / self.out_by
        return g / state if self.kind == "rms" else g * state[:, 1:]

    def to_state(self, g: Any, y: Any, state: Any) -> Any:
        """The gradient at the row's own numbers, by which the output y (skip left out) was scaled."""
        if self.kind == "rms":
            return -_dot(g, y) / state
        mu, sd = state[:, :1], state[:, 1:]
        return torch.cat([g.sum(1, keepdim=True), _by(_dot(g, y - mu), sd)], 1)

    def to_x(self, x: Any, w: Any, g_state: Any) -> Any:
        """The gradient at x: of w, where the scaled row goes, and g_state, where its own numbers go."""
        d = x.shape[1]
        if self.kind in ("none", "scale"):
            return w * self.by
        state = self.state(x)
        if self.kind == "rms":
            x1 = x * state
            b = _dot(x1, w) if g_state is None else _dot(x1, w) + g_state * state
            return state * (w - b / d * x1)
        mu, sd = state[:, :1], state[:, 1:]
        x1 = (x - mu) / (sd + 1e-5)
        a = _by(_dot(x1, w) * (sd + 1e-5), (d - 1) * sd)
        to = (w - w.mean(1, keepdim=True) - a * x1) / (sd + 1e-5)
        if g_state is not None:
            to = to + g_state[:, :1] / d + _by(g_state[:, 1:] * (x - mu), (d - 1) * sd)
        return to


def _dot(a: Any, b: Any) -> Any:
    """Row by row, `(rows, 1)`."""
    return (a.double() * b).sum(1, keepdim=True).float()


def _by(a: Any, b: Any) -> Any:
    """a / b, and 0 where b is: as torch has it for a row whose values are all the same."""
    return torch.where(b == 0, torch.zeros_like(a), a / b)


# ---- operations ----

class _Back:
    """The derivative of one call. `forms` of its answers are attach's to set."""

    def __init__(self, ae: Dictionary, columns: Any = None) -> None:
        self.ae, self.columns = ae, columns
        self.f_by: List[str] = []
        self.forms: Dict[str, _Form] = {}
        self.input = Input.of(ae)
        self.is_identity = ae.info["format"] == "identity"
        self.all_on = never_off(ae)

    def psi(self) -> List[str]:
        """The vectors by which an active f grows faster than its encoder row's product."""
        reading = self.ae.info["reading"]
        return (["r"] if reading["activation"] == "gated" else
                ["norms"] if reading["score"] == "decoder_norm_folded" else [])

    def direct(self, answers: Dict[str, Any], grads: Dict[str, Any]) -> List[Entries]:
        """What the gradients of f, gate and pre_jump are where encoder rows go in."""
        lists = []
        for name in ("f", "gate", "pre_jump"):
            if grads.get(name) is not None:
                form = self.forms[name]
                e = form.entries(answers[name], grads[name], self.columns, self.all_on and form.ids is None)
                lists.append(_scaled(self.ae, e, self.psi() + self.f_by if name == "f" else []))
        return lists

    def named(self, values: Sequence[Any]) -> Dict[str, Any]:
        return dict(zip(self.forms, values))

    def skip(self, device: Any) -> Any:
        """W_skip `(output_dim, activation_dim)`, or None."""
        if self.ae.info["reading"]["skip"] == "none":
            return None
        return torch.from_numpy(fetch_vectors(self.ae, ["skip"])["skip"]).to(device)


class _FromX(_Back):
    """Of encode, and of forward, whose active features are `active` and whose own f is scaled by f_by."""

    def __init__(self, ae: Dictionary, columns: Any, active: Optional[Entries], f_by: List[str]) -> None:
        super().__init__(ae, columns)
        self.active, self.f_by = active, f_by

    def __call__(self, inputs: Any, values: Any, given: Any, needs: Any) -> List[Any]:
        ae = self.ae
        answers, grads = self.named(values), self.named(given)
        x = inputs[0].reshape(-1, ae.activation_dim).float()
        direct, g_state = self.direct(answers, grads), _flat(grads.get("input_state"))
        g, skip = _flat(grads.get("x_hat")), None
        if g is None:
            w = self.to_encoder(None, direct, x)
        else:
            state, skip = self.input.state(x), self.skip(x.device)
            if self.input.undone and state is not None:
                y = _flat(answers["x_hat"])
                undone = self.input.to_state(g, y if skip is None else y - x @ skip.T, state)
                g_state = undone if g_state is None else g_state + undone
            w = self.to_encoder(self.input.to_y0(g, state), direct, x)
        to = self.input.to_x(x, w, g_state)
        return [to if skip is None else to + g @ skip]

    def to_encoder(self, g: Any, direct: List[Entries], x: Any) -> Any:
        if self.is_identity:
            w = torch.zeros_like(x) if g is None else g.clone()
            for e in direct:
                w.index_put_((e.rows, e.ids), e.v, accumulate=True)
            return w
        psi = None
        if g is not None and self.psi():
            psi = torch.from_numpy(fetch_vectors(self.ae, self.psi())[self.psi()[0]]).to(x.device)
        return _to_encoder(self.ae, g, None if g is None else self.active, direct, len(x), psi, x.device)


class _FromF(_Back):
    """Of decode."""

    def __init__(self, ae: Dictionary, f: Any, names: Sequence[str]) -> None:
        super().__init__(ae)
        self.f = _Form.of(f)
        self.names = names

    def __call__(self, inputs: Any, values: Any, given: Any, needs: Any) -> List[Any]:
        at, needed = dict(zip(self.names, inputs)), dict(zip(self.names, needs))
        g = _flat(given[0])
        x, state, found = _flat(at.get("x")), _flat(at.get("input_state")), dict.fromkeys(self.names)
        if needed["f"]:
            # A value 0 of TopK is a filler.
            every = self.f.ids is None and (self.all_on or self.ae.grad == "all")
            e = self.f.entries(at["f"], None, all_on=every)
            to = self.input.to_y0(g, state)
            v = to[e.rows, e.ids] if self.is_identity else _to_decoder(self.ae, to, e)
            found["f"] = v.new_zeros(at["f"].numel()).index_put((e.at,), v)
        skip = self.skip(g.device) if x is not None else None
        if needed.get("x") and skip is not None:
            found["x"] = g @ skip
        if needed.get("input_state") and self.input.undone:
            y = _flat(values[0])
            found["input_state"] = self.input.to_state(g, y if skip is None else y - x @ skip.T, state)
        return [found[name] for name in self.names]


def _flat(a: Any) -> Any:
    return None if a is None else a.reshape(-1, a.shape[-1]).float()


def never_off(ae: Dictionary) -> bool:
    """Whether no feature of it is ever off, so that one of value 0 has a derivative too."""
    return bool(ae.info["reading"]["activation"] == "linear" and ae.info["reading"]["select"] == "all")


def of_encode(ae: Dictionary, x: Any, found: Dict[str, Any], columns: Any) -> Dict[str, Any]:
    """The answers of encode with their graph back to x."""
    return attach(found, _FromX(ae, columns, None, []), [x])


def of_forward(ae: Dictionary, x: Any, found: Dict[str, Any], columns: Any, f: Any) -> Dict[str, Any]:
    """Those of forward. f: all features of the rows, dense or Sparse, where one can be off."""
    by = ["norms"] if ae.info["dict_class"] in SCALED else []
    active = None
    if never_off(ae) and ae.info["format"] != "identity":
        every = torch.ones((x.numel() // ae.activation_dim, ae.dict_size), device=x.device)
        active = _Form.of(every).entries(every, None)
    elif not never_off(ae):
        active = _Form.of(f).entries(_values(f), None)
    return attach(found, _FromX(ae, columns, active, by), [x])


def of_decode(ae: Dictionary, found: Dict[str, Any], f: Any, beside: Dict[str, Any]) -> Dict[str, Any]:
    """The x_hat of decode with its graph back to f and what stood beside it."""
    given = {"f": _values(f), **beside}
    inputs = [torch.as_tensor(np.asarray(a)) if not isinstance(a, torch.Tensor) else a for a in given.values()]
    return attach(found, _FromF(ae, f, list(given)), inputs)
