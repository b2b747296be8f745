"""The matmuls of a model at full size in a device's memory, with random operands.

Weight regions are filled with random beats rather than packed from a matrix: the time does not
depend on values, and every bit pattern with finite, positive scales is a legal matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from host.device.commandlist import Command, Memory
from host.device.cpu import CpuDevice
from host.device.software import BASE_ADDRESS
from host.device.transport import Buffer
from host.layout import blockfloat, pack
from sim.device import MEMORY_BASE, Device
from spec import commands, layout, numeric
from spec.config import Config
from spec.errors import MismatchError
from spec.layout import Matrix
from spec.shapes import ModelShape

SCALE_BITS = 0x3FFF
"""Bits of a random scale that stay: fp16 below 2, positive, finite."""

GROUP = 64
"""Weights per scale of the benchmarks: AWQ's usual choice for small models."""


@dataclass(frozen=True)
class Operation:
    """One matmul as the runtime issues it."""

    name: str
    matrix: Matrix
    tokens: int
    fmt: str = "fp32"
    top_k: int = 0


def layer_operations(config: Config, shape: ModelShape, tokens: int, fmt: str) -> list[Operation]:
    """The matmuls of one layer, int4, in order.

    Raises:
        LayoutError: the configuration cannot hold a matrix.
    """
    group = max(GROUP, config.group)
    return [
        Operation(name, Matrix(config, rows, columns, 4, group), tokens, fmt)
        for name, (rows, columns) in shape.linears.items()
    ]


def head_operation(
    config: Config, shape: ModelShape, tokens: int, fmt: str, bits: int, top_k: int
) -> Operation:
    """The LM head; with ``top_k`` no logits leave and results are fp32.

    Raises:
        LayoutError: the configuration cannot hold the matrix.
    """
    matrix = Matrix(config, *shape.head, bits, max(GROUP, config.group))
    return Operation("head", matrix, tokens, "fp32" if top_k else fmt, top_k)


def fields(operation: Operation) -> dict[str, int]:
    """The fields of an operation's descriptor, at no address: what an estimate needs."""
    matrix = operation.matrix
    return commands.matmul(
        matrix, operation.tokens, weights=0, weight_stride=0, activations=0, activation_stride=0,
        results=0, result_format=operation.fmt, top_k=operation.top_k,
    )  # fmt: skip


def memory_needed(operations: list[Operation]) -> int:
    """Bytes of device memory that the operations' buffers take."""
    total = layout.REGION_ALIGN + commands.BYTES * len(operations)
    for operation in operations:
        matrix = operation.matrix
        result = commands.result_bytes(matrix, operation.tokens, operation.fmt, operation.top_k)
        total += layout.region_bytes(matrix.config, matrix.beats)
        total += layout.region_bytes(matrix.config, matrix.activation_beats(operation.tokens))
        total += result + 2 * layout.REGION_ALIGN  # whole pages; and one for the list
    return total


def place(memory: Memory, operations: list[Operation], seed: int) -> list[Command]:
    """Buffers with random operands and the descriptor of each operation.

    Raises:
        DeviceError: the device's memory is short.
        CommandError: tokens or a top-k that the engine does not have.
    """
    random = np.random.default_rng(seed)
    return [_place_one(memory, operation, random) for operation in operations]


def _place_one(memory: Memory, operation: Operation, random: np.random.Generator) -> Command:
    matrix, tokens, config = operation.matrix, operation.tokens, operation.matrix.config
    stride = layout.port_stride(config, matrix.beats)
    weights = memory.allocate("weights", layout.region_bytes(config, matrix.beats))
    _fill_weights(matrix, weights, stride, random)
    beats = matrix.activation_beats(tokens)
    activation_stride = layout.port_stride(config, beats)
    activations = memory.allocate("activations", layout.region_bytes(config, beats))
    blockfloat.pack_activations(
        config, matrix, *_activations(random, tokens, matrix.columns),
        activations.array, activation_stride,
    )  # fmt: skip
    size = commands.result_bytes(matrix, tokens, operation.fmt, operation.top_k)
    results = memory.allocate("results", size)
    fields = commands.matmul(
        matrix, tokens, weights=weights.address, weight_stride=stride,
        activations=activations.address, activation_stride=activation_stride,
        results=results.address, result_format=operation.fmt, top_k=operation.top_k,
    )  # fmt: skip
    return Command(
        matrix, operation.name, tokens, activations, activation_stride, results,
        commands.pack(fields), operation.top_k,
    )  # fmt: skip


def _fill_weights(matrix: Matrix, region: Buffer, stride: int, random: np.random.Generator) -> None:
    """Random beats; scales keep ``SCALE_BITS``."""
    config = matrix.config
    part = matrix.beats * config.port_bytes
    _, scales_at, _ = pack.beat_positions(matrix)
    for port in range(config.ports):
        own = region.array[port * stride : port * stride + part]
        own[:] = np.frombuffer(random.bytes(part), np.uint8)
        chunks = own.view("<u2").reshape(-1, matrix.chunk_beats, config.port_bytes // 2)
        for position in scales_at:
            chunks[:, position] &= SCALE_BITS


def _activations(
    random: np.random.Generator, tokens: int, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bases, block shifts and mantissas of usual size."""
    most = numeric.MANTISSA_MAX
    bases = random.integers(-8, 0, tokens).astype(np.int8)
    shifts = random.integers(0, 9, (tokens, blockfloat.blocks(columns))).astype(np.uint8)
    mantissas = random.integers(-most, most, (tokens, columns), endpoint=True).astype(np.int8)
    return bases, shifts, mantissas


class WrongBytes(MismatchError):
    """Memory that differs from the reference's.

    Args:
        command: whose results hold the first wrong byte; None: it lies outside all results.
        offset: of that byte in them.
    """

    def __init__(self, message: str, command: int | None, offset: int) -> None:
        super().__init__(message)
        self.command, self.offset = command, offset


class Reference:
    """What memory must hold when the commands have run: an image from before, and the device
    ``cpu``, which computes the same commands in it.

    Raises:
        ToolError: the compiled kernels are missing.
        DeviceError: memory is short.
    """

    def __init__(self, transport: Device) -> None:
        self._transport = transport
        self._processor = CpuDevice(transport.config, transport.memory.size)
        self._memory = self._processor.memory[: transport.memory.size]
        self._memory[:] = transport.memory

    def wrote(self, buffer: Buffer) -> None:
        """The host changed these bytes."""
        start = buffer.address - MEMORY_BASE
        self._memory[start : start + buffer.array.size] = buffer.array

    def check(self, placed: list[Command]) -> None:
        """Runs the commands and compares all of memory.

        Raises:
            WrongBytes: a byte differs: a wrong result, or one written where nothing belongs.
        """
        for command in placed:
            fields = commands.unpack(command.descriptor)
            for role in ("weights", "activations", "results"):
                fields[role] += BASE_ADDRESS - MEMORY_BASE
            self._processor.execute(self._processor.prepare(fields))
        if np.array_equal(self._memory, self._transport.memory):
            return
        wrong = np.flatnonzero(self._memory != self._transport.memory)
        first = MEMORY_BASE + int(wrong[0])
        owner, offset = _owner(placed, first)
        whose = "outside all results"
        if owner is not None:
            whose = f"results of command {owner}, {placed[owner].operation}"
        raise WrongBytes(
            f"{wrong.size} bytes of memory differ between the simulated design and the device cpu,"
            f" first at {first:#x} ({whose})",
            owner,
            offset,
        )

    @property
    def memory(self) -> np.ndarray:
        """The image, with the results of what was checked."""
        return self._memory


def _owner(placed: list[Command], address: int) -> tuple[int | None, int]:
    """Whose results hold an address, and where in them."""
    for index, command in enumerate(placed):
        offset = address - command.results.address
        if 0 <= offset < command.results.array.size:
            return index, offset
    return None, 0
