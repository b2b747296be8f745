"""What the commands of ``kria-llm`` share."""

from __future__ import annotations

from spec.errors import UserError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells count."""

DEFAULT_DEVICE = "cpu"
"""The fastest one that needs no tool; which device ran is in every report."""


class OptionError(UserError):
    """An option that makes no sense."""
