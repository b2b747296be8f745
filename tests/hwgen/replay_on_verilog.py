"""The cocotb test of tests/hwgen/cocotb_module.py: inputs of each cycle in, outputs compared."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cocotb
from cocotb.triggers import Timer

from tests.hwgen.cocotb_module import VARIABLE

HALF = 2
"""Nanoseconds."""


@cocotb.test()
async def every_cycle_is_the_same(dut) -> None:
    recording = json.loads(Path(os.environ[VARIABLE]).read_text())
    inputs = [getattr(dut, name) for name in recording["inputs"]]
    names = recording["outputs"]
    outputs = [getattr(dut, name) for name in names]
    clock = getattr(dut, "clk", None)  # a module without registers has none
    if hasattr(dut, "rst"):
        dut.rst.value = 0
    for number, (given, wanted) in enumerate(recording["cycles"]):
        if clock is not None:
            clock.value = 0
        for pin, value in zip(inputs, given, strict=True):
            pin.value = value
        await Timer(HALF, "ns")
        shown = dict(zip(names, wanted, strict=True))
        for name, pin, value in zip(names, outputs, wanted, strict=True):
            offered = shown.get(name.split("__payload")[0] + "__valid", 1)
            found = str(pin.value)
            if any(bit not in "01" for bit in found):
                # Memories begin undefined: no flag and nothing that is offered may come of that.
                offers = "__payload" in name and name.split("__payload")[0] + "__valid" in shown
                assert len(found) > 1 and not (offers and offered), (
                    f"cycle {number}: {name} is {found}"
                )
            right = f"{value:0{len(found)}b}"
            same = all(bit in (other, "X") for bit, other in zip(found.upper(), right, strict=True))
            assert not offered or same, (
                f"cycle {number}: {name} is {found}, in Amaranth's simulator {right}"
            )
        if clock is not None:
            clock.value = 1
        await Timer(HALF, "ns")
