"""How fast a model reads a prompt and writes tokens on a device, with repeats."""

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
from spec.errors import UserError

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


@dataclass(frozen=True)
class Row:
    """One case's result."""

    case: Case
    seconds: tuple[float, ...]
    """Of each repeat, on this machine."""
    modelled: float | None
    """Tokens per second on the board, by the planner; None where it has no figures."""

    @property
    def speeds(self) -> list[float]:
        """Tokens per second of each repeat."""
        return [self.case.tokens / seconds for seconds in self.seconds]

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

    def as_dict(self, device: str) -> dict[str, Any]:
        """For JSON and CSV."""
        return {
            "test": self.case.name, "phase": self.case.phase, "tokens": self.case.tokens,
            "depth": self.case.depth, "device": device, "repeats": len(self.seconds),
            "tokens_per_second": round(self.mean, 3), "deviation": round(self.deviation, 3),
            "label": "measured on this machine",
            "board_tokens_per_second": None if self.modelled is None else round(self.modelled, 3),
            "board_label": "modelled",
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


def run(
    model: Transformer, case: Case, repeats: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[float, ...]:  # fmt: skip
    """Seconds of each repeat; one unmeasured token warms up.

    Raises:
        ContextError: depth and tokens do not fit the context.
    """
    model.cache.truncate(0)
    model.cache.room_for(case.depth + case.tokens)
    random = np.random.default_rng(SEED)
    ids = random.integers(0, len(model.model.embedding), case.depth + case.tokens).tolist()
    likeliest = 1 if model.candidates else None
    if case.depth:
        model.forward(ids[: case.depth], likeliest=likeliest)
    else:
        model.forward(ids[:1], likeliest=likeliest)
        model.cache.truncate(0)
    found = []
    for index in range(repeats):
        start = time.perf_counter()
        if case.phase == "pp":
            model.forward(ids[case.depth :], likeliest=likeliest, copy=False)
        else:
            for token in ids[case.depth :]:
                model.forward([token], likeliest=likeliest, copy=False)
        found.append(time.perf_counter() - start)
        model.cache.truncate(case.depth)
        progress(index + 1, repeats)
    return tuple(found)


def render(rows: list[Row], device: str, form: str) -> str:
    """The results as ``md``, ``csv`` or ``json``.

    Raises:
        BenchmarkError: another form.
    """
    listed = [row.as_dict(device) for row in rows]
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
    lines = ["| device | test | tokens/s, this machine | tokens/s, board, modelled |",
             "|---|---|---:|---:|"]  # fmt: skip
    for row in rows:
        board = "-" if row.modelled is None else f"{row.modelled:.1f}"
        lines.append(
            f"| {device} | {row.case.name} | {row.mean:.2f} ± {row.deviation:.2f} | {board} |"
        )
    return "\n".join(lines)
