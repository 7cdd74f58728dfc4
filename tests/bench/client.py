#!/usr/bin/python3
"""client.py PORT DIR - the Python client, asked by the bench: rows are those of DIR/rows.f32 again and again.

Questions on stdin: `top N` and `dense N` with the seconds of one `encode` of N rows, with top_k=32 and without,
the array of rows being there already. Run by the bench with Debian's Python."""
import os
import sys
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "proto", "client", "python"))
import saed

D, K = 768, 32


def main(port, directory):
    ae = saed.Dictionary(f"http://127.0.0.1:{port}", "bench")
    some = np.fromfile(f"{directory}/rows.f32", "<f4").reshape(-1, D)
    x = some
    print(f"numpy {np.__version__}, {ae.client.connections} connections", flush=True)
    for line in sys.stdin:
        form, n = line.split()
        if len(x) < int(n):
            x = np.resize(some, (int(n), D))
        options = {"top_k": K} if form == "top" else {}
        t0 = time.perf_counter()
        f = ae.encode(x[:int(n)], **options)
        seconds = time.perf_counter() - t0
        assert f.shape == (int(n), ae.dict_size)
        del f
        print(seconds, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
