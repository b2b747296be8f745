"""Results on disk: none lost, none twice, and a sentence for files that are none."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from pathlib import Path

import pytest

from sim.sweep import plan, tasks
from sim.sweep.names import SweepError
from sim.sweep.store import APPLICATION, FILE, Store
from sim.sweep.tasks import Row

SWEEP = plan.from_mapping({"grid": {"tile_rows": [32, 48, 64]}})


def rows(status: str = "ok", reason: str = "") -> list[Row]:
    points = tuple(SWEEP.grid())
    asked = tasks.task("estimate", points, 1, {})
    return [tasks.row(asked, point, status, reason, figures={"lut": 1.5}) for point in points]


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    with Store(tmp_path / FILE) as store:
        store.plan(SWEEP.grid(), {"sweep": {"name": "a"}})
        store.add(rows())
    with Store(tmp_path / FILE) as store:
        assert store.about() == {"sweep": {"name": "a"}}
        assert [point.position for point in store.points()] == [0, 1, 2]
        assert "power of two" in store.points()[1].reason
        found = store.rows(row.digest for row in rows())
        for one in rows():
            kept = dataclasses.replace(found[one.digest], finished=one.finished)
            assert kept == one


def test_a_finished_row_stays_and_another_is_replaced(tmp_path: Path) -> None:
    with Store(tmp_path / FILE) as store:
        store.add(rows("pruned", "not now"))
        assert not store.finished(row.digest for row in rows())
        store.add(rows())
        store.add(rows("failed", "later"))
        assert {row.status for row in store.all_rows()} == {"ok"}
        assert len(store.all_rows()) == 3


def test_only_one_sweep_writes(tmp_path: Path) -> None:
    with Store(tmp_path / FILE), pytest.raises(SweepError, match="another sweep is writing"):
        Store(tmp_path / FILE)
    Store(tmp_path / FILE).close()


def test_another_version_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / FILE).close()
    base = sqlite3.connect(tmp_path / FILE)
    base.execute("PRAGMA user_version = 99")
    base.close()
    for writing in (True, False):
        with pytest.raises(SweepError, match=r"another version of hwgen sweep \(tables 99"):
            Store(tmp_path / FILE, writing)


def test_what_is_no_file_of_results_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database, but long enough to look at" * 50)
    with pytest.raises(SweepError, match="damaged or no file of results"):
        Store(tmp_path / FILE)
    other = tmp_path / "other"
    other.mkdir()
    base = sqlite3.connect(other / FILE)
    base.execute("CREATE TABLE mine (a)")
    base.close()
    with pytest.raises(SweepError, match="a database of something else"):
        Store(other / FILE)
    with pytest.raises(SweepError, match="no results in"):
        Store(tmp_path / "nothing" / FILE, writing=False)


def test_a_full_disk_is_a_sentence_and_costs_nothing(tmp_path: Path) -> None:
    """SQLite's own limit on pages gives the error that a full disk gives."""
    many = plan.from_mapping({"grid": {"outstanding": list(range(1, 33)), "tokens": [1, 2, 4, 8]}})
    points = tuple(many.grid())
    asked = tasks.task("estimate", points, 1, {})
    big = [tasks.row(asked, point, "ok", figures={"text": "x" * 400}) for point in points]
    with Store(tmp_path / FILE) as store:
        store.add(rows())
        pages = store._base.execute("PRAGMA page_count").fetchone()[0]
        store._base.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(SweepError, match="the disk is full; free some space"):
            store.add(big)
    with Store(tmp_path / FILE) as store:
        assert len(store.all_rows()) == 3  # the transaction is whole or not there
        store.add(big)
        assert len(store.all_rows()) == 130  # one point is in both sweeps
        assert store._base.execute("PRAGMA application_id").fetchone()[0] == APPLICATION


def test_a_torn_file_is_told(tmp_path: Path) -> None:
    with Store(tmp_path / FILE) as store:
        store.add(rows())
    shutil.copyfile(tmp_path / FILE, tmp_path / "copy")
    data = bytearray((tmp_path / "copy").read_bytes())
    data[4096:] = b"\x5a" * (len(data) - 4096)
    (tmp_path / FILE).write_bytes(data)
    with (
        pytest.raises(SweepError, match="damaged or no file of results"),
        Store(tmp_path / FILE) as store,
    ):
        store.all_rows()
