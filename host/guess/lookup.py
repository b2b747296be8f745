"""Prompt lookup: what followed the last tokens when they stood in the text before.

The method is that of Saxena, "Prompt Lookup Decoding" (2023), with an index that is kept up to
date: for runs of 1, 2, 3 and 4 tokens it knows where each ended last, and from there back to the
time before. A lookup therefore takes the same time at any length of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ORDERS = 4
"""Longest run of tokens in the index; longer matches are found by comparing backwards."""

CANDIDATES = 8
"""Places that are compared for one lookup, latest first."""

LONGEST_MATCH = 24
"""Tokens compared backwards: a longer match foretells no better."""

TOKEN_BITS = 32
"""Bits of a token id in the index's keys."""

BARRIER = -1
"""Stands between texts that do not follow each other; no match and no guess crosses it."""


ALONE, AGREED, DISPUTED = range(3)
"""Of a guess: nothing but its own place speaks for it; several places do; another place speaks
against it."""


class Candidate(NamedTuple):
    """A place whose text ends as the text does now."""

    length: int
    """Tokens that are the same, counted backwards; at most ``LONGEST_MATCH``."""
    next: int
    """Position of the token that followed."""


class Guess(NamedTuple):
    """What may follow the text, and what speaks for it."""

    tokens: list[int]
    length: int
    """Tokens of the match before the first of them."""
    agreement: list[int]
    """For each token: ``ALONE``, ``AGREED`` or ``DISPUTED``."""


class Lookup:
    """All tokens so far, and where each short run of them ended last.

    Ids lie in 0 .. 2**32 - 1. Memory: some 600 bytes a token.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        """Everything that was put in, barriers included."""
        self._last: list[dict[int, int]] = [{} for _ in range(ORDERS)]
        """By length of the run less one: where it ended last."""
        self._before: list[list[int]] = [[] for _ in range(ORDERS)]
        """By length less one and position: where the same run ended the time before, or -1."""
        self._run = 0
        """Tokens since the last barrier; ``truncate`` counts no more than ``LONGEST_MATCH``."""

    def append(self, token: int) -> None:
        """Adds one token to the text."""
        tokens, here = self.tokens, len(self.tokens)
        tokens.append(token)
        self._run += 1
        key = 0
        for order in range(ORDERS):
            if order < self._run:
                key |= tokens[here - order] << TOKEN_BITS * order
                last = self._last[order]
                self._before[order].append(last.get(key, -1))
                last[key] = here
            else:
                self._before[order].append(-1)

    def extend(self, tokens: Sequence[int]) -> None:
        """Adds tokens that follow each other."""
        for token in tokens:
            self.append(token)

    def barrier(self) -> None:
        """Ends a text: what comes next does not follow it."""
        self.tokens.append(BARRIER)
        for before in self._before:
            before.append(-1)
        self._run = 0

    def truncate(self, length: int) -> None:
        """Forgets everything after the first ``length`` tokens, as if it had never been."""
        while len(self.tokens) > length:
            self._pop()
        recent = self.tokens[-LONGEST_MATCH:][::-1]
        self._run = recent.index(BARRIER) if BARRIER in recent else len(recent)

    def candidates(self) -> list[Candidate]:
        """Places that end as the text does, the longest match first, of equal ones the latest.

        Those of the longest run that the index knows; places of shorter runs are looked at only
        when no longer one is found.
        """
        here = len(self.tokens) - 1
        for order in range(min(ORDERS, self._run) - 1, -1, -1):
            found: list[Candidate] = []
            place = self._before[order][here]
            while place >= 0 and len(found) < CANDIDATES:
                if self.tokens[place + 1] != BARRIER:
                    found.append(Candidate(self._match(place, here, order + 1), place + 1))
                place = self._before[order][place]
            if found:
                return sorted(found, key=lambda candidate: -candidate.length)
        return []

    def guess(self, count: int) -> Guess:
        """Up to ``count`` tokens that followed the best candidate; none without a candidate.

        The other candidates vote as long as they say the same as it does.
        """
        found = self.candidates()
        if not found:
            return Guess([], 0, [])
        result = self.follow(found[0], count)
        tokens, end = self.tokens, len(self.tokens)
        agreement = [ALONE] * len(result)
        others = [candidate.next for candidate in found[1:]]
        for step, token in enumerate(result):
            if not others:
                break
            said = [tokens[at + step] if at + step < end else result[at + step - end]
                    for at in others]  # fmt: skip
            others = [at for at, other in zip(others, said, strict=True) if other == token]
            agreement[step] = AGREED if len(others) == len(said) else DISPUTED
        return Guess(result, found[0].length, agreement)

    def follow(self, candidate: Candidate, count: int) -> list[int]:
        """Up to ``count`` tokens that followed; a place near the end repeats what it gives."""
        tokens, end = self.tokens, len(self.tokens)
        result: list[int] = []
        for place in range(candidate.next, candidate.next + count):
            token = tokens[place] if place < end else result[place - end]
            if token == BARRIER:
                break
            result.append(token)
        return result

    def _pop(self) -> None:
        """Takes the last token out of the text and of the index."""
        here = len(self.tokens) - 1
        key = 0
        for order in range(ORDERS):
            place = self._before[order].pop()
            token = self.tokens[here - order] if order <= here else BARRIER
            if key < 0 or token == BARRIER:
                key = -1
                continue
            key |= token << TOKEN_BITS * order
            if place >= 0:
                self._last[order][key] = place
            else:
                del self._last[order][key]
        self.tokens.pop()

    def _match(self, place: int, here: int, known: int) -> int:
        """Tokens that are equal backwards from two places, ``known`` of them without looking."""
        tokens, length = self.tokens, known
        most = min(LONGEST_MATCH, place + 1, self._run)
        while length < most and tokens[place - length] == tokens[here - length]:
            length += 1
        return length
