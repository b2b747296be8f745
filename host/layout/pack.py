"""Packs integer weight matrices into the accelerator's memory image, and back.

``spec.layout`` is the definition; this is the same layout in whole-array steps, a few tiles at a
time, written straight into the device's buffer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from host.weights import Quantised
from spec.config import Config
from spec.errors import UserError
from spec.layout import Matrix

BLOCK_BYTES = 4 << 20
"""Beats that are put together at once: bounds the memory beside the region, bytes."""


class PackError(UserError):
    """Weights or a buffer that cannot be packed; the message says why."""


def striped_view(config: Config, region: np.ndarray, stride: int, beats: int) -> np.ndarray:
    """The beats of a striped region as a view [beats, ports, port_bytes] of its bytes.

    Args:
        region: uint8, one dimension, contiguous; port p's part begins at byte ``p * stride``.
        stride: bytes between the ports' parts.
        beats: beats of the region.

    Raises:
        PackError: the region is too short, or not plain bytes.
    """
    if region.dtype != np.uint8 or region.ndim != 1 or not region.flags.c_contiguous:
        raise PackError(
            f"a region must be one contiguous run of uint8, got {region.dtype} {region.shape}"
        )
    part = beats * config.port_bytes
    needed = (config.ports - 1) * stride + part
    if (config.ports > 1 and stride < part) or region.size < needed:
        raise PackError(
            f"a region of {beats} beats needs {needed} bytes at a stride of at least {part},"
            f" got {region.size} bytes at stride {stride}"
        )
    return np.lib.stride_tricks.as_strided(
        region, (beats, config.ports, config.port_bytes), (config.port_bytes, stride, 1)
    )


def port_parts(config: Config, region: np.ndarray, stride: int, beats: int) -> list[np.ndarray]:
    """The bytes of each port's part of a striped region.

    Raises:
        PackError: as for ``striped_view``.
    """
    striped_view(config, region, stride, beats)
    size = beats * config.port_bytes
    return [region[port * stride : port * stride + size] for port in range(config.ports)]


def matrix(config: Config, weights: Quantised) -> Matrix:
    """Shape and format of ``weights`` for the layout.

    Raises:
        PackError: arrays whose shapes or types disagree.
        LayoutError: the layout of ``config`` cannot hold the matrix.
    """
    if weights.values.ndim != 2:
        raise PackError(f"weights must be a matrix [N, K], got shape {weights.values.shape}")
    shape = Matrix(config, weights.rows, weights.columns, weights.bits, weights.group)
    groups = (weights.rows, weights.columns // weights.group)
    _expect("scales", weights.scales, groups, np.dtype(np.float16))
    if weights.bits == 8:
        _expect("values", weights.values, weights.values.shape, np.dtype(np.int8))
        if weights.zeros is not None:
            raise PackError("int8 weights are symmetric and have no zero points, got some")
        return shape
    _expect("values", weights.values, weights.values.shape, np.dtype(np.uint8))
    if weights.zeros is None:
        raise PackError("int4 weights need zero points, got none (8 everywhere means symmetric)")
    _expect("zeros", weights.zeros, groups, np.dtype(np.uint8))
    return shape


def _expect(name: str, array: np.ndarray, shape: tuple, dtype: np.dtype) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise PackError(f"{name} must be {dtype} of shape {shape}, got {array.dtype} {array.shape}")


def pack_weights(config: Config, weights: Quantised, out: np.ndarray, stride: int) -> None:
    """Writes the weight region of a matrix; every byte of every beat is written.

    Args:
        weights: values [N, K], scales and zeros [N, K / group].
        out: uint8 bytes of the region, port p's part at ``p * stride``.
        stride: bytes between the ports' parts, ``spec.layout.port_stride``.

    Raises:
        PackError: shapes that disagree, a value or zero outside its range, a scale that is
            negative, infinite or NaN, or a region that is too short.
    """
    shape = matrix(config, weights)
    view = _tiles_view(shape, out, stride)
    for first, last in _tile_blocks(shape):
        rows = slice(first * config.tile_rows, min(last * config.tile_rows, shape.rows))
        _check_values(weights, rows)
        beats = _block_beats(shape, weights, rows, last - first)
        parts = (last - first, shape.chunks, shape.chunk_beats, config.ports, config.port_bytes)
        view[first:last] = beats.reshape(parts)


def unpack_weights(config: Config, shape: Matrix, region: np.ndarray, stride: int) -> Quantised:
    """Reads a packed matrix back: the inverse of ``pack_weights``, for verification.

    Returns:
        Values [N, K], scales and zeros [N, K / group], equal to what was packed.

    Raises:
        PackError: the region is too short.
    """
    view = _tiles_view(shape, region, stride)
    groups = shape.columns // shape.group
    values = np.empty((shape.rows, shape.columns), np.uint8 if shape.bits == 4 else np.int8)
    scales = np.empty((shape.rows, groups), np.uint16)
    zeros = np.empty((shape.rows, groups), np.uint8) if shape.bits == 4 else None
    weights_at, scales_at, zeros_at = beat_positions(shape)
    for first, last in _tile_blocks(shape):
        rows = slice(first * config.tile_rows, min(last * config.tile_rows, shape.rows))
        tiles = last - first
        beats = np.ascontiguousarray(view[first:last])
        beats = beats.reshape(tiles, shape.chunks, shape.chunk_beats, config.beat_bytes)
        block = _unpack_values(shape, beats[:, :, weights_at]).transpose(0, 2, 1, 3)
        values[rows] = _clip(block.reshape(tiles * config.tile_rows, -1), values[rows].shape)
        scales[rows] = _per_group(shape, beats[:, :, scales_at].view("<u2"), scales[rows].shape)
        if zeros is not None:
            fields = _nibbles(beats[:, :, zeros_at])
            zeros[rows] = _per_group(shape, fields, zeros[rows].shape)
    return Quantised(shape.bits, shape.group, values, scales.view(np.float16), zeros)


def unpack_rows(shape: Matrix, region: np.ndarray, stride: int, rows: np.ndarray) -> Quantised:
    """A few rows of a packed matrix, in the order of ``rows`` [count].

    Raises:
        PackError: the region is too short.
    """
    view = _tiles_view(shape, region, stride)
    tiles, inside = np.divmod(rows, shape.config.tile_rows)
    weights_at, scales_at, zeros_at = beat_positions(shape)
    each = np.arange(len(rows))
    groups = (len(rows), shape.columns // shape.group)

    def beats(positions: np.ndarray) -> np.ndarray:
        found = view[tiles, :, positions]
        return found.reshape(len(rows), shape.chunks, shape.config.beat_bytes)

    def of_group(fields: np.ndarray, served: int) -> np.ndarray:
        split = fields.reshape(len(rows), shape.chunks, served, shape.row_scales)
        return _whole_groups(shape, split[each, :, inside % served].reshape(len(rows), -1), groups)

    values = _unpack_values(shape, beats(weights_at[inside])).reshape(len(rows), -1)
    scales = of_group(beats(scales_at[inside // shape.scale_rows]).view("<u2"), shape.scale_rows)
    zeros = None
    if shape.bits == 4:
        fields = _nibbles(beats(zeros_at[inside // shape.zero_rows]))
        zeros = of_group(fields, shape.zero_rows)
    values = values[:, : shape.columns]
    return Quantised(shape.bits, shape.group, values, scales.view(np.float16), zeros)


def beat_positions(shape: Matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of weights, scales and zeros beats within one chunk of one tile.

    Returns:
        Three int arrays: one position per row, per scales beat, per zeros beat (none for int8).
    """
    rows = np.arange(shape.config.tile_rows)
    zero_rows = shape.zero_rows if shape.bits == 4 else len(rows)
    has_zeros = int(shape.bits == 4)
    weights = rows + rows // shape.scale_rows + 1 + has_zeros * (rows // zero_rows + 1)
    first = rows[:: shape.scale_rows]
    scales = weights[first] - 1
    first = rows[::zero_rows][: len(rows) * has_zeros]
    zeros = weights[first] - 2  # a zeros beat is always followed by a scales beat
    return weights, scales, zeros


def _tiles_view(shape: Matrix, region: np.ndarray, stride: int) -> np.ndarray:
    """[tiles, chunks, chunk_beats, ports, port_bytes] view of a weight region."""
    view = striped_view(shape.config, region, stride, shape.beats)
    beat, port, byte = view.strides
    return np.lib.stride_tricks.as_strided(
        view,
        (shape.tiles, shape.chunks, shape.chunk_beats, *view.shape[1:]),
        (shape.chunks * shape.chunk_beats * beat, shape.chunk_beats * beat, beat, port, byte),
    )


def _tile_blocks(shape: Matrix) -> Iterator[tuple[int, int]]:
    """Ranges of tiles whose beats fit ``BLOCK_BYTES``."""
    tile_bytes = shape.chunks * shape.chunk_beats * shape.config.beat_bytes
    step = max(1, BLOCK_BYTES // tile_bytes)
    for first in range(0, shape.tiles, step):
        yield first, min(first + step, shape.tiles)


def _check_values(weights: Quantised, rows: slice) -> None:
    scales = weights.scales[rows]
    good = np.isfinite(scales) & (scales >= 0)
    if not good.all():
        n, g = np.argwhere(~good)[0]
        raise PackError(
            f"scale [{rows.start + n}, {g}] is {scales[n, g]}: scales must be finite and not"
            " negative"
        )
    if weights.bits == 8 or weights.zeros is None:
        return
    for name, array in (("value", weights.values[rows]), ("zero", weights.zeros[rows])):
        if array.max() > 15:
            n, k = np.argwhere(array > 15)[0]
            raise PackError(
                f"{name} [{rows.start + n}, {k}] is {array[n, k]}: int4 weights lie in 0..15"
            )


def _block_beats(shape: Matrix, weights: Quantised, rows: slice, tiles: int) -> np.ndarray:
    """The beats [tiles, chunks, chunk_beats, beat_bytes] of a block of tiles."""
    config = shape.config
    beats = np.zeros((tiles, shape.chunks, shape.chunk_beats, config.beat_bytes), np.uint8)
    weights_at, scales_at, zeros_at = beat_positions(shape)
    values = weights.values[rows]
    if shape.bits == 8:
        values = values.view(np.uint8) ^ 0x80  # w + 128
    full = _pad(values, tiles * config.tile_rows, shape.chunks * shape.chunk_columns)
    if shape.bits == 8:  # padding is zero bits, not the code of a zero weight
        low, high = _pack_nibbles(full & 15), _pack_nibbles(full >> 4)
        halves = [part.reshape(*full.shape[:1], shape.chunks, -1) for part in (low, high)]
        packed = np.concatenate(halves, axis=2)
    else:
        packed = _pack_nibbles(full)
    packed = packed.reshape(tiles, config.tile_rows, shape.chunks, config.beat_bytes)
    beats[:, :, weights_at] = packed.transpose(0, 2, 1, 3)
    pattern = weights.scales[rows].view(np.uint16) & 0x7FFF  # -0 is 0
    fields = _beat_fields(shape, pattern, tiles, shape.scale_rows).astype("<u2")
    beats[:, :, scales_at] = fields.view(np.uint8)
    if weights.zeros is not None:
        fields = _beat_fields(shape, weights.zeros[rows], tiles, shape.zero_rows)
        beats[:, :, zeros_at] = _pack_nibbles(fields)
    return beats


def _beat_fields(shape: Matrix, values: np.ndarray, tiles: int, served: int) -> np.ndarray:
    """Per-group values [rows, groups] as fields [tiles, chunks, beats, served * row_scales]."""
    if shape.chunk_columns < shape.group:
        values = np.repeat(values, shape.group // shape.chunk_columns, axis=1)
    tile_rows = shape.config.tile_rows
    full = _pad(values, tiles * tile_rows, shape.chunks * shape.row_scales)
    fields = full.reshape(tiles, tile_rows, shape.chunks, shape.row_scales).transpose(0, 2, 1, 3)
    if served > tile_rows:
        padded = np.zeros((tiles, shape.chunks, served, shape.row_scales), fields.dtype)
        padded[:, :, :tile_rows] = fields
        fields = padded
    return np.ascontiguousarray(fields).reshape(tiles, shape.chunks, -1, served * shape.row_scales)


def _per_group(shape: Matrix, fields: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    """The inverse of ``_beat_fields``: fields [tiles, chunks, beats, ...] as [rows, groups]."""
    tiles, tile_rows = fields.shape[0], shape.config.tile_rows
    full = fields.reshape(tiles, shape.chunks, -1, shape.row_scales)[:, :, :tile_rows]
    return _whole_groups(shape, full.transpose(0, 2, 1, 3).reshape(tiles * tile_rows, -1), wanted)


def _whole_groups(shape: Matrix, full: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    """Fields [rows, chunks * row_scales] once per group: coarse ones are repeated in each chunk."""
    if shape.chunk_columns < shape.group:
        full = full[:, :: shape.group // shape.chunk_columns]
    return np.ascontiguousarray(_clip(full, wanted))


def _unpack_values(shape: Matrix, beats: np.ndarray) -> np.ndarray:
    """Weights beats [..., beat_bytes] as values [..., chunk_columns]."""
    nibbles = _nibbles(beats)
    if shape.bits == 4:
        return nibbles
    low, high = nibbles[..., : shape.config.span], nibbles[..., shape.config.span :]
    return ((low | high << 4) ^ 0x80).view(np.int8)


def _pack_nibbles(values: np.ndarray) -> np.ndarray:
    """Values 0..15 [..., L] as bytes [..., L / 2], low nibble first."""
    return values[..., 0::2] | values[..., 1::2] << 4


def _nibbles(data: np.ndarray) -> np.ndarray:
    """Bytes [..., B] as nibbles [..., 2 * B], low nibble first."""
    result = np.empty((*data.shape[:-1], 2 * data.shape[-1]), np.uint8)
    result[..., 0::2] = data & 15
    result[..., 1::2] = data >> 4
    return result


def _pad(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """``values`` with zeros below and to the right."""
    if values.shape == (rows, columns):
        return values
    full = np.zeros((rows, columns), values.dtype)
    full[: values.shape[0], : values.shape[1]] = values
    return full


def _clip(values: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    return values[: wanted[0], : wanted[1]]
