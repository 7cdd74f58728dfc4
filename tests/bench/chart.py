#!/usr/bin/python3
"""chart.py BENCH.json... OUT.svg - rows a second of saed and of what stands beside it, as README shows them.

Reads what `make bench` leaves in build/bench.json (several files: several runs with --only). The picture has its
date and CPU in it, no background, and colours for light and dark pages."""
import html
import json
import sys

# What the row of the table is called, whose side it is, what the chart calls it, rows a request.
ROWS = [
    ("single rows, safetensors, 64 connections", "FastAPI", "Single rows, 64 connections, binary", 1),
    ("single rows, JSON, 64 connections", "FastAPI", "Single rows, 64 connections, JSON", 1),
    ("64-row requests, safetensors, 16 connections", "FastAPI", "64 rows each, 16 connections, binary", 64),
    ("100,000 rows, top_k 32, one process", "PyTorch", "100,000 rows from one Python process", 1),
]
WIDTH, LEFT, RIGHT, BAR, GROUP, TOP = 760, 16, 90, 16, 72, 64

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px; fill: #57606a }
.saed { fill: #0969da }
.beside { fill: #9aa4ae }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .small { fill: #9198a1 }
  .saed { fill: #4493f8 }
  .beside { fill: #656c76 }
}
"""


def bars_of(rows):
    """(title, its rows a second, what stands beside, its rows a second) of each that was measured."""
    bars = []
    for what, beside, title, each in ROWS:
        for row in rows:
            if row.get("what") == what and row.get("beside_what", "").startswith(beside):
                bars.append((f"{title}: {row['ratio']:.2g} times", each * row["value"], row["beside_what"],
                             each * row["beside"]))
    return bars


def number(v):
    return f"{float('%.3g' % v):,.0f}"


def picture(bars, caption):
    most = max(value for _, ours, _, theirs in bars for value in (ours, theirs))
    scale = (WIDTH - LEFT - RIGHT) / most
    out = []

    def text(x, y, what, kind="plain"):
        out.append(f'<text class="{kind}" x="{x:.0f}" y="{y}">{html.escape(what)}</text>')

    def bar(y, value, kind, note):
        width = max(1, value * scale)
        out.append(f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>')
        text(LEFT + width + 6, y + BAR - 4, number(value) + note)

    text(LEFT, 22, "Rows a second, 768 x 24,576, about 50 features on")
    text(LEFT, 40, caption, "small")
    for i, (title, ours, beside, theirs) in enumerate(bars):
        y = TOP + i * GROUP
        text(LEFT, y + 8, title)
        bar(y + 14, ours, "saed", "")
        bar(y + 16 + BAR, theirs, "beside", "  " + beside)
    height = TOP + len(bars) * GROUP
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img">\n<title>Rows a second of saed and what it replaces</title>\n'
            f"<style>{STYLE}</style>\n" + "\n".join(out) + "\n</svg>\n")


def main(paths, out):
    rows, facts = [], {}
    for path in paths:
        with open(path) as text:
            bench = json.load(text)
        rows += bench["rows"]
        facts = bench["facts"]
    bars = bars_of(rows)
    if not bars:
        sys.exit(f"chart.py: cannot draw {', '.join(paths)}: none of the rows of the chart was measured")
    with open(out, "w") as file:
        file.write(picture(bars, f"blue: saed. {facts['date'].split()[0]}, {facts['cpu']}"))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1:-1], sys.argv[-1])
