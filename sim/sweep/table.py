"""The table of a sweep: CSV and JSON files, and the best points on a terminal.

What a run adds by itself (times, workers) is in the SQLite file alone: the same sweep gives the
same CSV whatever ran it and however often it was killed.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sim.sweep import prune
from sim.sweep.names import METRICS
from sim.sweep.point import Point
from sim.sweep.run import Done, describe, recommend
from spec.files import OutputError, write_whole

SCHEMA = 1
"""Of ``results.json``."""

SHOWN = 10
"""Points in the terminal's table."""

LABELS = {"estimate": "modelled", "simulate": "simulated", "synth": "estimate by Yosys",
          "build": "Vivado"}  # fmt: skip
"""What a stage's figures are."""


def rows(done: Done) -> list[dict[str, Any]]:
    """One row per point and stage, in order of position, then stage."""
    found = []
    names = [axis.name for axis in done.sweep.axes]
    for point in done.points:
        for stage, by_key in done.rows.items():
            row = by_key[point.key]
            swept = {name: point.values.get(name, _of(point, name)) for name in names}
            found.append({
                "position": "baseline" if point.position < 0 else point.position,
                **swept, "stage": stage, "label": LABELS[stage], "status": row.status,
                "reason": row.reason, "seed": row.seed, "digest": row.digest,
                **{name: value for name, value in done.stage_figures(point, stage).items()
                   if not isinstance(value, dict | list)},
            })  # fmt: skip
    return found


def write(done: Done, directory: Path) -> list[Path]:
    """Writes ``results.csv`` and ``results.json``; each appears whole or not at all.

    Raises:
        OutputError: the directory cannot take them.
    """
    listed = rows(done)
    columns = list(dict.fromkeys(name for row in listed for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    whole = answer(done) | {
        "rows": [
            {"position": point.position, "key": point.key, "values": dict(point.values),
             "config": vars(point.config),
             "workload": vars(point.workload), "stage": stage, "label": LABELS[stage],
             "status": row.status, "reason": row.reason, "seed": row.seed,
             "versions": dict(row.versions), "digest": row.digest,
             "figures": done.stage_figures(point, stage)}
            for point in done.points for stage, by_key in done.rows.items()
            for row in [by_key[point.key]]
        ],
    }  # fmt: skip
    files = {"results.csv": text.getvalue(), "results.json": json.dumps(whole, indent=1) + "\n"}
    return save(directory, files)


def answer(done: Done) -> dict[str, Any]:
    """For ``--json``: the sweep, what became of its points, and the recommended one."""
    best = recommend(done)
    counts = {
        stage: dict(sorted(Counter(row.status for row in by_key.values()).items()))
        for stage, by_key in done.rows.items()
    }
    return {
        "schema": SCHEMA,
        "sweep": describe(done.sweep),
        "labels": {stage: LABELS[stage] for stage in done.rows},
        "counts": counts,
        "recommended": None if best is None else summary(done, best),
    }


def save(directory: Path, files: dict[str, str]) -> list[Path]:
    """Writes files by name.

    Raises:
        OutputError: the directory cannot take them.
    """
    paths = [directory / name for name in files]
    try:
        for path, content in zip(paths, files.values(), strict=True):
            write_whole(path, content)
    except OSError as error:
        raise OutputError(
            f"cannot write to {directory} ({error.strerror}): free some space or give another"
            " directory; what was computed is kept"
        ) from None
    return paths


def summary(done: Done, point: Point) -> dict[str, Any]:
    """A point and what is known of it."""
    return {
        "position": point.position, "values": dict(point.values),
        "config": {key: value for key, value in vars(point.config).items() if key != "name"},
        "stages": [stage for stage, rows in done.rows.items() if rows[point.key].status == "ok"],
        "figures": done.figures(point),
    }  # fmt: skip


def show(done: Done, console: Console) -> None:
    """The best points, the baseline, the recommended one, and what became of the others."""
    sweep, best = done.sweep, recommend(done)
    able = [point for point in done.points if done.rows["estimate"][point.key].status == "ok"]
    names = [axis.name for axis in sweep.axes]
    metrics = list(sweep.objectives)
    metrics += [name for name in ("lut", "dsp", "bram36", "utilisation") if name not in metrics]
    table = Table(title=f"{sweep.name}: {len(done.points)} points", title_justify="left")
    for name in ("point", *names, *metrics, "stages"):
        table.add_column(name.replace("_", " "), justify="right")
    values = prune.matrix([done.figures(point) for point in able], sweep.objectives)
    order = prune.ranked(values, SHOWN, sweep.tolerance) if able else []
    shown = [able[index] for index in order]
    shown += [point for point in able if point not in shown and (point.position < 0
              or (best is not None and point.key == best.key))]  # fmt: skip
    for point in shown:
        figures = done.figures(point)
        name = "baseline" if point.position < 0 else str(point.position)
        mark = "* " if best is not None and point.key == best.key else ""
        passed = [stage for stage, rows in done.rows.items() if rows[point.key].status == "ok"]
        table.add_row(
            mark + name, *(str(_of(point, one)) for one in names),
            *(number(figures[one]) if one in figures else "" for one in metrics),
            " ".join(passed),
        )  # fmt: skip
    console.print(table)
    for line in lines(done):
        console.print(line)


def lines(done: Done) -> list[str]:
    """What became of the points, by stage, and the recommended one."""
    text = []
    for stage, by_key in done.rows.items():
        counts = Counter(row.status for row in by_key.values())
        told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        text.append(f"{stage} ({LABELS[stage]}): {told}")
        odd = next((row for row in by_key.values() if row.status in ("not run", "failed")), None)
        if odd is not None:
            text.append(f"  {odd.status}: {odd.reason}")
    best = recommend(done)
    if best is None:
        first = next(iter(done.rows["estimate"].values()))
        return [*text, f"no point is feasible; the first: {first.reason}"]
    what = ", ".join(f"{name} = {value}" for name, value in best.values.items())
    text.append(f"recommended (*): {what or f'the baseline, {done.sweep.baseline}'}")
    return text


def number(value: float) -> str:
    """For a person: as many digits as say something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"


def unit(name: str) -> str:
    """A metric's name with its unit."""
    metric = METRICS.get(name)
    label = name.replace("_", " ")
    return f"{label} ({metric.unit})" if metric and metric.unit else label


def _of(point: Point, name: str) -> Any:
    """A field of the configuration or the workload."""
    own = vars(point.config) | vars(point.workload)
    return point.values.get(name, own[name])
