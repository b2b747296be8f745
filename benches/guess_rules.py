"""Ways of guessing on the same answers: tokens per pass and modelled gain, without a model.

    kria-llm bench MODEL --tasks --head two-step --format json > tasks.json
    python -m benches.guess_rules tasks.json --model qwen2.5-0.5b

Since guessing never changes an answer, the passes follow from the tokens alone. The simple rule
takes what followed the last occurrence of the same 3, 2 or 1 tokens, always 7 of them. JSON lines.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from host.guess.cost import BOOKKEEPING_SECONDS, CostTable
from host.guess.guesser import Guesser
from host.plan.planner import pass_cost
from host.tasks import KINDS, QUOTING
from spec.config import KV260
from spec.shapes import find

MOST = KV260.tokens - 1


class Rule(Protocol):
    """As the generation loop uses it."""

    def begin(self, prompt: Sequence[int]) -> None:
        """A new text begins."""

    def guess(self, most: int) -> list[int]:
        """At most ``most`` tokens that may follow."""

    def learn(self, tokens: Sequence[int], guessed: int) -> None:
        """What a pass wrote."""


class Simple:
    """The last occurrence of the same 3, 2 or 1 tokens, searched from end to end."""

    def begin(self, prompt: Sequence[int]) -> None:
        """A new text begins."""
        self._text = list(prompt)

    def guess(self, most: int) -> list[int]:
        """What followed, as far as it was written."""
        text = self._text
        for size in (3, 2, 1):
            for place in range(len(text) - size - 1, -1, -1):
                if text[place : place + size] == text[-size:]:
                    return text[place + size : place + size + most]
        return []

    def learn(self, tokens: Sequence[int], guessed: int) -> None:
        """What a pass wrote."""
        self._text += tokens


class Plain(Simple):
    """No guesses."""

    def guess(self, most: int) -> list[int]:
        """None."""
        return []


def replay(rule: Rule, costs: CostTable, task: dict[str, Any]) -> tuple[int, int, int, float]:
    """Tokens, passes, guesses and modelled seconds of an answer's decode."""
    answer, place = task["token_ids"], 1
    rule.begin(task["prompt_ids"])
    rule.learn(answer[:1], 0)
    passes, made = 0, 0
    spent = 0.0
    while place < len(answer):
        guess = rule.guess(min(MOST, len(answer) - place - 1))
        right = 0
        while right < len(guess) and guess[right] == answer[place + right]:
            right += 1
        held = len(task["prompt_ids"]) + place - 1
        spent += costs.upto(1 + len(guess), held)[-1]
        spent += 0 if isinstance(rule, Plain) else BOOKKEEPING_SECONDS
        rule.learn(answer[place : place + right + 1], len(guess))
        place += right + 1
        passes += 1
        made += len(guess)
    return len(answer) - 1, passes, made, spent


def compare(tasks: list[dict[str, Any]], model: str) -> list[dict[str, Any]]:
    """One entry for each rule and kind, and for the quoting and the other kinds together."""
    cost = pass_cost(find(model), KV260, "two-step")
    costs = CostTable(cost)
    rules: dict[str, Rule] = {
        "plain": Plain(), "simple": Simple(), f"lookup, {MOST}": Guesser(MOST, None),
        "lookup, auto": Guesser(MOST, cost),
    }  # fmt: skip
    groups = {kind: (kind,) for kind in KINDS}
    groups["quoting kinds"] = QUOTING
    groups["other kinds"] = tuple(kind for kind in KINDS if kind not in QUOTING)
    found = {(name, task["kind"], task["task"]): replay(rule, costs, task)
             for name, rule in rules.items() for task in tasks}  # fmt: skip
    lines = []
    for group, kinds in groups.items():
        for name in list(rules)[1:]:
            parts = [[found[rule, task["kind"], task["task"]] for task in tasks
                      if task["kind"] in kinds] for rule in ("plain", name)]  # fmt: skip
            if parts[0]:
                lines.append({"kind": group, "rule": name, **_figures(*parts)})
    return lines


def _figures(plain: list[Any], guessed: list[Any]) -> dict[str, Any]:
    gains = [one[3] / other[3] for one, other in zip(plain, guessed, strict=True) if other[3]]
    tokens, passes, made, spent = (sum(column) for column in zip(*guessed, strict=True))
    return {
        "tokens": tokens,
        "tokens_per_pass": round(tokens / passes, 2),
        "guessed": made,
        "accepted": tokens - passes,
        "board_tokens_per_second": round(tokens / spent, 1),
        "board_gain": round(sum(one[3] for one in plain) / spent, 3),
        "least_gain": round(min(gains), 3),
        "label": "modelled",
    }


def main() -> None:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--model", default="qwen2.5-0.5b")
    arguments = parser.parse_args()
    for line in compare(json.loads(arguments.tasks.read_text())["tasks"], arguments.model):
        print(json.dumps(line))


if __name__ == "__main__":
    main()
