"""safetensors files: the header checked against the file's size, tensors as views of the file.

Format: https://github.com/huggingface/safetensors (README, "Format"). NumPy has no bfloat16, and
views cost no memory, so files are mapped here rather than read by the library.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from host.checkpoint import jsonfile
from host.checkpoint.errors import CheckpointError

MAX_HEADER = 100_000_000
"""Longest header, bytes: the limit of the safetensors library."""

SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U16": 2, "I16": 2,
    "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
"""Bytes of one value."""

FLOATS = {"F16": np.float16, "BF16": np.uint16, "F32": np.float32}
"""Types that become weights, and how NumPy views them."""


@dataclass(frozen=True)
class Tensor:
    """One tensor: its type as the file names it, and its bytes."""

    name: str
    kind: str
    shape: tuple[int, ...]
    data: np.ndarray
    """Bytes, uint8, one dimension, read only."""

    def view(self, dtype: type) -> np.ndarray:
        """The values, in the shape of the tensor, without a copy."""
        return self.data.view(np.dtype(dtype).newbyteorder("<")).reshape(self.shape)

    def floats(self, rows: slice = slice(None)) -> np.ndarray:
        """Rows as float32.

        Raises:
            CheckpointError: not a tensor of F16, BF16 or F32.
        """
        if self.kind not in FLOATS:
            raise CheckpointError(
                f"tensor {self.name} has type {self.kind}; supported: {', '.join(FLOATS)}"
            )
        values = self.view(FLOATS[self.kind])[rows]
        if self.kind == "BF16":  # the upper half of a float32
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file.

    Raises:
        CheckpointError: missing, truncated, or a header that does not describe the file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: the checkpoint is not complete")
    size = path.stat().st_size
    if size < 8:
        raise CheckpointError(f"{path} has {size} bytes: too short for a safetensors file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER, size - 8):
            raise CheckpointError(
                f"{path} is truncated or not safetensors: its header would have {length} bytes,"
                f" the file has {size}"
            )
        header = jsonfile.parse(file.read(length), f"the header of {path}")
        header.pop("__metadata__", None)
        if not header:
            raise CheckpointError(f"{path} holds no tensors")
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    body = mapped[8 + length :]
    places = {name: _place(path, name, entry, body.size) for name, entry in header.items()}
    _check_overlap(path, places)
    return {
        name: Tensor(name, entry["dtype"], tuple(entry["shape"]), body[slice(*places[name])])
        for name, entry in header.items()
    }


def _place(path: Path, name: str, entry: Any, size: int) -> tuple[int, int]:
    """Checked offsets (start, stop) of one tensor in the body of ``size`` bytes."""

    def fail(what: str) -> CheckpointError:
        return CheckpointError(f"{path} is damaged: tensor {name} {what}")

    if not isinstance(entry, dict):
        raise fail("is not described by an object")
    kind, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(kind, str) or kind not in SIZES:
        raise fail(f"has unknown type {kind!r}")
    if not _is_naturals(shape):
        raise fail(f"has shape {shape!r}")
    if not _is_naturals(offsets) or len(offsets) != 2:
        raise fail(f"has offsets {offsets!r}")
    start, stop = offsets
    if not start <= stop <= size:
        raise fail(f"lies at {start}..{stop} of {size} bytes: the file is truncated")
    wanted = SIZES[kind]
    for dimension in shape:
        wanted *= dimension
    if wanted != stop - start:
        raise fail(f"of {kind} {shape} takes {wanted} bytes but has {stop - start}")
    return start, stop


def _is_naturals(value: Any) -> TypeGuard[list[int]]:
    """A short list of whole numbers from 0."""
    return (
        isinstance(value, list)
        and len(value) <= 8
        and all(type(item) is int and 0 <= item < 1 << 48 for item in value)
    )


def _check_overlap(path: Path, places: dict[str, tuple[int, int]]) -> None:
    ordered = sorted(places.items(), key=lambda item: item[1])
    for (name, (_, stop)), (other, (start, _)) in pairwise(ordered):
        if stop > start:
            raise CheckpointError(f"{path} is damaged: tensors {name} and {other} overlap")
