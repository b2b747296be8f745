"""Guesses for the generation loop: lookup, and the decision how many a pass carries."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from host.guess.controller import Controller
from host.guess.cost import PassCost
from host.guess.lookup import Lookup
from spec.config import Config
from spec.errors import UserError


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
        self._most, self._cost, self._ends = most, cost, frozenset(ends)
        self._lookup = Lookup()
        for phrase in phrases:
            self._lookup.extend(phrase)
            self._lookup.barrier()
        self._start = len(self._lookup.tokens)
        self._found: list[int] = []
        """What the lookup gave for the next pass, whether or not it is guessed."""
        self._length = 0
        """Tokens of the match before it."""
        self.begin(())

    @property
    def mode(self) -> str:
        """``auto``, or the fixed number of guesses."""
        return str(self._most) if self._cost is None else "auto"

    def begin(self, prompt: Sequence[int]) -> None:
        """A new text: the one before it is forgotten, the phrases stay."""
        self._lookup.truncate(self._start)
        self._lookup.extend(prompt)
        self._controller = None if self._cost is None else Controller(self._cost)
        self._found = []
        self.written = 0
        """Tokens of the present text that are not the prompt's."""

    def guess(self, most: int) -> list[int]:
        """At most ``most`` tokens that may follow the text so far; often none."""
        found = self._lookup.candidates()
        if not found:
            return []
        self._length = found[0].length
        self._found = self._lookup.follow(found[0], self._most)
        most = max(0, min(most, self._until_end()))
        if self._controller is not None:
            most = self._controller.choose(self._length, most, self._held)
        return self._found[:most]

    def learn(self, tokens: Sequence[int], guessed: int) -> None:
        """What a pass wrote, and how many tokens were guessed for it."""
        if self._controller is not None and self.written:
            self._controller.learn(self._length, self._found, list(tokens))
            self._controller.spend(1 + guessed, len(tokens), self._held)
        self._found = []
        self.written += len(tokens)
        self._lookup.extend(tokens)

    @property
    def _held(self) -> int:
        """Positions in the cache: all tokens but the last one."""
        return len(self._lookup.tokens) - self._start - 1

    def _until_end(self) -> int:
        """Guesses up to and with the first token that ends a text."""
        for place, token in enumerate(self._found):
            if token in self._ends:
                return place + 1
        return len(self._found)


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
