"""Building the simulator: cached, whole or not at all, and clear about what is missing."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from pathlib import Path

import pytest

from sim import build, device, source
from spec.config import KV260, TINY
from spec.errors import ToolError

ROGUE = (Path(__file__).parent / "rogue.v").read_text()
CONFIG = dataclasses.replace(TINY, name="rogue", burst_beats=16, outstanding=8)
RECIPE = build.Recipe(ROGUE, CONFIG)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kria-llm" / "sim"


def contents(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_a_build_is_found_again(cache: Path) -> None:
    first = build.library(RECIPE)
    made = first.stat()
    assert build.library(RECIPE) == first
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert contents(cache) == [RECIPE.digest()]
    assert (first.parent / "kria_llm.v").read_text() == ROGUE


def test_everything_that_matters_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {
        RECIPE.digest(),
        dataclasses.replace(RECIPE, verilog=ROGUE + "\n").digest(),
        dataclasses.replace(RECIPE, trace=True).digest(),
        dataclasses.replace(RECIPE, config=dataclasses.replace(CONFIG, outstanding=9)).digest(),
    }
    monkeypatch.setattr(build, "_tool_versions", lambda: ("another compiler",))
    digests.add(RECIPE.digest())
    assert len(digests) == 5


def test_an_edited_harness_changes_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = RECIPE.digest()
    for path in build.HARNESS.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    monkeypatch.setattr(build, "HARNESS", tmp_path)
    assert RECIPE.digest() == before
    (tmp_path / "arena.hpp").write_text("// edited")
    assert RECIPE.digest() != before


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert build.cache_directory() == Path("/somewhere/kria-llm/sim")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the XDG specification: to be ignored
    monkeypatch.setenv("HOME", "/home/someone")
    assert build.cache_directory() == Path("/home/someone/.cache/kria-llm/sim")


def test_builders_at_once_build_once(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    context = multiprocessing.get_context("fork")
    builders = [context.Process(target=build.library, args=(RECIPE,)) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert [builder.exitcode for builder in builders] == [0, 0, 0]
    assert contents(cache) == [RECIPE.digest()]
    assert capfd.readouterr().err.count("building the simulator of rogue") == 1


@pytest.mark.parametrize(
    ("verilog", "tool"),
    [("module kria_llm(input aclk); wire x = no_such_wire; endmodule", "verilator"),
     ("module kria_llm(input aclk); endmodule", "make")],
)  # fmt: skip
def test_a_failed_build_leaves_its_log_alone(cache: Path, verilog: str, tool: str) -> None:
    recipe = dataclasses.replace(RECIPE, verilog=verilog)
    log = cache / f"failed-{recipe.digest()}.log"
    with pytest.raises(ToolError, match=f"^{tool} could not build .*rror.*; see {log}$"):
        build.library(recipe)
    assert contents(cache) == [log.name]
    assert "rror" in log.read_text()


@pytest.mark.parametrize(
    ("present", "sentence"),
    [((), "needs verilator, g[+][+], make: install it with 'apt-get install verilator g[+][+]"),
     (("verilator", "make"), "needs g[+][+]: install it with 'apt-get install g[+][+]'$")],
)  # fmt: skip
def test_missing_tools_are_named_with_their_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...], sentence: str
) -> None:
    for tool in present:
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=sentence):
        build.library(RECIPE)


@pytest.mark.parametrize("version", ["Verilator 4.228 2022-10-01", "no such command", ""])
def test_an_old_verilator_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "verilator_version", lambda: version)
    with pytest.raises(ToolError, match=r"needs Verilator 5\.006 or newer, found"):
        build.check_tools()


def test_verilog_is_emitted_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwgen import generate

    emitted: list[str] = []
    monkeypatch.setattr(
        generate, "verilog", lambda config, flat: emitted.append(config.name) or "text"
    )
    assert [source.verilog(TINY), source.verilog(TINY)] == ["text", "text"]
    assert source.verilog(device.simulated(KV260)) == "text"
    assert emitted == ["tiny", "kv260"]
    assert len(os.listdir(cache / "verilog")) == 2


def test_a_vendor_configuration_is_simulated_by_its_portable_twin() -> None:
    assert device.simulated(KV260) == dataclasses.replace(KV260, dsp="portable")
    assert device.simulated(TINY) == TINY
