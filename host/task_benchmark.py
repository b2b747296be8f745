"""The task set on a device, plain and with guesses: tokens per pass, speed here, modelled speed.

Both runs must write the same tokens; a difference is an error. Speeds are of decode: the prompt and
the first token, which its last pass gives, are left out.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from host.generate import Generation
from host.guess.cost import PassCost, decode_seconds
from host.guess.guesser import Guesser
from host.sampling import Sampling
from host.session import Session, encode_prompt
from host.tasks import KINDS, QUOTING, Task
from host.text.chat import ChatTemplate
from host.text.tokenizer import Tokenizer
from spec.errors import MismatchError


@dataclass(frozen=True)
class Sums:
    """What decoding some answers took, once plain and once with guesses."""

    tokens: int = 0
    """Written by passes of decode."""
    passes: int = 0
    """Passes with guesses; without, there are as many as tokens."""
    guessed: int = 0
    accepted: int = 0
    plain_seconds: float = 0.0
    """On this machine, without guesses."""
    seconds: float = 0.0
    plain_board: float = 0.0
    """Seconds on the board, as modelled; 0 where nothing models them."""
    board: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, field.name) + getattr(other, field.name)
                      for field in fields(Sums)))  # fmt: skip

    @property
    def refused(self) -> int:
        """Guesses that were wrong, and those after them or after the text's end."""
        return self.guessed - self.accepted

    @property
    def tokens_per_pass(self) -> float | None:
        """None when nothing was decoded."""
        return _ratio(self.tokens, self.passes)

    @property
    def board_gain(self) -> float | None:
        """Modelled speed with guesses over modelled speed without."""
        return _ratio(self.plain_board, self.board)

    def as_dict(self) -> dict[str, Any]:
        """For JSON and CSV; speeds in tokens per second."""
        return {
            "tokens": self.tokens,
            "passes": self.passes,
            "tokens_per_pass": _rounded(self.tokens_per_pass),
            "guessed": self.guessed,
            "accepted": self.accepted,
            "refused": self.refused,
            "plain_tokens_per_second": _rounded(_ratio(self.tokens, self.plain_seconds)),
            "tokens_per_second": _rounded(_ratio(self.tokens, self.seconds)),
            "label": "measured on this machine",
            "board_plain_tokens_per_second": _rounded(_ratio(self.tokens, self.plain_board)),
            "board_tokens_per_second": _rounded(_ratio(self.tokens, self.board)),
            "board_gain": _rounded(self.board_gain),
            "board_label": "modelled",
        }


@dataclass(frozen=True)
class Row:
    """One task's, one kind's or several kinds' results."""

    kind: str
    task: str
    """Empty for sums."""
    prompt: int
    """Tokens; of sums, of all prompts."""
    sums: Sums
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    """The answer; of sums, neither."""

    def as_dict(self, device: str, head: str, guess: str) -> dict[str, Any]:
        """For JSON and CSV, without the tokens themselves."""
        start = {"kind": self.kind, "task": self.task, "prompt": self.prompt}
        return {**start, "device": device, "head": head, "guess": guess, **self.sums.as_dict()}


def run(
    session: Session, tokenizer: Tokenizer, chat: ChatTemplate, task: Task, guesser: Guesser | None,
    cost: PassCost | None, progress: Callable[[str], None] = lambda what: None,
) -> Row:  # fmt: skip
    """Answers a task greedily without guesses and with them.

    Args:
        cost: modelled seconds of a pass; None leaves the board's speed out.
        progress: called with what begins.

    Raises:
        ContextError: prompt and answer do not fit the context.
        MismatchError: guessing changed the answer.
    """
    prompt = encode_prompt(tokenizer, chat, task.prompt, None, False)
    session.transformer.cache.truncate(0)
    found = []
    for used, what in ((None, "plain"), (guesser, "guessing")):
        progress(f"{task.kind}: {task.name}, {what}")
        report = session.run(prompt, tokenizer, Sampling(), task.tokens, guesser=used)
        found.append(report.generation)
        if report.generation.stop_reason == "interrupted":
            raise KeyboardInterrupt
    plain, guessed = found
    if plain.tokens != guessed.tokens:
        raise MismatchError(
            f"with guesses task {task.name!r} was answered {guessed.text!r}, without {plain.text!r}"
        )
    sums = _sums(plain, guessed, cost, guesser is not None)
    return Row(task.kind, task.name, len(prompt), sums, tuple(prompt), tuple(plain.tokens))


def _sums(plain: Generation, guessed: Generation, cost: PassCost | None, guessing: bool) -> Sums:
    decode = [step for step in guessed.passes if step.phase == "decode"]
    board = (0.0, 0.0) if cost is None else (
        decode_seconds(cost, plain, False), decode_seconds(cost, guessed, guessing))  # fmt: skip
    return Sums(
        sum(len(step.tokens) for step in decode),
        len(decode),
        sum(step.guessed for step in decode),
        sum(step.accepted for step in decode),
        plain.seconds("decode"), guessed.seconds("decode"), *board,
    )  # fmt: skip


def summaries(rows: Sequence[Row]) -> list[Row]:
    """Sums: of each kind, of the kinds whose answers quote the prompt, of the others, of all."""
    found = []
    for kind in KINDS:
        found += _joined(kind, [row for row in rows if row.kind == kind])
    found += _joined("quoting kinds", [row for row in rows if row.kind in QUOTING])
    found += _joined("other kinds", [row for row in rows if row.kind not in QUOTING])
    return found + _joined("all", rows)


def _joined(name: str, rows: Iterable[Row]) -> list[Row]:
    """The sum of some rows; no row when there are none."""
    listed = list(rows)
    if not listed:
        return []
    sums = sum((row.sums for row in listed), Sums())
    return [Row(name, "", sum(row.prompt for row in listed), sums)]


def render(rows: Sequence[Row], device: str, head: str, guess: str, form: str) -> str:
    """Tasks and sums as ``md``, ``csv`` or ``json``."""
    sums = summaries(rows)
    if form == "json":
        texts = [{"prompt_ids": row.prompt_ids, "token_ids": row.token_ids} for row in rows]
        listed = [row.as_dict(device, head, guess) for row in rows]
        return json.dumps({
            "tasks": [{**row, **text} for row, text in zip(listed, texts, strict=True)],
            "summaries": [row.as_dict(device, head, guess) for row in sums],
        })  # fmt: skip
    if form == "csv":
        out = io.StringIO()
        listed = [row.as_dict(device, head, guess) for row in (*rows, *sums)]
        writer = csv.DictWriter(out, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)
        return out.getvalue().rstrip()
    lines = [
        f"Greedy; guesses: {guess}. Speeds in tokens/s of decode: measured on this machine (device"
        f" {device}, head {head}), and modelled for the board.",
        "",
        "| task | tokens | per pass | accepted | refused | here, plain | here | board, plain"
        " | board | gain |",
        "|---|" + "---:|" * 9,
    ]
    return "\n".join(lines + [_line(row) for row in (*rows, *sums)])


def _line(row: Row) -> str:
    values = row.sums.as_dict()
    names = ("tokens_per_pass", "accepted", "refused", "plain_tokens_per_second",
             "tokens_per_second", "board_plain_tokens_per_second", "board_tokens_per_second",
             "board_gain")  # fmt: skip
    cells = ["-" if values[name] is None else _cell(values[name]) for name in names]
    name = f"{row.kind}: {row.task}" if row.task else f"**{row.kind}**"
    return f"| {name} | {row.sums.tokens} | {' | '.join(cells)} |"


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _ratio(above: float, below: float) -> float | None:
    return above / below if below else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
