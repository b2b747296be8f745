"""``kria-llm bench``: what is timed, and how it is told."""

from __future__ import annotations

import csv
import io
import json

import pytest

from host.benchmark import BenchmarkError, Case, Row, cases, render, run
from host.forward.cache import ContextError
from host.forward.linear import FloatBackend
from host.forward.model import Transformer
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
    seconds = run(model, Case(phase, 6, depth), 3, lambda *counts: seen.append(counts))
    assert len(seconds) == 3 and min(seconds) > 0
    assert model.cache.length == depth and seen[-1] == (3, 3)
    with pytest.raises(ContextError, match="17"):
        run(model, Case(phase, 12, 5), 1)


def test_figures_by_hand():
    row = Row(Case("tg", 6, 0), (1.0, 2.0), 30.5)
    assert row.mean == 4.5 and row.deviation == pytest.approx(1.5 * 2**0.5)
    assert Row(row.case, (2.0,), None).deviation == 0
    assert "| cpu | tg6 | 4.50 ± 2.12 | 30.5 |" in render([row], "cpu", "md")
    (told,) = json.loads(render([row], "cpu", "json"))
    assert told["tokens_per_second"] == 4.5 and told["board_label"] == "modelled"
    (line,) = csv.DictReader(io.StringIO(render([row], "cpu", "csv")))
    assert line["test"] == "tg6" and float(line["deviation"]) == 2.121


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--prompt", "many"], ["many"]), (["--prompt", "-4"], ["-4"]),
     (["--format", "xml"], ["--format", "xml"]), (["--head", "int2"], ["int2"])],
)  # fmt: skip
def test_bad_input_is_one_sentence(arguments, words):
    assert_sentence(command("bench", *arguments), 2, *words)
