"""Guessing never changes the answer on the real devices: golden, cpu and rtl, every token equal.

Phrases that hold the answer, changed here and there, make passes with right and wrong guesses.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

import pytest

from host import tasks
from host.forward.two_step import two_step
from host.guess.guesser import Guesser
from host.report import Report
from host.sampling import Sampling
from host.session import Session
from spec.config import TINY, Config
from tests.host.test_generate import Letters
from tests.host.tiny_model import random_model, shape

EIGHT = dataclasses.replace(TINY, name="eight", tokens=8)
SIXTEEN = dataclasses.replace(TINY, name="sixteen", tokens=16)
CONTEXT = 96
GREEDY = Sampling()


def open_session(device: str, config: Config, **options) -> Session:
    """A random model; this one's greedy text does not fall into a short loop at once."""
    split = options.pop("split", False)
    model = random_model(3, shape("qwen2", context=CONTEXT))
    return Session.open(two_step(model) if split else model, device, config, CONTEXT, **options)


def disturbed(rng: random.Random, tokens: list[int], part: float = 0.3) -> list[int]:
    """An answer with some of its tokens replaced."""
    return [rng.randrange(80) if rng.random() < part else token for token in tokens]


def cost(tokens: int, context: int) -> float:
    """A pass in which every further token adds a tenth."""
    return 1 + 0.1 * tokens + 0.001 * context


def compare(
    plain: Session, session: Session, prompt: list[int], sampling: Sampling, most: int,
    automatic: bool, rng: random.Random, stops: Sequence[str] = (),
) -> Report:  # fmt: skip
    """Writes a text plainly and with guesses; all of both must be equal."""
    wanted = plain.run(prompt, Letters(), sampling, most, stops=stops).generation
    limit = session.accelerator.config.tokens - 1
    guesser = Guesser(
        limit, cost if automatic else None, session.model.eos_tokens,
        [disturbed(rng, wanted.tokens)],
    )  # fmt: skip
    told: list[str] = []
    report = session.run(
        prompt, Letters(), sampling, most, told.append, stops=stops, guesser=guesser
    )
    found = report.generation
    assert found.tokens == wanted.tokens
    assert (found.text, found.stop_reason) == (wanted.text, wanted.stop_reason)
    assert "".join(told) == found.text
    held = session.transformer.cache
    assert held.tokens == plain.transformer.cache.tokens
    assert len(held.tokens) == len(prompt) + len(found.tokens) - 1
    return report


@pytest.mark.parametrize(
    ("device", "config", "most"),
    [
        ("golden", EIGHT, 60),
        ("cpu", EIGHT, 80),
        ("rtl", TINY, 40),
        pytest.param("rtl", SIXTEEN, 40, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_greedy_answers_are_equal(device, config, most):
    """Compared with plain decoding on the same device, and that with the device cpu."""
    rng = random.Random(1)
    plain, session = open_session(device, config), open_session(device, config)
    report = compare(plain, session, [3, 4, 5, 6], GREEDY, most, False, rng)
    elsewhere = open_session("cpu", config).run([3, 4, 5, 6], Letters(), GREEDY, most)
    assert report.generation.tokens == elsewhere.generation.tokens
    assert report.guesses.accepted and report.guesses.refused
    assert report.guesses.tokens_per_pass > 1.2


@pytest.mark.parametrize(
    ("device", "config", "most"),
    [("golden", EIGHT, 40), ("rtl", TINY, 30),
     pytest.param("rtl", SIXTEEN, 30, marks=pytest.mark.slow)],
    ids=lambda value: getattr(value, "name", value),
)  # fmt: skip
def test_sampled_answers_are_equal(device, config, most):
    rng = random.Random(2)
    plain, session = open_session(device, config), open_session(device, config)
    sampling = Sampling(temperature=0.8, top_k=20, seed=5)
    report = compare(plain, session, [9, 8, 7], sampling, most, True, rng)
    assert report.guesses.accepted


@pytest.mark.parametrize("seed", range(6))
def test_a_stop_string_or_the_context_inside_accepted_guesses(seed):
    """Nothing after the stop string is shown or kept; the context ends where it would."""
    rng = random.Random(seed)
    plain, session = open_session("cpu", EIGHT), open_session("cpu", EIGHT)
    prompt = [rng.randrange(1, 80) for _ in range(rng.randint(3, 40))]
    whole = plain.run(prompt, Letters(), GREEDY, 200).generation
    assert whole.stop_reason == "context" and len(prompt) + len(whole.tokens) == CONTEXT + 1
    report = compare(plain, session, prompt, GREEDY, 200, False, rng)
    assert report.generation.stop_reason == "context"
    accepted = report.guesses.accepted
    for place in (len(whole.text) // 3, len(whole.text) // 2):
        stops = [whole.text[place : place + rng.randint(2, 5)]]
        report = compare(plain, session, prompt, GREEDY, 200, False, rng, stops)
        accepted += report.guesses.accepted
        assert report.generation.stop_reason == "stop"
        assert report.generation.text == whole.text[: whole.text.index(stops[0])]
    assert accepted


@pytest.mark.parametrize(
    ("device", "config", "count", "most"),
    [
        ("cpu", EIGHT, 28, 40),
        ("golden", EIGHT, 8, 12),
        ("rtl", TINY, 2, 8),
        pytest.param("golden", EIGHT, 28, 12, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_every_task_is_answered_alike(device, config, count, most):
    """The task set's prompts letter by letter; the shortest ones on rtl."""
    prompts = sorted((Letters().encode(task.prompt) for task in tasks.read()), key=len)[:count]
    assert len(prompts) == count
    context = len(prompts[-1]) + most
    model = random_model(3, shape("qwen2", context=context))
    session = Session.open(model, device, config, context)
    rng, accepted = random.Random(4), 0
    for prompt in prompts:
        report = compare(session, session, prompt, GREEDY, most, True, rng)
        accepted += report.guesses.accepted
    assert accepted > count


def draw(rng: random.Random, seed: int) -> Sampling:
    """Any sampling, now and then greedy."""
    return Sampling(
        temperature=rng.choice([0.0, 0.3, 0.8, 1.3]), top_k=rng.choice([0, 1, 5, 40]),
        top_p=rng.choice([0.5, 0.9, 1.0]), repetition_penalty=rng.choice([1.0, 1.2]), seed=seed,
    )  # fmt: skip


FORMS = {
    "full head": {},
    "int8 cache, one thread": {"cache": "int8", "threads": 1},
    "head in two steps": {"split": True},
    "head by top-40": {"head_top_k": 40},
}
TOKENS_EACH = 2500


@pytest.mark.parametrize("form", FORMS)
def test_ten_thousand_random_tokens_are_equal(form):
    """Four forms of 2,500 tokens: random prompts, samplings, lengths and guessers on the cpu."""
    number = list(FORMS).index(form)
    rng = random.Random(number)
    plain = open_session("cpu", EIGHT, **FORMS[form])
    session = open_session("cpu", EIGHT, **FORMS[form])
    written = accepted = refused = 0
    while written < TOKENS_EACH:
        sampling = draw(rng, rng.randrange(1 << 64))
        if plain.head_top_k and not 0 < (sampling.candidates or 0) <= plain.head_top_k:
            sampling = dataclasses.replace(sampling, top_k=5, repetition_penalty=1.0)
        prompt = [rng.randrange(1, 80) for _ in range(rng.randint(1, 30))]
        most = rng.choice([5, 30, 100])
        report = compare(plain, session, prompt, sampling, most, rng.random() < 0.5, rng)
        written += len(report.generation.tokens)
        accepted += report.guesses.accepted
        refused += report.guesses.refused
    assert accepted > TOKENS_EACH // 10 and refused > TOKENS_EACH // 10
