"""Finds out what a path is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from host.checkpoint import gguf_file, gguf_model
from host.checkpoint.assemble import build
from host.checkpoint.errors import CheckpointError
from host.weights import Model
from spec import numeric

EOS_KEYS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
EOS_TEXTS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>")


class Checkpoint(Protocol):
    """A checkpoint whose headers were read; tensors are read by ``model``."""

    def model(self, group: int = 64, head_bits: int = 8) -> Model:
        """The model. ``group`` (32, 64, 128) and ``head_bits`` (4, 8) are for what is rounded
        here: the LM head, and the linears of unquantised and GGUF checkpoints.

        Raises:
            CheckpointError: see ``assemble.build``.
        """


class GgufCheckpoint:
    """A GGUF file."""

    def __init__(self, path: Path) -> None:
        self.file = gguf_file.read(path)
        self.shape = gguf_model.shape(self.file)

    def model(self, group: int = 64, head_bits: int = 8) -> Model:
        """See ``Checkpoint.model``."""
        check_options(group, head_bits)
        source = gguf_model.GgufSource(self.file, self.shape, group)
        return build(self.shape, source, self.eos_tokens(), group, head_bits)

    def eos_tokens(self) -> frozenset[int]:
        """Tokens that end a text: those of the metadata and those known by name."""
        metadata = self.file.metadata
        found = {metadata[key] for key in EOS_KEYS if isinstance(metadata.get(key), int)}
        tokens = metadata.get("tokenizer.ggml.tokens", [])
        kinds = metadata.get("tokenizer.ggml.token_type", [])
        for index, (token, kind) in enumerate(zip(tokens, kinds)):  # noqa: B905
            if kind == 3 and token in EOS_TEXTS:
                found.add(index)
        return frozenset(found)


def check_options(group: int, head_bits: int) -> None:
    """Raises CheckpointError for a group or head width that the engine does not have."""
    if group not in numeric.GROUPS:
        raise CheckpointError(f"group must be one of {numeric.GROUPS}, got {group}")
    if head_bits not in (4, 8):
        raise CheckpointError(f"head_bits must be 4 or 8, got {head_bits}")


def find(source: str | Path) -> Checkpoint:
    """The checkpoint at a path.

    Raises:
        CheckpointError: nothing there, or nothing that can be loaded.
    """
    return GgufCheckpoint(Path(source))
