"""Random matmuls, and their way through a device: shared by the tests of the software devices."""

from __future__ import annotations

import dataclasses

import numpy as np

from host.device.software import SoftwareDevice
from host.layout import blockfloat, pack
from host.weights import Quantised
from spec import commands, layout, registers
from spec.config import TINY, Config

MEMORY = 4 << 20
GEOMETRIES = [
    Config(name="one", ports=1, port_bits=128, group=32, tile_rows=16),
    Config(name="two", ports=2, port_bits=128, group=32, tile_rows=32),
    Config(name="thin", ports=4, port_bits=32, group=32, tile_rows=256),
    Config(name="four", ports=4, port_bits=128, group=32, tile_rows=16),
    Config(name="half", ports=4, port_bits=64, group=32, tile_rows=64),
    Config(name="coarse", ports=4, port_bits=128, group=128, tile_rows=64),
]
SCALES = [0, 1, 0x3FF, 0x400, 0x3C00, 0x7BFF]
"""Zero, denormals, the smallest normal, one and the largest fp16 scale, as patterns."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One matmul with everything that decides it."""

    config: Config
    weights: Quantised
    activations: tuple[np.ndarray, np.ndarray, np.ndarray]
    fmt: str


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    config = GEOMETRIES[rng.integers(len(GEOMETRIES))]
    tokens = int(rng.choice([1, 1, 2, 3, 5, 8, 16]))
    config = dataclasses.replace(config, tokens=16, max_k=2048)
    group = int(rng.choice([size for size in (32, 64, 128) if size >= config.group]))
    rows = int(rng.choice([1, 2, config.tile_rows, config.tile_rows + 1, rng.integers(1, 150)]))
    groups = int(rng.choice([1, 2, 2048 // group, rng.integers(1, 700 // group + 2)]))
    return Case(
        config,
        random_weights(rng, rows, groups, group),
        random_activations(rng, tokens, groups * group),
        str(rng.choice(["fp32", "bf16"])),
    )


def random_weights(rng: np.random.Generator, rows: int, groups: int, group: int) -> Quantised:
    extreme = rng.random() < 0.3
    kind = rng.integers(4)
    if kind == 0:  # what checkpoints hold
        patterns = rng.uniform(1e-3, 1e-2, (rows, groups)).astype(np.float16).view(np.uint16)
    elif kind == 1:  # anything finite
        patterns = rng.integers(0, 0x7C00, (rows, groups)).astype(np.uint16)
    else:
        patterns = rng.choice(SCALES if kind == 2 else [0, 0x3C00], (rows, groups))
    scales = patterns.astype(np.uint16).view(np.float16)
    shape = (rows, groups * group)
    if rng.random() < 0.5:
        values = rng.choice([-128, 127], shape) if extreme else rng.integers(-128, 128, shape)
        return Quantised(8, group, values.astype(np.int8), scales)
    values = rng.choice([0, 15], shape) if extreme else rng.integers(0, 16, shape)
    zeros = rng.choice([0, 15], (rows, groups)) if extreme else rng.integers(0, 16, (rows, groups))
    return Quantised(4, group, values.astype(np.uint8), scales, zeros.astype(np.uint8))


def random_activations(rng: np.random.Generator, tokens: int, columns: int) -> tuple:
    shape = (tokens, columns)
    if rng.random() < 0.5:
        spread = rng.choice([1e-6, 1, 1e6], (tokens, blockfloat.blocks(columns)))
        values = rng.standard_normal(shape) * np.repeat(spread, 64, axis=1)[:, :columns]
        return blockfloat.quantise(values.astype(np.float32))
    mantissas = (
        rng.choice([-127, 127], shape) if rng.random() < 0.5 else rng.integers(-127, 128, shape)
    )
    return (
        rng.choice([-80, 80, 0, -9], tokens).astype(np.int8),
        rng.integers(0, 16, (tokens, blockfloat.blocks(columns))).astype(np.uint8),
        mantissas.astype(np.int8),
    )


@dataclasses.dataclass
class Run:
    """Regions of a case on a device, and its command."""

    device: SoftwareDevice
    case: Case

    def __post_init__(self) -> None:
        config, device, tokens = self.case.config, self.device, len(self.case.activations[0])
        self.matrix = matrix = pack.matrix(config, self.case.weights)
        beats = (matrix.beats, matrix.activation_beats(tokens))
        strides = [layout.port_stride(config, count) for count in beats]
        self.weights, self.activations = (
            device.allocate(layout.region_bytes(config, count)) for count in beats
        )
        self.results = device.allocate(matrix.result_bytes(tokens, self.case.fmt))
        self.results.array[:] = 0xEE
        pack.pack_weights(config, self.case.weights, self.weights.array, strides[0])
        out = self.activations.array
        blockfloat.pack_activations(config, matrix, *self.case.activations, out, strides[1])
        self.fields = commands.matmul(
            matrix, tokens, weights=self.weights.address, weight_stride=strides[0],
            activations=self.activations.address, activation_stride=strides[1],
            results=self.results.address, result_format=self.case.fmt,
        )  # fmt: skip

    def ring(self) -> dict[str, int]:
        """Runs the command; gives the bits of the error register."""
        listed = self.device.allocate(commands.BYTES)
        listed.array[:] = np.frombuffer(commands.pack(self.fields), np.uint8)
        for buffer in (self.weights, self.activations, listed):
            self.device.flush(buffer)
        write(self.device, "list_address_low", listed.address)
        write(self.device, "doorbell", 1)
        self.device.wait(60)
        return registers.decode("error", read(self.device, "error"))


def read(device: SoftwareDevice, name: str) -> int:
    return device.read_register(registers.OFFSETS[name])


def write(device: SoftwareDevice, name: str, value: int) -> None:
    device.write_register(registers.OFFSETS[name], value)


def results(factory, case: Case, **options) -> np.ndarray:
    """The bytes of a case's results on a fresh device."""
    run = Run(factory(case.config, MEMORY, **options), case)
    assert not any(run.ring().values())
    return run.results.array.copy()


def small_case(config: Config = TINY) -> Case:
    rng = np.random.default_rng(2)
    weights = random_weights(rng, 5, 2, 64)
    return Case(config, weights, random_activations(rng, 1, 128), "fp32")
