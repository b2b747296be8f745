"""The error of every loader: one sentence that names the file or tensor and the remedy."""

from __future__ import annotations

from host.text.sentence import printable
from spec.errors import UserError


class CheckpointError(UserError):
    """A checkpoint that cannot be loaded. Exit code 2."""

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))
