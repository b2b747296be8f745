"""Runs matmuls of chosen operands on the simulated design and on golden, from one memory image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from host.device.commandlist import CommandList
from host.device.driver import Accelerator, memory_needed
from host.layout import blockfloat
from sim import device, golden
from sim.cases import Case
from spec import commands, registers
from spec.config import Config

TIMEOUT = 600.0
"""Seconds; the device notices a hang long before."""


@dataclass(frozen=True)
class Job:
    """One matmul: operands and the format of its results."""

    case: Case
    fmt: str = "fp32"


@dataclass(frozen=True)
class Ended:
    """The registers after a list that was started without the driver."""

    error: dict[str, int]
    address: int
    completed: int
    busy: int


class Bench:
    """An opened device with its driver; lists are prepared, then run by ``ring`` or by hand."""

    def __init__(self, config: Config, jobs: Sequence[Job], **options: Any) -> None:
        size = 4 * memory_needed(config, [job.case.weights for job in jobs]) + (1 << 16)
        self.device = device.open(config, size, **options)
        self.config = self.device.config
        self.driver = Accelerator(self.device, timeout=TIMEOUT)
        self.jobs = jobs
        self.prepared = self._prepare()

    def _prepare(self) -> CommandList:
        self.handles = [self.driver.load(job.case.weights) for job in self.jobs]
        prepared = self.driver.prepare(
            [(handle, job.case.tokens) for handle, job in zip(self.handles, self.jobs, strict=True)]
        )
        for index, (job, command) in enumerate(zip(self.jobs, prepared.commands, strict=True)):
            case = job.case
            blockfloat.pack_activations(
                self.config, command.matrix, case.bases, case.shifts, case.mantissas,
                command.activations.array, command.stride,
            )  # fmt: skip
            size = command.matrix.result_bytes(case.tokens, job.fmt)
            self.set_fields(
                prepared, index, result_format=commands.FORMAT_CODES[job.fmt],
                result_beats=size // self.config.port_bytes,
            )  # fmt: skip
        return prepared

    def fields(self, prepared: CommandList, index: int) -> dict[str, int]:
        """The fields of a descriptor as it is in memory, without those that are filled in."""
        fields = commands.unpack(self.descriptor(prepared, index).tobytes())
        return {name: value for name, value in fields.items() if name not in ("magic", "check")}

    def descriptor(self, prepared: CommandList, index: int) -> np.ndarray:
        """The bytes of a descriptor in memory; writing to them changes it."""
        return prepared.buffer.array[commands.BYTES * index : commands.BYTES * (index + 1)]

    def set_fields(self, prepared: CommandList, index: int, **values: int) -> None:
        """Changes fields of a descriptor; its check sum stays right."""
        image = commands.pack(self.fields(prepared, index) | values)
        self.descriptor(prepared, index)[:] = np.frombuffer(image, np.uint8)

    def wanted(self, index: int) -> tuple[np.ndarray, bool]:
        """Golden's result bytes of a command, and whether all were in the range of fp32."""
        fields = self.fields(self.prepared, index)
        command = self.prepared.commands[index]
        out = np.zeros(fields["result_beats"] * self.config.port_bytes, np.uint8)
        memory = self.device.memory

        def read(address: int, count: int) -> np.ndarray:
            start = address - device.MEMORY_BASE
            return memory[start : start + count]

        def write(address: int, data: np.ndarray) -> None:
            start = address - command.results.address
            out[start : start + data.size] = data

        image = self.descriptor(self.prepared, index).tobytes()
        return out, golden.execute(self.config, read, write, image)

    def found(self, index: int) -> np.ndarray:
        """The design's result bytes of a command."""
        size = self.fields(self.prepared, index)["result_beats"] * self.config.port_bytes
        return self.prepared.commands[index].results.array[:size]

    def difference(self, index: int = 0) -> str:
        """The first differing result of a command as a sentence; empty when all are equal."""
        kind = "<u4" if self.jobs[index].fmt == "fp32" else "<u2"
        wanted, found = self.wanted(index)[0].view(kind), self.found(index).view(kind)
        places = np.flatnonzero(wanted != found)
        if not places.size:
            return ""
        first = int(places[0])
        rows = self.config.tile_rows
        tile, token, row = np.unravel_index(first, (first + 1, self.jobs[index].case.tokens, rows))
        return (
            f"command {index}: {places.size} of {wanted.size} results differ, first token {token}"
            f" row {tile * rows + row}: rtl {found[first]:#x}, golden {wanted[first]:#x}"
        )

    def ring(self) -> None:
        """Runs the list through the driver; raises what it raises."""
        self.spoil()
        self.driver.ring(self.prepared)

    def spoil(self) -> None:
        """Fills the results with a pattern that no run leaves behind."""
        for command in self.prepared.commands:
            command.results.array[:] = 0xA5

    def start(self, address: int | None = None, count: int | None = None) -> None:
        """Rings the doorbell behind the driver's back, so that any list can be started."""
        start = self.prepared.buffer.address if address is None else address
        self.driver.write("list_address_low", start & 0xFFFFFFFF)
        self.driver.write("list_address_high", start >> 32)
        self.driver.write("doorbell", len(self.jobs) if count is None else count)

    def finish(self) -> Ended:
        """Waits for the end of what was started, and reads what it left."""
        self.device.wait(TIMEOUT)
        return Ended(
            error=registers.decode("error", self.driver.read("error")),
            address=self.driver.read("error_address_high") << 32
            | self.driver.read("error_address_low"),
            completed=self.driver.read("completed"),
            busy=registers.decode("status", self.driver.read("status"))["busy"],
        )

    def clear(self) -> None:
        """Forgets a held error."""
        self.driver.write("control", registers.encode("control", clear=1))

    def close(self) -> None:
        """Frees the simulation."""
        self.driver.close()


def burst_start(config: Config, address: int) -> int:
    """Where the burst begins that holds ``address``, in a run from a 4 KB boundary on."""
    return address - address % (config.burst_beats * config.port_bytes)
