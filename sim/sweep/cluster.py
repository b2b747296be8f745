"""Runs tasks on a cluster of dask.distributed. The scheduler gives a dead worker's tasks to others.

Every worker is asked for its versions before it gets a point, and every task carries those that it
wants, so that a worker that joins later cannot slip in results of another program.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sim.sweep import tasks
from sim.sweep.names import SweepError
from sim.sweep.tasks import Row, Task, VersionsDiffer
from sim.sweep.versions import versions
from spec.errors import ToolError

SECONDS = 10
"""A scheduler that has not answered by then is taken for unreachable, one without workers too."""


REFUSALS = 100
"""Tasks that workers of other versions may give back before the sweep gives up."""


class Cluster:
    """Workers behind a scheduler.

    Args:
        address: such as ``tcp://host:8786``.

    Raises:
        ToolError: dask.distributed is not installed.
        SweepError: no scheduler answers there, or it has no fitting workers.
    """

    def __init__(self, address: str) -> None:
        try:
            import distributed
        except ModuleNotFoundError:
            raise ToolError(
                "--scheduler needs the package distributed: pip install 'kria-llm[sweep]'"
            ) from None
        self._address = address
        try:
            self._client: Any = distributed.Client(
                address, timeout=SECONDS, set_as_default=False, name="hwgen sweep"
            )
        except (OSError, ValueError, TypeError) as problem:
            raise SweepError(
                f"no dask scheduler answers at {address!r} ({_first(problem)}): start one with"
                " 'dask scheduler' and give its address, or leave --scheduler out"
            ) from None
        self._checked: set[str] = set()

    def close(self) -> None:
        """Leaves the cluster as it is."""
        self._client.close()

    def run(self, asked: Iterable[Task]) -> Iterator[list[Row]]:
        """Rows of the tasks, as they finish."""
        import distributed

        listed = list(asked)
        for task in listed:
            if task.stage not in self._checked:
                self._check(task.stage, task.versions)
                self._checked.add(task.stage)
        waiting = {self._submit(task, None): task for task in listed}
        refused: set[str] = set()
        left = REFUSALS
        finished = distributed.as_completed(list(waiting), loop=self._client.loop)
        try:
            for future in finished:
                task = waiting.pop(future)
                problem = future.exception() if future.status == "error" else None
                if isinstance(problem, VersionsDiffer):
                    left -= 1
                    if not left:
                        raise problem
                    refused |= self._others(task)
                    again = self._submit(task, refused)
                    waiting[again] = task
                    finished.add(again)
                elif isinstance(problem, distributed.KilledWorker):
                    reason = "its workers died, as often as the scheduler allows"
                    yield [tasks.row(task, point, "failed", reason) for point in task.points]
                elif problem is not None:
                    raise SweepError(f"a worker cannot run the sweep: {_first(problem)}")
                elif future.status != "finished":
                    raise SweepError(
                        f"the scheduler {self._address} went away: run the same command again when"
                        " it is back; what is finished is kept"
                    )
                else:
                    yield future.result()
        finally:
            self._client.cancel(list(waiting))

    def _submit(self, task: Task, refused: set[str] | None) -> Any:
        """A task for any worker, or for those that are not refused."""
        where = None
        if refused is not None:
            where = [name for name in self._client.nthreads() if name not in refused]
            if not where:
                raise SweepError("no worker has the versions of the sweep: install the same ones")
        # Its key is new every time: the cluster must not answer from an earlier sweep's memory.
        return self._client.submit(tasks.execute, task, pure=False, workers=where)

    def _check(self, stage: str, wanted: Mapping[str, str]) -> None:
        """Refuses workers of other versions, and threads: the generator is not made for them."""
        try:
            self._client.wait_for_workers(1, timeout=SECONDS)
        except TimeoutError:
            raise SweepError(
                f"the scheduler {self._address} has no workers: start some with 'dask worker"
                f" {self._address} --nthreads 1'"
            ) from None
        for name, threads in self._client.nthreads().items():
            if threads != 1:
                raise SweepError(
                    f"worker {name} has {threads} threads: start it with --nthreads 1 and as many"
                    " --nworkers instead"
                )
        for name, have in self._versions(stage).items():
            for part in wanted:
                if have.get(part) != wanted[part]:
                    raise VersionsDiffer(
                        name, f"{part} is {have.get(part) or 'missing'!r}, not {wanted[part]!r}"
                    )

    def _versions(self, stage: str) -> dict[str, dict[str, str]]:
        """By worker."""
        try:
            return self._client.run(versions, stage)
        except Exception as problem:  # whatever happened there: the worker is not one of ours
            raise SweepError(
                f"a worker of {self._address} cannot run the sweep ({_first(problem)}): install the"
                " same kria-llm[sweep] there"
            ) from None

    def _others(self, task: Task) -> set[str]:
        """Workers whose versions are not a task's."""
        found = self._versions(task.stage)
        return {name for name, have in found.items() if have != dict(task.versions)}


def _first(problem: BaseException) -> str:
    """The first line of an error."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:200]
