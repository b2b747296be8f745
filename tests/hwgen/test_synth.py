"""``hwgen synth``: figures, their sum over the modules, the cache, and what does not fit."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hwgen import cli
from hwgen.synthesis import command as synth
from hwgen.synthesis import mapped, resources, treemap, yosys
from spec.config import TINY
from spec.device import XCK26
from spec.digest import digest
from spec.errors import ToolError

SMALL = dataclasses.replace(TINY, name="small", tokens=1, dsp="vendor", max_k=512)


@pytest.fixture(scope="module")
def report() -> synth.Report:
    return synth.synthesise(SMALL)


def test_cells_are_counted_as_the_resources_that_they_take() -> None:
    def cost(kind: str) -> resources.Counts:
        return resources.cost(mapped.Cell("c", kind, {}, {}, {}))

    assert cost("LUT6") == cost("SRLC32E") == cost("INV") == {"lut": 1}
    assert cost("FDRE") == cost("FDSE") == {"ff": 1}
    assert cost("RAMB18E2") == {"bram36": 0.5}
    assert cost("RAMB36E2") == {"bram36": 1}
    assert cost("RAM32M16") == cost("RAM64M8") == cost("RAM512X1S") == {"lut": 8}
    assert cost("RAM64X1D") == {"lut": 2}
    assert cost("URAM288") == {"uram": 1}
    assert cost("CARRY4") == cost("MUXF8") == {}


def test_the_parts_make_the_whole_and_the_dsps_are_where_they_belong(report) -> None:
    modules = report.modules
    assert set(modules[""]) == set(resources.RESOURCES)
    for resource in resources.RESOURCES:
        parts = sum(counts[resource] for name, counts in modules.items()
                    if name.startswith("engine.") and name.count(".") == 1)  # fmt: skip
        assert parts <= modules["engine"][resource] <= modules[""][resource]
        assert parts >= 0.9 * modules[""][resource]
    # One multiplication per lane and pair of tokens, one per partial sum and token.
    assert modules["engine.datapath.dot"]["dsp"] == SMALL.lanes * SMALL.token_pairs
    assert modules["engine.datapath.scale"]["dsp"] == SMALL.subs * SMALL.tokens
    assert modules[""]["dsp"] == SMALL.lanes * SMALL.token_pairs + SMALL.subs * SMALL.tokens


def test_the_depth_rule_is_met(report) -> None:
    rule = report.as_dict()["depth_rule"]
    assert rule["met"], json.dumps(rule, indent=1)
    worst = rule["worst"][0]
    assert worst["end_module"].startswith("engine.")
    assert worst["levels"] <= 3


def test_the_report_as_json_has_the_figures_and_where_they_come_from(report) -> None:
    found = json.loads(json.dumps(report.as_dict()))
    assert found["label"] == "estimate"
    assert found["digest"] == f"{digest(SMALL):016x}"
    assert found["tool"].startswith("Yosys ")
    assert found["device"] == {"name": "XCK26", **XCK26.limits}
    assert found["total"] == report.modules[""]


def test_the_command_writes_the_report_and_a_treemap_without_mapping_twice(
    report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.toml").write_text(
        'preset = "tiny"\ntokens = 1\ndsp = "vendor"\nmax_k = 512\n'
    )
    monkeypatch.setattr(yosys.Yosys, "run", lambda *_: pytest.fail("mapped again"))
    monkeypatch.setattr(cli.app, "registered_commands", [])
    cli.app.command("synth")(synth.command)
    cli.app.command("other")(lambda: None)
    arguments = ["synth", "-c", str(tmp_path / "small.toml"), "-o", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["total"] == report.modules[""]
    assert json.loads((tmp_path / "out" / "synth.json").read_text()) == json.loads(result.stdout)
    page = (tmp_path / "out" / "treemap.html").read_text()
    assert "engine.datapath.dot" in page
    assert not re.search(r"<script|https?://", page)


def test_what_does_not_fit_says_which_resource_and_by_how_much() -> None:
    total = {"lut": 120_000, "ff": 10, "dsp": 1_250, "bram36": 144, "uram": 64}
    with pytest.raises(resources.FitError) as caught:
        resources.check_fit("big", total, XCK26)
    sentence = str(caught.value)
    assert "big does not fit the XCK26" in sentence
    assert "2,880 LUT more than its 117,120" in sentence
    assert "2 DSP more than its 1,248" in sentence
    assert "BRAM" not in sentence
    assert caught.value.exit_code == 2
    resources.check_fit("full", XCK26.limits, XCK26)


def test_an_old_yosys_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    yosys.find.cache_clear()
    monkeypatch.setattr(yosys, "_version", lambda program: "Yosys 0.23 (git sha1 7ce5011c24b)")
    with pytest.raises(ToolError, match=r"0\.40 or newer \(found Yosys 0\.23.*\[synthesis\]"):
        yosys.find()
    monkeypatch.undo()
    yosys.find.cache_clear()


@pytest.mark.parametrize("sizes", [[1.0], [6, 6, 4, 3, 2, 2, 1], [100, 1, 1]])
def test_treemap_areas_are_in_proportion_and_inside(sizes: list[float]) -> None:
    whole = treemap.Box(10, 20, 600, 400)
    boxes = treemap.squarify(sizes, whole)
    assert len(boxes) == len(sizes)
    for size, box in zip(sizes, boxes, strict=True):
        assert box.width * box.height == pytest.approx(240_000 * size / sum(sizes))
        assert box.x >= 10 - 1e-6 and box.x + box.width <= 610 + 1e-6
        assert box.y >= 20 - 1e-6 and box.y + box.height <= 420 + 1e-6
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert (
                a.x >= b.x + b.width - 1e-6 or b.x >= a.x + a.width - 1e-6
                or a.y >= b.y + b.height - 1e-6 or b.y >= a.y + a.height - 1e-6
            )  # fmt: skip
