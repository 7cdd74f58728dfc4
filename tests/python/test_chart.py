#!/usr/bin/python3
"""tests/bench/chart.py: bars are as long as the figures say, rows that were not measured are left out."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET

from support import ROOT, main

CHART = os.path.join(ROOT, "tests", "bench", "chart.py")
FACTS = {"date": "2026-01-02 03:04", "cpu": "A <CPU> & co., 2 CPUs, load average 0.1 at the start"}
SINGLE = {"what": "single rows, safetensors, 64 connections", "unit": "req/s", "value": 1000.0,
          "beside": 250.0, "ratio": 4.1, "beside_what": "FastAPI + uvicorn + PyTorch, raw floats"}
MANY = dict(SINGLE, what="64-row requests, safetensors, 16 connections", value=100.0, beside=10.0)
PYTHON = dict(SINGLE, what="100,000 rows, top_k 32, one process", value=2000.0)
BESIDE_C = dict(PYTHON, beside_what="C client, the same bodies")
BESIDE_TORCH = dict(PYTHON, beside_what="PyTorch in process")


class Chart(unittest.TestCase):
    def draw(self, *files):
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for i, rows in enumerate(files):
                paths.append(os.path.join(folder, f"{i}.json"))
                with open(paths[-1], "w") as out:
                    json.dump({"facts": FACTS, "rows": [{"omitted": "a note"}, *rows]}, out)
            svg = os.path.join(folder, "out.svg")
            got = subprocess.run([sys.executable, CHART, *paths, svg], capture_output=True, text=True)
            return got, ET.parse(svg).getroot() if got.returncode == 0 else None

    def test_bars(self):
        got, svg = self.draw([SINGLE, BESIDE_C], [MANY, BESIDE_TORCH])
        self.assertEqual(got.returncode, 0, got.stderr)
        bars = [float(r.get("width")) for r in svg.iter("{http://www.w3.org/2000/svg}rect")]
        longest = max(bars)
        self.assertEqual([round(6400 * b / longest, -1) for b in bars], [1000, 250, 6400, 640, 2000, 250])
        said = "\n".join(t.text for t in svg.iter("{http://www.w3.org/2000/svg}text"))
        for part in ("2026-01-02, A <CPU> & co.", "6,400", "640  FastAPI", "binary: 4.1 times", "PyTorch in process"):
            self.assertIn(part, said)
        self.assertNotIn("C client", said)

    def test_nothing_measured(self):
        got, _ = self.draw([BESIDE_C])
        self.assertEqual(got.returncode, 1)
        self.assertIn("cannot draw", got.stderr)


if __name__ == "__main__":
    main()
