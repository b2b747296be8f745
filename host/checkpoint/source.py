"""What a checkpoint must give to be loaded, and what all unquantised ones give alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from host.checkpoint.rounding import round_tables
from host.checkpoint.tables import Table, single
from host.weights import Dense, Quantised

Part = tuple[str, int]
"""A linear's name without ``.weight`` and its rows."""


class Source(Protocol):
    """Tensors of one checkpoint. Each request checks presence and shape."""

    label: str
    """Where from and how packed, for reports."""

    def vector(self, name: str, size: int) -> np.ndarray:
        """A finite float32 vector."""

    def table(self, name: str, rows: int, columns: int) -> Table:
        """A float matrix to be read by rows."""

    def linear(self, parts: Sequence[Part], columns: int, group: int) -> Quantised:
        """Linears of the same inputs, stacked by rows."""

    def dense(self, parts: Sequence[Part], columns: int) -> Dense:
        """The same as floats: what the file holds, before any rounding done here."""

    @property
    def notes(self) -> dict[str, str]:
        """What a user should know of how the tensors were read, once they are."""

    def head_name(self, tied: bool) -> str:
        """The tensor that the LM head is made from."""

    def packed_head(self, rows: int, columns: int) -> Quantised | None:
        """The head in integers, where the checkpoint brings one."""

    def unused(self) -> list[str]:
        """Tensors that nobody asked for and that mean something."""


class FloatSource(ABC):
    """A source of float tables: linears are rounded to int4, and nothing comes in integers."""

    @abstractmethod
    def table(self, name: str, rows: int, columns: int) -> Table:
        """See ``Source``."""

    def linear(self, parts: Sequence[Part], columns: int, group: int) -> Quantised:
        """See ``Source``."""
        return round_tables(self._tables(parts, columns), 4, group)

    def dense(self, parts: Sequence[Part], columns: int) -> Dense:
        """See ``Source``."""
        return single(self._tables(parts, columns))

    def _tables(self, parts: Sequence[Part], columns: int) -> list[Table]:
        return [self.table(f"{name}.weight", rows, columns) for name, rows in parts]

    @property
    def notes(self) -> dict[str, str]:
        """See ``Source``."""
        return {}

    def packed_head(self, rows: int, columns: int) -> Quantised | None:
        """See ``Source``."""
        return None
