"""Checkpoints by Hugging Face id."""

from __future__ import annotations

import re
from pathlib import Path

from host.checkpoint.errors import CheckpointError
from spec.errors import ToolError

ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:/([\w./-]+\.gguf))?")
"""``organisation/name``, or ``organisation/name/file.gguf``."""

FILES = ("*.json", "*.jinja", "*.safetensors")


def is_id(source: str) -> bool:
    """Whether a string looks like a Hugging Face id."""
    return ID.fullmatch(source) is not None


def fetch(source: str) -> Path:
    """Downloads a checkpoint, or finds it in the cache; its directory or GGUF file.

    Raises:
        CheckpointError: it cannot be fetched.
        ToolError: the package ``huggingface_hub`` is missing.
    """
    match = ID.fullmatch(source)
    if match is None:
        raise CheckpointError(f"{source!r} is not a Hugging Face id (organisation/name)")
    repository, file = match.groups()
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ToolError(
            f"fetching {source} needs the package huggingface_hub: install it, or give a folder"
        ) from None
    try:
        folder = snapshot_download(repository, allow_patterns=[file] if file else list(FILES))
    except Exception as error:  # network, hub, disk: each of its own class
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0].rstrip(".")[:200]
        raise CheckpointError(
            f"no local path {source!r}, and Hugging Face cannot be asked for it: {reason}; download"
            " it elsewhere and give its folder"
        ) from None
    return Path(folder, file) if file else Path(folder)
