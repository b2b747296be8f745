"""The resource estimate against Yosys's mapping of the design, and what the device holds."""

from __future__ import annotations

import dataclasses

import pytest

from hwgen.synthesis.command import synthesise
from sim import area
from spec.config import KV260, Config

SMALL = dataclasses.replace(KV260, name="small", ports=1, tokens=1, max_k=1024)
TOLERANCE = 0.05


def agrees(config: Config, tolerance: float) -> None:
    """Blocks are equal, LUTs and flip-flops within the tolerance."""
    mapped, guess = synthesise(config).modules[""], area.estimate(config)
    for name in ("dsp", "bram36", "uram"):
        assert guess[name] == mapped[name], name
    for name in ("lut", "ff"):
        assert guess[name] == pytest.approx(mapped[name], rel=tolerance), name


def test_a_small_design() -> None:
    """Far from the fit's middle: its logic is mostly what every design has."""
    agrees(SMALL, 2 * TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"tokens": 16}, {"ports": 2, "tokens": 2, "group": 32}, {"port_bits": 64, "tokens": 4}],
    ids=str,
)
def test_designs_of_the_fit(changes: dict[str, int]) -> None:
    agrees(dataclasses.replace(KV260, **changes), TOLERANCE)


def test_what_does_not_fit_is_named_with_its_excess() -> None:
    most = dataclasses.replace(KV260, tokens=16, max_k=32768)
    assert area.over(area.estimate(most)) == {}
    assert area.over({"lut": 117_121.0, "dsp": 1_248.0}) == {"lut": 1.0}
