"""saed: sparse-autoencoder dictionaries served over HTTP, called like the objects they stand in for.

    import saed
    ae = saed.Dictionary("http://127.0.0.1:8673", "digits")
    f = ae.encode(x)                   # (..., activation_dim) -> (..., dict_size)
    x_hat = ae.decode(f)
    best = ae.encode(x, top_k=32)      # best.indices, best.values: (..., 32)

numpy and the standard library are all it needs; tensors of torch go in and come out where there are any.
"""
from .aio import AsyncDictionary
from .client import Client
from .daemon import serve
from .dictionary import Dictionary
from .errors import ConnectionLost, Error, RequestError, Timeout
from .sparse import Sparse, TopK

__version__ = "0.1.0"
__all__ = ["AsyncDictionary", "Client", "ConnectionLost", "Dictionary", "Error", "RequestError", "Sparse",
           "Timeout", "TopK", "serve"]
