"""JSON files of a checkpoint, bounded in size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from host.checkpoint.errors import CheckpointError

MAX_BYTES = 16 << 20
"""Largest JSON file; an index of 10,000 tensors has 1 MB."""


def read(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: missing, too large, or not an object in JSON.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: the checkpoint is not complete")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path} is larger than {MAX_BYTES} bytes: not a checkpoint's file")
    return parse(path.read_bytes(), str(path))


def parse(data: bytes, name: str) -> dict[str, Any]:
    """The object in JSON text.

    Raises:
        CheckpointError: not UTF-8, not JSON, not an object, or an object with a key twice.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise CheckpointError(f"{name} is not JSON: {reason}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} holds {type(value).__name__}, not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; two tensors of one name must not pass as one."""
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return result
