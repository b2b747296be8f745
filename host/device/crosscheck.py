"""While a model runs, one matmul in N is computed again by the compiled kernels, and must be equal.

The kernels read the very bytes that the device read: weights, activations and descriptors lie in
memory that both see, so nothing is kept twice.
"""

from __future__ import annotations

import numpy as np

from host.device.commandlist import Command, CommandList
from host.device.counters import Counters
from host.device.cpu import CpuDevice
from host.device.driver import Accelerator
from host.device.transport import Buffer, Transport
from spec import commands
from spec.config import Config
from spec.errors import DeviceError, MismatchError, UserError


class CheckError(UserError):
    """A number of matmuls that makes no sense."""


class _Kernel(CpuDevice):
    """The kernels on another device's buffers."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, 1)

    def compute(self, command: Command, shift: int) -> np.ndarray:
        """A command's results, uint8, computed apart from where the device wrote them.

        Args:
            shift: pointer of a byte minus its device address.
        """
        results = np.zeros(command.results.array.nbytes, np.uint8)
        fields = commands.unpack(command.descriptor)
        fields["results"] = results.ctypes.data - shift
        self._start = shift
        self.execute(self.prepare(fields))
        return results


class CheckedAccelerator(Accelerator):
    """The driver with a cross-check of one matmul in ``every``.

    Raises:
        CheckError: ``every`` is below 1.
    """

    def __init__(self, transport: Transport, every: int, timeout: float = 600.0) -> None:
        if every < 1:
            raise CheckError(f"--check-every must be at least 1, got {every}")
        super().__init__(transport, timeout)
        self._every = every
        self._kernel = _Kernel(self.config)
        self._seen = 0
        self.checked = 0
        """Matmuls that were computed twice and were equal."""

    compiled = False  # the compiled runner does not come by here

    def _end(self, prepared: CommandList) -> Counters:
        """The end of a list; then those of its matmuls are checked whose turn it is.

        Raises:
            MismatchError: a result differs.
            DeviceError: as for ``Accelerator.ring``.
        """
        spent = super()._end(prepared)
        for command in prepared.commands:
            self._seen += 1
            if self._seen % self._every == 0:
                self._check(command)
        return spent

    def _check(self, command: Command) -> None:
        self.transport.invalidate(command.results)
        found = command.results.array
        expected = self._kernel.compute(command, _shift(command))
        different = np.flatnonzero(found != expected)
        if len(different):
            raise MismatchError(
                f"cross-check: matmul {self._seen} ({command.operation}, {command.tokens} tokens)"
                f" of device {self.transport.name} differs from the kernels in {len(different)} of"
                f" {len(expected)} bytes, first at {int(different[0])}: run kria-llm selftest"
            )
        self.checked += 1


def _shift(command: Command) -> int:
    """Pointer minus address, the same for all of a device's memory.

    Raises:
        DeviceError: the device's memory is not mapped in one piece.
    """
    buffers: list[Buffer] = [command.activations, command.results]
    shifts = {buffer.array.ctypes.data - buffer.address for buffer in buffers}
    if len(shifts) != 1:
        raise DeviceError("--check-every needs a device whose memory is mapped in one piece")
    return shifts.pop()
