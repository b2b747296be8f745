"""AutoAWQ's GEMM packing of int4 weights, read and written without loss.

Checked against AutoAWQ 0.2.9 (``awq/modules/linear/gemm.py``): nibble i of word c holds output
column 8 c + ORDER[i]; zeros are packed in the same way, as they are; w = (q - z) * scale.
"""

from __future__ import annotations

import numpy as np

from host.checkpoint.errors import CheckpointError

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Output column (of 8) that each nibble of a word holds, lowest nibble first."""


def unpack(words: np.ndarray) -> np.ndarray:
    """[rows, columns / 8] int32 words to [columns, rows] uint8 nibbles: transposed, in order."""
    turned = np.ascontiguousarray(words.T).view(np.uint32)
    result = np.empty((turned.shape[0], 8, turned.shape[1]), np.uint8)
    for nibble, column in enumerate(ORDER):
        result[:, column] = turned >> np.uint32(4 * nibble) & np.uint32(15)
    return result.reshape(-1, turned.shape[1])


def pack(values: np.ndarray) -> np.ndarray:
    """[columns, rows] uint8 nibbles to [rows, columns / 8] int32 words: what ``unpack`` reads."""
    by_word = values.reshape(-1, 8, values.shape[1]).astype(np.uint32)
    words = np.zeros(by_word.shape[::2], np.uint32)
    for nibble, column in enumerate(ORDER):
        words |= by_word[:, column] << np.uint32(4 * nibble)
    return np.ascontiguousarray(words.T).view(np.int32)


def positive(
    values: np.ndarray, scales: np.ndarray, zeros: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same weights with scales that are not negative.

    Args:
        values: [N, K] uint8; ``scales`` [N, K / group] float16; ``zeros`` [N, K / group] uint8.
        name: the scales' tensor, for errors.

    Returns:
        The three arrays. Where a scale s is negative, (q - z) s = ((15 - q) - (15 - z)) (-s).

    Raises:
        CheckpointError: a scale is not finite.
    """
    if not np.isfinite(scales).all():
        raise CheckpointError(f"tensor {name} has a NaN or infinite scale: the file is damaged")
    negative = np.signbit(scales)
    if negative.any():
        wide = np.repeat(negative, values.shape[1] // scales.shape[1], axis=1)
        values = np.where(wide, 15 - values, values)
        zeros = np.where(negative, 15 - zeros, zeros)
        scales = np.abs(scales)
    return values, scales, zeros
