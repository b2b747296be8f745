"""``hwgen compare``: what moved between two sweeps, or between two commits on the same sweep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sim.sweep import table
from sim.sweep.names import METRICS, SweepError
from spec.errors import ToolError

SHOWN = 20
"""Points that moved most, in the terminal's table."""

TABLE_WIDTH = 120
"""Columns, where there is no terminal."""

BYTES_MAX = 1 << 30
"""Of a file of results."""


@dataclass(frozen=True)
class Side:
    """One of the two sweeps."""

    name: str
    rows: Mapping[tuple[str, str], dict[str, Any]]
    """By a point's key and the stage."""
    recommended: dict[str, Any] | None
    versions: Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """One figure, or the status, of one point and stage."""

    point: str
    stage: str
    figure: str
    before: Any
    after: Any

    @property
    def relative(self) -> float:
        """Of a figure; infinite for what was zero or is no number."""
        if not isinstance(self.before, int | float) or not isinstance(self.after, int | float):
            return float("inf")
        if not self.before:
            return float("inf") if self.after else 0.0
        return self.after / self.before - 1

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        relative = self.relative if abs(self.relative) != float("inf") else None
        return {**vars(self), "relative": None if relative is None else round(relative, 6)}


def command(
    before: Annotated[str, typer.Argument(help="A sweep's directory, or a commit.", metavar="A")],
    after: Annotated[str, typer.Argument(help="Another one.", metavar="B")],
    sweep: Annotated[
        Path | None,
        typer.Option("--sweep", help="The sweep's file, to run its estimate at a commit."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, help="Percent that a figure must move to be told.")
    ] = 0.1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the changes as JSON.")] = False,
) -> None:
    """Show what moved between two sweeps, or between two commits.

    \b
    Examples:
      hwgen compare build/monday build/tuesday
      hwgen compare v0.1 HEAD --sweep benches/sweeps/standard.toml --json

    Points are the same when configuration and workload are; their figures, statuses, the versions
    that made them and the recommended point are compared. A commit is checked out beside the
    repository and its own estimate run there, without the dearer stages.
    """
    first, second = _side(before, sweep), _side(after, sweep)
    found = changes(first, second, threshold / 100)
    answer = summary(first, second, found)
    if as_json:
        typer.echo(json.dumps({**answer, "changes": [one.as_dict() for one in found]}, indent=2))
        return
    _show(answer, found)


def changes(before: Side, after: Side, threshold: float) -> list[Change]:
    """What moved by more than a share, the largest moves first."""
    found = []
    for place in before.rows.keys() & after.rows.keys():
        old, new = before.rows[place], after.rows[place]
        name = _told(new)
        if old["status"] != new["status"]:
            found.append(Change(name, place[1], "status", old["status"], new["status"]))
        for figure in METRICS:
            change = Change(
                name, place[1], figure, old["figures"].get(figure), new["figures"].get(figure)
            )
            if change.before != change.after and abs(change.relative) > threshold:
                found.append(change)
    return sorted(found, key=lambda one: (-abs(one.relative), one.point, one.stage, one.figure))


def summary(before: Side, after: Side, found: list[Change]) -> dict[str, Any]:
    """The comparison in a few numbers."""
    common = before.rows.keys() & after.rows.keys()
    return {
        "a": before.name, "b": after.name,
        "compared": len(common),
        "only_in_a": len(before.rows.keys() - common), "only_in_b": len(after.rows.keys() - common),
        "moved": len({(one.point, one.stage) for one in found}),
        "versions": {
            stage: [before.versions[stage], after.versions[stage]]
            for stage in before.versions.keys() & after.versions.keys()
            if before.versions[stage] != after.versions[stage]
        },
        "recommended": [before.recommended, after.recommended],
    }  # fmt: skip


def read(directory: Path) -> Side:
    """A finished sweep from its directory.

    Raises:
        SweepError: no results there, or not of this version.
    """
    path = directory / "results.json"
    if not path.is_file():
        raise SweepError(f"no results.json in {directory}: give the directory of a finished sweep")
    if path.stat().st_size > BYTES_MAX:
        raise SweepError(f"{path} is larger than {BYTES_MAX} bytes: not what hwgen sweep writes")
    try:
        document = json.loads(path.read_text())
        if document["schema"] != table.SCHEMA:
            raise SweepError(
                f"{path} was written by another version of hwgen sweep (format"
                f" {document['schema']}, this one reads {table.SCHEMA}): run the sweep again"
            )
        rows = {(row["key"], row["stage"]): row for row in document["rows"]}
        best = document["recommended"]
        versions = {row["stage"]: row["versions"] for row in document["rows"]}
        return Side(str(directory), rows, best and best["values"], versions)
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise SweepError(f"{path} is not what hwgen sweep writes ({problem!r})") from None


def _side(name: str, sweep: Path | None) -> Side:
    """A directory's results, or a commit's estimates."""
    if Path(name).is_dir():
        return read(Path(name))
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise ToolError(f"{name} is no directory, and there is no git to look it up") from None
    if done.returncode:
        raise SweepError(f"{name!r} is neither a sweep's directory nor a commit of this repository")
    if sweep is None:
        raise SweepError(f"{name!r} is a commit: say with --sweep FILE what to estimate there")
    return _at_commit(name, done.stdout.strip(), sweep)


def _at_commit(name: str, commit: str, sweep: Path) -> Side:
    """Runs a sweep's estimate with the sources of a commit."""
    if not sweep.is_file():
        raise SweepError(f"no sweep {str(sweep)!r}: give a TOML file")
    with tempfile.TemporaryDirectory(prefix="hwgen-compare-") as folder:
        tree, output = Path(folder, "tree"), Path(folder, "out")
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "sim.sweep", str(sweep.resolve()), "-o", str(output),
                 "--estimate", "--no-cache"],
                cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)},
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise SweepError(f"the sweep does not run at {name}: {last}")
            side = read(output)
        finally:
            _git("worktree", "remove", "--force", str(tree))
    return Side(name, side.rows, side.recommended, side.versions)


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"git {arguments[0]} failed: {done.stderr.strip()}")


def _told(row: Mapping[str, Any]) -> str:
    """A point's name for a person."""
    return ", ".join(f"{name} = {value}" for name, value in row["values"].items()) or "baseline"


def _show(answer: Mapping[str, Any], found: list[Change]) -> None:
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else TABLE_WIDTH)
    moved = Table(title=f"{answer['a']} -> {answer['b']}", title_justify="left")
    for name in ("point", "stage", "figure", "a", "b", "change"):
        moved.add_column(name, justify="left" if name in ("point", "stage") else "right")
    for one in found[:SHOWN]:
        shown = [table.number(value) if isinstance(value, int | float) else str(value)
                 for value in (one.before, one.after)]  # fmt: skip
        change = "" if abs(one.relative) == float("inf") else f"{one.relative:+.2%}"
        moved.add_row(one.point, one.stage, one.figure, *shown, change)
    if found:
        console.print(moved)
    console.print(
        f"{answer['compared']} points and stages compared, {answer['moved']} moved;"
        f" {answer['only_in_a']} only in A, {answer['only_in_b']} only in B"
    )
    for stage, versions in answer["versions"].items():
        names = [name for name in versions[0] if versions[0][name] != versions[1].get(name)]
        console.print(f"{stage}: other {', '.join(names)}")
    first, second = answer["recommended"]
    if first != second:
        console.print(f"recommended: {first} -> {second}")
