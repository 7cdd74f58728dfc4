#!/usr/bin/python3
"""examples/notebook.ipynb: its cells run, with a daemon of their own, and print what is shown below them but for
numbers and pictures. `test_notebook.py --fill` writes what they print into it."""
import contextlib
import io
import json
import os
import re
import sys
import unittest

from support import ROOT, binary, main

NOTEBOOK = os.path.join(ROOT, "examples", "notebook.ipynb")
TASKS = ("Serve six", "Encode 50,000 rows", "top features of a row", "Steer", "L0 and FVU", "largest activation",
         "Decoder directions")


def run(notebook):
    """What each cell of code prints, in order; a failure names the cell."""
    names, printed = {}, []
    for i, cell in enumerate(c for c in notebook["cells"] if c["cell_type"] == "code"):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile("".join(cell["source"]), f"cell {i + 1}", "exec"), names)
        printed.append(out.getvalue())
    return printed


def words(text):
    return re.findall("[A-Za-z_]+", text)


class Notebook(unittest.TestCase):
    def setUp(self):
        with open(NOTEBOOK) as file:
            self.notebook = json.load(file)
        os.environ["SAED_BIN"] = binary()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(os.path.dirname(NOTEBOOK))

    def test_it_runs(self):
        cells = [c for c in self.notebook["cells"] if c["cell_type"] == "code"]
        for i, (cell, printed) in enumerate(zip(cells, run(self.notebook))):
            shown = "".join("".join(o["text"]) for o in cell["outputs"])
            with self.subTest(cell=i + 1):
                self.assertEqual(cell["execution_count"], i + 1)
                self.assertEqual(words(printed), words(shown))
                self.assertEqual(printed.count("\n"), shown.count("\n"))

    def test_form(self):
        """What nbformat 4.5 asks for, and a heading for each task."""
        self.assertEqual((self.notebook["nbformat"], self.notebook["nbformat_minor"]), (4, 5))
        self.assertEqual(len({c["id"] for c in self.notebook["cells"]}), len(self.notebook["cells"]))
        text = "\n".join("".join(c["source"]) for c in self.notebook["cells"] if c["cell_type"] == "markdown")
        headings = re.findall(r"^## \d\. (.*)$", text, re.M)
        self.assertEqual(len(headings), len(TASKS))
        for heading, task in zip(headings, TASKS):
            self.assertIn(task, heading)


def fill():
    with open(NOTEBOOK) as file:
        notebook = json.load(file)
    os.environ["SAED_BIN"] = binary()
    os.chdir(os.path.dirname(NOTEBOOK))
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    for i, (cell, printed) in enumerate(zip(cells, run(notebook))):
        cell["execution_count"] = i + 1
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": printed.splitlines(True)}] if printed else []
    with open(NOTEBOOK, "w") as file:
        json.dump(notebook, file, indent=1, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--fill"]:
        fill()
    else:
        main()
