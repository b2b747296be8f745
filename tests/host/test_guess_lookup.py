"""Prompt lookup: the index against a search from end to end."""

from __future__ import annotations

import random
import time

import pytest

from host.guess.lookup import (
    AGREED,
    ALONE,
    BARRIER,
    CANDIDATES,
    DISPUTED,
    LONGEST_MATCH,
    ORDERS,
    Candidate,
    Guess,
    Lookup,
)


def index(*texts: list[int]) -> Lookup:
    """An index of texts with barriers between them."""
    lookup = Lookup()
    for number, text in enumerate(texts):
        if number:
            lookup.barrier()
        lookup.extend(text)
    return lookup


def searched(tokens: list[int]) -> list[Candidate]:
    """What ``candidates`` finds, by comparing with every place."""
    here = len(tokens) - 1
    found = []
    for place in range(here - 1, -1, -1):
        length = 0
        while (
            length < min(LONGEST_MATCH, place + 1)
            and tokens[place - length] == tokens[here - length] != BARRIER
        ):
            length += 1
        if length and tokens[place + 1] != BARRIER:
            found.append(Candidate(length, place + 1))
    order = min(ORDERS, max((candidate.length for candidate in found), default=0))
    latest = [candidate for candidate in found if candidate.length >= order][:CANDIDATES]
    return sorted(latest, key=lambda candidate: -candidate.length)


def test_by_hand():
    lookup = index([1, 2, 3, 9, 2, 3, 8, 1, 2, 3])
    assert lookup.candidates() == [Candidate(3, 3)]  # 1 2 3 came once before
    assert lookup.follow(Candidate(3, 3), 3) == [9, 2, 3]
    lookup = index([2, 3, 9, 2, 3, 8, 1, 2, 3])
    assert lookup.candidates() == [Candidate(2, 5), Candidate(2, 2)]  # the latest first


def test_nothing_known():
    assert Lookup().candidates() == []
    assert index([1, 2, 3]).candidates() == []


def test_a_repetition_goes_on():
    lookup = index([7, 1, 2, 1, 2])
    assert lookup.follow(lookup.candidates()[0], 5) == [1, 2, 1, 2, 1]


def test_barriers_are_not_crossed():
    assert index([1, 2], [2]).candidates() == []  # what follows the 2 is another text
    lookup = index([1, 2, 3], [1, 2])
    assert lookup.candidates() == [Candidate(2, 2)]
    assert lookup.follow(lookup.candidates()[0], 5) == [3]
    lookup.barrier()
    assert lookup.candidates() == []


@pytest.mark.parametrize("seed", range(40))
def test_as_a_search_finds(seed):
    rng = random.Random(seed)
    vocabulary = rng.choice([1, 2, 3, 10, 100])
    lookup = Lookup()
    for _ in range(300):
        if rng.random() < 0.01:
            lookup.barrier()
        lookup.append(rng.randrange(vocabulary))
        found = lookup.candidates()
        assert found == searched(lookup.tokens)
        for candidate in found:
            followed = lookup.follow(candidate, 5)
            text = lookup.tokens[candidate.next : candidate.next + 5]
            text = text[: text.index(BARRIER)] if BARRIER in text else text
            assert followed[: len(text)] == text


def test_what_other_places_say_by_hand():
    """1 2 came three times: twice before 3 4, once before 3 5; then the latest alone goes on."""
    lookup = index([1, 2, 3, 4, 9, 1, 2, 3, 5, 8, 1, 2, 3, 4, 7, 1, 2])
    assert lookup.guess(4) == Guess([3, 4, 7, 1], 2, [AGREED, DISPUTED, DISPUTED, ALONE])
    assert index([1, 2, 3, 1]).guess(2) == Guess([2, 3], 1, [ALONE, ALONE])
    assert index([1, 2, 3]).guess(2) == Guess([], 0, [])
    lookup = index([1, 2], [5, 1, 2], [1])
    assert lookup.guess(7) == Guess([2], 1, [AGREED])


@pytest.mark.parametrize("seed", range(20))
def test_votes_as_a_search_counts_them(seed):
    rng = random.Random(seed)
    lookup = index([rng.randrange(3) for _ in range(60)])
    for _ in range(60):
        lookup.append(rng.randrange(3))
        found = lookup.candidates()
        guess = lookup.guess(5)
        texts = [lookup.follow(candidate, 5) for candidate in found]
        assert guess.tokens == texts[0] and guess.length == found[0].length
        for step, agreement in enumerate(guess.agreement):
            same = [text for text in texts[1:] if text[:step] == guess.tokens[:step]]
            right = sum(text[step] == guess.tokens[step] for text in same)
            wanted = ALONE if not same else AGREED if right == len(same) else DISPUTED
            assert agreement == wanted


@pytest.mark.parametrize("seed", range(20))
def test_truncating_is_as_if_it_had_never_been(seed):
    rng = random.Random(seed)
    kept = [rng.randrange(3) for _ in range(rng.randrange(60))]
    lookup = Lookup()
    for place, token in enumerate(kept):
        if place % 17 == 13:
            lookup.barrier()
        lookup.append(token)
    length, fresh = len(lookup.tokens), Lookup()
    for token in lookup.tokens:
        fresh.barrier() if token == BARRIER else fresh.append(token)
    for _ in range(50):
        lookup.barrier() if rng.random() < 0.1 else lookup.append(rng.randrange(4))
    lookup.truncate(length)
    for token in [rng.randrange(3) for _ in range(60)]:
        assert lookup.tokens == fresh.tokens
        assert lookup.candidates() == fresh.candidates()
        lookup.append(token)
        fresh.append(token)


@pytest.mark.parametrize("vocabulary", [1, 20, 50_000])
def test_time_does_not_grow_with_the_text(vocabulary):
    """Operations are bounded; so is the time, by a factor that leaves room for a busy machine."""
    rng = random.Random(1)

    def seconds(lookup: Lookup) -> float:
        rounds = []
        for _ in range(200):
            start = time.perf_counter()
            found = lookup.candidates()
            if found:
                lookup.follow(found[0], 7)
            lookup.append(rng.randrange(vocabulary))
            rounds.append(time.perf_counter() - start)
        return sorted(rounds)[100]

    short, long = (
        index([rng.randrange(vocabulary) for _ in range(size)]) for size in (500, 50_000)
    )
    assert seconds(long) < 5 * seconds(short) + 10e-6
