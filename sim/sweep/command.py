"""``hwgen sweep``: runs a sweep from its file, kept, resumed and reported in a directory."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sim.sweep import plan, report, table
from sim.sweep.cluster import Cluster
from sim.sweep.local import Local
from sim.sweep.names import SweepError
from sim.sweep.progress import Report
from sim.sweep.run import Done, Scheduler, run
from sim.sweep.store import FILE, Store, cache

TABLE_WIDTH = 120
"""Columns, where there is no terminal."""


def sweep(
    file: Annotated[Path, typer.Argument(help="The sweep: a TOML file (benches/sweeps has some).")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for the results; made if need be.")
    ],
    limit: Annotated[int, typer.Option(min=1, help="Most points.")] = plan.LIMIT,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Processes; all processors if not given.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="A dask.distributed scheduler, tcp://HOST:8786; local processes if not given.",
            metavar="ADDRESS",
        ),
    ] = None,
    only_estimate: Annotated[
        bool, typer.Option("--estimate", help="Leave the dearer stages of the file out.")
    ] = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither use nor keep results of other sweeps.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print sweep and recommended point as JSON.")
    ] = False,
) -> None:
    """Try many configurations: estimate all, simulate and synthesise those that earn it.

    \b
    results.sqlite   one row per point and stage: figures, status, reason, versions, seed, time
    results.csv      the same as a table, without times; results.json with every configuration
    report.html      Pareto fronts, roofline, heat maps, resources, stalls, errors, the table

    \b
    Examples:
      hwgen sweep benches/sweeps/standard.toml -o build/standard
      hwgen sweep my.toml -o build/mine --estimate --workers 1
      hwgen sweep my.toml -o build/mine --scheduler tcp://head:8786

    \b
    A file:
      constraints = ["lut <= 0.7 * 117120"]
      [grid]
      tile_rows = [32, 64, 128]
      outstanding = {from = 2, to = 16, times = 2}
      [objectives]
      tokens_per_second = "max"
      lut = "min"
      [stages.simulate]
      points = 8

    A sweep that was killed goes on with the same command; a point is never run twice. Points that
    cannot be built, fail or are not worth a stage stay in the table with the reason.
    """
    asked = plan.load(file, limit)
    if only_estimate:
        asked = plan.only_estimate(asked)
    errors = Console(stderr=True)
    with _stores(output, no_cache) as (store, kept), _scheduler(workers, scheduler) as runner:
        with Report(errors) as progress:
            done = run(asked, store, kept, runner, progress)
        paths = [*table.write(done, output), report.write(done, output)]
    if as_json:
        typer.echo(_as_json(done, paths))
        return
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else TABLE_WIDTH)
    table.show(done, console)
    for path in paths:
        console.print(f"  {path}")


@contextlib.contextmanager
def _stores(output: Path, no_cache: bool) -> Iterator[tuple[Store, Store | None]]:
    if output.exists() and not output.is_dir():
        raise SweepError(f"{output} is a file: give a directory for the results")
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(output / FILE))
        yield store, None if no_cache else stack.enter_context(cache())


@contextlib.contextmanager
def _scheduler(workers: int | None, address: str | None) -> Iterator[Scheduler]:
    if address is not None and workers is not None:
        raise SweepError("--workers are of this machine: leave it out with --scheduler")
    runner = Local(workers) if address is None else Cluster(address)
    try:
        yield runner
    finally:
        runner.close()


def _as_json(done: Done, paths: list[Path]) -> str:
    return json.dumps({**table.answer(done), "files": [str(path) for path in paths]}, indent=2)
