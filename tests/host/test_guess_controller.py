"""How many guesses a pass carries, and what it costs."""

from __future__ import annotations

import random
import statistics

import pytest

from benches.guessing import seconds
from host.generate import Generation, Pass
from host.guess.controller import BELIEF, CREDIT, EDGES, LIMIT, PRIOR, Controller
from host.guess.cost import BOOKKEEPING_SECONDS, STEP, CostTable, decode_seconds
from host.guess.guesser import Guesser
from host.guess.lookup import AGREED, ALONE, DISPUTED, Guess
from host.plan.planner import pass_cost
from spec import config, shapes


def even(each: float):
    """Passes of 30 ms and so much more for every further token."""
    return lambda tokens, context: 0.03 * (1 + each * (tokens - 1))


def guess(count: int = 7, length: int = 20, agreement: int = AGREED) -> Guess:
    return Guess(list(range(1, count + 1)), length, [agreement] * count)


def controller(each: float = 0.2) -> Controller:
    """One that has saved enough to be free of its limit."""
    made = Controller(CostTable(even(each)))
    made.plain_seconds, made.seconds = 10.0, 5.0
    return made


def test_priors_grow_with_the_match_and_with_agreement():
    assert all(list(rates) == sorted(rates) for rates in PRIOR.values())
    assert {len(rates) for rates in PRIOR.values()} == {len(EDGES)}
    for alone, agreed, disputed in zip(*(PRIOR[kind] for kind in (ALONE, AGREED, DISPUTED)),
                                       strict=True):  # fmt: skip
        assert 0 < disputed < alone < agreed < 1


def test_free_guesses_are_all_made_and_dear_ones_are_not():
    assert controller(0.0).choose(guess(), 7, 0) == 7
    assert controller(0.2).choose(guess(), 7, 0) == 7  # 0.98 each
    assert controller(1.0).choose(guess(), 7, 0) == 0  # a token costs as much as a pass
    assert controller(0.2).choose(guess(length=1, agreement=DISPUTED), 7, 0) == 0
    assert controller(0.2).choose(guess(), 3, 0) == 3
    assert controller(0.2).choose(Guess([], 0, []), 0, 0) == 0


def test_a_dispute_ends_the_guesses_that_pay():
    mixed = Guess([1, 2, 3, 4], 2, [AGREED, AGREED, DISPUTED, AGREED])
    assert controller(0.25).choose(mixed, 4, 0) == 2


def test_the_choice_is_the_best_by_hand():
    """Every number of guesses tried: tokens expected over seconds."""
    rng = random.Random(1)
    for _ in range(200):
        made = controller(rng.choice([0.05, 0.2, 0.4]))
        one = Guess([1] * 7, rng.randint(1, 24), [rng.choice([0, 1, 2]) for _ in range(7)])
        costs = made._costs.upto(8, 0)
        speeds, chance, expected = [1 / costs[0]], 1.0, 1.0
        for step in range(7):
            chance *= made.rate(one.length + step, one.agreement[step])
            expected += chance
            speeds.append(expected / costs[step + 1])
        assert speeds[made.choose(one, 7, 0)] == max(speeds)


def test_rates_follow_what_is_written():
    made = controller()
    before = made.rate(5, ALONE)
    for _ in range(30):
        made.learn(Guess([1], 5, [ALONE]), [2])
    low = made.rate(5, ALONE)
    assert low < 0.1 < before and made.rate(5, AGREED) == PRIOR[AGREED][3]
    assert made.choose(Guess([1], 5, [ALONE]), 1, 0) == 0
    for _ in range(30):
        made.learn(Guess([1, 2], 5, [ALONE, ALONE]), [1, 2])
    assert made.rate(5, ALONE) > 0.7
    assert made.choose(Guess([1], 5, [ALONE]), 1, 0) == 1  # begins again when it would have paid


def test_nothing_is_learnt_after_the_first_wrong_guess():
    made = controller()
    before = made.rate(6, ALONE)
    made.learn(Guess([1, 2, 3], 4, [ALONE] * 3), [9, 2, 3])
    assert made.rate(6, ALONE) == before and made.rate(4, ALONE) < PRIOR[ALONE][3]


@pytest.mark.parametrize("each", [0.05, 0.15, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_a_text_that_answers_every_guess_wrongly_costs_little(seed, each):
    """At every moment: LIMIT of plain decoding's time and CREDIT passes, not more."""
    cost, rng = even(each), random.Random(seed)
    guesser = Guesser(7, cost)
    guesser.begin([rng.randrange(4) for _ in range(200)])
    guesser.learn([0], 0)
    spent = plain = 0.0
    made = 0
    for _ in range(400):
        tokens = guesser.guess(7)
        made += len(tokens)
        spent += cost(1 + len(tokens), 0) + BOOKKEEPING_SECONDS
        plain += cost(1, 0)
        assert spent <= plain * (1 + LIMIT) + CREDIT * cost(1, 0) + 1e-9
        guesser.learn([(tokens[0] + 1) % 4 if tokens else rng.randrange(4)], len(tokens))
    assert made or each > CREDIT + LIMIT
    assert spent <= 1.02 * plain


def test_credit_is_for_guesses_that_are_believed():
    fresh = Controller(CostTable(even(0.3)))
    assert PRIOR[ALONE][0] < BELIEF < PRIOR[ALONE][2]
    assert fresh.choose(guess(7, 20, ALONE), 7, 0) == 1  # 0.3 of 0.5 passes
    assert fresh.choose(Guess([1], 1, [ALONE]), 1, 0) == 0
    cheap = Controller(CostTable(even(0.05)))
    assert cheap.choose(Guess([1], 1, [ALONE]), 1, 0) == 0
    assert cheap.choose(guess(7, 20, ALONE), 7, 0) == 7


def test_costs_are_on_straight_lines_and_computed_once():
    asked = []

    def cost(tokens: int, context: int) -> float:
        asked.append((tokens, context))
        return tokens + 0.25 * context / STEP

    table = CostTable(cost)
    assert table.upto(3, 0) == [1, 2, 3]
    assert table.upto(2, STEP // 2) == pytest.approx([1.125, 2.125])
    assert table.upto(3, STEP + STEP // 4) == pytest.approx([1.3125, 2.3125, 3.3125])
    count = len(asked)
    for context in range(2 * STEP):
        table.upto(3, context)
    assert len(asked) == len(set(asked)) and len(asked) <= count + 1


@pytest.mark.parametrize("head", ["two-step", "int8", "int4"])
def test_the_planners_passes(head):
    """More tokens and more context cost more; attention grows evenly, so lines fit."""
    cost = pass_cost(shapes.find("qwen2.5-0.5b"), config.KV260, head)
    table = CostTable(cost)
    for context in (0, 100, 777, 2000):
        exact = [cost(tokens, context) for tokens in range(1, 9)]
        assert exact == sorted(exact) and exact[7] < 8 * exact[0]
        assert table.upto(8, context) == pytest.approx(exact, rel=0.02)
    assert cost(1, 2000) > cost(1, 0)


def test_seconds_of_a_text():
    passes = [
        Pass("prefill", [1], "", {}, 0.0),
        Pass("decode", [2, 3, 4], "", {}, 0.0, guessed=3, accepted=2),
        Pass("decode", [5], "", {}, 0.0),
    ]
    text = Generation(10, passes)
    seen = decode_seconds(lambda tokens, context: tokens + context / 1024, text, False)
    assert seen == pytest.approx(4 + 10 / 1024 + 1 + 13 / 1024)
    more = decode_seconds(lambda tokens, context: tokens + context / 1024, text, True)
    assert more == pytest.approx(seen + 2 * BOOKKEEPING_SECONDS)


@pytest.mark.parametrize("vocabulary", [2, 1000])
def test_a_pass_takes_less_than_fifty_microseconds(vocabulary):
    """At 4,096 positions; the median, since the machine may be busy."""
    assert statistics.median(seconds(4096, vocabulary)) < 50e-6
