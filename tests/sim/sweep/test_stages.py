"""Each stage's figures: against what knows better, or against their definition."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import pytest

from host.plan import planner
from sim import area, cycles, workload
from sim.sweep import build, energy, estimate, fabric, plan, rates, simulate, synth, tasks
from sim.sweep.estimate import Infeasible
from sim.sweep.point import Point
from spec import shapes
from spec.config import KV260
from spec.device import XCK26

SMALL = shapes.ModelShape("small", 128, 2, 2, 1, 64, 192, 300)

TINY = {"config": {"preset": "tiny"}, "workload": {"model": "small", "context": 16, "prompt": 16}}


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shapes.SHAPES, "small", SMALL)


def first(**values: Any) -> Point:
    return next(plan.from_mapping(values).grid())


def test_kv260_is_as_fast_as_the_planner_says() -> None:
    """The planner has simulated cycles of this preset, the sweep the analytic model's."""
    reference = plan.from_mapping({"grid": {"tokens": [1]}, "baseline": "kv260"}).reference()
    assert reference is not None
    found = estimate.estimate(reference)
    wanted = planner.plan("qwen", shapes.find("qwen2.5-0.5b"), KV260, 512)
    assert found["tokens_per_second"] == pytest.approx(wanted.decode_tokens_per_second, rel=0.02)
    assert found["prefill_tokens_per_second"] == pytest.approx(
        wanted.prefill_tokens_per_second, rel=0.03
    )


@pytest.mark.parametrize("head", ["two-step", "int4", "int8"])
@pytest.mark.parametrize("tokens", [1, 2, 8])
def test_every_matmul_of_the_planner_is_counted(head: str, tokens: int) -> None:
    point = first(grid={"tokens": [tokens]}, workload={"head": head})
    listed = fabric.matmuls(point.config, point.workload, 1, True)
    found = {fabric.RUNTIME_NAMES.get(job.name, job.name): job for job in listed}
    assert set(found) == set(planner.MATMULS)
    for name, job in found.items():
        terms = 2 if name in planner.TWO_TERMS and tokens > 1 else 1
        assert job.vectors == (1 if name == "head" and head == "two-step" else terms)
        assert job.times == (1 if name == "head" else 24)
    assert found["head"].matrix.bits == (8 if head == "int8" else 4)


def test_faster_memory_helps_and_a_slow_clock_hurts() -> None:
    def speed(**values: Any) -> float:
        return estimate.estimate(first(**values))["tokens_per_second"]

    usual = speed(grid={"tile_rows": [64]})
    assert speed(grid={"memory": ["ddr4-2400"]}, config={"clock_mhz": 300}) > usual
    assert speed(grid={"clock_mhz": [100]}) < usual
    assert speed(grid={"outstanding": [1]}) < 0.8 * usual


def test_what_the_device_lacks_is_said_and_its_figures_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(XCK26.limits, "dsp", 500)
    point = first(grid={"tokens": [8]})
    with pytest.raises(Infeasible, match="the XCK26 lacks 28 DSP") as caught:
        estimate.estimate(point)
    assert caught.value.figures["dsp"] == 528
    assert caught.value.figures["tokens_per_second"] > 0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"grid": {"group": [128]}, "workload": {"model": "smollm2-135m"}}, "not a multiple"),
        ({"grid": {"max_k": [1024]}}, "columns must lie in"),
        ({"grid": {"pass_tokens": [9]}}, "a pass of 9 tokens needs an engine of as many"),
    ],
)
def test_what_no_layout_holds_is_infeasible(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(Infeasible, match=reason) as caught:
        estimate.estimate(first(**values))
    assert caught.value.figures["lut"] > 0


def test_energy_grows_with_what_moves_and_what_switches() -> None:
    resources = area.estimate(KV260)
    usual = energy.millijoules(resources, 250, 0.03, 1e8)
    assert usual == pytest.approx(
        30 * (energy.BASE_WATTS + 21_198 * energy.LUT_WATTS + 0.528 + 0.099 + 0.12) + 16, rel=1e-3
    )
    assert energy.millijoules(resources, 250, 0.03, 2e8) == pytest.approx(usual + 16)
    assert energy.millijoules(resources, 300, 0.03, 1e8) > usual
    assert energy.millijoules(area.estimate(dataclasses.replace(KV260, tokens=16)), 250, 0.03,
                              1e8) > usual  # fmt: skip


def test_rates_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "cache_directory", lambda: tmp_path / "kria-llm" / "sim")
    rates.rate.cache_clear()
    key = rates.key(KV260, "ideal")
    found = rates.rate(key)
    assert found == cycles.ideal(KV260)
    rates.rate.cache_clear()
    monkeypatch.setattr("sim.timing.rate", lambda *given: pytest.fail("asked again"))
    assert rates.rate(key) == found
    rates.rate.cache_clear()


def test_estimates_are_quick() -> None:
    """2,000 a second is the aim, once the memory's rates are known; a busy machine gives less."""
    sweep = plan.from_mapping({"grid": {
        "tile_rows": [32, 64, 128], "tokens": [1, 2, 4, 8, 12], "group": [32, 64, 128],
        "max_k": {"from": 4992, "to": 9216, "step": 384},
    }})  # fmt: skip
    points = tuple(sweep.grid())
    tasks.execute(tasks.task("estimate", points[:60], 1, {}))
    start = time.process_time()
    rows = tasks.execute(tasks.task("estimate", points, 1, {}))
    speed = len(points) / (time.process_time() - start)
    assert [row.status for row in rows] == ["ok"] * len(points)
    assert speed > 400


def test_samples_have_the_models_columns_and_few_rows() -> None:
    config, task = KV260, plan.from_mapping({"grid": {"tokens": [8]}}).workload
    for job in fabric.matmuls(config, task, 1, True):
        operation = simulate.sample(job, simulate.SAMPLE_BEATS)
        assert operation.matrix.columns == job.matrix.columns
        assert operation.matrix.rows <= job.matrix.rows
        assert operation.matrix.beats < 2.5 * simulate.SAMPLE_BEATS
        assert operation.matrix.rows >= max(2 * config.tile_rows, job.top_k)
        assert simulate.sample(job, None).matrix == job.matrix


@pytest.mark.parametrize("memory", ["ideal", "ddr4-2133"])
def test_simulation_of_the_whole_shapes(memory: str) -> None:
    """With nothing sampled, the figures are sums of what ran."""
    values = TINY | {"workload": TINY["workload"] | {"memory": memory}}
    point = first(**values, grid={"outstanding": [2]})
    found = simulate.run(point, 1, {"shapes": "full"})
    guess = estimate.estimate(point)
    assert found["fabric_tokens_per_second"] == pytest.approx(
        guess["fabric_tokens_per_second"], rel=0.06
    )
    wanted = 1e6 * point.config.clock_mhz / found["decode_cycles"]
    assert found["fabric_tokens_per_second"] == pytest.approx(wanted, rel=1e-4)
    assert 0 < found["decode_stall_data"] < 1
    assert found["decode_error"] == pytest.approx(
        found["fabric_tokens_per_second"] / guess["fabric_tokens_per_second"] - 1, abs=1e-3
    )
    assert simulate.run(point, 1, {"shapes": "full"}) == found


def test_a_wrong_result_of_the_design_fails_the_point(monkeypatch: pytest.MonkeyPatch) -> None:
    real = workload.Reference.check

    def spoiled(self: workload.Reference, placed: list) -> None:
        placed[0].results.array[0] ^= 1
        real(self, placed)

    monkeypatch.setattr(workload.Reference, "check", spoiled)
    point = first(**TINY, grid={"outstanding": [2]})
    row = tasks.execute(tasks.task("simulate", (point,), 1, {"shapes": "full"}))[0]
    assert row.status == "failed"
    assert "bytes of memory differ" in row.reason


def test_synthesis_has_the_devices_resources() -> None:
    point = first(grid={"tokens": [1]}, config={"preset": "kv260", "ports": 1, "max_k": 1024})
    found = synth.run(point, 1, {})
    guess = area.estimate(point.config)
    assert found["dsp"] == guess["dsp"]
    assert found["lut"] == pytest.approx(guess["lut"], rel=0.1)
    assert found["lut_error"] == pytest.approx(guess["lut"] / found["lut"] - 1, abs=1e-3)
    assert found["depth_rule_met"] is True
    assert 1 <= found["levels"] <= 3


def test_without_vivado_a_build_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    point = first(grid={"tokens": [8]})
    row = tasks.execute(tasks.task("build", (point,), 1, {}))[0]
    assert (row.status, row.figures) == ("not run", {})
    assert "vivado is not on PATH" in row.reason


def test_vivado_is_run_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs stand for Vivado; its reports are ones that Vivado wrote."""
    reports = Path(__file__).parents[2] / "fixtures/vivado"
    folder = tmp_path / "bin"
    folder.mkdir()
    package = f'cd "$2"; mkdir -p reports; cp {reports}/* reports/'
    for name, text in (("vivado", 'echo "Vivado v2023.2"'), ("make", package), ("bootgen", "")):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(build, "cache_directory", lambda: tmp_path / "kria-llm" / "sim")
    point = first(**TINY, grid={"outstanding": [2]})
    # Nothing was packaged: the point fails, and says so.
    row = tasks.execute(tasks.task("build", (point,), 1, {}))[0]
    assert row.status == "failed"
    assert "there is no firmware/" in row.reason
    # With a package there, the reports are the figures.
    monkeypatch.setattr("hwgen.board.vivado.run", lambda where, directory, app: None)
    target = tmp_path / "kria-llm/sweep/build"
    copied = next(target.iterdir()) / "reports"
    assert copied.is_dir()
    row = tasks.execute(tasks.task("build", (point,), 1, {}))[0]
    assert row.status == "ok", row.reason
    assert row.figures["lut"] > 0
    assert "worst_slack_ns" in row.figures
