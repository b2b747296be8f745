"""Stop strings: text ends before the first of them, wherever token borders lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spec.errors import UserError

MOST = 16
"""Stop strings of one text."""
LONGEST = 1000
"""Characters of one."""


class StopError(UserError):
    """Stop strings that make no sense."""


class TextStream(Protocol):
    """Turns tokens into text piece by piece (host/text/tokenizer.py)."""

    def push(self, token: int) -> str:
        """The text that is complete with this token."""

    def finish(self) -> str:
        """What was held back."""


class StopStream:
    """A text stream that ends before the first stop string.

    Text that may be the beginning of one is held back until it is known.

    Args:
        stream: tokens to text.
        stops: stop strings; none of them: text passes as it is.

    Raises:
        StopError: an empty one, a very long one, or very many.
    """

    def __init__(self, stream: TextStream, stops: Sequence[str] = ()) -> None:
        self._stream = stream
        self._stops = check_stops(stops)
        self._held = ""
        self.stopped = False
        """Whether a stop string was found; there is no more text then."""

    def push(self, token: int) -> str:
        """The text that is certain with this token, up to a stop string."""
        return self._advance(self._stream.push(token), final=False)

    def finish(self) -> str:
        """What was held back."""
        return self._advance(self._stream.finish(), final=True)

    def _advance(self, text: str, final: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [place for place in map(text.find, self._stops) if place >= 0]
        self.stopped = bool(found)
        keep = min(found) if found else len(text) if final else self._certain(text)
        self._held = "" if self.stopped else text[keep:]
        return text[:keep]

    def _certain(self, text: str) -> int:
        """Characters of ``text`` that no stop string can begin in before it ends."""
        longest = max(map(len, self._stops), default=1) - 1
        for start in range(max(0, len(text) - longest), len(text)):
            if any(stop.startswith(text[start:]) for stop in self._stops):
                return start
        return len(text)


def check_stops(stops: Sequence[str]) -> tuple[str, ...]:
    """Stop strings that can be used; raises StopError for the others."""
    if len(stops) > MOST:
        raise StopError(f"at most {MOST} stop strings are looked for, got {len(stops)}")
    for stop in stops:
        if not stop:
            raise StopError("a stop string is empty, so every text would end at once: leave it out")
        if len(stop) > LONGEST:
            raise StopError(
                f"a stop string has {len(stop)} characters, at most {LONGEST} are looked for"
            )
    return tuple(stops)
