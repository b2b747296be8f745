"""Checksums of what lies in the device's memory: a bit that flips there goes unseen otherwise."""

from __future__ import annotations

import zlib

import numpy as np

BLOCK = 1 << 20
"""Bytes of one checksum: how closely a change is located."""


def checksums(array: np.ndarray) -> tuple[int, ...]:
    """CRC-32 (ISO 3309, as of zlib) of each 1 MB of a buffer; the last block may be shorter.

    Args:
        array: uint8, one dimension, contiguous.
    """
    return tuple(
        zlib.crc32(array[start : start + BLOCK].data) for start in range(0, len(array), BLOCK)
    )


def changed(array: np.ndarray, wanted: tuple[int, ...]) -> list[int]:
    """Offsets of the blocks that are not what they were."""
    found = checksums(array)
    return [
        index * BLOCK
        for index, (new, old) in enumerate(zip(found, wanted, strict=True))
        if new != old
    ]
