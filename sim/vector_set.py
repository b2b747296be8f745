"""Test vectors for every level: drawing a set, and running one on golden, RTL, gates or kernels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from host.device import vectors
from host.device.driver import Accelerator, memory_needed
from host.device.vectors import Vector
from sim import cases, device, gates, replay
from spec import numeric
from spec.config import Config
from spec.errors import ToolError

LEVELS = {
    "golden": "the golden model, NumPy",
    "cpu": "the compiled kernels",
    "rtl": "the generated Verilog, simulated by Verilator",
    "gates": "the Verilog mapped to gates by Yosys, memories kept, simulated by Verilator",
}

SPARE = 1 << 16
"""Bytes beyond what driver and operands take."""

TIMEOUT = 3600.0
"""Seconds."""


def draw(config: Config, count: int, seed: int) -> Iterator[Vector]:
    """A set for a configuration and any other that can hold it: formats, groups and tokens in
    turn, values drawn from the seed, results of the golden model."""
    groups = [group for group in numeric.GROUPS if group >= config.group]
    for index in range(count):
        bits, group = (4, 8)[index % 2], groups[index // 2 % len(groups)]
        fmt = "bf16" if index % 3 == 1 else "fp32"
        top_k = 4 if index % 3 == 2 else 0
        tokens = 1 + index % config.tokens
        rows = (1, config.tile_rows - 1, config.tile_rows + 3)[index % 3] + 4
        columns = group * (1 + index % max(1, min(config.max_k, 512) // group))
        case = cases.draw(rows, columns, bits, group, tokens, seed + index)
        asked = replay.Asked(config, case, fmt, top_k)
        kind = f"top{top_k}" if top_k else fmt
        name = f"{index:03}-int{bits}-g{group}-{rows}x{columns}-m{tokens}-{kind}"
        yield dataclasses.replace(replay.vector(asked, name), config=None)


def open_level(level: str, config: Config, memory_bytes: int) -> Any:
    """A transport for a level of ``LEVELS`` or any device by name.

    Raises:
        ToolError: no such level or device, or its tools are missing.
    """
    if level == "gates":
        return gates.open(config, memory_bytes)
    for point in entry_points(group="kria_llm.devices"):
        if point.name == level:
            return point.load()(config, memory_bytes)
    known = sorted({point.name for point in entry_points(group="kria_llm.devices")} | {"gates"})
    raise ToolError(f"there is no level or device {level!r}: give one of {', '.join(known)}")


def run(level: str, config: Config, chosen: list[Vector]) -> list[dict[str, Any]]:
    """Runs vectors on one level.

    Returns:
        Per vector its name, whether it is equal, and the first difference.

    Raises:
        ToolError, DeviceError: of the level.
    """
    config = device.simulated(config)
    suited = [vector for vector in chosen if vector.suits(config)]
    size = 2 * memory_needed(config, [vector.weights for vector in suited]) + SPARE * len(chosen)
    transport = open_level(level, config, size)
    try:
        accelerator = Accelerator(transport, timeout=TIMEOUT)
        told = []
        for vector in suited:
            found = vectors.run(accelerator, vector)
            difference = vectors.difference(vector, found)
            told.append({"name": vector.name, "equal": difference is None,
                         "difference": difference})  # fmt: skip
        return told
    finally:
        transport.close()
