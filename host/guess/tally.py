"""What guessing did for a text: passes, guesses, how many were right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from host.generate import Pass


@dataclass(frozen=True)
class GuessTally:
    """Sums over passes of decode; the prefill and the token that it gives are not counted."""

    mode: str
    """``auto``, ``off``, or the fixed number of guesses."""
    passes: int
    tokens: int
    """Written by these passes."""
    guessed: int
    accepted: int
    """Guesses that were what the sampler chose."""

    @classmethod
    def of(cls, mode: str, passes: Iterable[Pass]) -> GuessTally:
        """Counts the passes of decode among ``passes``."""
        decode = [step for step in passes if step.phase == "decode"]
        return cls(
            mode,
            len(decode),
            sum(len(step.tokens) for step in decode),
            sum(step.guessed for step in decode),
            sum(step.accepted for step in decode),
        )

    @property
    def refused(self) -> int:
        """Guesses that were not, and those after them or after the text's end."""
        return self.guessed - self.accepted

    @property
    def tokens_per_pass(self) -> float | None:
        """1 without guesses; None when nothing was decoded."""
        return self.tokens / self.passes if self.passes else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "mode": self.mode,
            "passes": self.passes,
            "tokens_per_pass": self.tokens_per_pass,
            "guessed": self.guessed,
            "accepted": self.accepted,
            "refused": self.refused,
        }

    def sentence(self) -> str:
        """For people; empty when nothing was guessed for."""
        if self.mode == "off" or self.tokens_per_pass is None:
            return ""
        return (
            f"Guessing ({self.mode}): {self.tokens_per_pass:.2f} tokens per pass, {self.accepted}"
            f" guesses accepted, {self.refused} refused."
        )
