"""Counts a mapped netlist's cells as the device's resources, by module and in total."""

from __future__ import annotations

from hwgen.synthesis import mapped
from hwgen.synthesis.mapped import Cell, Netlist
from spec.device import Device
from spec.errors import UserError

RESOURCES = ("lut", "ff", "dsp", "bram36", "uram")

Counts = dict[str, float]
"""Resource -> number of it; RAMB18 counts as half a BRAM36."""


LUTS_OF_RAM = {"M": 4, "M8": 8, "M16": 8}
"""LUTs of a multi-port LUT RAM (RAM32M, RAM64M, RAM64M8, RAM32M16): a slice has eight."""


class FitError(UserError):
    """A design that the device cannot hold."""


def cost(cell: Cell) -> Counts:
    """The resources that one cell takes. Carry chains and wide multiplexers come with the LUTs."""
    kind = cell.type
    if mapped.LUT.match(kind) or mapped.SHIFT_REGISTER.match(kind):
        return {"lut": 1}
    if mapped.FLIP_FLOP.match(kind):
        return {"ff": 1}
    if mapped.DSP.match(kind):
        return {"dsp": 1}
    if mapped.ULTRA_RAM.match(kind):
        return {"uram": 1}
    if ram := mapped.LUT_RAM.match(kind):
        if ram[2] in LUTS_OF_RAM:
            return {"lut": LUTS_OF_RAM[ram[2]]}
        ports = 2 if ram[2] == "X1D" else 1
        return {"lut": ports * max(1, int(ram[1]) // 64)}
    if block := mapped.BLOCK_RAM.match(kind):
        return {"bram36": int(block[1]) / 36}
    return {}


def count(netlist: Netlist) -> dict[str, Counts]:
    """Resources by module, each with all that it contains; the whole design is ``""``."""
    modules: dict[str, Counts] = {"": dict.fromkeys(RESOURCES, 0)}
    for cell in netlist.cells:
        taken = cost(cell)
        for module in _with_parents(cell.owner) if taken else ():
            counts = modules.setdefault(module, dict.fromkeys(RESOURCES, 0))
            for resource, number in taken.items():
                counts[resource] += number
    return {module: modules[module] for module in sorted(modules)}


def _with_parents(module: str) -> list[str]:
    parts = module.split(".") if module else []
    return [".".join(parts[:length]) for length in range(len(parts) + 1)]


def check_fit(name: str, total: Counts, device: Device) -> None:
    """Refuses a design that the device cannot hold.

    Raises:
        FitError: which resource is short, and by how much.
    """
    short = [
        f"{_number(total[resource] - limit)} {resource.upper()} more than its {_number(limit)}"
        for resource, limit in device.limits.items()
        if total[resource] > limit
    ]
    if short:
        raise FitError(
            f"{name} does not fit the {device.name}: it takes {' and '.join(short)}; lower"
            " tokens, ports, max_k or fifo_beats"
        )


def _number(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")
