"""Netlist: both texts of Verilog are the component, and legal for every simulator."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

import pytest
from amaranth.back import rtlil

from hwgen import netlist
from spec.config import TINY
from tests.hwgen import cocotb_module, test_queue


def emitted(component, flat: bool) -> str:
    return netlist.verilog(rtlil.convert(component, name="part", emit_src=False), flat=flat)


def test_the_flat_text_is_one_module_and_the_other_keeps_the_parts() -> None:
    from hwgen.writer import Writer

    flat, parts = emitted(Writer(TINY), True), emitted(Writer(TINY), False)
    assert flat.count("\nmodule ") == 1
    assert {"part.cutter", "part.beats"} <= {
        name.strip("\\ ") for name in re.findall(r"^module (\S+)", parts, re.MULTILINE)
    }
    for text in (flat, parts):
        assert "src =" not in text and "generator" not in text


def test_icarus_takes_the_text_with_its_parts(tmp_path: Path) -> None:
    from hwgen.reader import Reader

    path = tmp_path / "part.v"
    path.write_text(emitted(Reader(TINY), False))
    done = subprocess.run(
        ["iverilog", "-g2005", "-tnull", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seed", [3, 4])
def test_the_flat_text_does_the_same(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replayed as the modules' tests are; state machines are not legal for Icarus there."""
    test = functools.partial(
        test_queue.test_all_leave_in_order_and_the_level_is_what_is_held, depth=4, seed=seed
    )
    (found,) = cocotb_module.record(test)
    monkeypatch.setattr(netlist, "verilog", functools.partial(netlist.verilog, flat=True))
    assert cocotb_module.replay(found, tmp_path)


def test_a_repeated_bit_becomes_a_replication() -> None:
    text = "assign x = { a[3], a[3], a[3], b, c };"
    assert netlist.REPEATED.sub(netlist._replication, text) == "assign x = { {3{ a[3] }}, b, c };"
    for same in ("assign x = { a[3], a[2], a[1] };", "assign x = { a, a };"):
        assert netlist.REPEATED.sub(netlist._replication, same) == same
