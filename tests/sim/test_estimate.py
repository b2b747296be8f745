"""``hwgen estimate``: rows at each level, and errors that follow from them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sim import area, estimate
from spec import shapes
from spec.config import KV260, TINY
from spec.device import XCK26

SMALL = shapes.ModelShape("small", 128, 2, 2, 1, 64, 192, 300)

app = typer.Typer()
app.command()(estimate.command)


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shapes.SHAPES, "small", SMALL)


def report(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def rows(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["figure"]: row for row in found["rows"]}


def test_an_estimate_alone_has_no_other_figures() -> None:
    found = report("--config", "kv260")
    assert found["fits"] is True
    for row in found["rows"]:
        assert row["estimate"] > 0
        assert row["simulated"] is row["synthesised"] is row["error"] is None
    table = rows(found)
    operations = ("qkv", "o", "gate_up", "down", "head")
    parts = sum(table[f"{name} cycles"]["estimate"] for name in operations)
    assert parts == table["pass cycles"]["estimate"]
    speed = KV260.clock_mhz * 1e6 / table["pass cycles"]["estimate"]
    assert table["tokens/s"]["estimate"] == pytest.approx(speed, abs=0.001)
    assert table["dsp"]["limit"] == XCK26.limits["dsp"]


def test_simulated_cycles_stand_beside_the_estimate() -> None:
    table = rows(report("--config", "tiny", "--model", "small", "--tokens", "2", "--simulate"))
    whole = table["pass cycles"]
    assert whole["error"] == pytest.approx(whole["estimate"] / whole["simulated"] - 1, abs=1e-4)
    assert table["bytes read"]["estimate"] == table["bytes read"]["simulated"]
    speed = 2 * TINY.clock_mhz * 1e6 / whole["simulated"]
    assert table["tokens/s"]["simulated"] == pytest.approx(speed, rel=1e-4)
    assert table["lut"]["simulated"] is None


def test_synthesised_resources_stand_beside_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = {name: 2 * used for name, used in area.estimate(KV260).items()}
    monkeypatch.setattr(estimate, "_mapped", lambda config: mapped)
    table = rows(report("--synthesise"))
    for name in XCK26.limits:
        assert table[name]["synthesised"] == mapped[name]
        assert table[name]["error"] == -0.5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(("--tokens", "9"), "tokens must lie in 1..8"), (("--model", "gpt"), "no shape of a model"),
     (("--memory", "no.toml"), "no.toml")],
)  # fmt: skip
def test_what_is_not_there_is_refused(arguments: tuple[str, ...], sentence: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert sentence in str(result.exception)
