"""A float matrix of a checkpoint read a few rows at a time, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from host.checkpoint.errors import CheckpointError
from host.weights import Dense, Embedding, StoredEmbedding

BLOCK_VALUES = 1 << 18
"""Values handled at a time: 1 MB of float32, which stays in the second-level cache."""


@dataclass(frozen=True)
class Table:
    """A matrix [rows, columns] in a file."""

    name: str
    """As the file calls it, for errors."""
    rows: int
    columns: int
    read: Callable[[int, int], np.ndarray]
    """``read(start, stop)``: rows start..stop as float32 [stop - start, columns]."""
    single: bool = False
    """The file holds float32, so float16 would lose bits."""

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Row ranges of about BLOCK_VALUES values that cover the table."""
        step = max(1, BLOCK_VALUES // self.columns)
        for start in range(0, self.rows, step):
            yield start, min(start + step, self.rows)


STORED_BYTES = 64 << 20
"""Embeddings larger than this stay in their file: the gather kernel needs the others in memory."""


def embedding_of(table: Table) -> Embedding:
    """Token vectors: in memory, or read from the file where they are large; all are checked.

    Raises:
        CheckpointError: a value is not finite or does not fit.
    """
    dtype = _dtype(table)
    stored = StoredEmbedding(table.rows, table.columns, table.read, dtype)
    if stored.nbytes <= STORED_BYTES:
        return materialise(table)
    for start, stop in table.blocks():
        _rounded(table, start, stop)
    return stored


def _dtype(table: Table) -> type[np.floating[Any]]:
    return np.float32 if table.single else np.float16


def _rounded(table: Table, start: int, stop: int) -> np.ndarray:
    """Some rows in the table's type. Raises CheckpointError as ``materialise``."""
    with np.errstate(over="ignore"):
        found = table.read(start, stop).astype(_dtype(table), copy=False)
    if not np.isfinite(found).all():
        raise CheckpointError(
            f"tensor {table.name} has a NaN, infinite or too large value in rows"
            f" {start}..{stop - 1}: the file is damaged or not a usable checkpoint"
        )
    return found


def materialise(table: Table) -> np.ndarray:
    """The whole table [rows, columns]: float32 if the file holds float32, else float16.

    bfloat16 and block formats fit float16 up to an error of 2**-11 of the value (2**-25 at least).

    Raises:
        CheckpointError: a value is not finite or does not fit.
    """
    whole = np.empty((table.rows, table.columns), _dtype(table))
    for start, stop in table.blocks():
        whole[start:stop] = _rounded(table, start, stop)
    return whole


def single(tables: Sequence[Table]) -> Dense:
    """Tables of equal K, stacked by rows, in float32.

    Raises:
        CheckpointError: a value is not finite.
    """
    whole = np.empty((sum(table.rows for table in tables), tables[0].columns), np.float32)
    first = 0
    for table in tables:
        for start, stop in table.blocks():
            part = whole[first + start : first + stop]
            part[:] = table.read(start, stop)
            if not np.isfinite(part).all():
                raise CheckpointError(
                    f"tensor {table.name}, rows {start}..{stop - 1}: a weight is NaN or infinite"
                )
        first += table.rows
    return Dense(whole)
