"""Features as the files of delphi's LatentCache, which its LatentDataset reads (EleutherAI/delphi: save_splits
of delphi/latents/cache.py at cd43058, delphi/latents/loader.py at 30158d9).

`RAW_DIR/HOOKPOINT/START_END.safetensors` holds features START..END: `locations` `(n, 3)` (sequence, token,
feature - START), `activations` `(n)` float16, `tokens` `(sequences, tokens)`; beside them is config.json."""
from __future__ import annotations

import json
import os
from typing import Any, Mapping, Optional

import numpy as np
from numpy.typing import NDArray

from ..arrays import to_numpy
from ..sparse import Sparse
from ..wire import safetensors_header

LEAST = 1e-5  # what is nearer to zero is off for delphi


def write_cache(raw_dir: str, hookpoint: str, f: Sparse, tokens: Any, *, n_splits: int = 5,
                config: Optional[Mapping[str, Any]] = None) -> None:
    """Write f `(sequences, tokens, dict_size)`, as `encode(x, sparse=True)` gives it, of `tokens`
    `(sequences, tokens)`. config: CacheConfig's fields and `model_name`, which the reader wants there."""
    ids = np.ascontiguousarray(to_numpy(tokens), "<i8")
    if f.shape[:-1] != ids.shape or ids.ndim != 2:
        raise ValueError(f"cannot write a cache: f has the shape {f.shape}, tokens {ids.shape}")
    values, features = to_numpy(f.values), to_numpy(f.indices)
    rows = np.repeat(np.arange(ids.size), np.diff(to_numpy(f.indptr)))
    on = np.abs(values) > LEAST
    values, features, rows = values[on].astype("<f2"), features[on], rows[on]
    places = np.stack([rows // ids.shape[1], rows % ids.shape[1], features], 1) if ids.size else \
        np.empty((0, 3), np.int64)
    folder = os.path.join(raw_dir, hookpoint)
    os.makedirs(folder, exist_ok=True)
    edges = np.linspace(0, f.dict_size, n_splits + 1).astype(int)
    for start, end in zip(edges[:-1], edges[1:]):
        mine = (features >= start) & (features < end)
        _save(os.path.join(folder, f"{start}_{end - 1}.safetensors"), places[mine] - [0, 0, start],
              values[mine], ids)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(dict(config or {}), file, indent=4)


def _save(path: str, places: NDArray[Any], values: NDArray[Any], ids: NDArray[Any]) -> None:
    small = places.max(initial=0) < 1 << 16
    parts = (("tokens", "I64", ids), ("locations", "U16" if small else "U32", places.astype("<u2" if small else "<u4")),
             ("activations", "F16", values))
    with open(path, "wb") as file:
        file.write(safetensors_header([(name, dtype, a.shape, a.nbytes) for name, dtype, a in parts]))
        for _, _, a in parts:
            file.write(a.tobytes())
