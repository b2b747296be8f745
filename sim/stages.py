"""What every stage of the engine must show for each beat of a command, by golden.

Read from the memory image like the reference itself, and composed of its stages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from host.weights import Quantised
from sim import golden
from sim.golden.image import GROUPS
from spec import numeric
from spec.config import Config
from spec.layout import Matrix


@dataclass(frozen=True)
class Wanted:
    """One command. Weights beats are counted in stream order: tile, chunk, row of the tile."""

    matrix: Matrix
    tokens: int
    nibbles: np.ndarray
    """[beats, lanes]: nibbles of each weights beat."""
    zeros: np.ndarray
    """[beats, lanes]: what is subtracted from them."""
    scales: np.ndarray
    """[beats, subs] fp16 patterns."""
    sums: np.ndarray
    """[beats, tokens, subs]: sums of lane products."""
    terms: np.ndarray
    """[beats, tokens, subs] object: sums times scales in the accumulator's unit."""
    totals: np.ndarray
    """[rows of all tiles, tokens] object: exact sums over K."""
    bases: np.ndarray
    """[tokens] exponents."""

    @property
    def weights(self) -> np.ndarray:
        """[beats, lanes]: nibbles less zeros."""
        return self.nibbles - self.zeros

    def place(self, beat: int) -> tuple[int, int]:
        """Row of the matrix and chunk of a weights beat."""
        tile_beats = self.matrix.chunks * self.matrix.config.tile_rows
        tile, inside = divmod(beat, tile_beats)
        chunk, row = divmod(inside, self.matrix.config.tile_rows)
        return tile * self.matrix.config.tile_rows + row, chunk

    def element(self, chunk: int, lane: int) -> int:
        """Column of K that a lane of a chunk's beat works on."""
        matrix = self.matrix
        return chunk * matrix.chunk_columns + lane % matrix.chunk_columns


def wanted(
    config: Config, matrix: Matrix, read: golden.Reader, fields: dict[str, int]
) -> Wanted:  # fmt: skip
    """The stages of a matmul command on a memory image."""
    nibbles, zeros, scales = regions(config, matrix, read, fields)
    activations = golden.read_activations(config, read, fields)
    tokens, lanes, subs = fields["tokens"], config.lanes, config.subs
    # [tokens, chunks, lanes]: the two spans of an int4 chunk, or an int8 chunk's one twice.
    mantissas = activations.mantissas.astype(np.int64).reshape(tokens, matrix.chunks, -1)
    shifts = np.repeat(activations.shifts, config.span, axis=1).reshape(tokens, matrix.chunks, -1)
    repeat = lanes // mantissas.shape[-1]
    mantissas, shifts = np.tile(mantissas, repeat), np.tile(shifts, repeat)
    weights = (nibbles - zeros).reshape(*nibbles.shape[:3], subs, config.sub_lanes)
    by_sub = mantissas.reshape(tokens, matrix.chunks, subs, config.sub_lanes)
    sums = np.einsum("icrsl,tcsl->icrts", weights, by_sub)
    high = (matrix.bits == 8) & (np.arange(subs) >= subs // 2)
    sub_shifts = shifts[:, :, :: config.sub_lanes].transpose(1, 0, 2)[None, :, None]
    products, left = golden.scale(sums, scales[:, :, :, None, :], sub_shifts, high)
    terms = products.astype(object) << left.astype(object)
    totals = terms.sum(axis=(1, 4)).reshape(-1, tokens)
    beats = nibbles.shape[0] * nibbles.shape[1] * nibbles.shape[2]
    return Wanted(
        matrix, tokens, nibbles.reshape(beats, lanes), zeros.reshape(beats, lanes),
        scales.reshape(beats, subs), sums.reshape(beats, tokens, subs),
        terms.reshape(beats, tokens, subs), totals, activations.bases,
    )  # fmt: skip


def regions(
    config: Config, matrix: Matrix, read: golden.Reader, fields: dict[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nibbles and zeros [tiles, chunks, rows, lanes] and scales [tiles, chunks, rows, subs] of a
    weight region; zeros of an int8 matrix are its formats' constants, 0 and 8."""
    weights8, group = bool(fields["weights8"]), GROUPS[fields["group"]]
    order = np.array(golden.chunk_order(config, weights8, group))
    beats = golden.joined_beats(
        config, read, fields["weights"], fields["weight_stride"], 0, fields["weight_beats"]
    ).reshape(matrix.tiles, matrix.chunks, len(order), config.beat_bytes)
    rows, per_row, lanes = config.tile_rows, matrix.row_scales, config.lanes
    scale_of = np.arange(lanes) % matrix.chunk_columns // group
    scale_of = np.minimum(scale_of, per_row - 1)

    def by_row(raw: np.ndarray) -> np.ndarray:
        flat = raw.reshape(matrix.tiles, matrix.chunks, -1)[..., : rows * per_row]
        return flat.reshape(matrix.tiles, matrix.chunks, rows, per_row)

    nibbles = golden.nibbles(beats[:, :, order == "weights"]).astype(np.int64)
    scales = by_row(beats[:, :, order == "scales"].view("<u2"))[..., scale_of[:: config.sub_lanes]]
    if weights8:
        zeros = np.broadcast_to(np.where(np.arange(lanes) < lanes // 2, 0, 8), nibbles.shape)
    else:
        zeros = by_row(golden.nibbles(beats[:, :, order == "zeros"]))[..., scale_of]
    return nibbles, zeros.astype(np.int64), scales


def recovered(
    config: Config, matrix: Matrix, read: golden.Reader, fields: dict[str, int]
) -> Quantised:
    """The matrix in a weight region, as it was before it was packed."""
    nibbles, zeros, scales = regions(config, matrix, read, fields)
    rows, columns, width = matrix.rows, matrix.columns, matrix.chunk_columns

    def flat(values: np.ndarray) -> np.ndarray:
        """[tiles, chunks, rows, n] as [rows, chunks * n]."""
        joined = values.transpose(0, 2, 1, 3)
        return joined.reshape(-1, matrix.chunks * values.shape[-1])[:rows]

    def by_group(values: np.ndarray) -> np.ndarray:
        """Values per lane as values per group."""
        return flat(values[..., :width])[:, :columns][:, :: matrix.group]

    lane_scales = np.repeat(scales, config.sub_lanes, axis=-1)
    patterns = by_group(lane_scales).astype(np.uint16).view(np.float16)
    if matrix.bits == 8:
        half = width
        values = nibbles[..., :half] + 16 * (nibbles[..., half:] - 8)
        return Quantised(8, matrix.group, flat(values)[:, :columns].astype(np.int8), patterns)
    values = flat(nibbles)[:, :columns].astype(np.uint8)
    return Quantised(4, matrix.group, values, patterns, by_group(zeros).astype(np.uint8))


def rounded(totals: np.ndarray, bases: np.ndarray, fmt: str) -> np.ndarray:
    """Patterns [rows, tokens] object of exact sums; bf16 in the upper half, as in the engine."""
    lift = 32 - numeric.RESULT_BITS[fmt]
    out = np.empty(totals.shape, object)
    for row, token in np.ndindex(totals.shape):
        pattern = numeric.round_result(int(totals[row, token]), int(bases[token]), fmt)
        out[row, token] = pattern << lift
    return out
