"""The files that vLLM's `extract_hidden_states` writes (vllm-project/vllm 015a95c,
kv_connector/v1/example_hidden_states_connector.py): `hidden_states` `(tokens, layers, width)` and
`token_ids` `(tokens)`; FILE.lock is held while FILE is written."""
from __future__ import annotations

import contextlib
import fcntl
from typing import Any, List, Optional, Sequence

from ..arrays import Rows
from ..dictionary import Dictionary
from ..files import open_source


def hidden_states(path: str) -> List[Rows]:
    """Rows `(tokens, width)` of each captured layer, which `encode` takes in place of an array. Waits until
    the file is whole."""
    with contextlib.suppress(FileNotFoundError), open(path + ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
    source = open_source(path, "hidden_states", 0)
    if len(source.shape) != 3:
        raise ValueError(f"cannot read {path}: hidden_states has shape {source.shape}, wanted 3 dimensions")
    tokens, layers, width = source.shape
    values = source.read(0, tokens * layers).values.reshape(tokens, layers, width)
    return [Rows(values[:, i], source.bf16, (tokens,)) for i in range(layers)]


def encode_hidden_states(path: str, dictionaries: Sequence[Optional[Dictionary]], **options: Any) -> List[Any]:
    """Features of each captured layer by the dictionary of its place (None: none), as `encode(x, **options)`
    gives them."""
    layers = hidden_states(path)
    if len(layers) != len(dictionaries):
        raise ValueError(f"cannot encode {path}: it has {len(layers)} layers, {len(dictionaries)} "
                         "dictionaries are given")
    return [ae and ae.encode(rows, **options) for ae, rows in zip(dictionaries, layers)]
