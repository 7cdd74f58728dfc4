#!/usr/bin/python3
"""peer.py - what saed is measured against: PyTorch, served by FastAPI + uvicorn or in process.

  peer.py local DIR          write DIR/weights.pt (an AutoEncoder's state dict, 768 x 24576, L0 ~50 on
                             normal rows), then answer questions on stdin: `encode N TIMES` with the
                             median seconds of relu(linear) + topk of N rows of DIR/rows.f32, `read FILE`
                             and `print FILE` with the seconds of Python's json on that file
  peer.py serve DIR          serve DIR/weights.pt on a free port, printed; ends with its stdin

Routes: POST /encode_raw takes rows of f32 and gives the 32 values of each row (f32), then the ids
(i32); POST /encode_json takes {"x": [[...]]} and gives {"indices": ..., "values": ...}. Both are
`async` and without models: the fastest plain way to write them. Run by the bench with Debian's
Python. torch gets as many threads as make it fastest, one or all CPUs (Debian's may start with one)."""
import json
import math
import os
import socket
import statistics
import sys
import threading
import time

import torch

D, F, L0, K = 768, 24576, 50, 32


def write_weights(path):
    g = torch.Generator().manual_seed(0)
    enc = (torch.rand(F, D, generator=g) * 2 - 1) / math.sqrt(D)
    dec = torch.randn(D, F, generator=g)
    dec /= dec.norm(dim=0, keepdim=True)
    z = math.sqrt(2) * torch.erfinv(torch.tensor(1 - 2 * L0 / F, dtype=torch.float64))
    state = {
        "bias": torch.zeros(D),
        "encoder.weight": enc,
        "encoder.bias": (-z * enc.double().norm(dim=1)).float(),
        "decoder.weight": dec,
    }
    torch.save(state, path)


class Model:
    def __init__(self, path):
        state = torch.load(path)
        self.bias = state["bias"]
        self.w = state["encoder.weight"]
        self.b = state["encoder.bias"]

    @torch.inference_mode()
    def encode(self, x):
        f = torch.relu(torch.nn.functional.linear(x - self.bias, self.w, self.b))
        return torch.topk(f, K)


    def choose_threads(self):
        best = {}
        for _ in range(3):
            for threads in {1, len(os.sched_getaffinity(0))}:
                torch.set_num_threads(threads)
                t0 = time.perf_counter()
                for n in (1, 64):
                    self.encode(torch.zeros(n, D))
                best[threads] = min(best.get(threads, math.inf), time.perf_counter() - t0)
        torch.set_num_threads(min(best, key=best.get))


def local(directory):
    write_weights(f"{directory}/weights.pt")
    model = Model(f"{directory}/weights.pt")
    model.choose_threads()
    rows = torch.frombuffer(bytearray(open(f"{directory}/rows.f32", "rb").read()), dtype=torch.float32)
    rows = rows.reshape(-1, D)
    print(f"PyTorch {torch.__version__}, torch threads {torch.get_num_threads()}", flush=True)
    for line in sys.stdin:
        verb, *args = line.split()
        if verb == "encode":
            n, times = int(args[0]), []
            for i in range(int(args[1])):
                at = i * n % len(rows)
                x = rows[at:at + n]
                t0 = time.perf_counter()
                model.encode(x)
                times.append(time.perf_counter() - t0)
            print(statistics.median(times), flush=True)
        else:
            text = open(args[0]).read()
            t0 = time.process_time()
            value = json.loads(text)
            if verb == "print":
                t0 = time.process_time()
                json.dumps(value, separators=(",", ":"))
            print(time.process_time() - t0, flush=True)


def serve(directory):
    import uvicorn
    from fastapi import FastAPI, Request, Response

    app, model = FastAPI(), Model(f"{directory}/weights.pt")
    model.choose_threads()

    @app.post("/encode_raw")
    async def encode_raw(request: Request):
        body = bytearray(await request.body())
        values, ids = model.encode(torch.frombuffer(body, dtype=torch.float32).reshape(-1, D))
        return Response(values.numpy().tobytes() + ids.int().numpy().tobytes(),
                        media_type="application/octet-stream")

    @app.post("/encode_json")
    async def encode_json(request: Request):
        values, ids = model.encode(torch.tensor((await request.json())["x"]))
        body = json.dumps({"indices": ids.tolist(), "values": values.tolist()})
        return Response(body, media_type="application/json")

    def end_with_stdin():
        sys.stdin.read()
        os._exit(0)

    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(256)
    print(sock.getsockname()[1], flush=True)
    threading.Thread(target=end_with_stdin, daemon=True).start()
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_keep_alive=600)).run(sockets=[sock])


if __name__ == "__main__":
    {"local": local, "serve": serve}[sys.argv[1]](sys.argv[2])
