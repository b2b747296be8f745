"""The stage ``synth``: a point's resources and the depth rule, by Yosys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sim import area
from sim.sweep.estimate import Infeasible
from sim.sweep.point import Point
from spec.device import XCK26


def run(point: Point, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Resources of the mapped design, the estimate's error, and whether the depth rule is met.

    Raises:
        Infeasible: the device cannot hold it.
        ToolError: no Yosys.
    """
    from hwgen.synthesis.command import synthesise  # loads Amaranth: a second

    found = synthesise(dataclasses.replace(point.config, name="point"))
    total = {name: float(found.modules[""][name]) for name in XCK26.limits}
    guess = area.estimate(point.config)
    verdict = found.verdict
    figures = {
        **total,
        "utilisation": round(max(total[name] / limit for name, limit in XCK26.limits.items()), 4),
        "lut_error": round(guess["lut"] / total["lut"] - 1, 4),
        "ff_error": round(guess["ff"] / total["ff"] - 1, 4),
        "depth_rule_met": verdict.met,
        "levels": max((path.levels for path in verdict.paths), default=0),
    }
    short = area.over(total)
    if short:
        lacking = " and ".join(f"{excess:g} {name.upper()}" for name, excess in short.items())
        raise Infeasible(f"the {XCK26.name} lacks {lacking}", figures)
    return figures
