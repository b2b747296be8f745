"""Runs a module's recorded stimulus on its Verilog: cocotb, on Icarus or on Verilator.

A test of tests/hwgen/test_<module>.py drives the module in Amaranth's simulator, with its pauses
and seeds, and checks what comes out against spec and golden. Here the same inputs drive the Verilog
that is emitted for that module, in another simulator, and every output of every cycle must be the
same: the payloads, the handshakes and the latency.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from amaranth.back import rtlil
from cocotb_tools.runner import get_results, get_runner

from hwgen import netlist
from tests.hwgen import bench
from tests.hwgen.bench import Recording
from tests.hwgen.cocotb_top import ARGUMENTS, ROOT
from tests.plugins import simulators, waves

VARIABLE = "KRIA_LLM_TEST_RECORDING"
"""Environment variable that tells the simulation's process where the recording is."""

TOP = "module_under_test"

RECORDINGS_MAX = 2
"""Simulations of one test that are replayed."""


@contextlib.contextmanager
def recording() -> Iterator[list[Recording]]:
    """Records every simulation meanwhile."""
    bench.RECORDINGS = []
    try:
        yield bench.RECORDINGS
    finally:
        bench.RECORDINGS = None


def record(test: Callable[[], None]) -> list[Recording]:
    """The simulations of a test that passes."""
    with recording() as found:
        test()
    return found[:RECORDINGS_MAX]


def replay(found: Recording, directory: Path, simulator: str = simulators.ICARUS) -> int:
    """Replays a recording on the module's Verilog; how many cycles were compared.

    Raises:
        AssertionError: an output differs; the message ends with the simulation's log.
    """
    with simulators.chosen(simulator):
        return _replay(found, directory, simulator)


def _replay(found: Recording, directory: Path, simulator: str) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    source = directory / f"{TOP}.v"
    source.write_text(netlist.verilog(rtlil.convert(found.component, name=TOP, emit_src=False)))
    data = directory / "recording.json"
    data.write_text(json.dumps({
        "inputs": list(found.inputs), "outputs": list(found.outputs), "cycles": found.cycles,
    }))  # fmt: skip
    trace = waves.next_file(".fst")
    runner = get_runner(simulator)
    runner.build(
        sources=[source], hdl_toplevel=TOP, build_dir=directory / "build",
        build_args=ARGUMENTS[simulator], timescale=("1ns", "1ps"),
        log_file=directory / "build.log", waves=trace is not None,
    )  # fmt: skip
    results = directory / "results.xml"
    with contextlib.suppress(SystemExit):  # its way to say that a test failed; the file says which
        runner.test(
            test_module="tests.hwgen.replay_on_verilog", hdl_toplevel=TOP,
            build_dir=directory / "build", test_dir=directory, results_xml=str(results),
            log_file=directory / "simulation.log", waves=trace is not None,
            extra_env={
                VARIABLE: str(data),
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            },
        )  # fmt: skip
    if trace is not None:
        written = [*directory.rglob("*.fst"), *directory.rglob("dump.vcd")]
        if written:
            trace.with_suffix(written[0].suffix).write_bytes(written[0].read_bytes())
    log = (directory / "simulation.log").read_text()
    assert get_results(results) == (1, 0), log[-4000:]
    return len(found.cycles)
