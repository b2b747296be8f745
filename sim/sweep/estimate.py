"""The stage ``estimate``: speed and resources of a point by formula, about 0.3 ms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sim import area
from sim.sweep import energy, fabric, rates
from sim.sweep.overhead import overhead
from sim.sweep.point import Point
from sim.sweep.work import Workload
from spec.config import Config
from spec.device import XCK26
from spec.errors import UserError


class Infeasible(Exception):
    """A point that cannot be had; the sentence says why. ``figures`` are what is known of it."""

    def __init__(self, reason: str, figures: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.figures = figures or {}


def estimate(point: Point) -> dict[str, Any]:
    """Figures of a point: those of ``sim.sweep.names.METRICS`` and what the report draws.

    Raises:
        Infeasible: the layout cannot hold a matrix, or the device the design.
        ToolError: a tool that the models need is missing.
    """
    config, workload = point.config, point.workload
    resources = area.estimate(config)
    try:
        speed = _speed(config, workload)
    except UserError as problem:
        if problem.exit_code != UserError.exit_code:
            raise
        raise Infeasible(str(problem), resources) from None
    seconds, read = speed.pop("_seconds"), speed.pop("_read")
    used = max(resources[name] / limit for name, limit in XCK26.limits.items())
    found = {
        **{name: round(value, 4) for name, value in speed.items()},
        **resources,
        "utilisation": round(used, 4),
        "energy_mj_per_token": round(
            energy.millijoules(resources, config.clock_mhz, seconds, read), 3
        ),
    }
    short = area.over(resources)
    if short:
        lacking = " and ".join(f"{excess:g} {name.upper()}" for name, excess in short.items())
        raise Infeasible(f"the {XCK26.name} lacks {lacking}", found)
    return found


def _speed(config: Config, workload: Workload) -> dict[str, float]:
    """Seconds and rates of a decoded token and of prefill."""
    if workload.pass_tokens > config.tokens:
        raise UserError(
            f"a pass of {workload.pass_tokens} tokens needs an engine of as many, got"
            f" {config.tokens}"
        )
    rate = rates.rate(rates.key(config, workload.memory))
    beside = overhead(workload, config.tokens)
    hertz = config.clock_mhz * 1e6
    jobs = fabric.matmuls(config, workload, workload.pass_tokens, True)
    decode, read, products = fabric.spent(config, jobs, rate)
    vectors = fabric.prefill_tokens(config, workload)
    more = fabric.matmuls(config, workload, vectors, False)
    prefill, prefill_read, prefill_products = fabric.spent(config, more, rate)
    seconds = decode / hertz + beside.decode
    return {
        "tokens_per_second": workload.pass_tokens / seconds,
        "prefill_tokens_per_second": vectors / (prefill / hertz + beside.prefill),
        "fabric_tokens_per_second": workload.pass_tokens * hertz / decode,
        "gb_per_second": read / decode * hertz / 1e9,
        "decode_fabric_ms": decode / hertz * 1e3,
        "decode_processor_ms": beside.decode * 1e3,
        "prefill_fabric_ms": prefill / hertz * 1e3,
        "prefill_processor_ms": beside.prefill * 1e3,
        "decode_mac_per_byte": products / read,
        "decode_gmac_per_second": products / decode * hertz / 1e9,
        "prefill_mac_per_byte": prefill_products / prefill_read,
        "prefill_gmac_per_second": prefill_products / prefill * hertz / 1e9,
        **fabric.roofs(config, rate),
        "_seconds": seconds / workload.pass_tokens,
        "_read": read / workload.pass_tokens,
    }


def run(point: Point, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """The stage; it has neither chance nor options."""
    return estimate(point)
