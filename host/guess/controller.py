"""How many guesses a pass carries: as many as are expected to pay, and never so many that guessing
could cost more than a small part of plain decoding's time.

A guess is right with a probability that grows with the length of the match behind it. The rate of
each length is learnt as the text is written, also from guesses that no pass carried: what is then
written shows whether they were right. A pass of k guesses writes 1 + p1 + p1 p2 + ... tokens and
costs what the cost table says; k is the number with the most tokens per second. So guessing stops
where it does not pay and starts again when it would have paid, at no cost.

Estimates may be wrong, so there is an account as well: the time that all passes took, and the time
in which plain decoding would have written the same tokens. A pass is given no more guesses than
leave the first within ``1 + LIMIT`` times the second should all of them be wrong.
"""

from __future__ import annotations

from host.guess.cost import CostTable, PassCost

LIMIT = 0.015
"""Part of plain decoding's time that wrong guesses may cost; 2 % is what the user is promised, and
the lookup itself takes a thousandth."""

EDGES = (1, 2, 3, 4, 6, 8, 12, 20)
"""Shortest match of each class of lengths."""

PRIOR = (0.25, 0.35, 0.45, 0.6, 0.7, 0.8, 0.85, 0.9)
"""Rates that are believed at first, one for each class."""

WEIGHT = 4.0
"""Guesses that the prior counts as."""

MEMORY = 0.96
"""What a guess counts after another one of its class was seen: some 25 count."""


class Controller:
    """Rates of acceptance and the account of time, for one text.

    Args:
        cost: seconds of a pass by tokens and context.
    """

    def __init__(self, cost: PassCost) -> None:
        self._costs = CostTable(cost)
        self._right = [rate * WEIGHT for rate in PRIOR]
        self._tried = [WEIGHT for _ in PRIOR]
        self.seconds = 0.0
        """What all passes took, as modelled."""
        self.plain_seconds = 0.0
        """What plain decoding would have taken for the same tokens."""

    def rate(self, length: int) -> float:
        """How often the token after a match of this length is right."""
        index = CLASSES[min(length, len(CLASSES) - 1)]
        return self._right[index] / self._tried[index]

    def choose(self, length: int, most: int, context: int) -> int:
        """How many of at most ``most`` guesses to make.

        Args:
            length: tokens of the match that they follow.
            context: positions that the cache holds.
        """
        costs = self._costs.upto(most + 1, context)
        allowed = (1 + LIMIT) * (self.plain_seconds + costs[0]) - self.seconds
        best, speed, chance, expected = 0, 1 / costs[0], 1.0, 1.0
        for count in range(1, most + 1):
            if costs[count] > allowed:
                break
            chance *= self.rate(length + count - 1)
            expected += chance
            if expected / costs[count] > speed:
                best, speed = count, expected / costs[count]
        return best

    def learn(self, length: int, guess: list[int], written: list[int]) -> None:
        """Compares guesses, made or not, with what was written.

        Args:
            length: tokens of the match that they followed.
        """
        for count, (guessed, token) in enumerate(zip(guess, written, strict=False)):
            index = CLASSES[min(length + count, len(CLASSES) - 1)]
            right = guessed == token
            self._tried[index] = self._tried[index] * MEMORY + 1
            self._right[index] = self._right[index] * MEMORY + right
            if not right:
                break

    def spend(self, passed: int, written: int, context: int) -> None:
        """Books a pass of ``passed`` tokens after ``context`` positions that wrote ``written``."""
        self.seconds += self._costs.upto(passed, context)[passed - 1]
        for position in range(context, context + written):
            self.plain_seconds += self._costs.upto(1, position)[0]


def _classes() -> list[int]:
    """The class of each length of match; lengths beyond the list are of the last one."""
    return [max(sum(edge <= length for edge in EDGES) - 1, 0) for length in range(EDGES[-1] + 1)]


CLASSES = _classes()
