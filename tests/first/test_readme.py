#!/usr/bin/python3
"""test_readme.py SAED - README.md's examples against the daemon on the demo dictionaries: the Python of
"Recipes", "The wire in short" and "Python" is run, and every `$ curl` that shows an answer gets it. The last
line is "N passed, N failed"."""
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
passed = failed = 0


def check(what, good, why=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"ok   {what}" if good else f"FAIL {what}: {why}", flush=True)


def section(text, title):
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text, language):
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [code for name, code in fences if name == language]


def run(code, names):
    try:
        exec(code, names)
        return ""
    except Exception:
        return traceback.format_exc(limit=-2)


def recipes(text, url, folder):
    rng = np.random.default_rng(1)
    images = np.array(json.load(open("deploy/demo/sample.json"))["x"], "<f4")
    x = images[rng.integers(0, 10, 50000)] + rng.normal(0, 0.02, (50000, 64)).astype("<f4")
    np.save(f"{folder}/activations.npy", x)
    os.chdir(folder)
    names = {}
    for i, code in enumerate(blocks(section(text, "Recipes"), "python")):
        why = run(code.replace("http://127.0.0.1:8673", url), names)
        check(f"recipe {i + 1}", not why, why)
    os.chdir(ROOT)
    dense, top = names["dense"], names["top"]
    f = dense("encode", x[:2048])
    ids, values = names["pieces"][0]
    check("all 50,000 rows", sum(len(p[0]) for p in names["pieces"]) == 50000)
    check("top k are the largest", np.array_equal(values[:, :5], -np.sort(-f, 1)[:, :5]))
    check("their ids", np.array_equal(np.take_along_axis(f, ids, 1), values))
    check("L0", abs(names["active"] / 50000 - np.count_nonzero(f) / 2048) < 0.5)
    want = np.square(x[:2048] - dense("decode", f)).sum() / np.square(x[:2048] - x.mean(0)).sum()
    check("FVU", abs(names["error"] / names["variance"] - want) < 0.01)
    check("the error is kept", np.allclose(
        names["steered"], x[:64] + 2 * names["direction"], atol=1e-5))
    check("a unit direction", abs(np.linalg.norm(names["direction"]) - 1) < 1e-4)
    check("peaks", (names["peak"] >= f.max(0)).all() and names["peak"].max() > 0)


def client(text, url):
    """The Python client's section, on ten rows."""
    sys.path.insert(0, os.path.join(ROOT, "proto", "client", "python"))
    names = {"x": np.array(json.load(open("deploy/demo/sample.json"))["x"], "<f4")}
    for code in blocks(section(text, "Python"), "python"):
        why = run(code.replace("http://127.0.0.1:8673", url), names)
        check("the Python client", not why and names["best"].values.shape == (10, 32)
              and names["x_hat"].shape == (10, 64), why)


def samples(text, saed, folder):
    """What --check says of the digits, read rightly and not."""
    text = section(text, "How do I know that it read my file right?")
    for code in blocks(text, "python"):
        why = run(code.replace('"scrambled.npz"', f'"{folder}/scrambled.npz"'), {})
        check("a scrambled file", not why, why)
    for block in blocks(text, ""):
        for command, want in re.findall(r"^\$ (build/saed [^\n]*)\n(.*?)(?:\n\n|\n?\Z)", block, re.M | re.S):
            words = command.replace("build/saed", saed).replace("scrambled.npz", folder + "/scrambled.npz")
            got = subprocess.run(words, shell=True, capture_output=True, text=True)
            same = lambda s: re.sub(r" kernel=\w+", "", s).strip()
            check(command, got.returncode == (3 if "suspicious" in want else 0) and same(got.stdout) == same(want),
                  f"got {got.returncode} {got.stdout}{got.stderr}, README has {want}")


def answers(text, url):
    """Each `$ curl` and what stands below it, up to an empty line."""
    for block in blocks(text, ""):
        for command, want in re.findall(r"^\$ (curl [^\n]*)\n(.*?)(?:\n\n|\n?\Z)", block, re.M | re.S):
            got = subprocess.run(command.replace("http://127.0.0.1:8673", url), shell=True,
                                 capture_output=True, text=True)
            same = lambda s: re.sub(r'"kernel":"\w+"|"resident_bytes":\d+', "", s).strip()
            check(command, got.returncode == 0 and (same(got.stdout) == same(want) if want else got.stdout),
                  f"got {got.stdout}{got.stderr}, README has {want}")


def main():
    os.chdir(ROOT)
    text = open("README.md").read()
    daemon = subprocess.Popen([sys.argv[1], "--listen", "127.0.0.1:0", "digits=deploy/demo/digits.pt",
                               "words=deploy/demo/words.safetensors:labels=deploy/demo/words.labels.json"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = daemon.stdout.readline().split()[-1]
        for code in blocks(section(text, "The wire in short"), "python"):
            names = {}
            why = run(code.replace("http://127.0.0.1:8673", url), names)
            check("the wire in short", not why and names["f"].shape == (1000, 256), why)
        client(text, url)
        with tempfile.TemporaryDirectory() as folder:
            recipes(text, url, folder)
            samples(text, os.path.abspath(sys.argv[1]), folder)
        answers(text, url)
    finally:
        daemon.terminate()
        daemon.wait()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
