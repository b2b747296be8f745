"""The user's phrase file: standard sentences, part lists, log formats, in which guesses are found.

Paragraphs, which blank lines separate, do not follow each other; within one, lines do.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from spec.errors import UserError

MAX_PHRASE_BYTES = 1 << 18
"""Largest phrase file, 256 KB: some 65,000 tokens."""

MAX_PHRASE_TOKENS = 1 << 16
"""Most tokens of it; their index takes some 40 MB."""


class PhraseError(UserError):
    """A phrase file that cannot be used."""


class Encoder(Protocol):
    """Turns text into tokens (host/text/tokenizer.py)."""

    def encode(self, text: str, special: bool = True, start: bool = False) -> list[int]:
        """Token ids; texts of special tokens are text like any other unless ``special``."""


def read_phrases(path: Path) -> list[str]:
    """The paragraphs of a phrase file.

    Raises:
        PhraseError: missing, larger than ``MAX_PHRASE_BYTES``, or not UTF-8 text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PHRASE_BYTES + 1)
    except OSError as error:
        raise PhraseError(f"the phrase file {path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_PHRASE_BYTES:
        raise PhraseError(
            f"the phrase file {path} is larger than {MAX_PHRASE_BYTES} bytes: leave only phrases"
            " in it that the answers use"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PhraseError(
            f"the phrase file {path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from None
    if "\0" in text:
        raise PhraseError(f"the phrase file {path} holds a NUL character: it is no text")
    paragraphs = re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").removeprefix("\ufeff"))
    return [paragraph.strip("\n") for paragraph in paragraphs if paragraph.strip()]


def encode_phrases(tokenizer: Encoder, paragraphs: list[str]) -> list[list[int]]:
    """Token ids of each paragraph; the text of a special token in it is ordinary text.

    Raises:
        PhraseError: more than ``MAX_PHRASE_TOKENS`` in all.
    """
    phrases = [tokenizer.encode(paragraph, special=False) for paragraph in paragraphs]
    count = sum(map(len, phrases))
    if count > MAX_PHRASE_TOKENS:
        raise PhraseError(
            f"the phrase file has {count} tokens, more than {MAX_PHRASE_TOKENS}: leave only phrases"
            " in it that the answers use"
        )
    return phrases
