"""Results on disk: SQLite, one row per point and stage, safe against a kill at any moment.

A transaction is whole or not there (write-ahead log), so a killed sweep loses only what was in the
making. Rows are found again by digest; the same rows, of all sweeps, are the cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sim.build import cache_directory
from sim.sweep.names import SweepError
from sim.sweep.point import Point
from sim.sweep.tasks import FINAL, Row

SCHEMA = 1
"""Changes with the tables below."""

APPLICATION = 0x4B4C5357
"""``application_id`` of a file of this kind: "KLSW"."""

FILE = "results.sqlite"

TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS points (
    position INTEGER PRIMARY KEY, key TEXT NOT NULL, point TEXT NOT NULL,
    reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results (
    digest TEXT PRIMARY KEY, key TEXT NOT NULL, stage TEXT NOT NULL, status TEXT NOT NULL,
    reason TEXT NOT NULL, seed INTEGER NOT NULL, versions TEXT NOT NULL, figures TEXT NOT NULL,
    seconds REAL NOT NULL, finished TEXT NOT NULL, worker TEXT NOT NULL) WITHOUT ROWID;
"""

INSERT = """
INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET
    status = excluded.status, reason = excluded.reason, figures = excluded.figures,
    seconds = excluded.seconds, finished = excluded.finished, worker = excluded.worker
WHERE results.status NOT IN ('ok', 'infeasible', 'failed')
"""
"""A finished row stays as it is, so that none is there twice or changes."""

LOOKUP = 500
"""Digests of one question: SQLite's limit on variables is 999 in old versions."""


@dataclass(frozen=True)
class Saved:
    """A point as it was stored."""

    position: int
    key: str
    values: dict[str, Any]
    config: dict[str, Any]
    workload: dict[str, Any]
    reason: str
    """Why it is infeasible, by the rules, by a constraint of this sweep, or by its estimate."""


class Store:
    """Results of one sweep in a directory, or of all sweeps in the cache.

    Raises:
        SweepError: not a file of results, of another version, or in use by another sweep.
        OSError: the directory cannot be made.
    """

    def __init__(self, path: Path, writing: bool = True) -> None:
        self.path = path
        if not writing and not path.is_file():
            raise SweepError(f"no results in {path}: give the directory of a finished sweep")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _alone(path) if writing and path.name == FILE else None
        with self._told():
            self._base = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._check()
            if writing:
                self._base.execute("PRAGMA journal_mode = WAL")
                self._base.execute("PRAGMA synchronous = NORMAL")
                with self._transaction():
                    for statement in TABLES.split(";"):
                        self._base.execute(statement)
                    self._base.execute(f"PRAGMA user_version = {SCHEMA}")
                    self._base.execute(f"PRAGMA application_id = {APPLICATION}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the use of the file."""
        with contextlib.suppress(sqlite3.Error):
            self._base.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def plan(self, points: Iterable[Point], about: dict[str, Any]) -> None:
        """What the sweep consists of now; results of earlier plans stay and may serve again."""
        with self._told(), self._transaction():
            self._base.execute("DELETE FROM points")
            self._base.executemany("INSERT INTO points VALUES (?, ?, ?, ?)", map(_saved, points))
            for name, value in about.items():
                self._base.execute(
                    "INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value))
                )

    def judge(self, reasons: dict[int, str]) -> None:
        """Why points are infeasible, by position."""
        listed = [(reason, position) for position, reason in reasons.items()]
        with self._told(), self._transaction():
            self._base.executemany("UPDATE points SET reason = ? WHERE position = ?", listed)

    def add(self, rows: Iterable[Row]) -> None:
        """Rows in one transaction."""
        with self._told(), self._transaction():
            self._base.executemany(INSERT, map(_values, rows))

    def points(self) -> list[Saved]:
        """The plan's points in order; a baseline has position -1."""
        with self._told():
            listed = self._base.execute("SELECT * FROM points ORDER BY position").fetchall()
        return [
            Saved(position, key, reason=reason, **json.loads(text))
            for position, key, text, reason in listed
        ]

    def about(self) -> dict[str, Any]:
        """What ``plan`` was told."""
        with self._told():
            return {
                name: json.loads(value)
                for name, value in self._base.execute("SELECT name, value FROM meta")
            }

    def rows(self, digests: Iterable[str]) -> dict[str, Row]:
        """Rows by digest; those that are not there are left out."""
        wanted = list(digests)
        found: dict[str, Row] = {}
        with self._told():
            for start in range(0, len(wanted), LOOKUP):
                part = wanted[start : start + LOOKUP]
                marks = ", ".join("?" * len(part))
                question = f"SELECT * FROM results WHERE digest IN ({marks})"
                found |= {values[0]: _row(values) for values in self._base.execute(question, part)}
        return found

    def finished(self, digests: Iterable[str]) -> dict[str, Row]:
        """Rows that need not be made again."""
        return {name: row for name, row in self.rows(digests).items() if row.status in FINAL}

    def all_rows(self) -> list[Row]:
        """Every row, of earlier plans and versions too."""
        with self._told():
            return [_row(values) for values in self._base.execute("SELECT * FROM results")]

    def _check(self) -> None:
        """Whether the file is ours and of this version; a new one is empty."""
        kind = self._base.execute("PRAGMA application_id").fetchone()[0]
        version = self._base.execute("PRAGMA user_version").fetchone()[0]
        tables = self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and kind != APPLICATION:
            raise SweepError(f"{self.path} is a database of something else: give another directory")
        if tables and version != SCHEMA:
            raise SweepError(
                f"{self.path} was written by another version of hwgen sweep (tables {version}, this"
                f" one writes {SCHEMA}): give another directory"
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turns SQLite's errors into sentences."""
        try:
            yield
        except sqlite3.DatabaseError as problem:
            raise SweepError(f"{self.path} {_sentence(problem)}") from None


def cache() -> Store:
    """The results of all sweeps: ``$XDG_CACHE_HOME/kria-llm/sweep`` or ``~/.cache/...``."""
    return Store(cache_directory().parent / "sweep" / f"all-{SCHEMA}.sqlite")


def _sentence(problem: sqlite3.DatabaseError) -> str:
    text = str(problem)
    if "full" in text:
        return "cannot grow: the disk is full; free some space and run the same command again"
    if "not a database" in text or "malformed" in text:
        return "is damaged or no file of results: move it away and run the same command again"
    return f"cannot be used ({text}): check the disk and the directory's permissions"


def _alone(path: Path) -> int:
    """A lock that lasts as long as this process."""
    handle = os.open(path.parent / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise SweepError(
            f"another sweep is writing to {path.parent}: wait for it or give another directory"
        ) from None
    return handle


def _saved(point: Point) -> tuple[int, str, str, str]:
    text = json.dumps({
        "values": dict(point.values), "config": vars(point.config), "workload": vars(point.workload)
    })  # fmt: skip
    return point.position, point.key, text, point.reason


def _values(row: Row) -> tuple[Any, ...]:
    return (
        row.digest, row.key, row.stage, row.status, row.reason, row.seed,
        json.dumps(dict(row.versions), sort_keys=True), json.dumps(dict(row.figures)),
        row.seconds, row.finished, row.worker,
    )  # fmt: skip


def _row(values: tuple[Any, ...]) -> Row:
    digest, key, stage, status, reason, seed, versions, figures, seconds, finished, worker = values
    return Row(
        digest, key, stage, status, reason, seed, json.loads(versions), json.loads(figures),
        seconds, finished, worker,
    )  # fmt: skip
