"""Finds out what a path or an id is."""

from __future__ import annotations

from pathlib import Path

from host.checkpoint import gguf_file, hub, image_file
from host.checkpoint.checkpoints import Checkpoint, GgufCheckpoint, HfCheckpoint
from host.checkpoint.errors import CheckpointError
from host.checkpoint.image_model import ImageCheckpoint


def find(source: str | Path) -> Checkpoint:
    """The checkpoint at a path or of a Hugging Face id.

    Args:
        source: a GGUF file; a memory image (`kria-llm pack`); a directory with config.json and
            safetensors, or with one GGUF file;
            ``organisation/name`` or ``organisation/name/file.gguf``.

    Raises:
        CheckpointError: nothing there, or nothing that can be loaded.
    """
    path = Path(source)
    if not path.exists():
        if not hub.is_id(str(source)):
            raise CheckpointError(
                f"no model at {str(source)!r}: give a GGUF file, a Hugging Face directory or an id"
                " (organisation/name)"
            )
        path = hub.fetch(str(source))
    try:
        return _open(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None


def _open(path: Path) -> Checkpoint:
    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
        if (path / "config.json").is_file() or not files:
            return HfCheckpoint(path)
        if len(files) > 1:
            raise CheckpointError(f"{path} holds {len(files)} GGUF files: give one of them")
        path = files[0]
    with path.open("rb") as file:
        start = file.read(8)
    if start == image_file.MAGIC:
        return ImageCheckpoint(path)
    start = start[:4]
    if start != gguf_file.MAGIC:
        remedy = "give its directory" if path.suffix == ".safetensors" else "give a GGUF file"
        raise CheckpointError(f"{path} is not a GGUF file (it starts {start!r}): {remedy}")
    return GgufCheckpoint(path)
