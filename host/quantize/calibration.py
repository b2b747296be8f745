"""Calibration text: what the model reads while its weights are chosen.

The text that ships with the package was written for it: prose, news and letters, technical prose,
tables and logs, code in a dozen languages, chats, fifteen languages. ``novel.txt`` is in the public
domain: the beginning of Natsume Soseki's Botchan (1906), translated by Yasotaro Morri (1918).
Held-out texts are not in it.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np

from host.text.sentence import printable
from host.text.tokenizer import Tokenizer
from spec.errors import UserError

KINDS = ("prose", "novel", "news", "technical", "dialogue", "languages", "code", "tables")
MAX_BYTES = 256 << 20
"""Largest calibration file."""


class CalibrationError(UserError):
    """A calibration text that cannot be used."""

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


def default_text() -> str:
    """The text that ships with the package."""
    folder = files("host.quantize") / "text"
    return "\n\n".join((folder / f"{kind}.txt").read_text(encoding="utf-8") for kind in KINDS)


def read(path: Path) -> str:
    """A user's text.

    Raises:
        CalibrationError: missing, empty, too large or not UTF-8.
    """
    if not path.is_file():
        raise CalibrationError(f"there is no calibration text {path}")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise CalibrationError(f"{path} has {size} bytes; calibration reads at most {MAX_BYTES}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{path} is not UTF-8 text (byte {error.start})") from None
    if not text.strip():
        raise CalibrationError(f"{path} is empty: calibration needs text like the model's own use")
    return text


def sequences(text: str, tokenizer: Tokenizer, count: int, length: int, name: str) -> np.ndarray:
    """Token ids [sequences, length], spread evenly over the text, without overlap.

    Args:
        count: sequences wanted; a shorter text gives fewer.
        length: tokens of each.
        name: of the text, for errors.

    Raises:
        CalibrationError: the text is shorter than one sequence.
    """
    ids = np.asarray(tokenizer.encode(text), np.int64)
    held = len(ids) // length
    if held == 0:
        raise CalibrationError(
            f"{name} has {len(ids)} tokens, fewer than one sequence of {length}: give a longer"
            " text, or a smaller --sequence"
        )
    parts = ids[: held * length].reshape(held, length)
    if held <= count:
        return parts
    return parts[np.linspace(0, held - 1, count).round().astype(int)]
