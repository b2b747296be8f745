"""The same table on a cluster of two worker processes as on one process, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sim.sweep import plan, table, tasks
from sim.sweep.cluster import Cluster
from sim.sweep.local import Local
from sim.sweep.names import SweepError
from sim.sweep.progress import Report
from sim.sweep.run import run
from sim.sweep.store import FILE, Store
from tests.sim.sweep import slow_stage

ROOT = Path(__file__).parents[3]

SWEEP = plan.from_mapping({
    "baseline": "kv260", "objectives": {"tokens_per_second": "max"},
    "grid": {"tile_rows": [16, 32, 64, 128], "outstanding": [1, 2, 3, 4], "tokens": [1, 8]},
})  # fmt: skip


class Processes:
    """A scheduler and its workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.calls = folder / "calls"
        self.calls.mkdir()
        self.running: list[subprocess.Popen] = []
        file = folder / "scheduler.json"
        self._start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        limit = time.monotonic() + 60
        while not (file.is_file() and file.read_text()) and time.monotonic() < limit:
            time.sleep(0.1)
        self.address = json.loads(file.read_text())["address"]

    def worker(self, **environment: str) -> subprocess.Popen:
        return self._start(
            "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
            "--local-directory", str(self._folder), **environment,
        )  # fmt: skip

    def end(self) -> None:
        for process in reversed(self.running):
            process.kill()
            process.wait()

    def _start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        log = (self._folder / f"{arguments[0]}-{len(self.running)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments], cwd=ROOT, stdout=log, stderr=log,
            env=os.environ | {
                "PYTHONPATH": str(ROOT), "SLOW_STAGE_SECONDS": "0.05",
                "SLOW_STAGE_CALLS": str(self.calls), "OMP_NUM_THREADS": "1",
            } | environment,
        )  # fmt: skip
        self.running.append(process)
        return process


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.end()


def swept(runner: Any, directory: Path) -> str:
    """The table of the sweep."""
    directory.mkdir()
    with Store(directory / FILE) as store:
        done = run(SWEEP, store, None, runner, Report(Console(quiet=True)))
    return table.write(done, directory)[0].read_text()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tasks.FUNCTIONS, "estimate", slow_stage.NAME)
    monkeypatch.setattr("sim.sweep.run.BATCH", 2)
    monkeypatch.setenv("SLOW_STAGE_SECONDS", "0")


def test_two_workers_one_of_which_is_killed(
    slow: None, processes: Processes, tmp_path: Path
) -> None:
    alone = swept(Local(1), tmp_path / "alone")
    first, _ = processes.worker(), processes.worker()
    cluster = Cluster(processes.address)
    try:
        cluster._client.wait_for_workers(2, timeout=60)
        assert swept(cluster, tmp_path / "both") == alone
        pids = {path.name.rsplit("-", 2)[1] for path in processes.calls.iterdir()}
        assert len(pids) == 2  # both took part
        before = len(list(processes.calls.iterdir()))

        class Killing:
            """Kills one worker after the first rows."""

            def run(self, asked: Any) -> Any:
                for rows in cluster.run(asked):
                    if first.poll() is None:
                        first.send_signal(signal.SIGKILL)
                    yield rows

        assert swept(Killing(), tmp_path / "torn") == alone
        assert first.wait(10) == -signal.SIGKILL
        assert len(list(processes.calls.iterdir())) >= before + 32
    finally:
        cluster.close()


def test_who_cannot_take_part_is_told(
    slow: None, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.sweep.cluster.SECONDS", 3)
    cluster = Cluster(processes.address)
    try:
        with pytest.raises(SweepError, match="has no workers: start some with 'dask worker"):
            swept(cluster, tmp_path / "none")
        processes.worker()
        cluster._client.wait_for_workers(1, timeout=60)
        monkeypatch.setattr(tasks, "versions", lambda stage: {"sources": "other"})
        with pytest.raises(tasks.VersionsDiffer, match=r"tcp://.* has other versions"):
            swept(cluster, tmp_path / "other")
    finally:
        cluster.close()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1:99999", ""])
def test_an_unreachable_scheduler_is_one_sentence(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.sweep.cluster.SECONDS", 1)
    with pytest.raises(SweepError, match="no dask scheduler answers at") as caught:
        Cluster(address)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_rtl_stage_has_the_same_table(processes: Processes, tmp_path: Path) -> None:
    """Estimates and simulations, of the real stages, on two workers and on one process."""
    sweep = plan.from_mapping({
        "config": {"preset": "tiny", "max_k": 1536, "group": 64},
        "grid": {"outstanding": [1, 2, 4], "tokens": [1, 2]},
        "workload": {"model": "smollm2-135m", "context": 16, "prompt": 16},
        "stages": {"simulate": {"points": 2}},
    })  # fmt: skip
    tables = []
    processes.worker(), processes.worker()
    for name, runner in (("alone", Local(1)), ("both", Cluster(processes.address))):
        with Store(tmp_path / name / FILE) as store:
            done = run(sweep, store, None, runner, Report(Console(quiet=True)))
        tables.append(table.write(done, tmp_path / name)[0].read_text())
        runner.close()
    assert tables[0] == tables[1]
    assert tables[0].count(",simulated,ok,") == 2
