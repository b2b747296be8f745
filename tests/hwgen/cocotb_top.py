"""Runs cocotb tests of the generated top under Icarus Verilog or Verilator."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

from cocotb_tools.runner import get_results, get_runner

from hwgen import generate
from spec.config import Config, from_mapping
from tests.plugins import simulators, waves

ROOT = Path(__file__).resolve().parents[2]
CONFIG_VARIABLE = "KRIA_LLM_TEST_CONFIG"
"""Environment variable that tells the simulation's process which configuration it simulates."""


ARGUMENTS = {simulators.ICARUS: [], simulators.VERILATOR: ["-Wno-lint", "-Wno-fatal"]}
"""Of the builds: Verilator would stop at what it finds untidy."""


def simulated_config() -> Config:
    """Inside the simulation: the configuration of the design."""
    return from_mapping(json.loads(os.environ[CONFIG_VARIABLE]))


def run(
    config: Config,
    module: str,
    directory: Path,
    seed: int,
    simulator: str = simulators.ICARUS,
    gates: str | None = None,
) -> tuple[int, int]:
    """Simulates the top with the cocotb tests of ``module``; how many ran and how many failed.

    Args:
        directory: for the build, the log and the results.
        seed: of cocotb's random generator and of the tests' own.
        gates: a netlist that is simulated in the Verilog's place.
    """
    source = directory / f"{generate.MODULE}.v"
    source.write_text(gates or generate.verilog(config))
    environment = {CONFIG_VARIABLE: json.dumps(config.as_dict())}
    with simulators.chosen(simulator):
        return _run(source, module, directory, seed, simulator, environment)


def _run(
    source: Path, module: str, directory: Path, seed: int, simulator: str,
    environment: dict[str, str],
) -> tuple[int, int]:  # fmt: skip
    runner = get_runner(simulator)
    trace = waves.next_file(".fst")
    traced = trace is not None
    runner.build(
        sources=[source], hdl_toplevel=generate.MODULE, build_dir=directory / "build",
        timescale=("1ns", "1ps"), log_file=directory / "build.log", waves=traced,
        build_args=ARGUMENTS[simulator],
    )  # fmt: skip
    results = directory / "results.xml"
    with contextlib.suppress(SystemExit):  # its way to say that a test failed; the file says which
        runner.test(
            test_module=module, hdl_toplevel=generate.MODULE, build_dir=directory / "build",
            test_dir=directory, seed=seed, log_file=directory / "simulation.log",
            results_xml=str(results), waves=traced,
            extra_env={
                **environment,
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            },
        )  # fmt: skip
    if trace is not None:
        for written in (*directory.rglob("*.fst"), *directory.rglob("dump.vcd")):
            shutil.copyfile(written, trace.with_suffix(written.suffix))
    return get_results(results)
