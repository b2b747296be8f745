"""What a pass of several tokens costs, computed once for each kind of pass."""

from __future__ import annotations

from collections.abc import Callable

from host.generate import Generation

PassCost = Callable[[int, int], float]
"""(tokens in the pass, positions before it) -> seconds."""

BOOKKEEPING_SECONDS = 0.15e-3
"""Assumed: lookup, decision and bookkeeping of a pass on the board. Measured on a desktop: 18 us at
the most (benches/guessing.py), an A53 taken to be eight times slower (host/plan/costs.py)."""

STEP = 1024
"""Positions of context between two that are computed: attention grows evenly between them."""


class CostTable:
    """Costs of passes: computed every ``STEP`` positions when first asked for, and on a straight
    line between.

    Args:
        cost: seconds of a pass; must not fall when the pass has more tokens.
    """

    def __init__(self, cost: PassCost) -> None:
        self._cost = cost
        self._known: dict[int, list[float]] = {}

    def upto(self, tokens: int, context: int) -> list[float]:
        """Seconds of passes of 1, 2, .. ``tokens`` tokens after ``context`` positions."""
        step, rest = divmod(context, STEP)
        below, part = self._at(step, tokens), rest / STEP
        if not rest:
            return below[:tokens]
        above = self._at(step + 1, tokens)
        return [low + part * (high - low)
                for low, high in zip(below[:tokens], above, strict=False)]  # fmt: skip

    def _at(self, step: int, tokens: int) -> list[float]:
        """Costs of at least so many tokens at a computed context."""
        known = self._known.setdefault(step, [])
        while len(known) < tokens:
            known.append(self._cost(len(known) + 1, step * STEP))
        return known


def decode_seconds(cost: PassCost, text: Generation, guessing: bool) -> float:
    """What a text's passes of decode take, after its prompt.

    Args:
        guessing: whether there was a guesser, which takes its time even where it finds nothing.
    """
    table, spent, held = CostTable(cost), 0.0, text.prompt_tokens
    for step in text.passes:
        if step.phase == "decode":
            spent += table.upto(1 + step.guessed, held)[step.guessed]
            spent += BOOKKEEPING_SECONDS if guessing else 0.0
            held += len(step.tokens)
    return spent
