"""``kria-llm bench --tasks``: the task set, and what is told of it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import gguf
import pytest

from host import task_benchmark, tasks
from host.guess.cost import BOOKKEEPING_SECONDS
from host.guess.guesser import Guesser
from host.session import Session
from host.task_benchmark import Row, Sums, render, summaries
from host.tasks import KINDS, QUOTING, Task, TaskError
from host.text.chat import ChatTemplate
from spec.config import TINY
from spec.errors import MismatchError
from tests.host.checkpoint_files import write_gguf
from tests.host.test_cli import assert_sentence
from tests.host.test_cli import run as command
from tests.host.test_generate import Letters
from tests.host.tiny_model import random_model, shape

EIGHT = dataclasses.replace(TINY, name="eight", tokens=8)


def cost(tokens: int, context: int) -> float:
    """Seconds of a pass: every further token costs a tenth of the first."""
    return 0.9 + 0.1 * tokens


def test_the_task_set_has_every_kind():
    found = tasks.read()
    assert [kind for kind in KINDS if sum(task.kind == kind for task in found) < 3] == []
    assert len({(task.kind, task.name) for task in found}) == len(found)
    assert set(QUOTING) < set(KINDS)
    assert sum(task.tokens for task in found) > 3000
    assert all(task.prompt.isascii() or task.kind in ("parts list", "summary") for task in found)


def test_kinds_are_chosen():
    found = tasks.choose(tasks.read(), "summary, chat")
    assert {task.kind for task in found} == {"summary", "chat"}
    assert tasks.choose(found, None) == found
    with pytest.raises(TaskError, match="'poetry'"):
        tasks.choose(found, "chat,poetry")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('kind = "poetry"', "poetry"),
        ('kind = "chat"', "no \\[\\[task\\]\\]"),
        ('kind = "chat"\ntask = 3', "no \\[\\[task\\]\\]"),
        ('kind = "chat"\n[[task]]\nname = "a"\ntokens = 5', "a prompt and tokens"),
        ('kind = "chat"\n[[task]]\nname = "a"\ntokens = true\nprompt = "b"', "True"),
        ('kind = "chat"\n[[task]]\nname = "a"\ntokens = 1\nprompt = "b"', "2..4096"),
        ('kind = "chat"\n[[task]]\nname = "a"\ntokens = 9\nprompt = " "', "needs a prompt"),
        ("kind =", "not TOML"),
    ],
)
def test_a_damaged_task_file_is_told(tmp_path, text, words):
    (tmp_path / "damaged.toml").write_text(text)
    with pytest.raises(TaskError, match=words):
        tasks.read(tmp_path)


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(TaskError, match="no tasks"):
        tasks.read(tmp_path)


@pytest.fixture
def session() -> Session:
    return Session.open(random_model(3, shape("qwen2")), "cpu", EIGHT, 64)


CHAT = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}")
TASK = Task("summary", "letters", "abcabc", 30)


def test_plain_and_guessed_are_counted(session):
    told: list[str] = []
    guesser = Guesser(7, None, session.model.eos_tokens)
    row = task_benchmark.run(session, Letters(), CHAT, TASK, guesser, cost, told.append)
    sums = row.sums
    assert (row.kind, row.task, row.prompt, sums.tokens) == ("summary", "letters", 6, 29)
    assert sums.passes < sums.tokens and sums.accepted == sums.tokens - sums.passes
    assert sums.refused == sums.guessed - sums.accepted > 0
    assert sums.plain_board == pytest.approx(29)
    assert sums.board == pytest.approx((1 + BOOKKEEPING_SECONDS) * sums.passes + 0.1 * sums.guessed)
    assert sums.plain_seconds > 0 and sums.seconds > 0
    assert told == ["summary: letters, plain", "summary: letters, guessing"]
    assert list(row.prompt_ids) == Letters().encode("abcabc") and len(row.token_ids) == 30


def test_without_a_cost_table_the_board_is_left_out(session):
    row = task_benchmark.run(session, Letters(), CHAT, TASK, None, None)
    assert row.sums.passes == row.sums.tokens and row.sums.guessed == 0
    assert row.sums.as_dict()["board_tokens_per_second"] is None
    assert render([row], "cpu", "int8", "off", "md").count(" - |") >= 3


def test_an_answer_that_guessing_changed_is_an_error(session, monkeypatch):
    """The sampler is made to know whether there were guesses."""
    guesser = Guesser(7, None, session.model.eos_tokens)
    real = session.run

    def run(*arguments, **options):
        report = real(*arguments, **options)
        if options["guesser"] is not None:
            report.generation.passes[-1].tokens[-1] ^= 1
        return report

    monkeypatch.setattr(session, "run", run)
    with pytest.raises(MismatchError, match="'letters'"):
        task_benchmark.run(session, Letters(), CHAT, TASK, guesser, cost)


ROWS = [
    Row("chat", "one", 10, Sums(10, 8, 6, 2, 2.0, 1.0, 1.0, 0.8)),
    Row("chat", "two", 20, Sums(20, 20, 0, 0, 2.0, 2.0, 2.0, 2.0)),
    Row("summary", "three", 30, Sums(30, 10, 25, 20, 3.0, 1.5, 3.0, 1.2)),
]


def test_sums_by_hand():
    found = {row.kind: row for row in summaries(ROWS)}
    assert list(found) == ["chat", "summary", "quoting kinds", "other kinds", "all"]
    assert found["chat"].sums == Sums(30, 28, 6, 2, 4.0, 3.0, 3.0, 2.8)
    assert found["other kinds"].sums == found["chat"].sums
    everything = found["all"].as_dict("cpu", "int8", "auto")
    assert everything["prompt"] == 60 and everything["tokens_per_pass"] == round(60 / 38, 3)
    assert everything["board_gain"] == 1.5 and everything["board_tokens_per_second"] == 15
    assert everything["plain_tokens_per_second"] == round(60 / 7, 3)
    assert everything["label"].startswith("measured") and everything["board_label"] == "modelled"


def test_tables():
    text = render(ROWS, "cpu", "int8", "auto", "md")
    assert "| summary: three | 30 | 3.00 | 20 | 5 | 10.00 | 20.00 | 10.00 | 25.00 | 2.50 |" in text
    assert "| **all** | 60 |" in text
    told = json.loads(render(ROWS, "cpu", "int8", "auto", "json"))
    assert [row["task"] for row in told["tasks"]] == ["one", "two", "three"]
    assert told["summaries"][-1]["board_gain"] == 1.5
    listed = list(csv.DictReader(io.StringIO(render(ROWS, "golden", "int8", "3", "csv"))))
    assert len(listed) == 8 and {row["device"] for row in listed} == {"golden"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Qwen2 with a tokenizer of single bytes."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return str(write_gguf(path, "qwen2", gguf.GGMLQuantizationType.Q8_0))


def test_the_command_answers_the_set(model):
    done = command("bench", model, "--tasks", "--kinds", "chat", "--max-tokens", "12",
                   "--format", "json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {row["kind"] for row in told["tasks"]} == {"chat"}
    assert all(row["tokens"] <= 11 and row["guess"] == "auto" for row in told["tasks"])
    assert all(row["board_tokens_per_second"] > 0 for row in told["tasks"])
    assert "chat: memory, guessing" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tasks", "--kinds", "poetry"], ["--kinds", "poetry"]),
        (["--tasks", "--prompt", "5"], ["--prompt", "--tasks"]),
        (["--kinds", "chat"], ["--kinds", "without --tasks"]),
        (["--tasks", "--guess", "8"], ["--guess", "'8'", "0 to 7"]),
        (["--tasks", "--guess", "many"], ["--guess", "'many'"]),
        (["--tasks", "--config", "tiny", "--guess", "2"], ["--guess", "0 to 1", "tiny"]),
        (["--tasks", "--format", "xml"], ["--format", "xml"]),
    ],
)
def test_bad_input_is_one_sentence(arguments, words):
    assert_sentence(command("bench", *arguments), 2, *words)
