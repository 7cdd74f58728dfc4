#!/usr/bin/python3
"""compare.py A.json B.json - two runs of `make bench`, row by row.

Ratios are what compares between runs and machines: each was measured with both sides in one run.
Bare values follow in brackets. `change` is B's ratio over A's, turned so that above 1 is better;
rows without a ratio compare by value, with no direction implied."""
import json
import sys


def rows(path):
    try:
        with open(path) as f:
            data = json.load(f)
        return data["facts"], {(r["section"], r["what"], r.get("beside_what", "").split(",")[0]): r
                               for r in data["rows"] if "what" in r}
    except (OSError, ValueError, KeyError) as e:
        sys.exit(f"compare.py: cannot read {path}: {e}")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    (facts_a, a), (facts_b, b) = rows(sys.argv[1]), rows(sys.argv[2])
    for name, facts in (("A", facts_a), ("B", facts_b)):
        print(f"{name}: {facts.get('date')}, {facts.get('cpu')}; {facts.get('saed')}")
    section = None
    for key in list(a) + [k for k in b if k not in a]:
        x, y = a.get(key), b.get(key)
        if key[0] != section:
            section = key[0]
            print(f"\n{section:<52} {'A':>8} {'B':>8} {'change':>7}  (A, B)")
        what = f"{key[1]:<52}"
        if not x or not y:
            print(f"{what} only in {'A' if x else 'B'}")
            continue
        by = "ratio" if "ratio" in x and "ratio" in y else "value"
        change = y[by] / x[by] if x[by] else float("nan")
        if by == "ratio" and x.get("at_most"):
            change = 1 / change
        beside = f"  beside {key[2]}" if key[2] else ""
        print(f"{what} {x[by]:8.3g} {y[by]:8.3g} {change:7.2f}  "
              f"({x['value']:.4g}, {y['value']:.4g} {y['unit']}){beside}")


if __name__ == "__main__":
    main()
