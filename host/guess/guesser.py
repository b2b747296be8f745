"""Guesses for the generation loop: lookup, and the decision how many a pass carries."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from host.guess.controller import Controller
from host.guess.cost import CostTable, PassCost
from host.guess.lookup import Guess, Lookup
from spec.config import Config
from spec.errors import UserError

NOTHING = Guess([], 0, [])


class GuessError(UserError):
    """A number of guesses that no pass can carry."""


class Guesser:
    """Guesses what follows in one text after the other.

    Args:
        most: guesses that a pass can carry: M - 1.
        cost: seconds of a pass by tokens and context; None makes as many guesses as there are.
        ends: tokens that end a text; nothing is guessed after them.
        phrases: token lists in which guesses are looked up as well.
    """

    def __init__(
        self, most: int, cost: PassCost | None, ends: Collection[int] = (),
        phrases: Sequence[Sequence[int]] = (),
    ) -> None:  # fmt: skip
        self._most, self._ends = most, frozenset(ends)
        self._costs = None if cost is None else CostTable(cost)
        self._lookup = Lookup()
        for phrase in phrases:
            self._lookup.extend(phrase)
            self._lookup.barrier()
        self._start = len(self._lookup.tokens)
        self._found = NOTHING
        """What the lookup gave for the next pass, whether or not it is guessed."""
        self.begin(())

    @property
    def mode(self) -> str:
        """``auto``, or the fixed number of guesses."""
        return str(self._most) if self._costs is None else "auto"

    def begin(self, prompt: Sequence[int]) -> None:
        """A new text: the one before it is forgotten, the phrases stay."""
        self._lookup.truncate(self._start)
        self._lookup.extend(prompt)
        self._controller = None if self._costs is None else Controller(self._costs)
        self._found = NOTHING
        self.written = 0
        """Tokens of the present text that are not the prompt's."""

    def guess(self, most: int) -> list[int]:
        """At most ``most`` tokens that may follow the text so far; often none."""
        self._found = self._lookup.guess(self._most)
        most = min(most, self._until_end())
        if most <= 0:
            return []
        if self._controller is not None:
            most = self._controller.choose(self._found, most, self._held)
        return self._found.tokens[:most]

    def learn(self, tokens: Sequence[int], guessed: int) -> None:
        """What a pass wrote, and how many tokens were guessed for it."""
        if self._controller is not None and self.written:
            self._controller.learn(self._found, tokens)
            self._controller.spend(1 + guessed, len(tokens), self._held)
        self._found = NOTHING
        self.written += len(tokens)
        self._lookup.extend(tokens)

    @property
    def _held(self) -> int:
        """Positions in the cache: all tokens but the last one."""
        return len(self._lookup.tokens) - self._start - 1

    def _until_end(self) -> int:
        """Guesses up to and with the first token that ends a text."""
        tokens = self._found.tokens
        for place, token in enumerate(tokens):
            if token in self._ends:
                return place + 1
        return len(tokens)


def most_guesses(option: str, config: Config) -> int | None:
    """The fixed number in ``--guess auto|off|N``; None for ``auto``, 0 for ``off``.

    Raises:
        GuessError: neither, or more than a pass of the configuration carries.
    """
    limit = config.tokens - 1
    if option == "auto":
        return None
    if option == "off":
        return 0
    if not re.fullmatch(r"[0-9]{1,4}", option) or not 0 <= int(option) <= limit:
        raise GuessError(
            f"--guess must be auto, off or a number from 0 to {limit}, one less than the"
            f" {config.tokens} tokens of a pass of configuration {config.name}; got {option!r}"
        )
    return int(option)
