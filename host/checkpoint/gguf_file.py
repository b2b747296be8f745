"""GGUF header: metadata and tensor directory, every count checked against the file's size.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian.
The ``gguf`` package gives names, block sizes and dequantisation of the tensor types; its reader
trusts the counts in the file and takes seconds for a vocabulary, so the header is walked here.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from host.checkpoint.errors import CheckpointError

MAGIC = b"GGUF"
MAX_ENTRIES = 1 << 16
"""Most metadata entries and most tensors: far above any model."""
MAX_ARRAY = 1 << 22
"""Most elements of a metadata array: the largest vocabularies have 262,144 tokens."""
MAX_STRING = 1 << 22
"""Longest string, bytes."""
MAX_DIMENSIONS = 4

STRING, ARRAY = 8, 9
SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
"""Metadata value types: struct codes."""


@dataclass(frozen=True)
class Tensor:
    """One tensor's place in the file. ``shape`` is rows first, as NumPy has it."""

    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the file."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class GgufFile:
    """A checked header and the mapped file."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]
    data: np.ndarray
    """The whole file, uint8, read only."""

    def raw(self, tensor: Tensor) -> np.ndarray:
        """A tensor's bytes as [rows, bytes per row] (a vector is one row)."""
        rows = int(np.prod(tensor.shape[:-1], dtype=np.int64))
        return self.data[tensor.offset : tensor.offset + tensor.size].reshape(rows, -1)


def read(path: Path) -> GgufFile:
    """Reads and checks the header of a GGUF file.

    Raises:
        CheckpointError: not GGUF, another version, truncated, or a count, string or tensor that
            does not fit the file.
    """
    size = path.stat().st_size
    if size < 24:
        raise CheckpointError(f"{path} has {size} bytes: too short for a GGUF file")
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    walker = _Walker(path, mapped)
    try:
        metadata, directory = walker.header()
        tensors = _tensors(walker, metadata, directory)
    except struct.error:
        raise CheckpointError(f"{path} is truncated: its header does not end") from None
    except UnicodeDecodeError:
        raise CheckpointError(f"{path} is damaged: a name in its header is not UTF-8") from None
    return GgufFile(path, metadata, tensors, np.frombuffer(mapped, np.uint8))


class _Walker:
    """Reads little-endian values one after the other; ``struct`` refuses to leave the file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.position = 0

    def fail(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path} is damaged: {what}")

    def scalar(self, code: str) -> Any:
        value = struct.unpack_from("<" + code, self.data, self.position)[0]
        self.position += struct.calcsize("<" + code)
        return value

    def count(self, what: str, limit: int, least_bytes: int) -> int:
        """A 64-bit count of things that take at least ``least_bytes`` each."""
        count = self.scalar("Q")
        room = (len(self.data) - self.position) // least_bytes
        if count > min(limit, room):
            raise self.fail(f"{count} {what} where at most {min(limit, room)} fit")
        return count

    def string_bytes(self) -> bytes:
        length = self.count("bytes of a string", MAX_STRING, 1)
        start = self.position
        self.position += length
        return self.data[start : self.position]

    def string(self) -> str:
        return self.string_bytes().decode("utf-8")

    def value(self, kind: int, key: str) -> Any:
        """One metadata value. Strings of arrays may hold broken UTF-8; it is replaced."""
        if kind in SCALARS:
            return self.scalar(SCALARS[kind])
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            raise self.fail(f"metadata {key} has unknown type {kind}")
        inner = self.scalar("I")
        if inner == STRING:
            length = self.count(f"strings in {key}", MAX_ARRAY, 8)
            return [self.string_bytes().decode("utf-8", "replace") for _ in range(length)]
        if inner not in SCALARS:
            raise self.fail(f"metadata {key} is an array of unsupported type {inner}")
        width = struct.calcsize("<" + SCALARS[inner])
        length = self.count(f"values in {key}", MAX_ARRAY, width)
        start = self.position
        self.position += length * width
        return list(struct.unpack_from(f"<{length}{SCALARS[inner]}", self.data, start))

    def header(self) -> tuple[dict[str, Any], list[tuple[str, int, tuple[int, ...], int]]]:
        """Metadata, and name, type, shape and offset of each tensor."""
        if self.data[:4] != MAGIC:
            raise CheckpointError(f"{self.path} is not a GGUF file: it starts {self.data[:4]!r}")
        self.position = 4
        version = self.scalar("I")
        if version not in (2, 3):
            kind = "big endian" if version and version % 65536 == 0 else f"version {version}"
            raise CheckpointError(
                f"{self.path} is GGUF of {kind}; little endian version 2 or 3 is supported:"
                " convert the model again with a current llama.cpp"
            )
        tensor_count = self.count("tensors", MAX_ENTRIES, 24)
        entry_count = self.count("metadata entries", MAX_ENTRIES, 13)
        metadata: dict[str, Any] = {}
        for _ in range(entry_count):
            key = self.string()
            if key in metadata:
                raise self.fail(f"metadata {key} is there twice")
            metadata[key] = self.value(self.scalar("I"), key)
        return metadata, [self.directory_entry() for _ in range(tensor_count)]

    def directory_entry(self) -> tuple[str, int, tuple[int, ...], int]:
        name = self.string()
        dimensions = self.scalar("I")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise self.fail(f"tensor {name} has {dimensions} dimensions")
        shape = tuple(self.scalar("Q") for _ in range(dimensions))
        return name, self.scalar("I"), shape[::-1], self.scalar("Q")


def _tensors(
    walker: _Walker, metadata: dict[str, Any], directory: list[tuple[str, int, tuple, int]]
) -> dict[str, Tensor]:
    """The directory with absolute offsets; each tensor inside the file, none over another."""
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment not in (1 << n for n in range(17)):
        raise walker.fail(f"general.alignment is {alignment!r}, not a power of two up to 65536")
    start = -(-walker.position // alignment) * alignment
    tensors: dict[str, Tensor] = {}
    for name, kind, shape, offset in directory:
        if name in tensors:
            raise walker.fail(f"tensor {name} is there twice")
        tensors[name] = _tensor(walker, name, kind, shape, start + offset)
        end = start + offset + tensors[name].size
        if end > len(walker.data):
            raise CheckpointError(
                f"{walker.path} is truncated: tensor {name} ends at byte {end}, the file at"
                f" {len(walker.data)}"
            )
    placed = sorted(tensors.values(), key=lambda tensor: tensor.offset)
    for before, after in pairwise(placed):
        if before.offset + before.size > after.offset:
            raise walker.fail(f"tensors {before.name} and {after.name} overlap")
    return tensors


def _tensor(walker: _Walker, name: str, kind: int, shape: tuple, offset: int) -> Tensor:
    try:
        known = GGMLQuantizationType(kind)
    except ValueError:
        raise walker.fail(f"tensor {name} has unknown type {kind}") from None
    block, block_bytes = GGML_QUANT_SIZES[known]
    values = 1
    for dimension in shape:
        values *= dimension
    if values == 0 or shape[-1] % block:
        raise walker.fail(
            f"tensor {name} has shape {list(shape)}, which {known.name} blocks of {block} values"
            " cannot hold"
        )
    return Tensor(name, known, shape, offset, values // block * block_bytes)
