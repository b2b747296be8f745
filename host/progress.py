"""Progress bars on stderr: stdout belongs to the text."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Stages:
    """One bar after the other, one for each thing that takes time.

    Use as a context manager; ``update`` begins a stage when its name is new and ends the one
    before it. ``stop`` leaves the bars as they are, so that text can follow.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._name = ""
        self._total = 0
        self._stopped = False

    def __enter__(self) -> Stages:
        self._progress.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self.stop()

    def update(self, name: str, done: int, total: int) -> None:
        """Shows ``done`` of ``total``; a total of 0 is unknown and counts as one step."""
        if self._stopped:
            return
        if name != self._name:
            self._finish()
            self._task = self._progress.add_task(name, total=total or None)
            self._name = name
        self._total = total
        self._progress.update(self._task, completed=done, total=total or None)

    def stop(self) -> None:
        """Ends the bars."""
        if not self._stopped:
            self._finish()
            self._progress.stop()
            self._stopped = True

    def _finish(self) -> None:
        """Marks the present stage as done."""
        if self._name:
            whole = self._total or 1
            self._progress.update(self._task, completed=whole, total=whole)
