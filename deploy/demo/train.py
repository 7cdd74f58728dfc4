#!/usr/bin/python3
"""Train the dictionary that ships with saed: digits.pt, sample.json, digits.npy and the figures of README.md.

A sparse autoencoder (the AutoEncoder class of saprmarks/dictionary_learning) on scikit-learn's
handwritten digits: 1,797 images of 8x8 pixels with 17 grey levels. Each row is an image, divided
by 16, so activation_dim is 64 and every decoder column is itself an 8x8 picture.

    apt-get install python3-torch python3-sklearn
    python3 deploy/demo/train.py            # half a minute on one core

Loss: squared error, summed over pixels, plus l1 * sum(f), with unit decoder columns (Bricken et
al. 2023, "Towards Monosemanticity"). Columns are renormalised after each step and the gradient
part along them removed, as there. Features that stay silent are re-drawn from the images that are
reconstructed worst.
"""
import json
import os

import numpy as np
import torch
from sklearn.datasets import load_digits

HERE = os.path.dirname(os.path.abspath(__file__))
F = 256
STEPS = 12000
RESAMPLE_UNTIL = 6000
L1 = 0.2


class AutoEncoder(torch.nn.Module):
    def __init__(self, activation_dim, dict_size):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(activation_dim))
        self.encoder = torch.nn.Linear(activation_dim, dict_size, bias=True)
        self.decoder = torch.nn.Linear(dict_size, activation_dim, bias=False)
        w = torch.randn(activation_dim, dict_size)
        self.decoder.weight = torch.nn.Parameter(w / w.norm(dim=0, keepdim=True))
        self.encoder.weight = torch.nn.Parameter(self.decoder.weight.detach().T.clone())
        torch.nn.init.zeros_(self.encoder.bias)

    def encode(self, x):
        return torch.relu(self.encoder(x - self.bias))

    def decode(self, f):
        return self.decoder(f) + self.bias


def evaluate(ae, x):
    with torch.no_grad():
        f = ae.encode(x)
        err = ((ae.decode(f) - x) ** 2).sum()
        fvu = (err / ((x - x.mean(0)) ** 2).sum()).item()
        return fvu, (f > 0).float().sum(1).mean().item(), int(((f > 0).sum(0) == 0).sum())


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    ae = AutoEncoder(64, F)
    with torch.no_grad():
        ae.bias.copy_(x.mean(0))
    opt = torch.optim.Adam(ae.parameters(), lr=2e-3, betas=(0.9, 0.999))
    silent = torch.zeros(F)
    for step in range(STEPS):
        lr = 2e-3 * min(1.0, (STEPS - step) / (STEPS / 3))
        for g in opt.param_groups:
            g["lr"] = lr
        b = x[torch.randint(len(x), (512,))]
        f = ae.encode(b)
        rec = ae.decode(f)
        loss = ((rec - b) ** 2).sum(1).mean() + L1 * min(1.0, step / 1000) * f.sum(1).mean()
        opt.zero_grad()
        loss.backward()
        with torch.no_grad():
            w, g = ae.decoder.weight, ae.decoder.weight.grad
            g -= (g * w).sum(0, keepdim=True) * w
        opt.step()
        with torch.no_grad():
            ae.decoder.weight /= ae.decoder.weight.norm(dim=0, keepdim=True)
            silent = torch.where((f > 0).any(0), torch.zeros(F), silent + 1)
            if step % 500 == 499 and step < RESAMPLE_UNTIL:
                dead = (silent > 100).nonzero().flatten()
                if len(dead):
                    err = x - ae.decode(ae.encode(x))
                    pick = torch.multinomial((err ** 2).sum(1), len(dead), replacement=True)
                    v = err[pick]
                    v = v / v.norm(dim=1, keepdim=True)
                    ae.decoder.weight[:, dead] = v.T
                    ae.encoder.weight[dead] = v
                    ae.encoder.bias[dead] = 0
                    silent[dead] = 0
                    for p in (ae.encoder.weight, ae.encoder.bias):
                        for k in ("exp_avg", "exp_avg_sq"):
                            opt.state[p][k][dead] = 0
                    for k in ("exp_avg", "exp_avg_sq"):
                        opt.state[ae.decoder.weight][k][:, dead] = 0
        if step % 1000 == 999:
            print(step + 1, "FVU %.4f  L0 %.2f  dead %d" % evaluate(ae, x), flush=True)
    fvu, l0, dead = evaluate(ae, x)
    print("final: FVU %.4f  mean L0 %.2f  dead features %d" % (fvu, l0, dead))
    torch.save(ae.state_dict(), os.path.join(HERE, "digits.pt"))
    np.save(os.path.join(HERE, "digits.npy"), x[:256].numpy().astype("<f2"))  # sixteenths: exact
    rows = [[round(float(v), 4) for v in x[i]] for i in range(10)]
    with open(os.path.join(HERE, "sample.json"), "w") as out:
        out.write('{"x": [\n  ' + ",\n  ".join(json.dumps(r) for r in rows) + "\n]}\n")


if __name__ == "__main__":
    main()
