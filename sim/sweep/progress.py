"""Live progress of a sweep on stderr: points done, points per second, time left, what came out."""

from __future__ import annotations

import time
from collections import Counter
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sim.sweep.tasks import Row

PLAIN_SECONDS = 10.0
"""Between two lines where there is no terminal."""


class Report:
    """Tells how far a sweep is. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TextColumn("left"), TimeRemainingColumn(),
            TextColumn("{task.fields[counts]}", style="dim"), console=console,
        )  # fmt: skip
        self._live = console.is_terminal

    def __enter__(self) -> Self:
        if self._live:
            self._bar.start()
        return self

    def __exit__(self, *reason: object) -> None:
        if self._live:
            self._bar.stop()

    def begin(self, stage: str, total: int, kept: int) -> None:
        """A stage of ``total`` points, ``kept`` of which were there before."""
        self._stage, self._total, self._done, self._kept = stage, total, kept, kept
        self._counts: Counter[str] = Counter()
        self._start = self._told = time.monotonic()
        if self._live:
            self._task = self._bar.add_task(
                stage, total=total, completed=kept, rate="", counts=f"{kept} from before"
            )
        elif total:
            self._console.print(f"{stage}: {total} points, {kept} from before")

    def add(self, rows: list[Row]) -> None:
        """Some points are finished."""
        self._done += len(rows)
        self._counts.update(row.status for row in rows)
        if self._live:
            self._bar.update(
                self._task, completed=self._done, rate=self._rate(), counts=self._told_counts()
            )
        elif time.monotonic() - self._told > PLAIN_SECONDS:
            self._told = time.monotonic()
            self._console.print(
                f"{self._stage}: {self._done} of {self._total}, {self._rate()}, about"
                f" {self._left():.0f} s left, {self._told_counts()}"
            )

    def end(self) -> None:
        """The stage is over."""
        if not self._live and self._done > self._kept:
            spent = time.monotonic() - self._start
            self._console.print(
                f"{self._stage}: {self._done} done in {spent:.1f} s, {self._rate()},"
                f" {self._told_counts()}"
            )

    def _speed(self) -> float:
        """Points per second."""
        return (self._done - self._kept) / max(1e-9, time.monotonic() - self._start)

    def _rate(self) -> str:
        speed = self._speed()
        return f"{speed:,.0f} points/s" if speed >= 1 else f"{speed * 3600:,.0f} points/h"

    def _left(self) -> float:
        return (self._total - self._done) / max(1e-9, self._speed())

    def _told_counts(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in sorted(self._counts.items()))
