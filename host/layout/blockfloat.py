"""Block floating point for activations, and their way into and out of the memory image.

``spec.numeric.quantise`` is the definition; this is the same in whole-array steps.
"""

from __future__ import annotations

import numpy as np

from host.layout.pack import striped_view
from spec import numeric
from spec.config import Config
from spec.errors import UserError
from spec.layout import Matrix


class ActivationError(UserError):
    """Activations that block floating point cannot hold, or buffers that do not fit them."""


def blocks(columns: int) -> int:
    """Blocks of ``numeric.BLOCK`` values that hold ``columns``."""
    return -(-columns // numeric.BLOCK)


def quantise(activations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations in block floating point: ``mantissa * 2**(base - shift)``.

    Args:
        activations: [tokens, K] float32, finite.

    Returns:
        bases [tokens] int8, shifts [tokens, ceil(K / 64)] uint8, mantissas [tokens, K] int8.

    Raises:
        ActivationError: not [tokens, K] float32, or a value that is infinite or NaN.
    """
    if activations.ndim != 2 or activations.dtype != np.float32:
        raise ActivationError(
            f"activations must be float32 [tokens, K], got {activations.dtype} {activations.shape}"
        )
    tokens, columns = activations.shape
    count = blocks(columns)
    padded = np.ascontiguousarray(activations)
    if columns != count * numeric.BLOCK:
        padded = np.zeros((tokens, count * numeric.BLOCK), np.float32)
        padded[:, :columns] = activations
    padded = padded.reshape(tokens, count, numeric.BLOCK)
    # The pattern without its sign orders finite values by magnitude, and infinities and NaN last.
    largest = (padded.view(np.uint32) & 0x7FFFFFFF).max(axis=2).astype(np.int32)
    if largest.size and largest.max() >= 0x7F800000:
        token, column = np.argwhere(~np.isfinite(activations))[0]
        raise ActivationError(
            f"activation [{token}, {column}] is {activations[token, column]}: every activation"
            " must be finite"
        )
    wanted = _block_exponents(largest)
    base = wanted.max(axis=1, initial=numeric.BASE_MIN).clip(max=numeric.BASE_MAX)
    shifts = (base[:, None] - wanted).clip(0, numeric.SHIFT_MAX)
    # A power of two from 2**-80 to 2**95: the product is exact, or too small to matter.
    factor = np.ldexp(np.float32(1), shifts - base[:, None])
    mantissas = np.rint(padded * factor[:, :, None])
    np.clip(mantissas, -numeric.MANTISSA_MAX, numeric.MANTISSA_MAX, out=mantissas)
    small = mantissas.astype(np.int8).reshape(tokens, -1)[:, :columns]
    return base.astype(np.int8), shifts.astype(np.uint8), small


def _block_exponents(patterns: np.ndarray) -> np.ndarray:
    """``numeric.block_exponent`` of fp32 patterns without sign, int32; zero gives BASE_MIN."""
    exponent, fraction = patterns >> 23, patterns & 0x7FFFFF
    normal = exponent - (127 + 6) + (fraction > 0x7E0000)
    return np.where(exponent == 0, numeric.BASE_MIN, normal)


def dequantise(bases: np.ndarray, shifts: np.ndarray, mantissas: np.ndarray) -> np.ndarray:
    """The values that block floating point stands for, float32 [tokens, K]."""
    exponents = bases.astype(np.int32)[:, None] - shifts.astype(np.int32)
    steps = np.repeat(exponents, numeric.BLOCK, axis=1)[:, : mantissas.shape[1]]
    return np.ldexp(mantissas.astype(np.float32), steps)


def pack_activations(
    config: Config,
    matrix: Matrix,
    bases: np.ndarray,
    shifts: np.ndarray,
    mantissas: np.ndarray,
    out: np.ndarray,
    stride: int,
) -> None:
    """Writes the activation region of ``tokens`` vectors; every byte of every beat is written.

    Args:
        bases, shifts, mantissas: as ``quantise`` returns them.
        out: uint8 bytes of the region, port p's part at ``p * stride``.
        stride: bytes between the ports' parts, ``spec.layout.port_stride``.

    Raises:
        ActivationError: shapes that disagree with ``matrix``, or too many tokens.
        PackError: a region that is too short.
    """
    tokens = len(bases)
    if not 1 <= tokens <= config.tokens:
        raise ActivationError(f"tokens must lie in 1..{config.tokens}, got {tokens}")
    expected = ((tokens, matrix.columns), (tokens, blocks(matrix.columns)))
    if (mantissas.shape, shifts.shape) != expected:
        raise ActivationError(
            f"mantissas and shifts must have shapes {expected[0]} and {expected[1]}, got"
            f" {mantissas.shape} and {shifts.shape}"
        )
    view = striped_view(config, out, stride, matrix.activation_beats(tokens))
    beat_shape = (config.ports, config.port_bytes)
    header = np.zeros(config.beat_bytes, np.uint8)
    header[:tokens] = bases.astype(np.int8).view(np.uint8)
    view[0] = header.reshape(beat_shape)
    beat, port, byte = view.strides
    spans = np.lib.stride_tricks.as_strided(
        view[1:], (matrix.spans, 1 + tokens, *beat_shape), ((1 + tokens) * beat, beat, port, byte)
    )
    spans[:, 0] = _shift_beats(config, matrix, shifts).reshape(-1, *beat_shape)
    values = mantissas.view(np.uint8)
    if matrix.columns != matrix.spans * config.span:
        values = np.zeros((tokens, matrix.spans * config.span), np.uint8)
        values[:, : matrix.columns] = mantissas.view(np.uint8)
    spans[:, 1:] = values.reshape(tokens, matrix.spans, *beat_shape).transpose(1, 0, 2, 3)


def _shift_beats(config: Config, matrix: Matrix, shifts: np.ndarray) -> np.ndarray:
    """One beat [spans, beat_bytes] for each span: the shifts of its block, a byte per token."""
    tokens, count = shifts.shape
    beats = np.zeros((matrix.spans, config.beat_bytes), np.uint8)
    block = np.arange(matrix.spans) * config.span // numeric.BLOCK
    known = block < count
    beats[known, :tokens] = shifts.T[block[known]]
    return beats


def result_patterns(
    config: Config, matrix: Matrix, tokens: int, fmt: str, raw: np.ndarray
) -> np.ndarray:
    """Bit patterns of the results [tokens, N], uint32 (fp32) or uint16 (bf16).

    Args:
        raw: uint8 bytes of the results, at least ``matrix.result_bytes(tokens, fmt)``.

    Raises:
        ActivationError: ``raw`` is too short, or an unknown format.
    """
    if fmt not in numeric.RESULT_BITS:
        raise ActivationError(f"result format must be fp32 or bf16, got {fmt!r}")
    size = matrix.result_bytes(tokens, fmt)
    if raw.size < size:
        raise ActivationError(f"results have {size} bytes, got {raw.size}")
    patterns = raw[:size].view("<u4" if fmt == "fp32" else "<u2")
    tiled = patterns.reshape(matrix.tiles, tokens, config.tile_rows).transpose(1, 0, 2)
    return tiled.reshape(tokens, -1)[:, : matrix.rows]


def unpack_results(
    config: Config, matrix: Matrix, tokens: int, fmt: str, raw: np.ndarray
) -> np.ndarray:
    """The results as float32 [tokens, N], from their bytes in device memory.

    Raises:
        ActivationError: ``raw`` is too short, or an unknown format.
    """
    patterns = result_patterns(config, matrix, tokens, fmt, raw)
    if fmt == "fp32":
        return np.ascontiguousarray(patterns).view(np.float32)
    return (patterns.astype(np.uint32) << np.uint32(16)).view(np.float32)
