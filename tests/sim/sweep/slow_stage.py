"""A stage for tests: figures by hand, as slow, deadly or broken as a point's values ask for."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.sweep.point import Point
from spec.errors import ToolError, UserError

NAME = "tests.sim.sweep.slow_stage:run"

SECONDS = 0.01


def run(point: Point, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Figures that follow from the configuration."""
    config = point.config
    time.sleep(float(os.environ.get("SLOW_STAGE_SECONDS", SECONDS)))
    folder = os.environ.get("SLOW_STAGE_CALLS")
    if folder:
        # One file a call: two workers at once do not disturb each other.
        Path(folder, f"{point.position}-{os.getpid()}-{time.monotonic_ns()}").touch()
    if config.outstanding == 3:
        raise UserError("three is refused here")
    if config.outstanding == 5:
        raise ToolError("a tool of this stage is missing")
    if config.outstanding == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    if config.outstanding == 9:
        raise ZeroDivisionError("a bug")
    return {"tokens_per_second": 100.0 + config.tile_rows + config.outstanding, "lut": 10.0}
