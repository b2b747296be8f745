"""The driver: matrices and matmuls on top of a transport's registers and buffers.

The device is checked once, when it is opened. Weights are packed once, when they are loaded, and
so are the descriptors of their matmuls for every number of tokens; a matmul then rings one doorbell
between a fixed buffer of activations and one of results. Nothing is allocated in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from host.device import largest
from host.device.commandlist import Command, CommandList
from host.device.largest import Largest
from host.device.launcher import Launcher
from host.device.transport import Buffer, Transport
from host.layout import blockfloat, checksum, packed
from host.weights import Weights
from spec import commands, layout, registers
from spec.config import Config
from spec.digest import digest
from spec.errors import DeviceError, UserError
from spec.layout import Matrix

SCRATCH_PATTERNS = (0xA5A5_5A5A, 0x5A5A_A5A5, 0)
"""Written to the scratch register and read back: every bit is seen at 0 and at 1."""

PAGE = layout.REGION_ALIGN

LANES = 2
"""Passes that are under way at a time (``host.forward.schedule``), each with buffers of its own."""


class InputError(UserError):
    """Activations that a matmul cannot take."""


@dataclass(frozen=True)
class Handle:
    """A weight matrix on the device, ready to be multiplied."""

    matrix: Matrix
    operation: str
    """What the counters file its matmuls under: ``qkv``, ``head``, ..."""
    weights: Buffer
    stride: int
    """Bytes between the ports' parts of ``weights``."""
    checksums: tuple[int, ...] = ()
    """Of ``weights`` as they were loaded."""
    lists: list[CommandList] = field(default_factory=list)
    """The list of one matmul for 1, 2, .. M tokens."""
    top_lists: dict[tuple[int, int], CommandList] = field(default_factory=dict)
    """The same with top-k, by (tokens, k), made when first asked for."""


class Accelerator(Launcher):
    """One opened device.

    Raises:
        DeviceError: it is no accelerator, another version, built from another configuration, or
            its registers do not keep what is written.
    """

    def __init__(self, transport: Transport, timeout: float = 600.0) -> None:
        super().__init__(transport, timeout)
        self._check_identity()
        self._activations = [
            self._memory.allocate("activations", _activation_bytes(self.config))
            for _ in range(LANES)
        ]
        """By lane, of every matmul, one after the other; both halves where the terms need a region
        each."""
        self._control.reset(transport.name)  # whatever ran before, for whomever
        self._counted = self._read_counters()

    def load(self, weights: Weights, operation: str = "matmul") -> Handle:
        """Puts a matrix into the device's memory, packed if it is not, and prepares its matmuls.

        Raises:
            LayoutError: the engine cannot hold its shape or format.
            PackError: floats, or packed for another configuration.
            DeviceError: the device's memory is short.
        """
        config, matrix = self.config, packed.matrix(self.config, weights)
        stride = layout.port_stride(config, matrix.beats)
        region = self._memory.allocate("weights", layout.region_bytes(config, matrix.beats))
        packed.put(config, weights, region.array, stride)
        self.transport.flush(region)
        handle = Handle(matrix, operation, region, stride, checksum.checksums(region.array))
        handle.lists.extend(self.lists(handle))
        return handle

    def lists(self, handle: Handle, lane: int = 0) -> list[CommandList]:
        """The list of one matmul for 1, 2, .. M tokens, on the buffers of a lane.

        Raises:
            DeviceError: the device's memory is short.
        """
        results = self._memory.reuse("results", largest.buffer_bytes(handle.matrix), lane)
        return [
            self._memory.command_list([
                self._command(handle, tokens, self._activations[lane], results)
            ])
            for tokens in range(1, self.config.tokens + 1)
        ]  # fmt: skip

    def both_terms(
        self, handle: Handle, lists: list[CommandList], lane: int = 0
    ) -> list[CommandList]:  # fmt: skip
        """The lists of a matmul whose activations go in as two terms, for 1..M tokens: one command
        with the second terms in empty slots, or else one command for each term.

        Args:
            lists: those of 1..M vectors in the same lane.

        Raises:
            DeviceError: the device's memory is short.
        """
        most = self.config.tokens
        apart = range(most // 2 + 1, most + 1)
        return [*lists[1::2], *(self._apart(handle, tokens, lane) for tokens in apart)]

    def _apart(self, handle: Handle, tokens: int, lane: int) -> CommandList:
        """A list with a command for each of two terms."""
        size = handle.matrix.result_bytes(tokens, "fp32")
        results = self._memory.reuse("results", 2 * size, lane)
        activations = self._activations[lane]
        half = len(activations.array) // 2
        return self._memory.command_list([
            self._command(handle, tokens, activations.part(term * half), results.part(term * size))
            for term in range(2)
        ])  # fmt: skip

    def verify(self, handle: Handle) -> None:
        """Compares a matrix in the device's memory with its checksums from when it was loaded.

        Raises:
            DeviceError: it has changed; says where.
        """
        self.transport.invalidate(handle.weights)
        blocks = checksum.changed(handle.weights.array, handle.checksums)
        if blocks:
            raise DeviceError(
                f"the weights of {handle.operation} in the memory of device {self.transport.name}"
                f" have changed since they were loaded, in {len(blocks)} block(s), the first at"
                f" {handle.weights.address + blocks[0]:#x}: load the model again, and test the"
                " memory if it happens twice"
            )

    def prepare(self, jobs: Sequence[tuple[Handle, int] | tuple[Handle, int, int]]) -> CommandList:
        """A list of matmuls for one doorbell, each with its own activations and results.

        Args:
            jobs: matrices, each with its number of tokens (1..M) and, if only the largest results
                are wanted, how many of each token's.

        Raises:
            TopKError: a top-k that the matrix or the engine does not have.
            DeviceError: the device's memory is short.
        """
        prepared = []
        for handle, tokens, *top in jobs:
            top_k = largest.checked(handle.matrix, top[0]) if top else 0
            size = layout.region_bytes(self.config, handle.matrix.activation_beats(tokens))
            activations = self._memory.allocate("activations", size)
            needed = commands.result_bytes(handle.matrix, tokens, "fp32", largest.even(top_k))
            results = self._memory.allocate("results", needed)
            prepared.append(self._command(handle, tokens, activations, results, top_k))
        return self._memory.command_list(prepared)

    @overload
    def matmul(self, handle: Handle, activations: np.ndarray) -> np.ndarray: ...

    @overload
    def matmul(self, handle: Handle, activations: np.ndarray, top_k: int) -> Largest: ...

    def matmul(
        self, handle: Handle, activations: np.ndarray, top_k: int | None = None
    ) -> np.ndarray | Largest:
        """``activations`` times the transposed matrix, M tokens per pass over the weights.

        Args:
            activations: [tokens, K] float32, finite.
            top_k: only the largest results of each token leave the device: 1..64, at most N
                rounded down to an even number.

        Returns:
            [tokens, N] float32; with ``top_k`` ``Largest`` (values, rows).

        Raises:
            InputError: another K or no tokens.
            TopKError: ``top_k`` out of range.
            ActivationError: a value that is not finite.
            DeviceError: the device reported an error or did not end in time; or its memory is
                short, when a second value of ``top_k`` is used with one matrix.
        """
        if top_k is not None:
            largest.checked(handle.matrix, top_k)
        most = self.config.tokens
        passes = [activations[start : start + most] for start in range(0, len(activations), most)]
        if not passes:
            raise InputError("a matmul needs at least one token, got 0")
        found = [self.run(self.list_of(handle, len(part), top_k), [part])[0] for part in passes]
        if len(found) == 1:
            return found[0]
        if top_k is None:
            return np.concatenate(found)
        return Largest(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def run(self, prepared: CommandList, inputs: Iterable[np.ndarray]) -> list[Any]:
        """Runs a prepared list: one [tokens, K] float32 in and one [tokens, N] float32 out per
        command, or ``Largest`` for one with a top-k.

        Raises:
            InputError, ActivationError, DeviceError: as for ``matmul``.
        """
        for command, values in zip(prepared.commands, inputs, strict=True):
            self._put(command, values)
        self.ring(prepared)
        return [self._get(command) for command in prepared.commands]

    def list_of(self, handle: Handle, tokens: int, top_k: int | None) -> CommandList:
        """The list of one matmul on the first lane's buffers.

        Raises:
            DeviceError: the device's memory is short.
        """
        if top_k is None:
            return handle.lists[tokens - 1]
        if (tokens, top_k) not in handle.top_lists:
            results = self._memory.reuse("results", largest.buffer_bytes(handle.matrix))
            single = self._command(handle, tokens, self._activations[0], results, top_k)
            handle.top_lists[tokens, top_k] = self._memory.command_list([single])
        return handle.top_lists[tokens, top_k]

    def _command(
        self, handle: Handle, tokens: int, source: Buffer, target: Buffer, top_k: int = 0
    ) -> Command:
        matrix = handle.matrix
        beats = matrix.activation_beats(tokens)
        stride = layout.port_stride(self.config, beats)
        activations = source.part(0, layout.region_bytes(self.config, beats))
        results = target.part(0, commands.result_bytes(matrix, tokens, "fp32", largest.even(top_k)))
        fields = commands.matmul(
            matrix, tokens, weights=handle.weights.address, weight_stride=handle.stride,
            activations=activations.address, activation_stride=stride, results=results.address,
            top_k=largest.even(top_k),
        )  # fmt: skip
        return Command(
            matrix, handle.operation, tokens, activations, stride, results, commands.pack(fields),
            top_k,
        )  # fmt: skip

    def _put(self, command: Command, values: np.ndarray) -> None:
        """Quantises activations into their buffer."""
        wanted = (command.tokens, command.matrix.columns)
        if values.shape != wanted:
            raise InputError(f"activations must have the shape {wanted}, got {values.shape}")
        bases, shifts, mantissas = blockfloat.quantise(values)
        out = command.activations.array
        blockfloat.pack_activations(
            self.config, command.matrix, bases, shifts, mantissas, out, command.stride
        )
        self.transport.flush(command.activations)

    def _get(self, command: Command) -> np.ndarray | Largest:
        self.transport.invalidate(command.results)
        if command.top_k:
            return largest.unpack(command.tokens, command.top_k, command.results.array)
        results = blockfloat.unpack_results(
            self.config, command.matrix, command.tokens, "fp32", command.results.array
        )
        return results.copy()  # may be a view of the buffer, which the next matmul overwrites

    def _check_identity(self) -> None:
        name, magic = self.transport.name, self.read("magic")
        if magic != registers.MAGIC:
            raise DeviceError(
                f"device {name} is no accelerator of this project: its magic register reads"
                f" {magic:#010x}, not {registers.MAGIC:#010x}; load the right bitstream"
            )
        version = self.read("version")
        if version != registers.VERSION:
            raise DeviceError(
                f"device {name} has register map version {version}, this runtime speaks"
                f" {registers.VERSION}: install the runtime of its release or regenerate it"
            )
        found = self.read("digest_high") << 32 | self.read("digest_low")
        wanted = digest(self.config)
        if found != wanted:
            raise DeviceError(
                f"device {name} has digest {found:016x} but configuration {self.config.name!r} has"
                f" {wanted:016x}: give the configuration it was generated from, or regenerate it"
            )
        for pattern in SCRATCH_PATTERNS:
            self.write("scratch", pattern)
            kept = self.read("scratch")
            if kept != pattern:
                raise DeviceError(
                    f"device {name} does not keep its scratch register: wrote {pattern:#010x},"
                    f" read {kept:#010x}; check the control port's address and width"
                )


def memory_needed(config: Config, matrices: Iterable[Weights]) -> int:
    """Bytes of device memory that these matrices and the driver's buffers take."""
    total, most, count = LANES * _activation_bytes(config), 0, 0
    for weights in matrices:
        matrix = packed.matrix(config, weights)
        total += layout.region_bytes(config, matrix.beats)
        most = max(
            most, largest.buffer_bytes(matrix), 2 * matrix.result_bytes(config.tokens, "fp32")
        )
        count += 1
    # Result buffers are powers of two: together less than four times the largest need. Every
    # number of tokens has a list for all results, one for the largest and one with two terms.
    lists = -(-4 * LANES * count * config.tokens * commands.BYTES // PAGE) * PAGE
    return total + 4 * LANES * max(most, PAGE) + lists + PAGE


def _activation_bytes(config: Config) -> int:
    """Bytes that hold the activations of any matmul of this engine, and its second terms."""
    widest = [
        Matrix(config, 1, config.max_k, bits, max(128, config.group)).activation_beats(
            config.tokens
        )
        for bits in (4, 8)
    ]
    return 2 * layout.region_bytes(config, max(widest))
