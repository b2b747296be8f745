"""Stop strings."""

from __future__ import annotations

import random

import pytest

from host.text.stop import LONGEST, MOST, StopError, StopStream


class Pieces:
    """A stream whose tokens are indices of pieces of text; the last piece waits for the end."""

    def __init__(self, pieces: list[str], last: str = "") -> None:
        self.pieces, self.last = pieces, last

    def push(self, token: int) -> str:
        return self.pieces[token]

    def finish(self) -> str:
        return self.last


def told(pieces: list[str], stops: list[str], last: str = "") -> tuple[list[str], str, bool]:
    """What each piece brought, what came at the end, and whether the text was stopped."""
    stream = StopStream(Pieces(pieces, last), stops)
    texts = [stream.push(token) for token in range(len(pieces))]
    return texts, stream.finish(), stream.stopped


def test_no_stop_string_changes_nothing():
    assert told(["a", "", "b"], [], "c") == (["a", "", "b"], "c", False)


def test_text_that_may_begin_a_stop_string_waits():
    assert told(["x<", "|e", "|>y", "z"], ["<|end|>"]) == (["x", "", "<|e|>y", "z"], "", False)
    assert told(["x<", "|end"], ["<|end|>"]) == (["x", ""], "<|end", False)


def test_nothing_of_a_stop_string_or_after_it_is_told():
    assert told(["x<", "|en", "d|>y", "z"], ["<|end|>"]) == (["x", "", "", ""], "", True)


def test_the_first_of_several_counts():
    assert told(["one two three"], ["three", "two"]) == (["one "], "", True)
    assert told(["abc"], ["bc", "abc"]) == ([""], "", True)


def test_a_stop_string_that_ends_with_what_was_held_back():
    assert told(["st"], ["stop"], "op now") == ([""], "", True)


@pytest.mark.parametrize("seed", range(50))
def test_pieces_do_not_matter(seed):
    """Whatever the borders: the text before the first stop string, told as early as may be."""
    rng = random.Random(seed)
    text = "".join(rng.choices("ab", k=40))
    stops = ["".join(rng.choices("ab", k=rng.randint(2, 7))) for _ in range(rng.randint(1, 3))]
    borders = sorted(rng.sample(range(1, 40), 9))
    pieces = [text[a:b] for a, b in zip([0, *borders], [*borders, 40], strict=True)]
    texts, end, stopped = told(pieces, stops)
    places = [text.find(stop) for stop in stops if stop in text]
    assert stopped == bool(places)
    assert "".join(texts) + end == (text[: min(places)] if places else text)
    for count in range(1, len(pieces) + 1):
        sofar, known = "".join(texts[:count]), "".join(pieces[:count])
        if not any(stop in known for stop in stops):
            waiting = known[len(sofar) :]
            assert not waiting or any(stop.startswith(waiting) for stop in stops)


@pytest.mark.parametrize(
    ("stops", "words"),
    [
        ([""], "empty"),
        (["x" * (LONGEST + 1)], f"{LONGEST + 1} characters"),
        (["x"] * (MOST + 1), f"at most {MOST}"),
    ],
)
def test_stop_strings_that_make_no_sense(stops, words):
    with pytest.raises(StopError, match=words):
        StopStream(Pieces([]), stops)
