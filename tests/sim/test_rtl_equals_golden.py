"""The simulated Verilog equals golden bit for bit: random matmuls, corners, garbage, lists."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from host.device.driver import Accelerator
from host.weights import Quantised
from sim import cases, comparison, device
from sim.cases import Case
from spec import numeric, registers
from spec.config import KV260, TINY, Config
from spec.errors import DeviceError
from tests.sim.rtl_bench import Bench, Job

WIDE = dataclasses.replace(
    TINY, name="wide", ports=2, port_bits=64, tokens=3, group=64, burst_beats=8, outstanding=4
)
"""Two ports of 64 bits, an odd number of tokens, no group of 32."""
FOUR = dataclasses.replace(
    TINY, name="four", ports=4, port_bits=32, tokens=1, tile_rows=32, burst_beats=16, outstanding=4
)
"""Four ports of 32 bits, one token."""
SIXTEEN = dataclasses.replace(TINY, name="sixteen", tokens=16)
"""As many tokens as a header beat has room for."""
BOARD_ONE = dataclasses.replace(KV260, name="kv260-one", dsp="portable", tokens=1)
"""The board's ports and lanes with one token."""
BOARD = dataclasses.replace(KV260, name="kv260-portable", dsp="portable")

QUICK = (TINY, WIDE, FOUR)
SLOW = (SIXTEEN, BOARD_ONE, BOARD)
"""Configurations whose simulators take a minute or more to build."""

SEEDS = 70
"""Random cases of each quick configuration."""

FORMATS = ("fp32", "bf16")
SCALES = np.array([0, 1, 0x3FF, 0x400, 0x3C00, 0x7BFF], np.uint16).view(np.float16)
"""Zero, the smallest and largest subnormal, the smallest normal, one, the largest."""
BASES = (numeric.BASE_MIN, 0, numeric.BASE_MAX)


def configurations() -> list:
    """Quick ones as they are, slow ones marked."""
    return [
        *[pytest.param(config, id=config.name) for config in QUICK],
        *[pytest.param(config, id=config.name, marks=pytest.mark.slow) for config in SLOW],
    ]


def seeded(config: Config, count: int, *marks) -> list:
    """One parameter per seed, named by configuration and seed."""
    return [
        pytest.param(config, seed, id=f"{config.name}-seed{seed}", marks=marks)
        for seed in range(count)
    ]


RANDOM = [case for config in QUICK for case in seeded(config, SEEDS)]
RANDOM += [case for config in SLOW for case in seeded(config, 12, pytest.mark.slow)]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A random matmul and how to run it again."""

    case: Case
    fmt: str
    stall_seed: int | None
    latency: int
    replay: str


def draw(config: Config, seed: int) -> Drawn:
    """Shape, format, group, tokens, values, stalls and latency from one seed."""
    random = np.random.default_rng([seed, config.ports, config.tokens])
    group = int(random.choice([g for g in numeric.GROUPS if g >= config.group]))
    columns = group * int(random.integers(1, min(config.max_k, 1024) // group, endpoint=True))
    rows = int(random.integers(1, 3 * config.tile_rows))
    tokens = int(random.integers(1, config.tokens, endpoint=True))
    bits, fmt = int(random.choice([4, 8])), str(random.choice(FORMATS))
    stall_seed = None if random.random() < 0.25 else int(random.integers(1 << 30))
    stalls = "" if stall_seed is None else f" --stall-seed {stall_seed}"
    return Drawn(
        cases.draw(rows, columns, bits, group, tokens, seed), fmt, stall_seed,
        int(random.integers(1, 120)),
        f"hwgen verify --config {config.name} --shape {rows}x{columns} --tokens {tokens}"
        f" --weights int{bits} --group {group} --format {fmt} --seed {seed}{stalls}"
        f" ({config})",
    )  # fmt: skip


@pytest.mark.parametrize(("config", "seed"), RANDOM)
def test_random_matmuls_are_equal(config: Config, seed: int) -> None:
    drawn = draw(config, seed)
    report = comparison.run(
        config, drawn.case, drawn.fmt, stall_seed=drawn.stall_seed, latency=drawn.latency
    )
    assert not report.mismatches, f"{drawn.replay}: {report.first_mismatch}"


def constant_case(
    config: Config, rows: int, columns: int, bits: int, group: int, value: int, mantissa: int
) -> Case:
    """One weight and one mantissa everywhere; rows take turns with scales, blocks with shifts."""
    groups = (rows, columns // group)
    scales = np.broadcast_to(SCALES[np.arange(rows) % len(SCALES)][:, None], groups).copy()
    kind = np.uint8 if bits == 4 else np.int8
    zeros = np.full(groups, 15 - value, np.uint8) if bits == 4 else None
    weights = Quantised(bits, group, np.full((rows, columns), value, kind), scales, zeros)
    tokens, blocks = config.tokens, -(-columns // numeric.BLOCK)
    shifts = np.zeros((tokens, blocks), np.uint8)
    shifts[1::3] = numeric.SHIFT_MAX
    shifts[2::3, ::2] = numeric.SHIFT_MAX
    bases = np.array([BASES[(rows + token) % 3] for token in range(tokens)], np.int8)
    return Case(weights, bases, shifts, np.full((tokens, columns), mantissa, np.int8))


@pytest.mark.parametrize("mantissa", [127, -127, -128])
@pytest.mark.parametrize(("bits", "value"), [(4, 0), (4, 15), (8, -128), (8, 127)])
@pytest.mark.parametrize("config", configurations())
def test_extremes_are_equal(config: Config, bits: int, value: int, mantissa: int) -> None:
    """Largest sums of either sign at every corner of scale, shift and base, up to the longest K."""
    shapes = [(rows, columns) for rows in (17, 18, 19) for columns in (128, 384)]
    shapes.append((20, min(config.max_k, 1024)))
    for (rows, columns), fmt in itertools.product(shapes, FORMATS):
        case = constant_case(config, rows, columns, bits, 128, value, mantissa)
        report = comparison.run(config, case, fmt)
        assert not report.mismatches, f"{rows}x{columns} {fmt}: {report.first_mismatch}"


def test_the_longest_sums_are_equal() -> None:
    """K = 1,024 of TINY at the accumulator's very edge: every term the largest, none negative."""
    weights = Quantised(
        8, 128, np.full((16, TINY.max_k), -128, np.int8),
        np.full((16, TINY.max_k // 128), 0x7BFF, np.uint16).view(np.float16),
    )  # fmt: skip
    shifts = np.zeros((2, TINY.max_k // numeric.BLOCK), np.uint8)
    for mantissa, base in itertools.product((127, -128), BASES):
        bases = np.full(2, base, np.int8)
        case = Case(weights, bases, shifts, np.full((2, TINY.max_k), mantissa, np.int8))
        report = comparison.run(TINY, case)
        assert not report.mismatches, f"{mantissa} {base}: {report.first_mismatch}"
        exact = TINY.max_k * -128 * mantissa * 2047 << (29 + numeric.SHIFT_MAX)
        assert report.found[0, 0] == numeric.round_result(exact, base, "fp32")


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("config", configurations())
def test_shapes_at_the_edges_are_equal(config: Config, bits: int) -> None:
    """One row, one block, a tile and one row more, one group of each size."""
    tile = config.tile_rows
    for group in (group for group in numeric.GROUPS if group >= config.group):
        for rows, columns in ((1, group), (tile - 1, group), (tile + 1, 3 * group), (1, 384)):
            for tokens in {1, config.tokens}:
                case = cases.draw(rows, columns, bits, group, tokens, rows + columns)
                report = comparison.run(
                    config, case, FORMATS[(rows + tokens) % 2], stall_seed=columns
                )
                what = f"{rows}x{columns} g{group} M={tokens} seed {rows + columns}"
                assert not report.mismatches, f"{what}: {report.first_mismatch}"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("config", configurations())
def test_garbage_operands_are_equal(config: Config, seed: int) -> None:
    """Any bytes: signs of scales, infinities, NaN, shifts above 15, bases out of bounds.

    What golden calls out of range the engine holds as its ``range`` error.
    """
    random = np.random.default_rng([seed, 77])
    group, bits = int(random.choice([64, 128])), int(random.choice([4, 8]))
    tokens = int(random.integers(1, config.tokens, endpoint=True))
    case = cases.draw(int(random.integers(1, 40)), 4 * group, bits, group, tokens, seed)
    bench = Bench(config, [Job(case, str(random.choice(FORMATS)))], stall_seed=seed)
    command, handle = bench.prepared.commands[0], bench.fields(bench.prepared, 0)
    for address, beats, stride in (
        (handle["weights"], handle["weight_beats"], handle["weight_stride"]),
        (handle["activations"], handle["activation_beats"], handle["activation_stride"]),
    ):
        for port in range(config.ports):
            start = address + port * stride - device.MEMORY_BASE
            part = bench.device.memory[start : start + beats * config.port_bytes]
            part[:] = random.integers(0, 256, part.size, np.uint8)
    if seed % 2:  # bases within bounds, so that nothing is out of range
        part = bench.device.memory[command.activations.address - device.MEMORY_BASE :]
        part[: config.port_bytes] = random.integers(0, 50, config.port_bytes)
        for port in range(1, config.ports):
            at = port * command.stride
            part[at : at + config.port_bytes] = random.integers(0, 50, config.port_bytes)
    good = bench.wanted(0)[1]
    bench.spoil()
    bench.start()
    ended = bench.finish()
    difference = bench.difference()
    bench.close()
    assert not difference, f"seed {seed}: {difference}"
    assert ended.error == dict.fromkeys(ended.error, 0) | {"range": int(not good)}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("config", configurations())
def test_a_list_runs_on_one_doorbell(config: Config, seed: int) -> None:
    """Commands of every format back to back: nothing of one leaks into the next."""
    random = np.random.default_rng([seed, 99])
    jobs = []
    for number in range(int(random.integers(2, 8))):
        group = int(random.choice([g for g in numeric.GROUPS if g >= config.group]))
        columns = group * int(random.integers(1, 512 // group, endpoint=True))
        rows = int(random.integers(1, 2 * config.tile_rows))
        tokens = int(random.integers(1, config.tokens, endpoint=True))
        bits = int(random.choice([4, 8]))
        case = cases.draw(rows, columns, bits, group, tokens, 1000 * seed + number)
        jobs.append(Job(case, str(random.choice(FORMATS))))
    stall_seed = seed if seed % 4 else None
    bench = Bench(config, jobs, stall_seed=stall_seed, latency=int(random.integers(1, 200)))
    before = bench.driver.read("completed")
    for _ in range(2):
        bench.ring()
        differences = [bench.difference(index) for index in range(len(jobs))]
        assert not any(differences), f"seed {seed}: {[d for d in differences if d]}"
    assert bench.driver.read("completed") - before == 2 * len(jobs)
    bench.close()


def test_another_digest_is_refused() -> None:
    """A runtime of another configuration must not start this engine."""
    transport = device.open(TINY, 1 << 20)
    transport.config = dataclasses.replace(TINY, max_k=2048)
    with pytest.raises(DeviceError, match=r"has digest [0-9a-f]{16} but configuration 'tiny'"):
        Accelerator(transport)
    transport.close()


def test_counters_count_what_the_layout_says() -> None:
    """Beats of every port, results, commands and busy cycles, over a list."""
    jobs = [Job(cases.draw(20, 256, 4, 64, 3, 1)), Job(cases.draw(33, 128, 8, 128, 1, 2), "bf16")]
    bench = Bench(WIDE, jobs, stall_seed=3)
    before = {name: bench.driver.read(name) for name in registers.COUNTERS}
    bench.ring()
    spent = {name: bench.driver.read(name) - before[name] for name in registers.COUNTERS}
    matrices = [command.matrix for command in bench.prepared.commands]
    beats = sum(64 // WIDE.beat_bytes + matrix.beats for matrix in matrices)
    beats += matrices[0].activation_beats(3) + matrices[1].activation_beats(1)
    written = matrices[0].result_bytes(3, "fp32") + matrices[1].result_bytes(1, "bf16")
    assert [spent[f"beats_port{port}"] for port in range(4)] == [beats, beats, 0, 0]
    assert spent["beats_written"] == written // WIDE.port_bytes
    assert spent["completed"] == 2
    assert beats < spent["busy_cycles"]
    stalls = sum(spent[name] for name in registers.COUNTERS if name.startswith("stall_"))
    # Of every busy cycle one says: a beat passed, or why none did; the ends may be off by a few.
    assert abs(spent["busy_cycles"] - stalls - beats) <= 8
    bench.close()
