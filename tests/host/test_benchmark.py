"""``kria-llm bench``: what is timed, and how it is told."""

from __future__ import annotations

import csv
import io
import json

import pytest

from host.benchmark import BenchmarkError, Case, Row, Timed, board_speed, cases, render, run
from host.forward.cache import ContextError
from host.forward.linear import FloatBackend
from host.forward.model import Transformer
from host.guess.cost import BOOKKEEPING_SECONDS
from host.guess.guesser import Guesser
from tests.host.test_cli import assert_sentence
from tests.host.test_cli import run as command
from tests.host.tiny_model import random_model, shape


def test_cases():
    found = [case.name for case in cases([8, 0], [2], [0, 16])]
    assert found == ["pp8", "tg2", "pp8 @ d16", "tg2 @ d16"]
    with pytest.raises(BenchmarkError, match="-1"):
        cases([-1], [2], [0])
    with pytest.raises(BenchmarkError, match="nothing to time"):
        cases([0], [0], [0])


@pytest.mark.parametrize("phase", ["pp", "tg"])
@pytest.mark.parametrize("depth", [0, 5])
def test_repeats_begin_at_the_depth(phase, depth):
    model = Transformer(random_model(1, shape("qwen2", context=16)), FloatBackend(4), 16)
    seen = []
    timed = run(model, Case(phase, 6, depth), 3, lambda *counts: seen.append(counts))
    assert len(timed.seconds) == 3 and min(timed.seconds) > 0 and timed.text is None
    assert model.cache.length == depth and seen[-1] == (3, 3)
    with pytest.raises(ContextError, match="17"):
        run(model, Case(phase, 12, 5), 1)


def test_figures_by_hand():
    row = Row(Case("tg", 6, 0), Timed((1.0, 2.0)), 30.5)
    assert row.mean == 4.5 and row.deviation == pytest.approx(1.5 * 2**0.5)
    assert Row(row.case, Timed((2.0,)), None).deviation == 0
    table = render([row], "cpu", "int8", "off", "md")
    assert "| cpu | int8 | tg6 | 4.50 ± 2.12 | 30.5 | 1.00 | 0 | 0 |" in table
    (told,) = json.loads(render([row], "cpu", "int8", "off", "json"))
    assert told["tokens_per_second"] == 4.5 and told["board_label"] == "modelled"
    (line,) = csv.DictReader(io.StringIO(render([row], "cpu", "int8", "off", "csv")))
    assert line["test"] == "tg6" and float(line["deviation"]) == 2.121


@pytest.mark.parametrize("depth", [0, 5])
def test_written_tokens_with_guesses(depth):
    """As many tokens of decode as asked for, and a board's time for each pass."""
    model = Transformer(random_model(1, shape("qwen2", context=40)), FloatBackend(8), 40)
    case = Case("tg", 30, depth)
    assert case.positions(True) == 30 + max(depth, 1) and case.positions(False) == 30 + depth
    timed = run(model, case, 2, guesser=Guesser(7, None))
    row = Row(case, timed, board_speed(timed, case, lambda tokens, past: 2 + tokens))
    tally = row.guesses("7")
    assert tally is not None and tally.tokens == 30 and tally.accepted == 30 - tally.passes > 0
    spent = (3 + BOOKKEEPING_SECONDS) * tally.passes + tally.guessed
    assert row.modelled == pytest.approx(30 / spent)
    assert row.as_dict("cpu", "int8", "7")["tokens_per_pass"] == round(30 / tally.passes, 3)
    assert board_speed(timed, case, None) is None
    prompt = run(model, Case("pp", 6, depth), 1, guesser=Guesser(7, None))
    assert prompt.text is None and Row(Case("pp", 6, depth), prompt, None).guesses("7") is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--prompt", "many"], ["many"]), (["--prompt", "-4"], ["-4"]),
     (["--format", "xml"], ["--format", "xml"]), (["--head", "int2"], ["int2"])],
)  # fmt: skip
def test_bad_input_is_one_sentence(arguments, words):
    assert_sentence(command("bench", *arguments), 2, *words)
