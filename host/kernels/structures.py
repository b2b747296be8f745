"""The structures of ``kernels.h`` once more, for ctypes; field by field in the same order."""

from __future__ import annotations

import ctypes

import numpy as np

_POINTER, _INT32, _INT64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_FLOAT, _DOUBLE = ctypes.c_float, ctypes.c_double


class _Structure(ctypes.Structure):
    """Keeps the arrays whose addresses it holds alive."""

    def hold(self, **arrays: np.ndarray | ctypes.Array | ctypes.Structure | None) -> None:
        """Sets pointers to arrays, and keeps these; None is a null pointer."""
        kept = self.__dict__.setdefault("kept", {})
        for name, array in arrays.items():
            setattr(self, name, address(array))
            kept[name] = array


def address(array: np.ndarray | ctypes.Array | ctypes.Structure | None) -> int | None:
    """Where an array's bytes begin; it must be contiguous."""
    if array is None:
        return None
    if isinstance(array, np.ndarray):
        if not array.flags.c_contiguous:
            raise ValueError(f"a kernel's array must be contiguous, got strides {array.strides}")
        return array.ctypes.data
    return ctypes.addressof(array)


class Source(_Structure):
    """Results of a matmul, where the device wrote them."""

    _fields_ = (
        ("first", _POINTER), ("second", _POINTER), ("tile_rows", _INT64), ("tile_tokens", _INT64),
    )  # fmt: skip


class Sink(_Structure):
    """Where a matmul's activations go."""

    _fields_ = (
        ("plain", _POINTER), ("first", _POINTER), ("second", _POINTER), ("stride", _INT64),
        ("columns", _INT32), ("ports", _INT32), ("port_bytes", _INT32), ("spans", _INT32),
        ("vectors", _INT32), ("second_slot", _INT32),
    )  # fmt: skip


class Norm(_Structure):
    """Residual, RMSNorm and the next matmul's activations."""

    _fields_ = (
        ("hidden", _POINTER), ("weight", _POINTER), ("previous", _POINTER), ("next", _POINTER),
        ("scratch", _POINTER), ("columns", _INT64), ("epsilon", _FLOAT), ("threads", _INT32),
    )  # fmt: skip


class Attention(_Structure):
    """Bias, rotation, the cache's new entries, attention, and the next matmul's activations."""

    _fields_ = (
        ("joined", _POINTER), ("next", _POINTER), ("bias", _POINTER), ("cosines", _POINTER),
        ("sines", _POINTER), ("keys", _POINTER), ("values", _POINTER), ("key_scales", _POINTER),
        ("value_scales", _POINTER), ("queries", _POINTER), ("scores", _POINTER),
        ("shares", _POINTER), ("mixed", _POINTER), ("rows", _POINTER),
        ("context", _INT64), ("heads", _INT32), ("kv_heads", _INT32), ("head_dim", _INT32),
        ("format", _INT32), ("threads", _INT32), ("query_scale", _FLOAT),
    )  # fmt: skip


class Swiglu(_Structure):
    """SwiGLU and the next matmul's activations."""

    _fields_ = (
        ("gate_up", _POINTER), ("next", _POINTER), ("scratch", _POINTER), ("exponents", _POINTER),
        ("columns", _INT64), ("threads", _INT32),
    )  # fmt: skip


class Table(_Structure):
    """An embedding table."""

    _fields_ = (
        ("values", _POINTER), ("scales", _POINTER), ("zeros", _POINTER), ("rows", _INT64),
        ("columns", _INT64), ("format", _INT32), ("group", _INT32),
    )  # fmt: skip


class Drawing(_Structure):
    """How to draw a token."""

    _fields_ = (
        ("entries", _POINTER), ("sums", _POINTER), ("temperature", _DOUBLE), ("top_p", _DOUBLE),
        ("point", _DOUBLE), ("top_k", _INT64),
    )  # fmt: skip


class Matmul(_Structure):
    """A command with its operands' places in memory."""

    _fields_ = (
        ("weights", _POINTER), ("activations", _POINTER), ("results", _POINTER),
        ("weight_stride", _INT64), ("activation_stride", _INT64), ("ports", _INT32),
        ("port_bytes", _INT32), ("tile_rows", _INT32), ("weights8", _INT32), ("group", _INT32),
        ("tokens", _INT32), ("chunks", _INT32), ("tiles", _INT32), ("bf16", _INT32),
        ("top_k", _INT32), ("rows", _INT32), ("threads", _INT32),
    )  # fmt: skip
