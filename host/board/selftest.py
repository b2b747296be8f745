"""Does the device compute right? From its registers to a token, each against the compiled kernels.

The kernels are equal to the golden model bit for bit, so every comparison is equality.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from host.device import cpu
from host.device.driver import Accelerator, memory_needed
from host.forward.linear import AcceleratorBackend
from host.forward.model import Transformer, matrices
from host.layout import blockfloat
from host.weights import Layer, Model, Quantised, Shape, Weights
from spec import numeric, registers
from spec.config import Config
from spec.digest import digest
from spec.errors import MismatchError

PATTERNS = (0x5555_5555, 0xAAAA_AAAA, 0xFFFF_FFFF, 0x0000_0001, 0x8000_0000, 0)

SHORT = ("registers", "scratch", "loopback", "tile")
"""What runs when a board's device is opened: milliseconds."""

STEPS = (*SHORT, "layer", "token")

TOKENS = (3, 1, 4)
"""Prompt of the small model."""


@dataclass(frozen=True)
class Result:
    """One step."""

    step: str
    compared: str
    """What was compared, for a person."""
    seconds: float


def memory(config: Config, short: bool = False) -> int:
    """Bytes of device memory that the steps take."""
    weights: list[Weights] = [identity(config), tile(config)]
    if not short:
        model = small_model(config)
        weights += [*layer(config).values(), *(matrix for _, matrix in matrices(model))]
    # Twice: the layer's prepared list has activations and results of its own for each matrix.
    return (1 if short else 2) * memory_needed(config, weights) + (1 << 16)


def run(
    accelerator: Accelerator, steps: tuple[str, ...] = STEPS,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Result]:  # fmt: skip
    """Runs steps in their order.

    Args:
        progress: called with step, number and count.

    Returns:
        The steps; all of them passed.

    Raises:
        MismatchError: the first difference, with what was expected.
        DeviceError: the device reported an error.
    """
    results = []
    for number, step in enumerate(steps):
        progress(step, number, len(steps))
        begin = time.monotonic()
        compared = _CHECKS[step](accelerator)
        results.append(Result(step, compared, time.monotonic() - begin))
    return results


def check_registers(accelerator: Accelerator) -> str:
    """Constants and counters read what the register map says."""
    value = digest(accelerator.config)
    wanted = {
        "magic": registers.MAGIC, "version": registers.VERSION,
        "digest_low": value & 0xFFFFFFFF, "digest_high": value >> 32, "doorbell": 0,
    }  # fmt: skip
    for name, expected in wanted.items():
        _compare(f"register {name}", accelerator.read(name), expected)
    for name in wanted:
        if registers.BY_NAME[name].access == "ro":
            accelerator.write(name, 0x1234_5678)
            _compare(f"register {name} after a write", accelerator.read(name), wanted[name])
    return f"{len(wanted)} registers"


def check_scratch(accelerator: Accelerator) -> str:
    """The scratch register keeps every bit, and its neighbours stay."""
    before = accelerator.read("digest_high")
    for pattern in PATTERNS:
        accelerator.write("scratch", pattern)
        _compare("the scratch register", accelerator.read("scratch"), pattern)
    _compare("register digest_high", accelerator.read("digest_high"), before)
    return f"{len(PATTERNS)} patterns"


def check_loopback(accelerator: Accelerator) -> str:
    """Activations through an identity matrix come back as what block floating point makes of them.

    So both directions of memory, caches included, are seen without any arithmetic in between.
    """
    config = accelerator.config
    weights = identity(config)
    values = _activations(config, weights.columns, seed=1)
    expected = blockfloat.dequantise(*blockfloat.quantise(values))[:, : weights.rows]
    found = accelerator.matmul(accelerator.load(weights, "selftest"), values)
    _equal("the loopback", found, expected)
    return f"{expected.size} values"


def check_tile(accelerator: Accelerator) -> str:
    """One tile of random int4 weights."""
    return _matmul(accelerator, "the tile", tile(accelerator.config), seed=2)


def check_layer(accelerator: Accelerator) -> str:
    """The four matrices of a decoder layer, in one command list."""
    config = accelerator.config
    reference = Accelerator(cpu.open(config, memory(config)))
    inputs, found = [], []
    for device in (accelerator, reference):
        loaded = [device.load(weights, "selftest") for weights in layer(config).values()]
        prepared = device.prepare([(handle, config.tokens) for handle in loaded])
        inputs = [
            _activations(config, handle.matrix.columns, seed=3 + index)
            for index, handle in enumerate(loaded)
        ]
        found.append(device.run(prepared, inputs))
    for name, one, other in zip(layer(config), *found, strict=True):
        _equal(f"the layer's {name}", one, other)
    return f"{sum(values.size for values in found[0])} values"


def check_token(accelerator: Accelerator) -> str:
    """Logits of a small transformer after a prompt and one more token."""
    config = accelerator.config
    model = small_model(config)
    found = []
    for device in (accelerator, Accelerator(cpu.open(config, memory(config)))):
        transformer = Transformer(model, AcceleratorBackend(device), len(TOKENS) + 1)
        logits = transformer.forward(list(TOKENS))
        found.append(transformer.forward([int(np.argmax(logits))]))
    _equal("the token's logits", *found)
    return f"{found[0].size} logits"


_CHECKS: dict[str, Callable[[Accelerator], str]] = {
    "registers": check_registers,
    "scratch": check_scratch,
    "loopback": check_loopback,
    "tile": check_tile,
    "layer": check_layer,
    "token": check_token,
}


def identity(config: Config) -> Quantised:
    """int8, scale 1: a result is the activation of the same number."""
    size = max(128, config.tile_rows)
    columns = min(-(-size // 128) * 128, config.max_k)
    values = np.eye(size, columns, dtype=np.int8)
    return Quantised(8, 128, values, np.ones((size, columns // 128), np.float16))


def tile(config: Config) -> Quantised:
    """One tile over one longest group."""
    return _random(config, config.tile_rows, 128, seed=11)


def layer(config: Config) -> dict[str, Quantised]:
    """A small decoder layer's matrices; shapes that are no multiples of a tile."""
    hidden, wide = 256, 512
    shapes = {"qkv": (400, hidden), "output": (hidden, hidden), "gate_up": (2 * wide, hidden),
              "down": (hidden, wide)}  # fmt: skip
    return {
        name: _random(config, rows, columns, seed=20 + index)
        for index, (name, (rows, columns)) in enumerate(shapes.items())
    }


def small_model(config: Config) -> Model:
    """One layer, 128 words, random weights: enough for attention, cache and head to matter."""
    shape = Shape(
        "qwen2", hidden=128, layers=1, heads=4, kv_heads=2, head_dim=32, intermediate=256,
        vocabulary=128, context=32, norm_epsilon=1e-6, rope_theta=10000.0, qkv_bias=True,
    )  # fmt: skip
    rng = np.random.default_rng(31)
    queries = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    ones = np.ones(shape.hidden, np.float32)
    block = Layer(
        input_norm=ones,
        qkv=_random(config, queries, shape.hidden, seed=32),
        qkv_bias=rng.normal(size=queries).astype(np.float32),
        output=_random(config, shape.hidden, shape.hidden, seed=33),
        post_norm=ones,
        gate_up=_random(config, 2 * shape.intermediate, shape.hidden, seed=34),
        down=_random(config, shape.hidden, shape.intermediate, seed=35),
    )
    head = rng.integers(-127, 128, (shape.vocabulary, shape.hidden)).astype(np.int8)
    scales = np.full((shape.vocabulary, shape.hidden // 128), 2.0**-10, np.float16)
    embedding = rng.normal(size=(shape.vocabulary, shape.hidden)).astype(np.float16)
    return Model(
        shape, embedding, [block], ones, Quantised(8, 128, head, scales), frozenset(), "selftest"
    )


def _matmul(accelerator: Accelerator, what: str, weights: Quantised, seed: int) -> str:
    config = accelerator.config
    values = _activations(config, weights.columns, seed)
    reference = Accelerator(cpu.open(config, memory_needed(config, [weights])))
    expected = reference.matmul(reference.load(weights), values)
    _equal(what, accelerator.matmul(accelerator.load(weights, "selftest"), values), expected)
    return f"{expected.size} values"


def _activations(config: Config, columns: int, seed: int) -> np.ndarray:
    """[M, columns] float32 with exponents that differ between tokens and blocks."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(config.tokens, columns)).astype(np.float32)
    blocks = rng.integers(-4, 5, (config.tokens, -(-columns // numeric.BLOCK)))
    spread = np.repeat(blocks, numeric.BLOCK, axis=1)[:, :columns]
    return np.ldexp(values, spread).astype(np.float32)


def _random(config: Config, rows: int, columns: int, seed: int) -> Quantised:
    rng = np.random.default_rng(seed)
    group = max(64, config.group)
    groups = (rows, columns // group)
    return Quantised(
        4,
        group,
        rng.integers(0, 16, (rows, columns)).astype(np.uint8),
        rng.uniform(0.01, 0.05, groups).astype(np.float16),
        rng.integers(0, 16, groups).astype(np.uint8),
    )


def _compare(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise MismatchError(
            f"selftest: {what} reads {found:#010x}, {expected:#010x} was expected: see kria-llm"
            " doctor, then load the firmware again"
        )


def _equal(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    different = np.flatnonzero(found.view(np.uint32).ravel() != expected.view(np.uint32).ravel())
    if len(different):
        first = int(different[0])
        raise MismatchError(
            f"selftest: {what} differs in {len(different)} of {expected.size} values, first in"
            f" {first}: {found.ravel()[first]!r} instead of {expected.ravel()[first]!r}; see"
            " kria-llm doctor (clock, port widths, timing), then load the firmware again"
        )
