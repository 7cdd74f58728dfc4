"""The files that vLLM's `extract_hidden_states` writes (vllm-project/vllm 015a95c,
kv_connector/v1/example_hidden_states_connector.py): `hidden_states` `(tokens, layers, width)` and
`token_ids` `(tokens)`; FILE.lock is held while FILE is written. And the answers of a server with vllm-lens
(UKGovernmentBEIS/vllm-lens 7d252f7, vllm_lens/_helpers/_serialize.py): `activations` of its JSON holds
`residual_stream` `(layers, tokens, width)` as base64 of zstd, which the module `zstandard` reads."""
from __future__ import annotations

import base64
import contextlib
import fcntl
import importlib
from typing import Any, List, Mapping, Optional, Sequence

import numpy as np

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


def lens_activations(answer: Mapping[str, Any], name: str = "residual_stream") -> List[Rows]:
    """Rows `(tokens, width)` of each captured layer in an answer of vllm-lens."""
    said = answer["activations"][name]
    data, is_bf16 = base64.b64decode(said["data"]), said.get("original_dtype") == "torch.bfloat16"
    if said.get("compression") == "zstd":
        data = importlib.import_module("zstandard").ZstdDecompressor().decompress(data)
    if len(said["shape"]) != 3:
        raise ValueError(f"cannot read {name}: it has the shape {said['shape']}, wanted 3 dimensions")
    layers = np.frombuffer(data, said["dtype"]).reshape(said["shape"])
    return [Rows(layer, is_bf16, layer.shape[:1]) for layer in layers]


def encode_layers(layers: Sequence[Rows], dictionaries: Sequence[Optional[Dictionary]], **options: Any) -> List[Any]:
    """Features of each layer by the dictionary of its place (None: none), as `encode(x, **options)` gives them."""
    if len(layers) != len(dictionaries):
        raise ValueError(f"cannot encode {len(layers)} layers: {len(dictionaries)} dictionaries are given")
    return [ae and ae.encode(rows, **options) for ae, rows in zip(dictionaries, layers)]


def encode_hidden_states(path: str, dictionaries: Sequence[Optional[Dictionary]], **options: Any) -> List[Any]:
    """`encode_layers` of the layers of a file."""
    return encode_layers(hidden_states(path), dictionaries, **options)
