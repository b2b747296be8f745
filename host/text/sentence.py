"""Text from files on its way into an error sentence."""

from __future__ import annotations

LIMIT = 600
"""Characters; a hostile name must not fill the screen."""


def printable(text: str) -> str:
    """One line without control characters (they could steer a terminal), not longer than LIMIT."""
    if len(text) > LIMIT:
        text = text[: LIMIT - 200] + " ... " + text[-195:]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
