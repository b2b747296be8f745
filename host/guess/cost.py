"""What a pass of several tokens costs, computed once for each kind of pass."""

from __future__ import annotations

from collections.abc import Callable

from host.generate import Generation

PassCost = Callable[[int, int], float]
"""(tokens in the pass, positions before it) -> seconds."""

STEP = 64
"""Positions of context that are taken as equal: attention grows by microseconds within."""


class CostTable:
    """Costs of passes, each computed when first asked for.

    Args:
        cost: seconds of a pass; must not fall when the pass has more tokens.
    """

    def __init__(self, cost: PassCost) -> None:
        self._cost = cost
        self._known: dict[int, list[float]] = {}

    def upto(self, tokens: int, context: int) -> list[float]:
        """Seconds of passes of 1, 2, .. at least ``tokens`` tokens after ``context`` positions."""
        step = context // STEP
        known = self._known.setdefault(step, [])
        while len(known) < tokens:
            known.append(self._cost(len(known) + 1, step * STEP))
        return known


def decode_seconds(cost: PassCost, text: Generation) -> float:
    """What a text's passes of decode take, after its prompt."""
    table, spent, held = CostTable(cost), 0.0, text.prompt_tokens
    for step in text.passes:
        if step.phase == "decode":
            spent += table.upto(1 + step.guessed, held)[step.guessed]
            held += len(step.tokens)
    return spent
