"""The compiled kernels: finds the shared library and types its functions.

``pip install`` builds ``kernels.c`` (see ``setup.py``); the library is opened by ctypes, so one
build serves every version of Python.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import lru_cache

from spec.errors import ToolError

ABI = 2
"""Version of ``Matmul``, the same as in ``kernels.c``."""

REBUILD = "install the package again with a C compiler present (Debian: gcc)"


class Matmul(ctypes.Structure):
    """``struct matmul`` of ``kernels.c``: a command with its operands' places in memory."""

    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("activations", ctypes.c_void_p),
        ("results", ctypes.c_void_p),
        ("weight_stride", ctypes.c_int64),
        ("activation_stride", ctypes.c_int64),
        ("ports", ctypes.c_int32),
        ("port_bytes", ctypes.c_int32),
        ("tile_rows", ctypes.c_int32),
        ("weights8", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("tokens", ctypes.c_int32),
        ("chunks", ctypes.c_int32),
        ("tiles", ctypes.c_int32),
        ("bf16", ctypes.c_int32),
        ("top_k", ctypes.c_int32),
        ("rows", ctypes.c_int32),
        ("threads", ctypes.c_int32),
    )


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
    loaded.kernels_matmul.argtypes = [ctypes.POINTER(Matmul)]
    loaded.kernels_matmul.restype = ctypes.c_int
    return loaded
