"""What a pass of several tokens costs, computed once for each kind of pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from host import pack
from host.linear import TWO_TERM_OPERATIONS
from host.weights import Quantised
from spec.config import Config

PassCost = Callable[[int, int], float]
"""(tokens in the pass, positions before it) -> seconds."""

STEP = 64
"""Positions of context that are taken as equal: attention grows by microseconds within."""


def stream_cost(config: Config, weights: Iterable[tuple[str, Quantised]]) -> PassCost:
    """The engine's share: every beat of a pass's matrices and activations, one a clock cycle.

    An operation with two terms takes two places of M for each token, so a pass of more than half
    of M tokens reads its matrix twice.

    Args:
        weights: operation and matrix, as ``host.model.matrices`` lists them.
    """
    shapes = [(name, pack.matrix(config, matrix)) for name, matrix in weights]

    def cost(tokens: int, context: int) -> float:
        beats = 0
        for operation, matrix in shapes:
            places = tokens * (2 if operation in TWO_TERM_OPERATIONS and config.tokens > 1 else 1)
            passes = -(-places // config.tokens)
            beats += matrix.beats * passes + matrix.activation_beats(min(places, config.tokens))
        return beats / (config.clock_mhz * 1e6)

    return cost


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
