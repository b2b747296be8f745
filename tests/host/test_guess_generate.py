"""Guessing never changes the answer: tokens, text, end and cache are those of plain decoding."""

from __future__ import annotations

import random

import numpy as np
import pytest

from host.forward.cache import ContextError
from host.generate import Generation, generate
from host.guess.guesser import Guesser
from host.guess.tally import GuessTally
from host.sampling import Sampler, Sampling

VOCABULARY = 40
EOS = frozenset({0})


class Cache:
    """Holds the tokens themselves."""

    def __init__(self, context: int) -> None:
        self.context = context
        self.held: list[int] = []

    @property
    def length(self) -> int:
        return len(self.held)

    def truncate(self, length: int) -> None:
        assert 0 <= length <= len(self.held)
        del self.held[length:]


class Parrot:
    """A model whose logits follow from the last two tokens, so that it often repeats itself."""

    listed = None

    def __init__(self, seed: int, context: int, spread: float = 3.0) -> None:
        self.cache = Cache(context)
        self.seed, self.spread = seed, spread
        self.passes: list[int] = []
        """Tokens of each pass."""

    def forward(
        self, tokens, all_logits=False, likeliest=None, progress=None, copy=True
    ) -> np.ndarray:
        if self.cache.length + len(tokens) > self.cache.context:
            raise ContextError("too long")
        self.passes.append(len(tokens))
        logits = []
        for token in tokens:
            self.cache.held.append(token)
            rng = np.random.default_rng([self.seed, *self.cache.held[-2:]])
            logits.append(rng.normal(0, self.spread, VOCABULARY).astype(np.float32))
        return np.array(logits if all_logits else logits[-1:])


class Words:
    """Text of letters; token 7 is half a character."""

    def __init__(self) -> None:
        self.held = ""

    def push(self, token: int) -> str:
        if token == 7:
            self.held += "~"
            return ""
        text, self.held = self.held + chr(ord("a") + token % 26), ""
        return text

    def finish(self) -> str:
        text, self.held = self.held and "?", ""
        return text


def write(model: Parrot, sampling: Sampling, guesser: Guesser | None, **options) -> Generation:
    settings = {"eos": EOS, "max_tokens": 60, "tally": {}, **options}
    prompt = settings.pop("prompt", [3, 4, 5, 3, 4])
    return generate(model, prompt, Sampler(sampling), Words(), guesser=guesser, **settings)


def fixed(count: int) -> Guesser:
    return Guesser(count, None, EOS)


def auto() -> Guesser:
    return Guesser(7, lambda tokens, context: 1 + 0.05 * tokens, EOS)


def compare(seed: int, sampling: Sampling, guesser: Guesser, context: int = 100, **options):
    """Writes plainly and with guesses; returns what the guesses did."""
    plain_model, model = Parrot(seed, context), Parrot(seed, context)
    pieces: tuple[list[str], list[str]] = ([], [])
    plain = write(plain_model, sampling, None, emit=pieces[0].append, **options)
    guessed = write(model, sampling, guesser, emit=pieces[1].append, **options)
    assert guessed.tokens == plain.tokens
    assert guessed.text == plain.text
    assert pieces[0] == pieces[1]
    assert guessed.stop_reason == plain.stop_reason
    assert model.cache.held == plain_model.cache.held
    return GuessTally.of(guesser.mode, guessed.passes)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("guesser", [fixed(1), fixed(3), fixed(7), auto()], ids=lambda g: g.mode)
def test_greedy_text_is_the_same(seed, guesser):
    compare(seed, Sampling(), guesser)


def test_greedy_repetition_takes_few_passes():
    sums = [compare(seed, Sampling(), fixed(7), eos=()) for seed in range(30)]
    assert sum(part.accepted for part in sums) > 300
    assert sum(part.refused for part in sums) > 100
    assert sum(part.tokens for part in sums) > 1.2 * sum(part.passes for part in sums)


@pytest.mark.parametrize("seed", range(60))
def test_sampled_text_is_the_same(seed):
    """One draw for each token written, in order, whatever was guessed."""
    rng = random.Random(seed)
    sampling = Sampling(
        temperature=rng.choice([0.2, 0.5, 1.0]), top_k=rng.choice([0, 1, 5]),
        top_p=rng.choice([0.6, 1.0]), repetition_penalty=rng.choice([1.0, 1.3, 0.8]), seed=seed,
    )  # fmt: skip
    compare(seed % 12, sampling, rng.choice([fixed(2), fixed(7), auto()]))


@pytest.mark.parametrize("seed", range(40))
def test_every_end_inside_guesses(seed):
    """End token, stop string, number of tokens and context end the text where they would."""
    rng = random.Random(seed)
    plain = write(Parrot(seed, 100), Sampling(), None)
    for guesser in (fixed(7), auto()):
        compare(seed, Sampling(), guesser, max_tokens=rng.randint(1, 30))
        compare(seed, Sampling(), guesser, context=rng.randint(5, 40))
        compare(seed, Sampling(), guesser, eos={rng.choice(plain.tokens)})
        start = rng.randrange(len(plain.text))
        stops = [plain.text[start : start + rng.randint(1, 6)]]
        compare(seed, Sampling(), guesser, stops=stops)


def test_nothing_after_a_stop_string_is_kept():
    text = [1, 2, 3, 4, 5, 6, 8, 9]
    model = Script(prompt=text * 2, text=text)
    result = write(model, Sampling(), fixed(7), prompt=text * 2, stops=["de"])  # tokens 3 and 4
    assert (result.stop_reason, result.text, result.tokens) == ("stop", "bc", [1, 2, 3, 4])
    assert len(result.passes) == 2 and result.passes[1].accepted == 3
    assert model.cache.held == [*text, *text, 1, 2, 3]
    tally = GuessTally.of("7", result.passes)
    assert (tally.guessed, tally.accepted, tally.refused) == (7, 3, 4)
    assert tally.tokens_per_pass == 3


class Script(Parrot):
    """A model that recites a text after its prompt, over and over."""

    def __init__(self, prompt: list[int], text: list[int], context: int = 100) -> None:
        super().__init__(0, context)
        self.start, self.text = len(prompt), text

    def forward(
        self, tokens, all_logits=False, likeliest=None, progress=None, copy=True
    ) -> np.ndarray:
        logits = super().forward(tokens, all_logits)
        for place, row in enumerate(logits[::-1]):
            row[self.text[(self.cache.length - self.start - place) % len(self.text)]] += 1000
        return logits


def test_an_end_token_among_the_guesses_is_the_last_one_guessed():
    text = [1, 2, 0]
    model = Script(prompt=[1, 2, 0, 5, 5, 5], text=text)
    result = write(model, Sampling(), fixed(7), prompt=[1, 2, 0, 5, 5, 5])
    assert (result.stop_reason, result.tokens) == ("eos", [1, 2, 0])
    assert [step.guessed for step in result.passes] == [0, 2]
    assert model.cache.held == [1, 2, 0, 5, 5, 5, 1, 2]


def test_a_pass_never_carries_more_than_there_is_room_for():
    text = [1, 2, 3, 4, 5, 6, 8, 9]
    model = Script(prompt=text, text=text, context=13)
    result = write(model, Sampling(), fixed(7), prompt=text)
    assert result.stop_reason == "context"
    assert model.passes == [8, 5]  # the context holds no more; plain decoding ends there as well
    model = Script(prompt=text, text=text)
    result = write(model, Sampling(), fixed(7), prompt=text, max_tokens=4)
    assert model.passes == [8, 3]
    assert len(result.tokens) == 4


class Interrupted(Sampler):
    """Ctrl-C at one of the choices."""

    def __init__(self, after: int) -> None:
        super().__init__(Sampling())
        self.after = after

    def choose(self, logits, seen=()) -> int:
        self.after -= 1
        if self.after < 0:
            raise KeyboardInterrupt
        return super().choose(logits, seen)


@pytest.mark.parametrize("after", range(12))
def test_ctrl_c_between_two_choices_leaves_no_guess_behind(after):
    text = [1, 2, 3, 4, 5, 6, 8, 9]
    model = Script(prompt=text, text=text)
    told: list[str] = []
    result = generate(
        model, list(text), Interrupted(after), Words(), eos=EOS, max_tokens=60, tally={},
        guesser=fixed(4), emit=told.append,
    )  # fmt: skip
    assert result.stop_reason == "interrupted"
    assert "".join(told) == result.text
    assert model.cache.held == [*text, *result.tokens][: len(text) + len(result.tokens) - 1]


def test_a_guesser_serves_one_text_after_the_other():
    guesser = auto()
    for seed in (1, 2, 1):
        compare(seed, Sampling(), guesser)


def test_the_prompt_is_not_guessed_for():
    result = write(Parrot(1, 100), Sampling(), fixed(7))
    assert (result.passes[0].phase, result.passes[0].guessed) == ("prefill", 0)
    assert GuessTally.of("7", result.passes[:1]).tokens_per_pass is None
