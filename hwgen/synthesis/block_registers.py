"""Whether DSPs use all their registers, and memories one behind their output.

An output register of a memory is one of its own, or a register (or shift register) that its data
reaches without logic: Vivado moves that one in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hwgen.synthesis import mapped
from hwgen.synthesis.mapped import Cell, Netlist

DSP_REGISTERS = {"A": ("AREG",), "B": ("BREG",), "C": ("CREG",), "D": ("DREG",)}
"""Registers that a DSP48E2 needs when it uses an operand; M and P it always needs."""


def missing(netlist: Netlist) -> Iterator[str]:
    """A sentence for each DSP or memory that lacks a register."""
    yield from _dsp_registers(netlist)
    yield from _memory_registers(netlist)


def _dsp_registers(netlist: Netlist) -> Iterator[str]:
    """DSPs that are not fully pipelined."""
    for cell in netlist.cells:
        if not mapped.DSP.match(cell.type):
            continue
        wanted = ["MREG", "PREG"]
        for operand, registers in DSP_REGISTERS.items():
            if any(isinstance(bit, int) for bit in cell.inputs.get(operand, [])):
                wanted += registers
        if cell.parameters.get("AMULTSEL", "A") == "AD":
            wanted.append("ADREG")
        missing = [name for name in wanted if _number(cell.parameters.get(name, "1")) == 0]
        if missing:
            yield f"{cell.owner}: {mapped.label(netlist, cell)} works without {', '.join(missing)}"


def _memory_registers(netlist: Netlist) -> Iterator[str]:
    """Block RAMs and UltraRAMs whose data meets logic before a register."""
    outputs = {bit for bits in netlist.outputs.values() for bit in bits}
    for cell in netlist.cells:
        if not (mapped.BLOCK_RAM.match(cell.type) or mapped.ULTRA_RAM.match(cell.type)):
            continue
        for port, bits in sorted(cell.outputs.items()):
            side = "A" if re.match(r"DOUTP?A|DOUT_A", port) else "B"
            own = _on(cell, f"DO{side}_REG", f"OREG_{side}")
            if port.startswith("CAS") or own:
                continue
            ends = [(sink, name) for bit in bits if isinstance(bit, int)
                    for sink, name, _ in netlist.sinks.get(bit, [])]  # fmt: skip
            loose = any(not (mapped.is_register(sink) and name == "D") for sink, name in ends)
            if loose or any(isinstance(bit, int) and bit in outputs for bit in bits):
                yield (
                    f"{cell.owner}: {mapped.label(netlist, cell)} has no output register: its"
                    f" {port} meets logic"
                )


def _on(cell: Cell, *names: str) -> bool:
    return any(_number(cell.parameters.get(name, "0")) == 1 for name in names)


def _number(value: Any) -> int:
    """A parameter's value: a number in binary, TRUE or FALSE."""
    if isinstance(value, int):
        return value
    if value in ("TRUE", "FALSE"):
        return int(value == "TRUE")
    return int(value, 2) if value and set(value) <= {"0", "1"} else 0
