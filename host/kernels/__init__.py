"""The compiled kernels: finds the shared library and types its functions.

``pip install`` builds them (see ``setup.py``); the library is opened by ctypes, so one build serves
every version of Python. Each function has a twin in NumPy that says what it computes:

=============  =====================================================================
norm           ``host.forward.norm.rms_norm`` after the residual, then ``layout.blockfloat``
attend         ``host.forward.rope``, ``host.forward.cache``, ``host.forward.attention.attend``
swiglu         ``host.forward.norm.swiglu``
activations    ``host.layout.blockfloat.quantise`` and ``pack_activations``
results        ``host.layout.blockfloat.unpack_results``
gather         indexing, ``host.forward.linear.dequantise``
largest, draw  ``host.sampling``
matmul         ``sim.golden``
=============  =====================================================================
"""

from __future__ import annotations

import ctypes
import importlib.util
from ctypes import POINTER, c_int, c_int64, c_void_p
from functools import lru_cache

from host.kernels.structures import (
    Attention,
    Drawing,
    Matmul,
    Norm,
    Sink,
    Source,
    Swiglu,
    Table,
    address,
)  # fmt: skip
from spec.errors import ToolError

__all__ = [
    "Attention", "Drawing", "Matmul", "Norm", "Sink", "Source", "Swiglu", "Table", "address",
    "library",
]  # fmt: skip

ABI = 5
"""Version of the structures, the same as in ``kernels.h``."""

FINE = -1
"""What a kernel returns when every activation was finite; else the first one that was not."""

REBUILD = "install the package again with a C compiler present (Debian: gcc)"

SIGNATURES = {
    "norm": (c_int64, (POINTER(Norm), c_int, c_int, c_int)),
    "attend": (c_int64, (POINTER(Attention), c_int, c_int64)),
    "swiglu": (c_int64, (POINTER(Swiglu), c_int)),
    "gather": (None, (POINTER(Table), c_void_p, c_int, c_void_p)),
    "results": (None, (POINTER(Source), c_int, c_int64, c_void_p)),
    "activations": (c_int64, (POINTER(Sink), c_int, c_void_p, c_void_p)),
    "largest": (c_int64, (c_void_p, c_int64)),
    "draw": (c_int64, (c_void_p, c_int64, POINTER(Drawing))),
    "matmul": (c_int, (POINTER(Matmul),)),
    "rescore": (c_int, (c_void_p,)),
    "prefer": (None, (c_int,)),
}
"""Result and arguments of each function, without its prefix ``kernels_``."""


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        ToolError: they were not built, cannot be loaded, or belong to another version.
    """
    found = importlib.util.find_spec(f"{__name__}._kernels")
    if found is None or found.origin is None:
        raise ToolError(f"the compiled kernels are missing: {REBUILD}")
    try:
        loaded = ctypes.CDLL(found.origin)
        abi = loaded.kernels_abi()
    except (OSError, AttributeError) as error:
        raise ToolError(f"the compiled kernels cannot be loaded ({error}): {REBUILD}") from None
    if abi != ABI:
        raise ToolError(f"the compiled kernels have version {abi}, not {ABI}: {REBUILD}")
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(loaded, f"kernels_{name}")
        function.restype, function.argtypes = result, list(arguments)
    return loaded
