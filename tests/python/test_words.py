#!/usr/bin/python3
"""The words that ship: the dictionary loads, takes words apart into few features whose labels are about them, and
puts them together again; the files beside it fit."""
import asyncio
import json
import os
import tempfile
import unittest
import urllib.request

import numpy as np

from support import ROOT, Case, daemon, main

import saed

DEMO = os.path.join(ROOT, "deploy", "demo")

# A word, and words of which one must stand in the labels of its three strongest features.
ABOUT = {
    "music": ["song", "melody", "musical", "orchestra", "instrument", "musician"],
    "king": ["monarch", "throne", "prince", "emperor", "queen", "ruler"],
    "doctor": ["physician", "medical", "patient", "hospital", "nurse", "treatment"],
    "bread": ["baked", "loaf", "dough", "cake", "pudding", "dish"],
    "war": ["army", "battle", "troop", "military", "soldier", "victory", "ally", "troops"],
    "ship": ["boat", "vessel", "sail", "fleet", "naval", "passenger"],
}


def load(*path):
    with open(os.path.join(ROOT, *path)) as text:
        return json.load(text)


class Words(Case):
    SERVED = ["words=%s:labels=%s" % (os.path.join(DEMO, "words.safetensors"), os.path.join(DEMO, "words.labels.json"))]

    def setUp(self):
        page = load("server", "web", "words.json")
        self.words, self.rows = page["words"], np.array(page["rows"], "<f4")
        self.labels = load("deploy", "demo", "words.labels.json")
        self.ae = saed.Dictionary(self.url, "words")

    def test_files(self):
        self.assertEqual(self.rows.shape, (len(self.words), self.ae.activation_dim))
        self.assertEqual(len(set(self.words)), len(self.words))
        self.assertGreater(len(self.words), 200)
        self.assertTrue(np.allclose(np.linalg.norm(self.rows, axis=1), 8, atol=0.05))
        self.assertEqual(list(self.labels), [str(i) for i in range(self.ae.dict_size)])
        self.assertTrue(all(len(text.split(", ")) == 3 for text in self.labels.values()))
        sample = load("deploy", "demo", "music.json")["x"]
        self.assertEqual(sample, load("server", "web", "words.json")["rows"][self.words.index("music")])

    def test_reconstruction(self):
        self.assertEqual(self.ae.info["dict_class"], "JumpAutoEncoder")
        x_hat, f = self.ae(self.rows, output_features=True)
        l0 = np.count_nonzero(f, axis=1)
        self.assertTrue(4 < l0.mean() < 12 and l0.min() > 0, l0)
        error = np.square(x_hat - self.rows).sum(1) / np.square(self.rows).sum(1)
        self.assertLess(error.mean(), 0.2)
        self.assertLess(error.max(), 0.6, self.words[error.argmax()])
        self.assertTrue((f[f != 0] > 0.1).all(), "a feature that is on is above its threshold")

    def test_labels(self):
        body = {"x": self.rows.tolist(), "top_k": 3, "labels": True}
        request = urllib.request.Request(self.url + "/v1/dictionaries/words/encode", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            f = json.load(answer)["f"]
        for ids, labels in zip(f["indices"], f["labels"]):
            self.assertEqual(labels, [self.labels[str(i)] for i in ids])
        for word, about in ABOUT.items():
            with self.subTest(word):
                said = f["labels"][self.words.index(word)]
                self.assertTrue(set(about) & set(", ".join(said).split(", ")), said)

    def test_labels_of_the_client(self):
        top = self.ae.encode(self.rows[self.words.index("music")], top_k=3)
        said = self.ae.labels(top.indices)
        self.assertEqual(said, [self.labels[str(i)] for i in top.indices.ravel()])
        self.assertEqual(self.ae.labels([7, 3, 7]), [self.labels["7"], self.labels["3"], self.labels["7"]])
        self.assertEqual(self.ae.labels(), list(self.labels.values()))
        self.assertEqual(self.ae.labels([]), [])
        with self.assertRaisesRegex(saed.RequestError, "512"):
            self.ae.labels([512])
        with self.assertRaises(TypeError):
            self.ae.labels([0.5])
        self.assertEqual(asyncio.run(saed.AsyncDictionary(self.ae).labels([5])), [self.labels["5"]])

    def test_more_labels_than_a_request_takes(self):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
            f.write("".join(f"label {i}\n" if i % 3 else "\n" for i in range(2500)))
            f.flush()
            with daemon(f"i=identity:2500:labels={f.name}") as url:
                said = saed.Dictionary(url, "i").labels()
        self.assertEqual(said, [f"label {i}" if i % 3 else None for i in range(2500)])

    def test_no_labels(self):
        with daemon("i=identity:3") as url, self.assertRaisesRegex(saed.RequestError, "labels=PATH"):
            saed.Dictionary(url, "i").labels()


if __name__ == "__main__":
    main()
