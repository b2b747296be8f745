"""How fast a model reads a prompt and writes tokens on a device, with repeats.

With guesses, the tokens written are the model's own, greedily, after a random prompt: a text that
repeats itself more than most. The task set gives a truer picture (host/task_benchmark.py).
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from host.forward.model import Transformer
from host.generate import Generation, Guesser, generate
from host.guess.cost import PassCost, decode_seconds
from host.guess.tally import GuessTally
from host.sampling import Sampler, Sampling
from spec.errors import UserError

FORMS = ("md", "csv", "json")

SEED = 1
"""Draws the tokens; the time does not depend on them."""


class BenchmarkError(UserError):
    """Sizes that cannot be measured."""


@dataclass(frozen=True)
class Case:
    """What is timed."""

    phase: str
    """``pp``: a prompt is read; ``tg``: tokens are written one by one."""
    tokens: int
    depth: int
    """Positions of the context that are filled before."""

    @property
    def name(self) -> str:
        """As llama-bench writes it: ``pp512``, ``tg128 @ d1024``."""
        return f"{self.phase}{self.tokens}" + (f" @ d{self.depth}" if self.depth else "")

    def positions(self, guessing: bool) -> int:
        """Of context that it takes; text with guesses needs a token to begin with."""
        begun = max(self.depth, 1) if guessing and self.phase == "tg" else self.depth
        return begun + self.tokens


@dataclass(frozen=True)
class Timed:
    """How long a case took."""

    seconds: tuple[float, ...]
    """Of each repeat, on this machine."""
    text: Generation | None = None
    """With guesses: what the last repeat wrote; all write the same."""


@dataclass(frozen=True)
class Row:
    """One case's result."""

    case: Case
    timed: Timed
    modelled: float | None
    """Tokens per second on the board, by the planner; None where it has no figures."""

    @property
    def speeds(self) -> list[float]:
        """Tokens per second of each repeat."""
        return [self.case.tokens / seconds for seconds in self.timed.seconds]

    @property
    def mean(self) -> float:
        """Tokens per second."""
        return sum(self.speeds) / len(self.speeds)

    @property
    def deviation(self) -> float:
        """Standard deviation of the repeats' speeds; 0 for one repeat."""
        if len(self.speeds) < 2:
            return 0.0
        squares = sum((speed - self.mean) ** 2 for speed in self.speeds)
        return math.sqrt(squares / (len(self.speeds) - 1))

    def guesses(self, mode: str) -> GuessTally | None:
        """What guessing did; None for a prompt."""
        if self.case.phase == "pp":
            return None
        if self.timed.text is None:
            return GuessTally("off", self.case.tokens, self.case.tokens, 0, 0)
        return GuessTally.of(mode, self.timed.text.passes)

    def as_dict(self, device: str, head: str, guess: str) -> dict[str, Any]:
        """For JSON and CSV."""
        tally = self.guesses(guess)
        return {
            "test": self.case.name, "phase": self.case.phase, "tokens": self.case.tokens,
            "depth": self.case.depth, "device": device, "head": head,
            "repeats": len(self.timed.seconds),
            "tokens_per_second": round(self.mean, 3), "deviation": round(self.deviation, 3),
            "label": "measured on this machine",
            "board_tokens_per_second": None if self.modelled is None else round(self.modelled, 3),
            "board_label": "modelled",
            "guess": guess if tally else "off",
            "tokens_per_pass": None if tally is None else round(tally.tokens_per_pass or 1, 3),
            "accepted": tally.accepted if tally else None,
            "refused": tally.refused if tally else None,
        }  # fmt: skip


def cases(prompts: Sequence[int], generated: Sequence[int], depths: Sequence[int]) -> list[Case]:
    """Every size at every depth; a size of 0 leaves its phase out.

    Raises:
        BenchmarkError: a negative size, or nothing to time.
    """
    for value in (*prompts, *generated, *depths):
        if value < 0:
            raise BenchmarkError(f"sizes and depths must be 0 or more, got {value}")
    listed = [
        Case(phase, tokens, depth)
        for depth in depths
        for phase, sizes in (("pp", prompts), ("tg", generated))
        for tokens in sizes
        if tokens
    ]
    if not listed:
        raise BenchmarkError("there is nothing to time: give a prompt or a generated size above 0")
    return listed


class _Silent:
    """Tokens that nobody reads."""

    def push(self, token: int) -> str:
        """No text."""
        return ""

    def finish(self) -> str:
        """No text."""
        return ""


def run(
    model: Transformer, case: Case, repeats: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    guesser: Guesser | None = None,
) -> Timed:  # fmt: skip
    """Times each repeat; one unmeasured token warms up.

    Args:
        guesser: guesses for each pass of a written text.

    Raises:
        ContextError: depth and tokens do not fit the context.
    """
    guessing = guesser is not None and case.phase == "tg"
    positions = case.positions(guessing)
    model.cache.truncate(0)
    model.cache.room_for(positions)
    random = np.random.default_rng(SEED)
    ids = random.integers(0, len(model.model.embedding), positions).tolist()
    likeliest = 1 if model.candidates else None
    begun = positions - case.tokens
    model.forward(ids[: max(begun, 1)], likeliest=likeliest)
    model.cache.truncate(case.depth)
    found, text = [], None
    for index in range(repeats):
        start = time.perf_counter()
        if guessing:
            text = _write(model, ids[:begun], case.tokens, guesser, likeliest)
        elif case.phase == "pp":
            model.forward(ids[case.depth :], likeliest=likeliest, copy=False)
        else:
            for token in ids[case.depth :]:
                model.forward([token], likeliest=likeliest, copy=False)
        spent = time.perf_counter() - start
        found.append(spent if text is None else text.seconds("decode"))
        model.cache.truncate(case.depth)
        progress(index + 1, repeats)
    return Timed(tuple(found), text)


def _write(
    model: Transformer, prompt: list[int], tokens: int, guesser: Guesser | None,
    likeliest: int | None,
) -> Generation:  # fmt: skip
    """So many tokens of decode after a prompt and the token that its prefill gives."""
    model.cache.truncate(len(prompt) - 1)
    return generate(
        model, prompt, Sampler(Sampling()), _Silent(), eos=(), max_tokens=tokens + 1, tally={},
        likeliest=likeliest, guesser=guesser,
    )  # fmt: skip


def board_speed(timed: Timed, case: Case, cost: PassCost | None) -> float | None:
    """Tokens per second of a text with guesses on the board; None without a cost table."""
    if cost is None or timed.text is None:
        return None
    return case.tokens / decode_seconds(cost, timed.text, True)


def render(rows: list[Row], device: str, head: str, guess: str, form: str) -> str:
    """The results as ``md``, ``csv`` or ``json``.

    Raises:
        BenchmarkError: another form.
    """
    listed = [row.as_dict(device, head, guess) for row in rows]
    if form == "json":
        return json.dumps(listed, indent=2)
    if form == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)
        return out.getvalue().rstrip()
    if form != "md":
        raise BenchmarkError(f"--format must be md, csv or json, got {form!r}")
    lines = [
        "| device | head | test | tokens/s, this machine | tokens/s, board, modelled |"
        " tokens per pass | guesses accepted | refused |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        board = "-" if row.modelled is None else f"{row.modelled:.1f}"
        lines.append(
            f"| {device} | {head} | {row.case.name} | {row.mean:.2f} ± {row.deviation:.2f} |"
            f" {board} | {_guesses(row.guesses(guess))} |"
        )
    return "\n".join(lines)


def _guesses(tally: GuessTally | None) -> str:
    """Three cells."""
    if tally is None:
        return "- | - | -"
    return f"{tally.tokens_per_pass or 1:.2f} | {tally.accepted} | {tally.refused}"
