"""The processor as a device: compiled integer kernels on the same memory image as the hardware.

Equal to the golden model bit for bit, so the runtime can fall back on nothing and compare with
everything.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

from host.device.software import BASE_ADDRESS, SoftwareDevice
from host.kernels import Matmul, library
from spec import commands, registers
from spec.config import Config
from spec.errors import DeviceError, ToolError

MAX_THREADS = 64
NO_MEMORY = 2
"""Result of ``kernels_matmul`` when it cannot get its working memory."""

GROUPS = {code: group for group, code in commands.GROUP_CODES.items()}


class CpuDevice(SoftwareDevice):
    """A device whose arithmetic is ``host/kernels/matmul.c``, on up to ``threads`` threads.

    Raises:
        ToolError: the kernels are missing, or ``threads`` is not in 1..64.
        DeviceError: no such amount of memory.
    """

    name = "cpu"

    def __init__(self, config: Config, memory_bytes: int, threads: int | None = None) -> None:
        available = min(len(os.sched_getaffinity(0)), MAX_THREADS)
        self.threads = available if threads is None else threads
        if not isinstance(self.threads, int) or not 1 <= self.threads <= MAX_THREADS:
            raise ToolError(f"threads must lie in 1..{MAX_THREADS}, got {threads!r}")
        self._matmul = library().kernels_matmul
        super().__init__(config, memory_bytes)
        self._start = self.memory.ctypes.data - BASE_ADDRESS

    def prepare(self, fields: dict[str, int]) -> Matmul:
        """A checked command as the kernel wants it."""
        config, start = self.config, self._start
        return Matmul(
            weights=start + fields["weights"],
            activations=start + fields["activations"],
            results=start + fields["results"],
            weight_stride=fields["weight_stride"],
            activation_stride=fields["activation_stride"],
            ports=config.ports,
            port_bytes=config.port_bytes,
            tile_rows=config.tile_rows,
            weights8=fields["weights8"],
            group=GROUPS[fields["group"]],
            tokens=fields["tokens"],
            chunks=fields["chunks"],
            tiles=fields["tiles"],
            bf16=int(fields["result_format"] == commands.FORMAT_CODES["bf16"]),
            top_k=fields["top_k"],
            rows=commands.rows(config, fields),
            threads=self.threads,
        )

    def prepare_list(self, address: int, count: int) -> tuple[list[Matmul], list[int]] | None:
        """A command list for the compiled runner, which runs it without the registers.

        Returns:
            Its commands, and what they add to ``registers.COUNTERS``; None when one is wrong: rung
            for in the ordinary way, it is told.
        """
        matmuls, costs = [], dict.fromkeys(registers.COUNTERS, 0)
        for index in range(count):
            start = address - BASE_ADDRESS + index * commands.BYTES
            try:
                fields = commands.unpack(self.memory[start : start + commands.BYTES].tobytes())
                commands.check(self.config, fields)
            except commands.CommandError:
                return None
            if not self.reaches(fields):
                return None
            matmuls.append(self.prepare(fields))
            for name, amount in self.costs(fields):
                costs[name] += amount
        return matmuls, list(costs.values())

    def spend(self, amounts: Sequence[int]) -> None:
        """Adds to the counters what the compiled runner did: amounts of ``registers.COUNTERS``."""
        for name, amount in zip(registers.COUNTERS, amounts, strict=True):
            self._count(name, amount)

    def execute(self, command: Matmul) -> bool:
        """Performs one checked command on ``memory``."""
        failed = self._matmul(ctypes.byref(command))
        if failed == NO_MEMORY:
            raise DeviceError("device cpu ran out of memory for one command's partial sums")
        return failed == 0


def open(config: Config, memory_bytes: int, **options: Any) -> CpuDevice:
    """Opens the processor as a device; the entry point of ``kria_llm.devices``.

    Raises:
        ToolError: an option that it does not have, or the kernels are missing.
        DeviceError: no such amount of memory.
    """
    unknown = set(options) - {"threads"}
    if unknown:
        raise ToolError(f"device cpu has no option {min(unknown)!r}; it has: threads")
    return CpuDevice(config, memory_bytes, **options)
