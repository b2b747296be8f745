"""What the packings of int4 with group scales have in common: nibbles, scales in fp16, groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import gcd
from pathlib import Path

import numpy as np

from host.checkpoint.autoawq import positive
from host.checkpoint.errors import CheckpointError
from host.checkpoint.hf_model import DenseSource
from host.checkpoint.packing import Packing
from host.checkpoint.safetensors_file import Tensor
from host.checkpoint.source import Part
from host.weights import Dense, Quantised
from spec import numeric

SYMMETRIC_ZERO = 8
"""The zero point of symmetric int4: values -8..7 are stored as 0..15."""


class GroupedSource(DenseSource, ABC):
    """Linears of a packing, taken as they are; the rest unquantised.

    A subclass reads one linear (``_one``). Groups that are coarser than the hardware's, whole rows
    too, become groups of 128 (64, 32 where K asks for it) whose scales repeat.
    """

    def __init__(self, directory: Path, held: dict[str, Tensor], packing: Packing) -> None:
        super().__init__(directory, held, 0)
        self.packing = packing
        self.label = f"{directory} ({packing.label})"
        self._scales = self._rounded = 0
        self._kind, self._worst = "", 0.0

    @property
    def notes(self) -> dict[str, str]:
        """What a user should know: scales that fp16 does not hold exactly."""
        if not self._rounded:
            return {}
        return {
            "scales": f"{self._rounded:,} of {self._scales:,} scales rounded from {self._kind} to"
            f" fp16, by at most {self._worst:.2%}"
        }

    def linear(self, parts: Sequence[Part], columns: int, group: int) -> Quantised:
        """See ``source.Source``; ``group`` is the checkpoint's own, not the one asked for."""
        size = self._stored_group(columns, parts[0][0])
        used = hardware_group(size)
        packed = [self._checked(name, rows, columns, size) for name, rows in parts]
        values, scales, zeros = (np.concatenate(part) for part in zip(*packed))  # noqa: B905
        if size != used:
            scales, zeros = (np.repeat(part, size // used, axis=1) for part in (scales, zeros))
        return Quantised(4, used, values, scales, zeros)

    def dense(self, parts: Sequence[Part], columns: int) -> Dense:
        """See ``source.Source``: the integers times their scales."""
        return Dense(self.linear(parts, columns, 0).floats())

    def _stored_group(self, columns: int, name: str) -> int:
        finest = min(numeric.GROUPS)
        size = columns if self.packing.group is None else self.packing.group
        if columns % size or size % finest:
            raise CheckpointError(
                f"{self.directory}: linear {name} has K = {columns}, which groups of {size} do not"
                f" divide into multiples of {finest}"
            )
        return size

    def _checked(
        self, name: str, rows: int, columns: int, group: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        values, scales, zeros = self._one(name, rows, columns, group)
        return positive(values, scales, zeros, name)

    @abstractmethod
    def _one(
        self, name: str, rows: int, columns: int, group: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values [rows, columns] and zeros [rows, groups] uint8, scales [rows, groups] float16."""

    def _check_order(self, name: str, columns: int, group: int, remedy: str) -> None:
        """Refuses act-order, which is told by a tensor with each input's group."""
        if name not in self.held:
            return
        order = self._typed(name, "I32", (columns,)).view(np.int32)
        if not np.array_equal(order, np.arange(columns) // group):
            raise CheckpointError(f"tensor {name} permutes the inputs: {remedy}")

    def _typed(self, name: str, kind: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self.find(name, shape)
        if tensor.kind != kind:
            raise CheckpointError(
                f"tensor {name} has type {tensor.kind}; {self.packing.name} has {kind}"
            )
        return tensor

    def _fp16(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor of scales as float16; what that rounds is noted, what overflows refused."""
        tensor = self.find(name, shape)
        if tensor.kind == "F16":
            return tensor.view(np.float16).astype(np.float16)
        wide = tensor.floats()
        with np.errstate(over="ignore", invalid="ignore"):
            narrow = wide.astype(np.float16)
        if (np.isfinite(wide) & ~np.isfinite(narrow)).any():
            raise CheckpointError(
                f"tensor {name} has a scale of {np.abs(wide).max():g}, too large for fp16, which"
                " the hardware has"
            )
        wrong = narrow.astype(np.float32) != wide
        self._scales += wide.size
        if np.isfinite(wide).all() and wrong.any():
            off = np.abs(narrow[wrong].astype(np.float32) - wide[wrong]) / np.abs(wide[wrong])
            self._rounded, self._kind = self._rounded + int(wrong.sum()), tensor.kind
            self._worst = max(self._worst, float(off.max()))
        return narrow


def nibbles(words: np.ndarray) -> np.ndarray:
    """[rows, columns / 8] int32 words as [rows, columns] uint8, lowest nibble first."""
    data = np.ascontiguousarray(words).view(np.uint8)
    result = np.empty((data.shape[0], 2 * data.shape[1]), np.uint8)
    result[:, 0::2] = data & 15
    result[:, 1::2] = data >> 4
    return result


def hardware_group(size: int) -> int:
    """The largest group of the hardware that divides a checkpoint's."""
    return gcd(size, max(numeric.GROUPS))
