"""A sweep's file: what it may say, and one sentence for what it may not."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.sweep import axes, expression, plan
from sim.sweep.names import CONFIG, METRICS, SweepError
from spec.errors import UserError

GRID: dict[str, Any] = {"tile_rows": [32, 64], "outstanding": [2, 4, 8]}


def read(**values: Any) -> plan.Sweep:
    return plan.from_mapping({"grid": GRID, **values})


def test_the_grid_is_every_combination_in_order() -> None:
    points = list(read().grid())
    assert [(p.values["tile_rows"], p.values["outstanding"]) for p in points] == [
        (32, 2), (32, 4), (32, 8), (64, 2), (64, 4), (64, 8),
    ]  # fmt: skip
    assert [p.position for p in points] == list(range(6))
    assert len({p.key for p in points}) == 6
    assert all(p.config.outstanding == p.values["outstanding"] for p in points)


def test_ranges_hold_both_ends() -> None:
    found = axes.read(
        {
            "outstanding": {"from": 2, "to": 9, "step": 3},
            "tile_rows": {"from": 16, "to": 256, "times": 2},
            "clock_mhz": {"from": 200.0, "to": 300.0, "step": 50},
        },
        "grid",
    )
    assert [axis.values for axis in found] == [
        (2, 5, 8), (16, 32, 64, 128, 256), (200.0, 250.0, 300.0),
    ]  # fmt: skip
    assert axes.count(found) == 45


def test_the_workload_may_be_swept_too() -> None:
    sweep = plan.from_mapping({"grid": {"memory": ["ideal", "ddr4-2133"], "head": ["int8"]}})
    assert [p.workload.memory for p in sweep.grid()] == ["ideal", "ddr4-2133"]


def test_what_cannot_be_built_stays_with_its_reason() -> None:
    points = list(read(grid={"tile_rows": [48, 64], "model": ["qwen2.5-0.5b", "gpt"]}).grid())
    assert [bool(p.reason) for p in points] == [True, True, False, True]
    assert "tile_rows must be a power of two in 16..256, got 48" in points[0].reason
    assert "no shape of a model 'gpt'" in points[3].reason
    assert len({p.key for p in points}) == 4


def test_constraints_are_told_apart_by_what_they_need() -> None:
    sweep = read(constraints=["lanes * tile_rows >= 64 * 128", "lut <= 1e9", "not tokens == 3"])
    assert [len(sweep.before), len(sweep.after)] == [2, 1]
    reasons = [p.reason for p in sweep.grid()]
    assert reasons[0] == "constraint lanes * tile_rows >= 64 * 128 is not met"
    assert reasons[3:] == [""] * 3


@pytest.mark.parametrize(
    ("text", "met"),
    [("tokens == 8", True), ("3 < tokens <= 8", True), ("3 < tokens < 8", False),
     ("dsp == 'vendor' and tokens > 1", True), ("tokens == 1 or lanes / 2 == 64", True),
     ("not (tokens % 3 == 2)", False), ("-tokens < 0", True), ("tokens // 3 - 2 * 1 == 0", True)],
)  # fmt: skip
def test_expressions(text: str, met: bool) -> None:
    values = {"tokens": 8, "lanes": 128, "dsp": "vendor"}
    assert expression.constraint(text, tuple(values)).met(values) is met


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "tokens.real > 1", "tokens", "tokens ** 9 ** 9 > 1", "[1 for i in tokens]",
     "lambda: 1", "tokens if tokens else 1", "(" * 200 + "1" + ")" * 200, "a" * 301, "tokens >", "",
     "tokens > None", "tokens in (1, 2)", "tokens > \x00", "{1} > tokens", "f'{tokens}' > 'a'"],
)  # fmt: skip
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(SweepError):
        expression.constraint(text, ("tokens", "i")).met({"tokens": 8, "i": 1})


@given(st.text(max_size=40))
def test_any_text_is_a_constraint_or_a_sentence(text: str) -> None:
    with contextlib.suppress(SweepError):
        expression.constraint(text, ("tokens",)).met({"tokens": 8})


def test_what_cannot_be_computed_is_a_sentence() -> None:
    for text in ("1 / (tokens - 8) > 1", "dsp > 1"):
        with pytest.raises(SweepError, match="cannot be computed"):
            expression.constraint(text, ("tokens", "dsp")).met({"tokens": 8, "dsp": "vendor"})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"grid": {"tile_row": [1]}}, "did you mean tile_rows?"),
        ({"grid": {"tile_rows": []}}, "the grid is empty"),
        ({"grid": {}}, "[grid] is empty"),
        ({"grid": {"tile_rows": {"from": 64, "to": 32, "step": 1}}}, "the grid is empty"),
        ({"grid": {"tile_rows": {"from": 32, "to": 64}}}, "either step or times"),
        ({"grid": {"tile_rows": {"from": 32, "to": 64, "by": 2}}}, "unknown key"),
        ({"grid": {"tile_rows": {"from": 32, "to": 64, "step": 0}}}, "step must be more than 0"),
        ({"grid": {"tile_rows": {"from": 1, "to": 64, "times": 1}}}, "times must be more than 1"),
        ({"grid": {"tile_rows": {"from": 0, "to": 1e12, "step": 1}}}, "at most 1000000"),
        ({"grid": {"tile_rows": {"from": 1e-300, "to": 1, "times": 1.0000001}}}, "at most 1000000"),
        ({"grid": {"tile_rows": {"from": float("nan"), "to": 1, "step": 1}}}, "must be a number"),
        ({"grid": {"tile_rows": 64}}, "must be a list or a range"),
        ({"grid": {"tile_rows": [True]}}, "must hold numbers or texts"),
        ({"grid": {"tile_rows": [[64]]}}, "must hold numbers or texts"),
        ({"grid": {"clock_mhz": [float("inf")]}}, "finite"),
        ({"grid": {"tile_rows": [64, 64]}}, "has a value twice"),
        ({"grid": GRID, "config": {"tile_rows": 64}}, "keep one of them"),
        ({"grid": GRID, "config": {"porst": 4}}, "did you mean ports?"),
        ({"grid": GRID, "config": {"ports": 3}}, "ports must be one of"),
        ({"grid": GRID, "wrkload": {}}, "did you mean workload?"),
        ({"grid": GRID, "workload": {"contxt": 4}}, "did you mean context?"),
        ({"grid": GRID, "workload": {"model": "qwen2.5-0.6b"}}, "did you mean qwen2.5-0.5b?"),
        ({"grid": GRID, "workload": {"context": 0}}, "context must be a whole number"),
        ({"grid": GRID, "workload": {"head": "int5"}}, "head must be one of"),
        ({"grid": GRID, "workload": {"memory": "ddr9"}}, "no memory 'ddr9'"),
        ({"grid": GRID, "constraints": "lut < 5"}, "must be a list"),
        ({"grid": GRID, "constraints": [5]}, "must be a text"),
        ({"grid": GRID, "constraints": ["luts < 5"]}, "did you mean lut?"),
        ({"grid": GRID, "objectives": {"lutt": "min"}}, "did you mean lut?"),
        ({"grid": GRID, "objectives": {"lut": "least"}}, "must be 'max' or 'min'"),
        ({"grid": GRID, "objectives": {}}, "at least one metric"),
        ({"grid": GRID, "stages": {"simulat": {}}}, "did you mean simulate?"),
        ({"grid": GRID, "stages": {"simulate": {"point": 3}}}, "did you mean points?"),
        ({"grid": GRID, "stages": {"simulate": {"points": 0}}}, "must be a whole number in 1.."),
        ({"grid": GRID, "stages": {"simulate": {"shapes": "half"}}}, "unknown shapes"),
        ({"grid": GRID, "mode": "gird"}, "did you mean grid?"),
        ({"grid": GRID, "seed": -1}, "seed must be a whole number"),
        ({"grid": GRID, "baseline": "kv261"}, "no configuration 'kv261'"),
        ({"grid": GRID, "recommend": {"tolerance": 1}}, "must lie in 0..1"),
        ({"grid": GRID, "config": 4}, "[config] must be a table"),
        ({}, "[grid] is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_bad_files_are_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        plan.from_mapping(values)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_million_points_by_mistake_ask_for_a_limit() -> None:
    many = {"outstanding": {"from": 1, "to": 32, "step": 1},
            "max_k": {"from": 128, "to": 32768, "step": 1}}  # fmt: skip
    with pytest.raises(SweepError, match=r"has 1,044,512 points.*pass --limit 1044512"):
        plan.from_mapping({"grid": many})
    assert axes.count(plan.from_mapping({"grid": many}, limit=2_000_000).axes) == 1_044_512


def test_a_search_is_limited_by_its_trials() -> None:
    many = {"outstanding": {"from": 1, "to": 32, "step": 1},
            "max_k": {"from": 128, "to": 32768, "step": 1}}  # fmt: skip
    asked = {"grid": many, "mode": "optimise", "optimise": {"trials": 60_000}}
    with pytest.raises(SweepError, match=r"--limit 60000"):
        plan.from_mapping(asked)


@pytest.mark.parametrize("content", [b"grid", b"\xff", b"[grid]\ntile_rows = [1" + b"0" * 70_000])
def test_files_that_are_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_bytes(content)
    with pytest.raises(SweepError):
        plan.load(path)
    with pytest.raises(SweepError, match="no sweep"):
        plan.load(tmp_path / "none.toml")


def test_the_baseline_is_no_point_of_the_grid() -> None:
    reference = read(baseline="kv260").reference()
    assert reference is not None
    assert (reference.position, reference.config.name) == (-1, "kv260")


def test_names_are_told_apart() -> None:
    assert not set(CONFIG) & set(METRICS) - {"dsp"}
    json.dumps(sorted(METRICS))
