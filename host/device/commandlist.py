"""Lists of commands in the device's memory, and the check that none reaches outside its buffers.

A descriptor holds plain addresses: a wrong one would make the engine read or overwrite anything in
the machine's memory. So every list is decoded again from the memory that the engine will read and
compared with the buffers that the driver owns, before the doorbell rings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from host.device.transport import Buffer, Transport
from spec import commands
from spec.config import Config
from spec.errors import DeviceError
from spec.layout import REGION_ALIGN, Matrix


@dataclass(frozen=True)
class Command:
    """One matmul with its buffers."""

    matrix: Matrix
    operation: str
    tokens: int
    activations: Buffer
    stride: int
    """Bytes between the ports' parts of the activations."""
    results: Buffer
    descriptor: bytes
    top_k: int = 0
    """Entries per token that the caller asked for; 0 for all results. The engine writes one more
    when this is odd."""

    def ports(self) -> list[tuple[np.ndarray, int, int]]:
        """What each port reads of the activations: (array, first byte, bytes)."""
        config = self.matrix.config
        size = self.matrix.activation_beats(self.tokens) * config.port_bytes
        return [(self.activations.array, port * self.stride, size) for port in range(config.ports)]


@dataclass
class CommandList:
    """Descriptors in memory, in the order in which the engine runs them."""

    commands: tuple[Command, ...]
    buffer: Buffer
    """The descriptors, 64 bytes each."""
    checked: bytes = b""
    """The descriptors that passed the check; the check is repeated when memory differs."""

    @property
    def operation(self) -> str:
        """What the counters file the list under: the first command's operation."""
        return self.commands[0].operation


class Memory:
    """The buffers of one device, by what they may be used for."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.config: Config = transport.config
        self._buffers: dict[str, list[Buffer]] = {
            role: [] for role in ("weights", "activations", "results", "commands")
        }
        self._shared: dict[tuple[str, int], list[Buffer]] = {}
        self._page_used = REGION_ALIGN

    def allocate(self, role: str, size: int) -> Buffer:
        """A new zeroed buffer. Raises DeviceError when the device's memory is short."""
        buffer = self.transport.allocate(size)
        self._buffers[role].append(buffer)
        return buffer

    def reuse(self, role: str, size: int, lane: int = 0) -> Buffer:
        """The smallest shared buffer of a lane that holds ``size``; if none does, a new one of a
        power of two.

        Its users run one after another, each done with it before the next one starts; those of
        another lane may run in between.
        """
        shared = self._shared.setdefault((role, lane), [])
        fitting = [buffer for buffer in shared if len(buffer.array) >= size]
        if fitting:
            return min(fitting, key=lambda buffer: len(buffer.array))
        shared.append(self.allocate(role, max(REGION_ALIGN, 1 << (size - 1).bit_length())))
        return shared[-1]

    def command_list(self, prepared: Sequence[Command]) -> CommandList:
        """Writes descriptors into memory once; the list can then run any number of times.

        Raises:
            DeviceError: no command, more than a list can hold, or one outside its buffers.
        """
        if not 1 <= len(prepared) <= commands.COUNT_MAX:
            raise DeviceError(
                f"a command list holds 1..{commands.COUNT_MAX} commands, got {len(prepared)}"
            )
        image = b"".join(command.descriptor for command in prepared)
        page, start = self._place(len(image))
        page.array[start : start + len(image)] = np.frombuffer(image, np.uint8)
        self.transport.flush(page)
        array = page.array[start : start + len(image)]
        result = CommandList(tuple(prepared), Buffer(page.address + start, array))
        self.check(result)
        return result

    def check(self, prepared: CommandList) -> None:
        """Refuses a list that reads or writes outside the buffers meant for it.

        Raises:
            DeviceError: naming the command, the field and the address.
        """
        image = prepared.buffer.array.tobytes()
        if image == prepared.checked:
            return
        prepared.checked = b""
        written: list[tuple[int, int]] = []
        for index in range(0, len(image), commands.BYTES):
            try:
                fields = commands.unpack(image[index : index + commands.BYTES])
                self._check_command(fields, written)
            except (commands.CommandError, _OutsideError) as error:
                raise DeviceError(
                    f"command {index // commands.BYTES} of a list was not started: {error}"
                ) from None
        prepared.checked = image

    def _place(self, size: int) -> tuple[Buffer, int]:
        """A page for descriptors and where in it; short lists share one."""
        if self._page_used + size > REGION_ALIGN or not self._buffers["commands"]:
            self.allocate("commands", size if size > REGION_ALIGN else REGION_ALIGN)
            self._page_used = 0
        start = self._page_used
        self._page_used += size
        return self._buffers["commands"][-1], start

    def _check_command(self, fields: dict[str, int], written: list[tuple[int, int]]) -> None:
        config = self.config
        commands.check(config, fields)
        for kind in ("weight", "activation"):
            gaps = (config.ports - 1) * fields[f"{kind}_stride"]
            size = gaps + fields[f"{kind}_beats"] * config.port_bytes
            self._inside(f"{kind}s", fields[f"{kind}s"], size)
        start, size = fields["results"], commands.written_bytes(config, fields)
        self._inside("results", start, size)
        for other, end in written:
            if start < end and other < start + size:
                raise _OutsideError(
                    f"its results at {start:#x} overlap another command's at {other:#x}"
                )
        written.append((start, start + size))

    def _inside(self, role: str, address: int, size: int) -> None:
        for buffer in self._buffers[role]:
            if 0 <= address - buffer.address <= len(buffer.array) - size:
                return
        raise _OutsideError(
            f"its {role}, {size} bytes at {address:#x}, lie outside the buffers for {role}"
        )


class _OutsideError(Exception):
    """Why a command was refused; told by ``Memory.check``."""
