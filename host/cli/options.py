"""What the commands of ``kria-llm`` share."""

from __future__ import annotations

from spec.errors import UserError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells count."""

DEFAULT_DEVICE = "cpu"
"""The fastest one that needs no tool; which device ran is in every report."""


class OptionError(UserError):
    """An option that makes no sense."""


HEADS = ("int8", "int4", "two-step")
"""Kinds of LM head: on the device in 8 or 4 bits, or proposed in 4 and decided in 8 bits."""


def head_kind(text: str) -> str:
    """One of ``HEADS``. Raises OptionError."""
    if text not in HEADS:
        raise OptionError(f"--head must be {', '.join(HEADS[:-1])} or {HEADS[-1]}, got {text!r}")
    return text


def overrides(listed: list[str]) -> dict[str, str]:
    """``--override`` by what it names. Raises OptionError."""
    found = {}
    for text in listed:
        what, sign, place = text.partition("=")
        if not sign:
            raise OptionError(f"--override must be OPERATION=cpu or OPERATION=fabric, got {text!r}")
        found[what] = place
    return found
