"""How many guesses a pass carries: as many as are expected to pay, and never so many that guessing
could cost more than a small part of plain decoding's time.

A guess is right with a probability that depends on the length of the match behind it and on whether
other places say the same. The rate of each such class is learnt as the text is written, also from
guesses that no pass carried: what is then written shows whether they were right. A pass of k
guesses writes 1 + p1 + p1 p2 + ... tokens and costs what the cost table says; k is the number with
the most tokens per second. So guessing stops where it does not pay and starts again when it would
have paid, at no cost.

Estimates may be wrong, so there is an account as well: the time that all passes took, and the time
in which plain decoding would have written the same tokens. A pass is given no more guesses than
leave the first, should all of them be wrong, within the second plus ``LIMIT`` of it and ``CREDIT``
plain passes. The credit lets a text begin with guesses before it has saved the time for them.
"""

from __future__ import annotations

from collections.abc import Sequence

from host.guess.cost import BOOKKEEPING_SECONDS, CostTable
from host.guess.lookup import AGREED, ALONE, DISPUTED, Guess

LIMIT = 0.015
"""Part of plain decoding's time that wrong guesses and the time of guessing itself may cost."""

CREDIT = 0.5
"""Plain passes that a text may be behind beyond that; with ``LIMIT`` 2 % of 100 tokens' time."""

BELIEF = 0.5
"""The first guess of a pass on credit is believed to be right at least this often."""

EDGES = (1, 2, 3, 4, 6, 8, 12, 20)
"""Shortest match of each class of lengths."""

PRIOR = {
    ALONE: (0.4, 0.55, 0.65, 0.7, 0.75, 0.85, 0.9, 0.95),
    AGREED: (0.65, 0.8, 0.85, 0.85, 0.9, 0.95, 0.95, 0.98),
    DISPUTED: (0.15, 0.2, 0.2, 0.25, 0.3, 0.5, 0.6, 0.8),
}
"""Rates that are believed at first, by what other places say and class of length: about what was
seen in the answers to the task set."""

WEIGHT = 4.0
"""Guesses that the prior counts as."""

MEMORY = 0.96
"""What a guess counts after another one of its class was seen: some 25 count."""


class Controller:
    """Rates of acceptance and the account of time, for one text.

    Args:
        costs: seconds of a pass by tokens and context.
    """

    def __init__(self, costs: CostTable) -> None:
        self._costs = costs
        self._right = [rate * WEIGHT for rates in PRIOR.values() for rate in rates]
        self._tried = [WEIGHT] * len(self._right)
        self.seconds = 0.0
        """What all passes took, as modelled, with the time of guessing itself."""
        self.plain_seconds = 0.0
        """What plain decoding would have taken for the same tokens."""

    def rate(self, length: int, agreement: int) -> float:
        """How often the token after a match of this length is right."""
        index = _class(length, agreement)
        return self._right[index] / self._tried[index]

    def choose(self, guess: Guess, most: int, context: int) -> int:
        """How many of at most ``most`` guesses to make.

        Args:
            context: positions that the cache holds.
        """
        costs = self._costs.upto(most + 1, context)
        allowed = (1 + LIMIT) * (self.plain_seconds + costs[0]) - self.seconds - BOOKKEEPING_SECONDS
        if guess.tokens and self.rate(guess.length, guess.agreement[0]) >= BELIEF:
            allowed += CREDIT * costs[0]
        best, speed, chance, expected = 0, 1 / costs[0], 1.0, 1.0
        for count, agreement in enumerate(guess.agreement[:most], 1):
            if costs[count] > allowed:
                break
            chance *= self.rate(guess.length + count - 1, agreement)
            expected += chance
            if expected / costs[count] > speed:
                best, speed = count, expected / costs[count]
        return best

    def learn(self, guess: Guess, written: Sequence[int]) -> None:
        """Compares guesses, made or not, with what was written."""
        listed = zip(guess.tokens, guess.agreement, written, strict=False)
        for count, (guessed, agreement, token) in enumerate(listed):
            index = _class(guess.length + count, agreement)
            right = guessed == token
            self._tried[index] = self._tried[index] * MEMORY + 1
            self._right[index] = self._right[index] * MEMORY + right
            if not right:
                break

    def spend(self, passed: int, written: int, context: int) -> None:
        """Books a pass of ``passed`` tokens after ``context`` positions that wrote ``written``."""
        self.seconds += self._costs.upto(passed, context)[passed - 1] + BOOKKEEPING_SECONDS
        for position in range(context, context + written):
            self.plain_seconds += self._costs.upto(1, position)[0]


def _class(length: int, agreement: int) -> int:
    """Which rate a guess belongs to."""
    return agreement * len(EDGES) + LENGTHS[min(length, EDGES[-1])]


LENGTHS = [max(sum(edge <= length for edge in EDGES) - 1, 0) for length in range(EDGES[-1] + 1)]
"""The class of each length of match; longer ones are of the last one."""
