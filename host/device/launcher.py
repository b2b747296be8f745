"""How command lists are run: doorbell, wait, errors, counters; in Python, or compiled where it can.

A list is started and finished apart, so that the processor can work in between. The compiled
runner (``host/kernels/runner.c``) does both without Python where the registers are mapped, or the
device is the processor itself; it leaves to ``start`` and ``finish`` here whatever is out of the
ordinary.
"""

from __future__ import annotations

import contextlib
import ctypes

import numpy as np

from host.device import recovery
from host.device.commandlist import CommandList, Memory
from host.device.counters import Counters
from host.device.transport import Transport
from host.kernels import Matmul
from host.kernels.runner import BY_CALLER, ON_ENGINE, ON_PROCESSOR, Launch, Port, Span
from spec import registers
from spec.config import Config
from spec.errors import DeviceError

COUNTER_OFFSETS = [registers.OFFSETS[name] for name in registers.COUNTERS]

MASK = 0xFFFFFFFF

METERS = 64
"""Operations times places, at most: five by two."""


class Launcher:
    """Runs command lists on one device.

    Args:
        timeout: seconds that one command list may take.
    """

    compiled = True
    """Whether lists may be run by the compiled runner."""

    def __init__(self, transport: Transport, timeout: float) -> None:
        self.transport = transport
        self.config: Config = transport.config
        self.timeout = timeout
        """Seconds that one command list may take."""
        self.tally: dict[str, Counters] = {}
        """Counters by operation since the driver was opened."""
        self.ran: dict[tuple[str, str], int] = {}
        """Commands by (operation, ``fabric`` or ``cpu``) since the driver was opened."""
        self.launches = {"compiled": 0, "python": 0}
        """Commands by what rang for them."""
        self._control = recovery.Control(transport.read_register, transport.write_register)
        self._memory = Memory(transport)
        make = getattr(transport, "port", None)
        self.port: Port | None = make() if make is not None and self.compiled else None
        """The registers for the compiled runner; None where it cannot reach them."""
        self._running = self._closed = False
        self._last = [0] * len(COUNTER_OFFSETS)
        self._meters: dict[tuple[str, str], int] = {}
        self._amounts = np.zeros((METERS, len(COUNTER_OFFSETS) + 1), np.uint64)
        """Rows of ``host.kernels.runner.Meter``, one for each operation and place."""

    def close(self) -> None:
        """Releases the device."""
        self._closed = True
        self.transport.close()

    def read(self, name: str) -> int:
        """A register by name."""
        return self.transport.read_register(registers.OFFSETS[name])

    def write(self, name: str, value: int) -> None:
        """Writes a register by name."""
        self.transport.write_register(registers.OFFSETS[name], value)

    def reset(self) -> None:
        """Abandons whatever the device does; its memory keeps its contents.

        Raises:
            DeviceError: the memory does not take what the engine offers.
        """
        self._ended()
        self._control.reset(self.transport.name)
        self._counted = self._read_counters()

    def abandon(self) -> None:
        """Ends a list that was started and not finished: nothing may write to memory that the
        caller gives up."""
        if self._running or (self.port is not None and self.port.running):
            with contextlib.suppress(DeviceError):
                self.reset()

    def held_error(self) -> DeviceError:
        """The error that the device holds; it is cleared, and the device made ready."""
        error = self._control.take_error(self.transport.name)
        self._counted = self._read_counters()
        return error

    def settle(self) -> None:
        """Makes sure that the engine may start.

        Raises:
            DeviceError: transfers of an abandoned list do not end, or the device was closed.
        """
        if self._closed:
            raise DeviceError(f"device {self.transport.name} has been closed: open it again")
        if not self._control.ready:
            self._control.settle(self.transport.name)

    def launch(self, prepared: CommandList) -> None:
        """Runs a list whose activations are in their buffers; its results are then in theirs.

        Raises:
            DeviceError: as for ``ring``.
        """
        self.start(prepared)
        self.finish(prepared)

    def start(self, prepared: CommandList) -> None:
        """Rings for a list whose activations are in their buffers. Raises as ``ring``."""
        for command in prepared.commands:
            self.transport.flush(command.activations)
        self._begin(prepared)

    def finish(self, prepared: CommandList) -> None:
        """Waits for the list that was started; its results are then in their buffers.

        Raises:
            DeviceError: as for ``ring``.
        """
        self._end(prepared)
        for command in prepared.commands:
            self.transport.invalidate(command.results)

    def ring(self, prepared: CommandList) -> Counters:
        """Runs the descriptors of a list as they are in memory; the buffers are the caller's.

        Returns:
            What the run cost; it is also added to ``tally`` under the first command's operation.

        Raises:
            DeviceError: a descriptor points outside its buffers (nothing is started), the device
                reported an error (it is cleared: the next run works), or time ran out.
        """
        self._begin(prepared)
        return self._end(prepared)

    def count(self, prepared: CommandList, place: str) -> None:
        """Notes where a list ran."""
        self._note(prepared.operation, place, len(prepared.commands))

    def native(self, prepared: CommandList, processor: list[Matmul] | None = None) -> Launch:
        """A list for the compiled runner; the list and its buffers must stay.

        Args:
            processor: its commands for the processor, where a plan puts them there.
        """
        buffer = prepared.buffer
        made = Launch(
            image_bytes=len(buffer.array), address=buffer.address, commands=len(prepared.commands),
            place=BY_CALLER,
        )  # fmt: skip
        checked = (ctypes.c_char * len(prepared.checked)).from_buffer_copy(prepared.checked)
        read = _spans([(one.results.array, 0, one.results.array.nbytes)
                       for one in prepared.commands])  # fmt: skip
        made.hold(image=buffer.array, checked=checked, read=read)
        made.spans_read = len(read)
        if processor is not None:
            self._for_processor(made, prepared.operation, "cpu", processor)
        elif self.port is not None:
            made.place = ON_ENGINE
            made.hold(meter=self._meter(prepared.operation, "fabric"))
            written = _spans([part for one in prepared.commands for part in one.ports()])
            made.hold(written=written)
            made.spans_written = len(written)
        elif self.compiled and (prepare := getattr(self.transport, "prepare_list", None)):
            found = prepare(buffer.address, len(prepared.commands))
            if found is not None:
                matmuls, costs = found
                made.hold(costs=(ctypes.c_uint32 * len(costs))(*costs))
                self._for_processor(made, prepared.operation, "fabric", matmuls)
        return made

    def fold(self) -> None:
        """Adds up what the compiled runner did since the last call."""
        amounts = self._amounts[: len(self._meters)]
        if not amounts[:, -1].any():
            return
        listed, total = amounts.tolist(), amounts.sum(axis=0).tolist()
        amounts[:] = 0
        for (operation, place), (*spent, commands) in zip(self._meters, listed, strict=True):
            if not commands:
                continue
            self._note(operation, place, commands, "compiled")
            if place == "fabric":
                if operation not in self.tally:
                    self.tally[operation] = Counters()
                self.tally[operation].take(self.config, spent)
        if self.port is None and any(total[:-1]):  # a device whose counters stood still meanwhile
            self.transport.spend(total[:-1])  # type: ignore[attr-defined]
            self._last = [
                (old + more) & MASK for old, more in zip(self._last, total[:-1], strict=True)
            ]

    # How it is done

    @property
    def _counted(self) -> list[int]:
        """The counters as they were last read, here or by the compiled runner."""
        return self._last if self.port is None else list(self.port.counted)

    @_counted.setter
    def _counted(self, values: list[int]) -> None:
        self._last = values
        if self.port is not None:
            self.port.counted[:] = values

    def _begin(self, prepared: CommandList) -> None:
        self._memory.check(prepared)
        self.settle()
        self.write("list_address_low", prepared.buffer.address & MASK)
        self.write("list_address_high", prepared.buffer.address >> 32)
        self._running = True
        self.write("doorbell", len(prepared.commands))

    def _end(self, prepared: CommandList) -> Counters:
        try:
            self.transport.wait(self.timeout)
        except BaseException:  # Ctrl-C too
            self.abandon()
            raise
        self._ended()
        if self._control.status("error"):
            raise self.held_error()
        counted = self._read_counters()
        spent = Counters.between(self.config, self._counted, counted)
        self._counted = counted
        self.tally.setdefault(prepared.operation, Counters()).add(spent)
        self.count(prepared, "fabric")
        return spent

    def _ended(self) -> None:
        self._running = False
        if self.port is not None:
            self.port.running = 0

    def _note(self, operation: str, place: str, commands: int, by: str = "python") -> None:
        key = operation, place
        self.ran[key] = self.ran.get(key, 0) + commands
        self.launches[by] += commands

    def _for_processor(
        self, made: Launch, operation: str, place: str, matmuls: list[Matmul]
    ) -> None:  # fmt: skip
        made.place = ON_PROCESSOR
        made.hold(matmuls=(Matmul * len(matmuls))(*matmuls), meter=self._meter(operation, place))

    def _meter(self, operation: str, place: str) -> np.ndarray:
        index = self._meters.setdefault((operation, place), len(self._meters))
        return self._amounts[index]

    def _read_counters(self) -> list[int]:
        read = self.transport.read_register
        return [read(offset) for offset in COUNTER_OFFSETS]


def _spans(parts: list[tuple[np.ndarray, int, int]]) -> ctypes.Array[Span]:
    """Of (array, first byte, bytes)."""
    return (Span * len(parts))(*(Span(one.ctypes.data + start, size) for one, start, size in parts))
