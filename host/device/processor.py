"""The processor beside a device: a matmul that the plan gives to it, on the device's own buffers.

The same packed weights, activations and results as the engine's, so nothing is held twice and the
results are equal bit for bit (``host.device.cpu``).
"""

from __future__ import annotations

import ctypes
import os

from host.device.commandlist import Command
from host.device.cpu import GROUPS, MAX_THREADS, NO_MEMORY
from host.device.transport import Buffer
from host.kernels import Matmul, address, library
from spec import commands
from spec.config import Config
from spec.errors import DeviceError


class Processor:
    """Runs single commands in host memory.

    Args:
        threads: None for one per processor.
    """

    def __init__(self, config: Config, threads: int | None = None) -> None:
        available = min(len(os.sched_getaffinity(0)), MAX_THREADS)
        self._config, self._threads = config, threads or available
        self._function = library().kernels_matmul

    def prepare(self, command: Command, weights: Buffer) -> Matmul:
        """A command as the kernel wants it; its buffers must stay."""
        config, fields = self._config, commands.unpack(command.descriptor)
        return Matmul(
            weights=address(weights.array), activations=address(command.activations.array),
            results=address(command.results.array), weight_stride=fields["weight_stride"],
            activation_stride=fields["activation_stride"], ports=config.ports,
            port_bytes=config.port_bytes, tile_rows=config.tile_rows, weights8=fields["weights8"],
            group=GROUPS[fields["group"]], tokens=fields["tokens"], chunks=fields["chunks"],
            tiles=fields["tiles"], rows=commands.rows(config, fields), threads=self._threads,
            bf16=int(fields["result_format"] == commands.FORMAT_CODES["bf16"]),
        )  # fmt: skip

    def run(self, prepared: Matmul) -> None:
        """Computes one command.

        Raises:
            DeviceError: a result outside the range of fp32, or no working memory.
        """
        failed = self._function(ctypes.byref(prepared))
        if failed == NO_MEMORY:
            raise DeviceError("the processor ran out of memory for one command's partial sums")
        if failed:
            raise DeviceError(
                "a result of a matmul on the processor left the range of fp32: the weights are"
                " damaged, or not those of this model"
            )
