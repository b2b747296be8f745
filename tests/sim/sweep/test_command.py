"""``hwgen sweep`` and ``hwgen compare`` as a person calls them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from hwgen import cli
from sim.sweep import compare, plan, store
from sim.sweep.command import sweep
from spec.errors import UserError

ROOT = Path(__file__).parents[3]

READY = sorted((ROOT / "benches/sweeps").glob("*.toml"))

SMALL = """
baseline = "kv260"
[workload]
memory = "ideal"
[grid]
tile_rows = [32, 64]
tokens = [4, 8]
outstanding = [8, 33]
"""

app = typer.Typer()
app.command("sweep")(sweep)
app.command("compare")(compare.command)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No other sweep's results."""
    monkeypatch.setattr(store, "cache_directory", lambda: tmp_path / "cache" / "sim")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_sweep_writes_its_files_and_tells_the_best(file: Path, tmp_path: Path) -> None:
    result = call("sweep", file, "-o", tmp_path / "out", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "recommended (*): tile_rows = 64, tokens = 8, outstanding = 8" in result.stdout
    assert "estimate (modelled): 4 infeasible, 4 ok" in result.stdout
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"results.sqlite", "results.csv", "results.json", "report.html"}
    again = call("sweep", file, "-o", tmp_path / "out", "--json")
    found = json.loads(again.stdout)
    assert found["counts"] == {"estimate": {"infeasible": 4, "ok": 4}}
    assert found["recommended"]["config"]["tile_rows"] == 64
    assert "estimate: 8 points, 8 from before" in again.stderr


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        ("[grid]\ntile_row = [64]", (), "did you mean tile_rows?"),
        ("[grid]\ntile_rows = []", (), "the grid is empty"),
        ("[grid]\nmax_k = {from = 1, to = 32768, step = 1}\ntokens = {from = 1, to = 16, step = 1}"
         "\ngroup = [32, 64]", (), "pass --limit 1048576"),
        (SMALL, ("--limit", "3"), "more than the limit of 3"),
        (SMALL, ("--scheduler", "tcp://127.0.0.1:1"), "no dask scheduler answers"),
        (SMALL, ("--scheduler", "tcp://127.0.0.1:1", "--workers", "2"), "leave it out"),
        ("not toml", (), "is not TOML"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)  # fmt: skip
def test_bad_input_is_one_sentence(
    content: str, options: tuple[str, ...], sentence: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("sim.sweep.cluster.SECONDS", 1)
    path = tmp_path / "bad.toml"
    path.write_text(content)
    result = call("sweep", path, "-o", tmp_path / "out", *options)
    assert isinstance(result.exception, UserError)
    assert sentence in str(result.exception)
    assert "\n" not in str(result.exception)


def test_bad_places_are_one_sentence(file: Path, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    for arguments, sentence in (
        (("sweep", file, "-o", taken), "is a file"),
        (("sweep", tmp_path / "none.toml", "-o", tmp_path / "out"), "no sweep"),
        (("compare", tmp_path, tmp_path), "no results.json in"),
        (("compare", "no-such-commit", tmp_path), "neither a sweep's directory nor a commit"),
        (("compare", "--", "--output=x", tmp_path), "neither a sweep's directory nor a commit"),
    ):
        error = call(*arguments).exception
        assert isinstance(error, UserError), arguments
        assert sentence in str(error)


def test_a_full_disk_ends_with_a_sentence(file: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: SQLite, or the files, cannot grow."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "sys.argv = ['hwgen', *sys.argv[1:]]; import runpy; runpy.run_module('sim.sweep',"
        " run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file), "-o", str(tmp_path / "out"), "--no-cache"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_ready_sweeps_are_sweeps(path: Path) -> None:
    found = plan.load(path)
    assert found.baseline == "kv260"
    assert found.name == path.stem
    points = [point for point in found.grid() if not point.reason]
    assert len(points) >= 50


def test_the_standard_sweep_is_as_large_as_it_says() -> None:
    found = plan.load(ROOT / "benches/sweeps/standard.toml")
    assert len(list(found.grid())) >= 200
    assert {stage.name: stage.points for stage in found.stages} == {
        "estimate": None, "simulate": 24, "synth": 8,
    }  # fmt: skip


def test_compare_tells_what_moved(file: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert call("sweep", file, "-o", tmp_path / name).exit_code == 0
    same = call("compare", tmp_path / "a", tmp_path / "b")
    assert "8 points and stages compared, 0 moved; 0 only in A, 0 only in B" in same.stdout
    path = tmp_path / "b" / "results.json"
    document = json.loads(path.read_text())
    row = next(row for row in document["rows"] if row["status"] == "ok")
    row["figures"]["tokens_per_second"] *= 1.10
    row["versions"]["sources"] = "0123456789abcdef"
    lost = document["rows"].pop()
    path.write_text(json.dumps(document))
    assert lost["key"] != row["key"]
    moved = json.loads(call("compare", tmp_path / "a", tmp_path / "b", "--json").stdout)
    assert [(one["figure"], one["relative"]) for one in moved["changes"]] == [
        ("tokens_per_second", pytest.approx(0.1))
    ]
    assert (moved["moved"], moved["only_in_a"]) == (1, 1)
    quiet = call("compare", tmp_path / "a", tmp_path / "b", "--threshold", 11)
    assert "0 moved" in quiet.stdout


def test_compare_refuses_another_versions_results(file: Path, tmp_path: Path) -> None:
    assert call("sweep", file, "-o", tmp_path / "a").exit_code == 0
    path = tmp_path / "a" / "results.json"
    for old, new, sentence in (
        ('"schema": 1', '"schema": 7', "another version of hwgen sweep (format 7, this one reads"),
        ('"schema": 7', '"scheme": 7', "is not what hwgen sweep writes"),
        ("{", "[", "is not what hwgen sweep writes"),
    ):
        path.write_text(path.read_text().replace(old, new, 1))
        error = call("compare", tmp_path / "a", tmp_path / "a").exception
        assert isinstance(error, UserError)
        assert sentence in str(error)


@pytest.mark.slow
def test_compare_of_a_commit(file: Path, tmp_path: Path) -> None:
    """The present commit against itself: nothing moves."""
    result = call("compare", "HEAD", "HEAD", "--sweep", file)
    assert result.exit_code == 0, result.exception
    assert "8 points and stages compared, 0 moved" in result.stdout


def test_help_teaches() -> None:
    cli.add_installed_commands()
    group = typer.main.get_command(cli.app)
    for name in ("sweep", "compare"):
        command = group.commands[name]  # type: ignore[attr-defined]
        text = command.get_help(typer.Context(command, info_name=name))
        assert re.search(rf"Examples:\s+hwgen {name} ", text)
