"""``kernels_rescore`` for Python: exact results of a few rows of an int8 matrix."""

from __future__ import annotations

import ctypes

import numpy as np

from host.kernels import REBUILD, library
from host.layout.blockfloat import ActivationError
from host.weights import Quantised
from spec import numeric
from spec.errors import DeviceError, ToolError

ABI = 1
"""Version of ``Rescore``, the same as in ``rescore.c``."""

NOT_FINITE = 1
"""Result of ``kernels_rescore`` when an activation is infinite or NaN."""


class Rescore(ctypes.Structure):
    """``struct rescore`` of ``rescore.c``."""

    _fields_ = (
        ("activations", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("results", ctypes.c_void_p),
        ("mantissas", ctypes.c_void_p),
        ("lifts", ctypes.c_void_p),
        ("columns", ctypes.c_int64),
        ("group", ctypes.c_int32),
        ("tokens", ctypes.c_int32),
        ("count", ctypes.c_int32),
        ("terms", ctypes.c_int32),
    )


class Rescorer:
    """Fixed buffers for the rows of one int8 matrix.

    Args:
        table: int8, contiguous; its K a multiple of 64 is not asked for: rows of another K are
            padded when they are taken.
        tokens: most tokens of one call.
        count: most rows of one token.
        terms: activations as one or two terms of block floating point
            (``host.forward.linear.split``).

    Raises:
        ToolError: the compiled kernels are missing or of another version.
    """

    def __init__(self, table: Quantised, tokens: int, count: int, terms: int) -> None:
        self._function = library().kernels_rescore
        if library().rescore_abi() != ABI:
            raise ToolError(f"the compiled kernels are of another version: {REBUILD}")
        block = max(table.group, numeric.BLOCK)
        columns = -(-table.columns // block) * block
        self._table = _padded(table, columns)
        self._width = table.columns
        self._activations = np.zeros((tokens, columns), np.float32)
        self._rows = np.zeros(tokens * count, np.int32)
        self._results = np.zeros(tokens * count, np.float32)
        self._scratch = np.zeros(columns, np.int8), np.zeros(columns // numeric.BLOCK, np.uint8)
        mantissas, lifts = self._scratch
        self.call = Rescore(
            activations=self._activations.ctypes.data, values=self._table.values.ctypes.data,
            scales=self._table.scales.ctypes.data, rows=self._rows.ctypes.data,
            results=self._results.ctypes.data, mantissas=mantissas.ctypes.data,
            lifts=lifts.ctypes.data, columns=columns, group=table.group, terms=terms,
            count=count,
        )  # fmt: skip

    def __call__(self, activations: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Results of each token with its own rows, bit for bit the engine's.

        Args:
            activations: [tokens, K] float32.
            rows: [tokens, count] int32, rows of the matrix.

        Returns:
            [tokens, count] float32, a view that the next call overwrites.

        Raises:
            ActivationError: a value that is not finite.
            DeviceError: a row that the matrix does not have, or a result outside the range of fp32.
        """
        tokens, count = rows.shape
        if rows.size and not 0 <= rows.min() <= rows.max() < self._table.rows:
            raise DeviceError(
                f"the device chose a row between {rows.min()} and {rows.max()} of"
                f" {self._table.rows}: run kria-llm selftest"
            )
        self._activations[:tokens, : self._width] = activations
        self._activations[:tokens, self._width :] = 0
        self._rows[: tokens * count] = rows.reshape(-1)
        self.call.tokens, self.call.count = tokens, count
        failed = self._function(ctypes.byref(self.call))
        if failed == NOT_FINITE:
            raise ActivationError("an activation of the LM head is infinite or NaN")
        if failed:
            raise DeviceError("a logit left the range of fp32: the weights are damaged")
        return self._results[: tokens * count].reshape(tokens, count)


def _padded(table: Quantised, columns: int) -> Quantised:
    """The same matrix in contiguous arrays of ``columns``; itself when it fits."""
    values, scales = table.values, table.scales
    if table.columns != columns:
        values = np.zeros((table.rows, columns), np.int8)
        values[:, : table.columns] = table.values
        scales = np.zeros((table.rows, columns // table.group), np.float16)
        scales[:, : table.scales.shape[1]] = table.scales
    values, scales = np.ascontiguousarray(values), np.ascontiguousarray(scales)
    return Quantised(8, table.group, values, scales)
