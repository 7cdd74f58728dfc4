"""python -m saed verify NAME --weights ae.pt --rows x.npy [--url URL] [--uds PATH] [--api-key-env NAME]
[--ca-file PATH]"""
from __future__ import annotations

import argparse
import os
import pickle
import sys
from typing import List, Optional

import numpy as np

from .dictionary import Dictionary
from .errors import Error


def _key(variable: Optional[str]) -> Optional[str]:
    """A key on the command line would be read by every user of the machine."""
    if variable is not None and variable not in os.environ:
        raise ValueError(f"cannot send a key: the environment has no {variable}")
    return os.environ[variable] if variable is not None else None


def main(arguments: Optional[List[str]] = None) -> int:
    """0: torch and saed agree; 1: they do not, or could not be asked; 2: usage."""
    parser = argparse.ArgumentParser("python -m saed")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("verify", help="set torch's answers from a weights file beside saed's")
    check.add_argument("name", help="of the dictionary that is served")
    check.add_argument("--weights", required=True, help="its state dict, as torch.save wrote it")
    check.add_argument("--rows", required=True, help=".npy of rows of its width")
    check.add_argument("--url", default="http://127.0.0.1:8673", help="of the daemon (%(default)s)")
    check.add_argument("--ca-file", metavar="PATH", help="certificates that may vouch for an https host")
    check.add_argument("--uds", metavar="PATH", help="the daemon's Unix socket")
    check.add_argument("--api-key-env", metavar="NAME", help="the environment variable that has the daemon's key")
    check.add_argument("--tolerance", type=float, default=1e-4,
                       help="largest error, of the larger of 1 and the largest value (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        from .verify import load_weights, verify
        rows = np.load(options.rows, mmap_mode="r")
        key = _key(options.api_key_env)
        ae = Dictionary(options.url, options.name, patience=0, uds=options.uds, api_key=key,
                        ca_file=options.ca_file)
        report = verify(ae, load_weights(options.weights), rows.reshape(-1, rows.shape[-1]))
    except (Error, OSError, ValueError, RuntimeError, pickle.UnpicklingError, ImportError) as e:
        print(f"python -m saed verify: {e}", file=sys.stderr)
        return 1
    print(f"{ae.name}: {ae.info['dict_class']} {ae.activation_dim} x {ae.dict_size}\n{report}")
    fits = report.fits(options.tolerance)
    print("they agree" if fits else "they do NOT agree")
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
