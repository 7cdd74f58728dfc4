"""grid.py - the values that the fixtures of formats are made of (make_formats.py).

Tensors and rows of whole eighths and quarters: every product and sum of them is exact in f32 in any
order, and every value is exact in f16 and bf16, so what is wanted is exact too. No matrix equals
its transpose. Shapes: A is d 5, F 7; B is d 19, F 37 (more than a vector of 16); C is d = F = 6,
whose matrices fit either way round. All are feature-major here; a file stores them as its row says.
"""
import numpy as np

A, B, C = (5, 7), (19, 37), (6, 6)
M = 3  # width of a transcoder's output in shape A


def w_enc(shape=A):
    d, F = shape
    return np.array([[((7 * j + 11 * k) % 31 - 15) / 8 for k in range(d)] for j in range(F)])


def w_dec(shape=A, m=None):
    d, F = shape
    return np.array([[((5 * j + 13 * k + 3) % 29 - 14) / 8 for k in range(m or d)]
                     for j in range(F)])


def w_norm(m=A[0]):
    """Decoder rows of shape A whose norms are exact: 1/2 1 3 5 5 3 1."""
    rows = [(0, .5, 0), (1, 0, 0), (0, 0, -3), (3, 0, 4), (0, -3, 4), (2, 2, 1), (0, 1, 0)]
    return np.array([list(r) + [0] * (m - 3) for r in rows], float)


def w_skip(m=A[0], d=A[0]):
    return np.array([[((3 * i + 17 * k + 5) % 23 - 11) / 8 for k in range(d)] for i in range(m)])


def b_enc(shape=A):
    return np.array([((9 * j + 4) % 17 - 8) / 8 for j in range(shape[1])])


def b_dec(m=A[0]):
    return np.array([(2 + ((5 * k) % 7) / 4) * (-1) ** k for k in range(m)])


# Of each sign, 0, and h of feature 5 of row 0 where the centre is b_dec.
THETA = np.array([0, .5, -1, 1, .25, .15625, 2])
MEAN = np.array([1, -.5, 0, .25, 2])


def x_row(r, d=A[0]):
    return np.array([((13 * r + 7 * k + 2) % 33 - 16) / 4 for k in range(d)])


def is_power(v):
    return v != 0 and np.frexp(abs(v))[0] == .5


def at_theta(W, b, theta, centre, norms):
    """Rows whose score of feature j is exactly theta_j: off, since every comparison is strict."""
    out = []
    for j, t in enumerate(theta):
        want = (t / norms[j] if norms[j] else 0) - b[j]
        if norms[j] == 0 or want * 1024 % 1:
            continue
        for r, k in ((r, k) for r in range(4) for k in range(len(W[j]))):
            x = x_row(r, len(W[j]))
            rest = want - W[j] @ (x - centre) + W[j][k] * (x[k] - centre[k])
            if is_power(W[j][k]) and abs(rest / W[j][k]) < 256:
                x[k] = rest / W[j][k] + centre[k]
                out.append(x)
                break
    return out


def rows(W, b, centre=None, theta=None, norms=None, plain=False):
    """Three rows; one that is the centre, one of zeros; one at each threshold (of a ReLU: at 0 of
    the first feature); one with a NaN, one with -infinity, which makes h of both infinities."""
    d, F = len(W[0]), len(W)
    x = [x_row(r, d) for r in range(3)]
    if plain:
        return np.array(x)
    at = np.zeros(d) if centre is None else centre
    x += [b_dec(d), np.zeros(d)]
    theta = [0] if theta is None else np.broadcast_to(theta, F)
    x += at_theta(W, b, theta, at, np.ones(F) if norms is None else norms)
    for k, v in (1, np.nan), (0, -np.inf):
        x.append(x_row(0, d))
        x[-1][k] = v
    return np.array(x)
