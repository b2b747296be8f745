"""The top through its real AXI and AXI-Lite ports: cocotb and cocotbext-axi on Icarus Verilog."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from spec.config import TINY, Config
from tests.hwgen import icarus

FOUR = dataclasses.replace(
    TINY, name="four", ports=4, port_bits=32, tokens=1, burst_beats=16, outstanding=4
)
SEED = 11


@pytest.mark.parametrize("config", [TINY, FOUR], ids=lambda config: config.name)
def test_the_top_runs_behind_independent_axi_models(config: Config, tmp_path: Path) -> None:
    ran, failed = icarus.run(config, "tests.hwgen.top_on_icarus", tmp_path, SEED)
    log = (tmp_path / "simulation.log").read_text()
    assert (ran, failed) == (5, 0), f"seed {SEED}\n{log}"
