"""The file of a memory image: a checked header, then tensors, every byte under a checksum.

========  =====  ==============================================================
offset    bytes
========  =====  ==============================================================
0         8      ``KRIAIMG`` and a zero byte
8         4      version of this format
12        4      bytes of the JSON text
16        8      bytes of the header, whole pages
24        8      bytes of the file
32        8      digest of the configuration that the matrices are laid out for
40        4      CRC-32 of the header with these four bytes zero
44        20     zeros
64        ...    JSON text, then zeros to the end of the header
========  =====  ==============================================================

All numbers are little endian. Tensors follow one another, each on a page of its own and padded with
zeros to whole pages; the CRC-32 in the table covers the padding.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from host.checkpoint import jsonfile
from host.checkpoint.errors import CheckpointError
from spec.files import written_beside

MAGIC = b"KRIAIMG\0"
VERSION = 1
PAGE = 4096
PREFIX = struct.Struct("<8sIIQQQI20x")
CRC_AT = 40
MAX_JSON = 16 << 20
"""Longest JSON text, bytes; one of 10,000 tensors has 2 MB."""
MAX_TENSORS = 1 << 15


@dataclass(frozen=True)
class Entry:
    """One tensor of the table."""

    name: str
    kind: str
    """``matrix``: packed for the engine; ``f16``, ``f32``, ``i8``: plain; ``zlib``: bytes."""
    shape: tuple[int, ...]
    """Rows and columns; the bytes of ``zlib``."""
    bits: int
    """Of a matrix, else 0."""
    group: int
    """Of a matrix, else 0."""
    offset: int
    size: int
    """Bytes, padding included."""
    crc32: str
    """Eight hexadecimal digits."""


@dataclass(frozen=True)
class ImageFile:
    """A checked header and the mapped file."""

    path: Path
    digest: int
    about: dict[str, Any]
    """The JSON text without the table."""
    entries: dict[str, Entry]
    data: np.ndarray
    """The whole file, uint8, read only."""

    def bytes(self, name: str) -> np.ndarray:
        """A tensor's bytes with their padding, a view of the file.

        Raises:
            CheckpointError: they do not match their checksum.
        """
        entry = self.entries[name]
        found = self.data[entry.offset : entry.offset + entry.size]
        if f"{zlib.crc32(found.data):08x}" != entry.crc32:
            raise CheckpointError(
                f"{self.path} is damaged: tensor {name} does not match its checksum; copy the file"
                " again, or pack the model again"
            )
        return found


def pages(size: int) -> int:
    """``size`` rounded up to whole pages."""
    return -(-size // PAGE) * PAGE


def write(
    path: Path, digest: int, about: dict[str, Any],
    tensors: Iterable[tuple[Entry, np.ndarray]], planned: list[Entry],
) -> dict[str, Entry]:  # fmt: skip
    """Writes an image beside ``path`` and renames it.

    Args:
        about: goes into the header beside the table.
        tensors: in the order of ``planned``, with their bytes (uint8, without padding); offset,
            size and checksum are filled in here.
        planned: the same entries; they say how long the header will be.

    Returns:
        The table.

    Raises:
        OSError: no room, or no right to write.
    """
    length = len(_json(about, planned))
    start = pages(PREFIX.size + length)
    entries: list[Entry] = []
    with written_beside(path) as file:
        file.write(bytes(start))
        position = start
        for entry, content in tensors:
            padding = bytes(pages(len(content)) - len(content))
            file.write(content.data)
            file.write(padding)
            crc = zlib.crc32(padding, zlib.crc32(content.data))
            size = len(content) + len(padding)
            fields = asdict(entry) | {"offset": position, "size": size, "crc32": f"{crc:08x}"}
            entries.append(Entry(**fields))
            position += size
        text = _json(about, entries)
        header = bytearray(start)
        PREFIX.pack_into(header, 0, MAGIC, VERSION, len(text), start, position, digest, 0)
        header[PREFIX.size : PREFIX.size + len(text)] = text
        struct.pack_into("<I", header, CRC_AT, zlib.crc32(header))
        file.seek(0)
        file.write(header)
    return {entry.name: entry for entry in entries}


def _json(about: dict[str, Any], entries: list[Entry]) -> bytes:
    """The JSON text, as long for any offsets and sizes: numbers have room to grow."""
    rows = []
    for entry in entries:
        row = asdict(entry)
        row |= {"shape": list(entry.shape), "offset": f"{entry.offset:016x}",
                "size": f"{entry.size:016x}"}  # fmt: skip
        rows.append(row)
    return json.dumps({**about, "tensors": rows}).encode()


def read(path: Path) -> ImageFile:
    """Reads and checks the header of an image; tensors are checked when they are taken.

    Raises:
        CheckpointError: no image, another version, truncated or longer, damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(PREFIX.size)
        if len(prefix) < PREFIX.size or prefix[:8] != MAGIC:
            raise CheckpointError(f"{path} is not a memory image (it starts {prefix[:8]!r})")
        _, version, length, start, whole, digest, crc = PREFIX.unpack(prefix)
        if version != VERSION:
            raise CheckpointError(
                f"{path} is an image of version {version}, this runtime reads {VERSION}: pack the"
                " model again"
            )
        if length > MAX_JSON or start != pages(PREFIX.size + length):
            raise CheckpointError(f"{path} is damaged: its header's sizes disagree")
        if whole != size or start > size:
            raise CheckpointError(
                f"{path} has {size} bytes where its header says {whole}: it is truncated or not"
                " written to its end; copy it again"
            )
        file.seek(0)
        header = bytearray(file.read(start))
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    header[CRC_AT : CRC_AT + 4] = bytes(4)
    if zlib.crc32(header) != crc:
        raise CheckpointError(
            f"{path} is damaged: its header does not match its checksum; copy the file again"
        )
    about = jsonfile.parse(bytes(header[PREFIX.size : PREFIX.size + length]), f"{path}'s header")
    entries = _table(path, about.pop("tensors", None), start, size)
    return ImageFile(path, digest, about, entries, np.frombuffer(mapped, np.uint8))


def _table(path: Path, rows: Any, start: int, size: int) -> dict[str, Entry]:
    """The table: tensors one after the other from ``start`` to the file's end."""
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_TENSORS:
        raise CheckpointError(f"{path} is damaged: its header has no table of tensors")
    found: dict[str, Entry] = {}
    position = start
    for row in rows:
        entry = _entry(path, row)
        if entry.name in found:
            raise CheckpointError(f"{path} is damaged: tensor {entry.name} is there twice")
        if entry.offset != position or entry.size % PAGE or entry.size > size - position:
            raise CheckpointError(
                f"{path} is damaged: tensor {entry.name} of {entry.size} bytes lies at"
                f" {entry.offset}, not at {position} of {size}"
            )
        found[entry.name] = entry
        position += entry.size
    if position != size:
        raise CheckpointError(f"{path} is damaged: {size - position} bytes belong to no tensor")
    return found


def _entry(path: Path, row: Any) -> Entry:
    kinds = {"name": str, "kind": str, "shape": list, "bits": int, "group": int, "offset": str,
             "size": str, "crc32": str}  # fmt: skip
    if not isinstance(row, dict) or set(row) != set(kinds):
        raise CheckpointError(f"{path} is damaged: a row of its table has other fields")
    good = all(type(row[key]) is kind for key, kind in kinds.items())
    good = good and 1 <= len(row["shape"]) <= 2
    good = good and all(type(n) is int and 1 <= n < 1 << 40 for n in row["shape"])
    try:
        offset, size = int(row["offset"], 16), int(row["size"], 16)
    except (TypeError, ValueError):
        good, offset, size = False, 0, 0
    if not good or offset < 0 or size < 0:
        raise CheckpointError(f"{path} is damaged: a row of its table is not a tensor's")
    fields = row | {"shape": tuple(row["shape"]), "offset": offset, "size": size}
    return Entry(**fields)
