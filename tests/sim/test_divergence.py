"""The first divergence: each stage of the engine broken on purpose, and the report names it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sim import cases, divergence, replay, stages, verify
from sim.replay import Asked
from spec.config import TINY
from spec.errors import MismatchError
from tests.sim import broken

QUICK = ("zero", "accumulator")
"""A broken design takes two simulators to build; the other stages are for `make test-all`."""


@pytest.mark.parametrize(("bits", "group", "fmt"), [(4, 32, "fp32"), (8, 128, "bf16")])
def test_a_right_design_shows_golden_values_in_every_stage(
    bits: int, group: int, fmt: str, tmp_path: Path
) -> None:
    asked = Asked(TINY, cases.draw(20, 256, bits, group, 2, 3), fmt, 0, stall_seed=5)
    path = tmp_path / "run.fst"
    report = replay.perform(asked, trace=path)
    wanted = replay._stages(asked, report)
    assert not report.mismatches
    assert divergence.compare(path, wanted, fmt) is None
    # And it looks: one value changed anywhere is found in its own stage.
    for name, stage in (("sums", "product sum"), ("totals", "accumulator")):
        values = getattr(wanted, name)
        before = values[(0,) * values.ndim]
        values[(0,) * values.ndim] = before + 1
        found = divergence.compare(path, wanted, fmt)
        assert found is not None and (found.stage, found.row) == (stage, 0)
        values[(0,) * values.ndim] = before


@pytest.mark.parametrize("bits", [4, 8])
def test_a_matrix_is_recovered_from_its_region(bits: int) -> None:
    case = cases.draw(20, 224, bits, 32, 1, 4)
    asked = Asked(TINY, case, "fp32", 0)
    report = replay.perform(asked)
    matrix = replay._stages(asked, report).matrix

    def read(address: int, count: int) -> np.ndarray:
        start = address - verify.device.MEMORY_BASE
        return report.image[start : start + count]

    found = stages.recovered(TINY, matrix, read, report.fields)
    assert (found.values == case.weights.values).all()
    assert (found.scales.view(np.uint16) == case.weights.scales.view(np.uint16)).all()
    if bits == 4:
        assert found.zeros is not None and case.weights.zeros is not None
        assert (found.zeros == case.weights.zeros).all()


@pytest.mark.parametrize(
    "stage",
    [pytest.param(stage, marks=[] if stage in QUICK else pytest.mark.slow)
     for stage in broken.FAULTS],
)  # fmt: skip
def test_the_broken_stage_is_named_and_the_replay_repeats_it(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken.install(monkeypatch, TINY, stage)
    asked = Asked(TINY, cases.draw(40, 256, 4, 64, 2, 7), "fp32", 0, layer="3", matmul="down")
    report = replay.perform(asked)
    assert report.mismatches
    found, failing = replay.explain(asked, report)
    assert found is not None
    assert found.stage == stage
    assert found.golden != found.rtl
    assert "layer 3, matmul down, row" in found.sentence()
    if stage in ("nibble", "zero"):
        assert found.element == 0 and found.group == 0
    path = tmp_path / "replay.json"
    replay.write(failing, path)
    with pytest.raises(MismatchError, match=f"first divergence in stage '{stage}'") as caught:
        verify._finish(replay.read(path), replay.perform(replay.read(path)), path, True)
    assert f"hwgen verify --replay {path}" in str(caught.value)
    answer = json.loads(capsys.readouterr().out)
    assert answer["divergence"]["stage"] == stage
    assert not answer["equal"]
    monkeypatch.undo()
    verify._finish(replay.read(path), replay.perform(replay.read(path)), path, True)
    assert json.loads(capsys.readouterr().out)["equal"]
