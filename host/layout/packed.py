"""A matrix in the accelerator's layout, as a memory image holds it: read only, nothing unpacked.

The driver copies its bytes into the device's buffer; rows are read back one by one where the host
needs a few of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from host.layout import pack
from host.weights import Quantised, Weights
from spec.config import Config
from spec.digest import digest
from spec.layout import Matrix


@dataclass(frozen=True)
class Packed:
    """A packed matrix: the ports' parts one after the other, without gaps."""

    shape: Matrix
    data: np.ndarray
    """uint8, ``shape.weight_bytes`` long, one dimension, contiguous."""

    @property
    def stride(self) -> int:
        """Bytes of one port's part."""
        return self.shape.beats * self.shape.config.port_bytes

    @property
    def rows(self) -> int:
        """N, outputs."""
        return self.shape.rows

    @property
    def columns(self) -> int:
        """K, inputs."""
        return self.shape.columns

    @property
    def bits(self) -> int:
        """4 or 8."""
        return self.shape.bits

    @property
    def group(self) -> int:
        """Values along K that share a scale."""
        return self.shape.group

    def select(self, rows: np.ndarray | slice) -> Quantised:
        """Some rows, in the order asked for; all of them are unpacked block by block."""
        if isinstance(rows, slice) and rows == slice(None):
            return pack.unpack_weights(self.shape.config, self.shape, self.data, self.stride)
        wanted = np.arange(self.rows)[rows]
        return pack.unpack_rows(self.shape, self.data, self.stride, wanted)

    def floats(self) -> np.ndarray:
        """[N, K] float32: (values - zeros) * scales, group by group."""
        return self.select(slice(None)).floats()


def matrix(config: Config, weights: Weights) -> Matrix:
    """Shape and format of a matrix for the layout of ``config``.

    Raises:
        PackError: floats, arrays whose shapes disagree, or packed for another configuration.
        LayoutError: the layout of ``config`` cannot hold it.
    """
    if isinstance(weights, Quantised):
        return pack.matrix(config, weights)
    if not isinstance(weights, Packed):
        raise pack.PackError(
            "unquantised weights run in floating point only: round them to 4 or 8 bits for a device"
        )
    held = weights.shape.config
    if held != config and digest(held) != digest(config):
        raise pack.PackError(
            f"the weights are packed for configuration {held.name!r} (digest {digest(held):016x}),"
            f" not for {config.name!r} (digest {digest(config):016x}): give the configuration that"
            " they were packed for, or pack the model again"
        )
    return weights.shape


def put(config: Config, weights: Weights, out: np.ndarray, stride: int) -> None:
    """Writes the weight region of a matrix, port p's part at ``out[p * stride]``.

    Raises:
        PackError, LayoutError: as for ``matrix``, and for values out of range.
    """
    shape = matrix(config, weights)
    if isinstance(weights, Quantised):
        pack.pack_weights(config, weights, out, stride)
    elif isinstance(weights, Packed):
        parts = pack.port_parts(config, out, stride, shape.beats)
        for part, held in zip(parts, weights.data.reshape(config.ports, -1), strict=True):
            part[:] = held


def packed(config: Config, weights: Weights) -> Packed:
    """A matrix in the layout of ``config``.

    Raises:
        PackError, LayoutError: as for ``put``.
    """
    shape = matrix(config, weights)
    if isinstance(weights, Packed):
        return weights
    data = np.empty(shape.weight_bytes, np.uint8)
    put(config, weights, data, shape.beats * config.port_bytes)
    return Packed(shape, data)
