#!/usr/bin/python3
"""Train the second dictionary that ships with saed: words.safetensors, words.labels.json, music.json and
server/web/words.json.

Rows are words: 64 numbers for each of the 6,000 commonest of WordNet's glosses, such that words of the same
texts lie near each other. The sparse autoencoder (JumpAutoEncoder of saprmarks/dictionary_learning) takes
a word apart into about 7 of 512 features, whose strongest words are their labels.

    apt-get install wordnet-base python3-numpy
    python3 deploy/demo/train_words.py      # about a minute and a half of CPU

Rows: a text is a synset's words, its gloss and the words of what it is a kind of; inflected forms count as
their base form. Positive pointwise mutual information of words in the same text, contexts weighted by
frequency^0.75 (Levy, Goldberg and Dagan 2015), its 64 largest eigenpairs by subspace iteration, eigenvectors
times the root of |eigenvalue|; each row then has norm 8, so that its numbers are about 1.

Training: BatchTopK (Bussmann et al. 2024), of a batch the largest k * rows features, k from 20 down to 7.3
within the first third; Adam, unit decoder columns as in train.py; silent features are re-drawn from the rows
that are reconstructed worst. The smallest feature that is kept, averaged over the batches, is the
threshold of every feature. JumpAutoEncoder has that as encoder.bias - threshold and jump = threshold: a
feature is off up to it, and its own value above. Seeds are fixed; files are the same byte for byte on the
same machine.
"""
import collections
import json
import os
import re

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
WEB = os.path.join(HERE, "..", "..", "server", "web")
WORDNET = "/usr/share/wordnet"
POS = ("noun", "verb", "adj", "adv")

V, D, F, NORM = 6000, 64, 512, 8
STEPS, BATCH, LR, K, FIRST_K = 3000, 1000, 1e-2, 7.3, 20
RESAMPLE_EACH, RESAMPLE_UNTIL, SILENT_STEPS = 250, 1800, 60

STOP = set("""a an the of or and in to for is that with by as be on it at from are used usually was have has
not who which this he his she her they their its into being one if having you your we i but were had can
been no than when where up out so made make do does did such some any other more very about them there
after me my him all what will would through over off how between only two down our during while without
also too us before must then just could should may might now both even against since upon under along
these those same each own etc don didn isn wasn""".split())

# Endings of inflected forms, and what stands there in the base form (WordNet's morphy(7WN)).
ENDINGS = (("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
           ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", ""),
           ("er", ""), ("est", ""), ("er", "e"), ("est", "e"))

# What the page offers, of all 6,000.
OFFERED = """music king doctor river bread war dog computer gold love winter church red ship school tree
queen prince soldier army battle peace treaty president election government law judge crime prison police
money bank market trade tax company worker factory machine engine car train boat aircraft road bridge lake
ocean island beach mountain valley desert forest flower grass leaf fruit apple orange cheese meat fish soup
sugar salt coffee tea wine beer kitchen house room door window roof garden farm horse cow sheep cat mouse
bird eagle snake frog insect bee butterfly spider whale lion elephant monkey song dance violin piano guitar
drum opera theater actor film painting sculpture poem novel story book library newspaper letter word language
grammar teacher student university science physics chemistry biology mathematics number equation triangle
circle program software telephone radio television light color green blue black white sun moon star planet
sky cloud rain snow wind storm summer fire water ice iron silver copper glass wood stone paper cloth silk
wool shirt dress hat shoe ring body head face eye ear nose mouth tooth hand finger foot heart blood bone
brain skin nurse hospital disease fever cancer drug medicine poison death birth child mother father brother
sister family marriage friend enemy hate fear anger joy sorrow happy angry beautiful ugly rich poor strong
weak fast slow hot cold old young think know remember forget learn speak write read sing run walk jump swim
fly throw kick hit cut break build buy sell steal eat drink sleep dream god priest prayer religion ghost
magic game chess football tennis ball player winner gun sword bomb hour day year time""".split()


# ---- words ----------------------------------------------------------------------------------------------


def base_forms():
    """A function from a word of a text to its base form; None for a word that is not looked at."""
    known, irregular = set(), {}
    for pos in POS:
        with open(f"{WORDNET}/index.{pos}") as lines:
            known.update(line.split(" ", 1)[0] for line in lines if line[0] != " ")
        if pos != "adv":
            with open(f"{WORDNET}/{pos}.exc") as lines:
                for form, base in (line.split()[:2] for line in lines):
                    irregular.setdefault(form, base)

    def look_up(word):
        if word in STOP:
            return None
        base = irregular.get(word, word if word in known else None)
        stems = (word[:-len(ending)] + put for ending, put in ENDINGS if word.endswith(ending))
        base = base or next((s for s in stems if s in known), None)
        return base if base and len(base) > 2 and base.isalpha() and base not in STOP else None

    memo = {}
    return lambda word: memo[word] if word in memo else memo.setdefault(word, look_up(word))


def texts():
    """A text for each synset: its words, its gloss, two words of each synset that it is a kind of. Form of
    the files: wndb(5WN)."""
    synsets = {}
    for pos in POS:
        with open(f"{WORDNET}/data.{pos}") as lines:
            for line in lines:
                if line[0] == " ":  # the licence
                    continue
                left, gloss = line.split(" | ", 1)
                field = left.split()
                n = int(field[3], 16)
                words = [re.sub(r"\(.*", "", w).replace("_", " ").lower() for w in field[4:4 + 2 * n:2]]
                at = 5 + 2 * n
                pointers = [field[at + 4 * i:at + 4 * i + 3] for i in range(int(field[at - 1]))]
                synsets[field[0], field[2].replace("s", "a")] = words, gloss.lower(), pointers
    for words, gloss, pointers in synsets.values():
        kinds = [synsets[where, pos][0][:2] for sign, where, pos in pointers if sign in ("@", "@i", "&")]
        yield " ".join([*words, gloss, *sum(kinds, [])])


def embed():
    """The words, commonest first, and their rows (V, D)."""
    base = base_forms()
    docs = [{base(w) for w in re.findall("[a-z]+", text)} - {None} for text in texts()]
    seen = collections.Counter(w for doc in docs for w in doc)
    words = sorted(seen, key=lambda w: (-seen[w], w))[:V]
    ids = {w: i for i, w in enumerate(words)}
    together = np.zeros((V, V), np.float32)
    for doc in docs:
        at = sorted(ids[w] for w in doc if w in ids)
        if len(at) > 1:
            together[np.ix_(at, at)] += 1 / len(at)
    np.fill_diagonal(together, 0)
    total = together.sum(1)
    chance = total ** 0.75
    chance /= chance.sum()
    with np.errstate(divide="ignore"):
        ppmi = np.maximum(np.log(together / (total[:, None] * chance)), 0)
    ppmi = (ppmi + ppmi.T) / 2
    basis = np.random.default_rng(0).standard_normal((V, D + 40)).astype(np.float32)
    for _ in range(8):
        basis, _ = np.linalg.qr(ppmi @ basis)
    values, vectors = np.linalg.eigh(basis.T @ (ppmi @ basis))
    largest = np.argsort(-np.abs(values))[:D]
    rows = (basis @ vectors[:, largest]) * np.sqrt(np.abs(values[largest]))
    return words, (rows * (NORM / np.linalg.norm(rows, axis=1, keepdims=True))).astype(np.float32)


# ---- the autoencoder ------------------------------------------------------------------------------------


class Adam:
    def __init__(self, params):
        self.params, self.t = params, 0
        self.moments = [(np.zeros_like(p), np.zeros_like(p)) for p in params]

    def step(self, gradients, lr):
        self.t += 1
        for p, g, (m, v) in zip(self.params, gradients, self.moments):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            p -= np.float32(lr) * (m / (1 - 0.9 ** self.t)) / (np.sqrt(v / (1 - 0.999 ** self.t)) + 1e-8)

    def forget(self, features):
        for moment in sum(self.moments, ()):
            if len(moment) == F:
                moment[features] = 0


class Model:
    def __init__(self, x, rng):
        self.bias = x.mean(0)
        self.dec = unit(x[rng.choice(V, F, replace=False)] - self.bias)  # (F, D)
        self.enc, self.enc_bias = self.dec.copy(), np.zeros(F, np.float32)
        self.threshold = np.float32(0)
        self.adam = Adam([self.enc, self.enc_bias, self.dec, self.bias])

    def encode(self, x):
        p = (x - self.bias) @ self.enc.T + self.enc_bias
        return np.where(p > self.threshold, p, np.float32(0))

    def decode(self, f):
        return f @ self.dec + self.bias

    def step(self, x, k, lr):
        """One step on rows x; gives which features were on."""
        centred = x - self.bias
        p = centred @ self.enc.T + self.enc_bias
        n = int(k * len(x))
        cut = max(np.partition(p.ravel(), -n)[-n], np.float32(1e-6))
        self.threshold = 0.99 * self.threshold + 0.01 * cut if self.adam.t else cut
        f = np.where(p >= cut, p, np.float32(0))
        error = (self.decode(f) - x) * np.float32(2 / len(x))
        g_dec = f.T @ error
        g_dec -= (g_dec * self.dec).sum(1, keepdims=True) * self.dec
        g_f = (error @ self.dec.T) * (f > 0)
        g_bias = error.sum(0) - g_f.sum(0) @ self.enc
        self.adam.step([g_f.T @ centred, g_f.sum(0), g_dec, g_bias], lr)
        self.dec[:] = unit(self.dec)
        return (f > 0).any(0)

    def redraw(self, features, x, rng):
        error = x - self.decode(self.encode(x))
        weight = np.square(error).sum(1)
        drawn = unit(error[rng.choice(V, len(features), p=weight / weight.sum(), replace=False)])
        self.dec[features] = self.enc[features] = drawn
        self.enc_bias[features] = 0
        self.adam.forget(features)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def train(x):
    rng = np.random.default_rng(0)
    model, last_on = Model(x, rng), np.zeros(F, int)
    for step in range(STEPS):
        lr = LR * min(1, (step + 1) / 100, 2 * (STEPS - step) / STEPS)
        k = K + (FIRST_K - K) * max(0, 1 - 3 * step / STEPS)
        last_on[model.step(x[rng.integers(0, V, BATCH)], k, lr)] = step
        if step % RESAMPLE_EACH == RESAMPLE_EACH - 1 and step < RESAMPLE_UNTIL:
            silent = np.flatnonzero(step - last_on > SILENT_STEPS)
            if len(silent):
                model.redraw(silent, x, rng)
        if step % 500 == 499:
            print(step + 1, figures(x, model.encode(x), model.decode), flush=True)
    return model


def figures(x, f, decode):
    fvu = np.square(decode(f) - x).sum() / np.square(x - x.mean(0)).sum()
    return f"FVU {fvu:.4f}  L0 {(f > 0).sum(1).mean():.2f}  dead {(~(f > 0).any(0)).sum()}"


# ---- files ----------------------------------------------------------------------------------------------


def as_served(model):
    """The state dict, in f16, and f of rows under it."""
    state = {"bias": model.bias, "encoder.weight": model.enc, "encoder.bias": model.enc_bias - model.threshold,
             "jump": np.full(F, model.threshold), "decoder.weight": np.ascontiguousarray(model.dec.T)}
    state = {name: a.astype("<f2") for name, a in state.items()}
    bias, enc, enc_bias, jump, dec = (a.astype("f4") for a in state.values())

    def encode(x):
        r = np.maximum((x - bias) @ enc.T + enc_bias, 0)
        return r + jump * (r > 0)

    return state, encode, lambda f: f @ dec.T + bias


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, a in tensors.items():
        header[name] = {"dtype": "F16", "shape": a.shape, "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header, separators=(",", ":"))
    text += " " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text.encode())
        for a in tensors.values():
            out.write(a.tobytes())


def write_json(path, *lines):
    with open(path, "w") as out:
        out.write("".join(line + "\n" for line in lines))


def short(row):
    return json.dumps([float("%.2f" % v) for v in row], separators=(",", ":"))


def main():
    words, x = embed()
    state, encode, decode = as_served(train(x))
    f = encode(x)
    print("as shipped:", figures(x, f, decode))
    write_safetensors(os.path.join(HERE, "words.safetensors"), state)
    labels = [", ".join(words[i] for i in np.argsort(-f[:, j], kind="stable")[:3]) for j in range(F)]
    entries = [f"{json.dumps(str(j))}: {json.dumps(text)}" for j, text in enumerate(labels)]
    write_json(os.path.join(HERE, "words.labels.json"), "{", ",\n".join(entries), "}")
    row = dict(zip(words, x))
    write_json(os.path.join(HERE, "music.json"), '{"x": %s}' % short(row["music"]))
    offered = [w for w in OFFERED if w in row]
    print("offered:", len(offered), "not among the words:", *(w for w in OFFERED if w not in row))
    os.makedirs(WEB, exist_ok=True)
    rows = ",\n".join(short(row[w]) for w in offered)
    write_json(os.path.join(WEB, "words.json"),
               '{"words": %s,' % json.dumps(offered, separators=(",", ":")), '"rows": [', rows, "]}")


if __name__ == "__main__":
    main()
