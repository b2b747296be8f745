"""Runs tasks in processes of this machine; a dead worker is replaced and its task run again."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing import connection
from typing import Any

from sim.sweep import tasks
from sim.sweep.tasks import Row, Task

ATTEMPTS = 3
"""Of a task: one that kills every worker must not go on for ever."""

INLINE = ("estimate",)
"""Stages that are over before a process has started."""


class Local:
    """Processes on this machine.

    Args:
        workers: how many; all processors if not given.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or os.cpu_count() or 1
        self._context = multiprocessing.get_context("spawn")
        self._running: list[_Worker] = []

    def close(self) -> None:
        """Ends the workers, working or not."""
        for worker in self._running:
            worker.end()
        self._running = []

    def run(self, asked: Iterable[Task]) -> Iterator[list[Row]]:
        """Rows of the tasks, as they finish."""
        listed = list(asked)
        if all(task.stage in INLINE for task in listed):
            for task in listed:
                yield tasks.execute(task)
            return
        waiting = deque((task, 1) for task in listed)
        busy = 0
        while waiting or busy:
            self._fill(waiting)
            busy = sum(worker.task is not None for worker in self._running)
            if not busy:
                continue
            ends: list[Any] = [worker.pipe for worker in self._running if worker.task is not None]
            ready = connection.wait(ends)
            for worker in [worker for worker in self._running if worker.pipe in ready]:
                rows = self._answer(worker, waiting)
                if rows is not None:
                    yield rows
            busy = sum(worker.task is not None for worker in self._running)

    def _fill(self, waiting: deque[tuple[Task, int]]) -> None:
        """Gives work to whoever has none, starting workers as long as there are fewer."""
        while waiting:
            idle = next((worker for worker in self._running if worker.task is None), None)
            if idle is None:
                if len(self._running) >= self.workers:
                    return
                idle = _Worker(self._context)
                self._running.append(idle)
            idle.give(*waiting.popleft())

    def _answer(self, worker: _Worker, waiting: deque[tuple[Task, int]]) -> list[Row] | None:
        """What a worker sent; of a dead one the task goes back, or fails at last."""
        task, attempt = worker.task, worker.attempt
        assert task is not None
        try:
            found = worker.pipe.recv()
        except (EOFError, ConnectionError):
            self._running.remove(worker)
            worker.end()
            if attempt < ATTEMPTS:
                waiting.append((task, attempt + 1))
                return None
            reason = f"{ATTEMPTS} workers died of it (code {worker.process.exitcode})"
            return [tasks.row(task, point, "failed", reason) for point in task.points]
        worker.task = None
        if isinstance(found, Exception):
            raise found
        return found


class _Worker:
    """A process, its pipe and its task."""

    def __init__(self, context: Any) -> None:
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.task: Task | None = None
        self.attempt = 0

    def give(self, task: Task, attempt: int) -> None:
        self.task, self.attempt = task, attempt
        with contextlib.suppress(OSError):  # it is dead: who waits for the pipe sees its end
            self.pipe.send(task)

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


def _work(pipe: Any) -> None:
    """A worker's life: task after task, until the pipe or its parent ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (builders' messages would cut the bar)
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer: Any = tasks.execute(task)
        except tasks.VersionsDiffer as problem:
            answer = problem
        pipe.send(answer)


def _end_with_parent() -> None:
    """A killed sweep leaves no worker behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
