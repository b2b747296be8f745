"""The replay of benches/guess_rules.py gives what a run gives."""

from __future__ import annotations

import pytest

from benches.guess_rules import Plain, Simple, compare, replay
from host import task_benchmark
from host.guess.cost import CostTable
from host.guess.guesser import Guesser
from tests.host.test_generate import Letters
from tests.host.test_task_benchmark import CHAT, TASK, cost, session  # noqa: F401


@pytest.mark.parametrize("automatic", [False, True])
def test_a_replay_counts_what_a_run_counted(session, automatic):  # noqa: F811
    def guesser() -> Guesser:
        return Guesser(7, cost if automatic else None, session.model.eos_tokens)

    row = task_benchmark.run(session, Letters(), CHAT, TASK, guesser(), cost)
    task = {"prompt_ids": list(row.prompt_ids), "token_ids": list(row.token_ids)}
    tokens, passes, made, seconds = replay(guesser(), CostTable(cost), task)
    sums = row.sums
    assert (tokens, passes, made) == (sums.tokens, sums.passes, sums.guessed)
    assert seconds == pytest.approx(sums.board)
    assert replay(Plain(), CostTable(cost), task)[1:] == (29, 0, pytest.approx(sums.plain_board))


def test_the_simple_rule_by_hand():
    rule = Simple()
    rule.begin([1, 2, 3, 9, 2, 3, 8, 1, 2, 3])
    assert rule.guess(7) == [9, 2, 3, 8, 1, 2, 3]
    rule.learn([8], 0)  # 2 3 8 came once, 1 2 3 8 never
    assert rule.guess(2) == [1, 2]


def test_kinds_and_rules_are_compared():
    texts = {"prompt_ids": [1, 2, 3, 4, 5, 6] * 3, "token_ids": [1, 2, 3, 4, 5, 6] * 20}
    tasks = [{"kind": kind, "task": "a", **texts} for kind in ("summary", "chat")]
    found = {(line["kind"], line["rule"]): line for line in compare(tasks, "qwen2.5-0.5b")}
    assert {kind for kind, _ in found} == {"summary", "chat", "quoting kinds", "other kinds"}
    for line in found.values():
        assert line["tokens"] == 119 and line["tokens_per_pass"] > 4
        assert line["accepted"] <= line["guessed"] and 1 < line["least_gain"] <= line["board_gain"]
