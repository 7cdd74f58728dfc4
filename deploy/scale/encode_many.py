#!/usr/bin/python3
"""Encode many files of activations on several daemons, by the workers of a Dask cluster.

encode_many.py --daemons http://a:8673,http://b:8673 --name NAME --out DIR [--top-k 32]
               [--scheduler tcp://HOST:8786] [--api-key-env VARIABLE] FILE...

Every file is a task: `encode_file` into DIR/FILE-without-its-ending, on the daemons in turns, and on the next
one where one cannot be reached. DIR and the files are on storage that all workers see. A task that is done
again, or whose worker was killed, goes on where the folder ends, whichever worker has it then.
Two files of one name, of different folders, are an error: their folders in DIR would be one. The daemons' key
is in that environment variable of the workers, where they want one.
Without --scheduler the workers are two processes of this machine.
"""
import argparse
import collections
import os

import distributed
import saed


def folder_of(path, out):
    return os.path.join(out, os.path.splitext(os.path.basename(path))[0])


def encode(number, path, daemons, name, out, top_k, key_in):
    """One file, beginning with the daemon of its turn; the shards' paths."""
    folder = folder_of(path, out)
    key = os.environ[key_in] if key_in else None
    for turn in range(len(daemons)):
        try:
            ae = saed.Dictionary(daemons[(number + turn) % len(daemons)], name, api_key=key)
            return ae.encode_file(path, folder, top_k=top_k, progress=False)
        except saed.ConnectionLost:
            if turn + 1 == len(daemons):
                raise


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--daemons", required=True, type=lambda urls: urls.split(","))
    parser.add_argument("--name", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--top-k", type=int, default=32)
    parser.add_argument("--scheduler")
    parser.add_argument("--api-key-env", metavar="VARIABLE")
    options = parser.parse_args()
    folders = collections.Counter(folder_of(path, options.out) for path in options.files)
    if twice := [folder for folder, n in folders.items() if n > 1]:
        parser.error(f"cannot encode several files into one folder: {', '.join(twice)}")
    cluster = {"address": options.scheduler} if options.scheduler else \
        {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.Client(**cluster) as client:
        tasks = client.map(encode, range(len(options.files)), options.files, daemons=options.daemons,
                           name=options.name, out=options.out, top_k=options.top_k, key_in=options.api_key_env)
        for task, shards in distributed.as_completed(tasks, with_results=True):
            print(*shards, sep="\n", flush=True)


if __name__ == "__main__":
    main()
