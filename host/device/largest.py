"""The largest results of a matmul: what the driver asks of the engine, and how they come back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spec import commands
from spec.errors import UserError
from spec.layout import Matrix


class TopKError(UserError):
    """More of the largest results than there are, or than the engine keeps."""


class Largest(NamedTuple):
    """The largest results of each token: largest first, equal ones by row."""

    values: np.ndarray
    """[tokens, k] float32"""
    rows: np.ndarray
    """[tokens, k] int32, the row of the matrix that gave each value"""


def most(matrix: Matrix) -> int:
    """The longest list of a matrix: the engine's, and of fewer rows all in pairs; 0 for one row."""
    return min(commands.TOP_K_MAX, matrix.rows // 2 * 2)


def checked(matrix: Matrix, top_k: int) -> int:
    """``top_k``. Raises TopKError when the engine cannot give that many for this matrix."""
    limit = most(matrix)
    if limit == 0:
        raise TopKError("a matrix of one row has no top-k: ask for all results")
    if not 1 <= top_k <= limit:
        raise TopKError(f"top_k must lie in 1..{limit} for {matrix.rows} rows, got {top_k}")
    return top_k


def even(top_k: int) -> int:
    """What the engine is asked for: it writes entries in pairs."""
    return top_k + top_k % 2


def buffer_bytes(matrix: Matrix) -> int:
    """Bytes that hold the results of any matmul with this matrix, all or the largest ones."""
    tokens = matrix.config.tokens
    return max(matrix.result_bytes(tokens, "fp32"), tokens * most(matrix) * commands.CHOICE_BYTES)


def unpack(tokens: int, top_k: int, raw: np.ndarray) -> Largest:
    """Copies the first ``top_k`` entries of each token from the bytes that the engine wrote."""
    entries = raw.view("<u4").reshape(tokens, -1, 2)
    values, rows = (entries[:, :top_k, part].copy() for part in (0, 1))
    return Largest(values.view(np.float32), rows.view(np.int32))
