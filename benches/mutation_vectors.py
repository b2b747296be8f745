"""What the mutation score's vectors are, and the device that they run on.

They are those of the device's tests in a compact form: matmuls of all formats against golden, the
same with random pauses, every register, every error and the recovery from it, cycles and counters
as without a mutant; then the long ones, which need a matrix of their own or many cycles.
"""

from __future__ import annotations

import contextlib
import dataclasses
import zlib
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np

from benches.mutants import SELECT_OFFSET
from host.weights import Quantised
from sim import cases, device, source
from spec import commands, numeric, registers
from spec.config import TINY, Config
from spec.errors import DeviceError
from tests.sim.rtl_bench import Bench, Job

CONFIG = dataclasses.replace(
    TINY, name="mutants", ports=2, port_bits=64, tokens=3, group=32, burst_beats=8, outstanding=4
)
"""Small, with more than one of everything."""

WATCHDOG = 3000

MANY = 20_000
"""Rows of a matrix that only a top-k is asked of."""

MOST = 742_720
"""Rows of the largest matrix: bit 19 of a row and bit 20 of the beats of its results are set."""

LONG = 270_000
"""Cycles that one place is blocked: bit 18 of a counter is set."""

Observed = list[object]


def dense(rows: int, columns: int, bits: int, group: int, tokens: int, seed: int) -> cases.Case:
    """A matmul in which every bit of every operand takes both values, often."""
    random = np.random.default_rng([seed, rows, columns])
    groups = (rows, columns // group)
    low, high = (0, 16) if bits == 4 else (-128, 128)
    values = random.integers(low, high, (rows, columns))
    zeros = random.integers(0, 16, groups).astype(np.uint8) if bits == 4 else None
    scales = random.integers(0, cases.LARGEST_SCALE, groups).astype(np.uint16).view(np.float16)
    blocks = (tokens, -(-columns // numeric.BLOCK))
    return cases.Case(
        Quantised(bits, group, values.astype(np.uint8 if bits == 4 else np.int8), scales, zeros),
        random.integers(-40, 30, tokens).astype(np.int8),
        random.integers(0, numeric.SHIFT_MAX + 1, blocks).astype(np.uint8),
        random.integers(-127, 128, (tokens, columns)).astype(np.int8),
    )


def close(rows: int, tokens: int, seed: int) -> cases.Case:
    """A matmul whose results share sign and exponent, so that a choice hangs on the low bits."""
    random = np.random.default_rng([seed, rows])
    values = random.integers(-20, 21, (rows, 32)).astype(np.int8)
    mantissas = random.integers(-127, 128, (tokens, 32)).astype(np.int8)
    values[:, 0], mantissas[:, 0] = 127, [127, -127, 127][:tokens]
    return cases.Case(
        Quantised(8, 32, values, np.ones((rows, 1), np.float16), None),
        np.arange(tokens).astype(np.int8), np.zeros((tokens, 1), np.uint8), mantissas,
    )  # fmt: skip


def largest(tokens: int) -> cases.Case:
    """A matmul of ``MOST`` rows of which few, with numbers of many bits, are chosen."""
    random = np.random.default_rng(21)
    values = random.integers(0, 16, (MOST, 32), np.uint8)
    scales = np.full((MOST, 1), 0.125, np.float16)
    scales[random.integers(1 << 18, MOST, 300)] *= 64
    return cases.Case(
        Quantised(4, 32, values, scales, random.integers(0, 16, (MOST, 1), np.uint8)),
        np.zeros(tokens, np.int8), np.zeros((tokens, 1), np.uint8),
        random.integers(-127, 128, (tokens, 32)).astype(np.int8),
    )  # fmt: skip


class Subject:
    """The device that holds the mutants, without or with pauses on every channel."""

    def __init__(self, config: Config, verilog: str, stall_seed: int | None) -> None:
        self.config, self.verilog, self.stall_seed = config, verilog, stall_seed
        self.bench = self._open()

    def _open(self) -> Bench:
        tokens = self.config.tokens
        shapes = (
            (20, 256, 4, 64, tokens, "fp32"), (40, 128, 8, 64, tokens, "bf16"),
            (35, 384, 4, 128, 2, "fp32"), (17, 256, 4, 32, tokens, "fp32"),
            (50, 256, 8, 32, tokens, "fp32"), (33, 1024, 4, 32, 1, "bf16"),
            (64, 256, 4, 32, tokens, "fp32"), (48, 128, 8, 32, tokens, "fp32"),
        )  # fmt: skip
        jobs = [Job(dense(*shape, seed), fmt) for seed, (*shape, fmt) in enumerate(shapes)]
        jobs += [Job(cases.draw(20, 256, 4, 64, tokens, seed)) for seed in range(4)]
        jobs += [Job(close(rows, tokens, rows)) for rows in (130, 400, 350)]
        jobs.append(Job(dense(MANY, 32, 8, 32, tokens, 20)))
        bench = self._with(jobs)
        top = (
            (0, 4), (4, 50), (6, 24), (7, 12), (3, 2), (6, 64), (6, 34), (4, 18), (7, 10), (6, 46),
            (8, 20), (9, 8), (12, 8), (13, 24), (14, 2), (13, 64), (14, 40), (12, 36),
        )  # fmt: skip
        self.top = bench.driver.prepare([(bench.handles[at], tokens, k) for at, k in top])
        for command, (index, _) in zip(self.top.commands, top, strict=True):
            command.activations.array[:] = bench.prepared.commands[index].activations.array
        self.many = bench.driver.prepare([(bench.handles[-1], tokens, 64)])
        source_values = bench.prepared.commands[-1].activations.array
        self.many.commands[0].activations.array[:] = source_values
        self.image = bench.device.memory.copy()
        return bench

    def _with(self, jobs: list[Job]) -> Bench:
        with mock.patch.object(source, "verilog", lambda config: self.verilog):
            return Bench(self.config, jobs, stall_seed=self.stall_seed)

    def select(self, number: int) -> None:
        """The design with one mutant, after a reset; memory as it was."""
        # The pauses are drawn from a state that a reset does not bring back.
        if self.bench.device.protocol_breaches or self.stall_seed is not None:
            self.bench.close()
            self.bench = self._open()
        with contextlib.suppress(DeviceError):
            self.bench.device.write_register(SELECT_OFFSET + number, 0)
        self.bench.device.memory[:] = self.image
        self.bench.device.clear_injections()
        self.bench.device.reset()

    def run(self, *, count: int | None = None) -> Observed:
        """The list but for its last command: results, held error, counters, cycles."""
        self.bench.spoil()
        begin = self.bench.device.simulated_cycles
        self.bench.start(count=len(self.bench.jobs) - 1 if count is None else count)
        return [*self.end(), self.bench.device.simulated_cycles - begin]

    def end(self) -> Observed:
        """Waits, then all that can be seen; the held error is cleared, the engine ready."""
        bench = self.bench
        bench.device.wait(60)
        held = [bench.driver.read(name) for name in HELD]
        found = [command.results.array.tobytes() for command in bench.prepared.commands[:-1]]
        counted = [bench.driver.read(name) for name in registers.COUNTERS]
        for _ in range(200):
            if not registers.decode("status", bench.driver.read("status"))["draining"]:
                break
        else:
            bench.driver.write("control", registers.encode("control", give_up=1))
            bench.device.step(100)
        bench.clear()
        return [*found, *held, *counted, *(bench.driver.read(name) for name in HELD)]


class LargeSubject(Subject):
    """The device with the largest matrix: results, then their top-k."""

    def _open(self) -> Bench:
        tokens = self.config.tokens
        case = largest(tokens)
        bench = self._with([Job(case)])
        self.many = bench.driver.prepare([(bench.handles[0], tokens, 64)])
        image = bench.prepared.commands[0].activations.array
        self.many.commands[0].activations.array[:] = image
        self.image = bench.device.memory.copy()
        return bench


HELD = ("status", "error", "error_address_low", "error_address_high")


def see_registers(subject: Subject) -> Iterator[object]:
    """Every register after reset; every bit of those that keep what is written."""
    driver = subject.bench.driver
    for register in registers.REGISTERS:
        if not register.name.startswith("cycles"):
            yield driver.read(register.name)
    first = driver.read("cycles_low")
    subject.bench.device.step(100)
    yield driver.read("cycles_low") - first
    for pattern in (0xA5A5_5A5A, 0x5A5A_A5A5, 0xFFFF_FFFF, 0):
        for register in registers.REGISTERS:
            if register.name not in ("doorbell", "control", "cycles_low"):
                driver.write(register.name, pattern)
        for register in registers.REGISTERS:
            if not register.name.startswith("cycles"):
                yield driver.read(register.name)
    for offset in (4, 8, 12, 0x400, 0x1000, 0x2000, 0x4000, 0x8000):
        yield driver.transport.read_register(offset)
        yield driver.transport.read_register(registers.OFFSETS["magic"] + offset)
        driver.transport.write_register(registers.OFFSETS["scratch"] + offset, 77)
    yield driver.read("scratch")
    for value in (registers.encode("control", irq_enable=1), 0):
        driver.write("control", value)
        yield driver.read("control")
    driver.write("watchdog", WATCHDOG)


def see_results(subject: Subject) -> Iterator[object]:
    """The list of all formats, twice, and a list of top-k."""
    subject.bench.driver.write("watchdog", WATCHDOG)
    for _ in range(2):
        yield subject.run()
    for command in subject.top.commands:
        command.results.array[:] = 0xA5
    subject.bench.start(subject.top.buffer.address, len(subject.top.commands))
    yield subject.end()
    yield [command.results.array.tobytes() for command in subject.top.commands]


def see_descriptors(subject: Subject) -> Iterator[object]:
    """Fields that are out of bounds or disagree, one at a time, in the first and a later one."""
    bench = subject.bench
    good = bench.prepared.buffer.array.copy()
    changes: list[dict[str, int]] = [
        {"opcode": 0}, {"opcode": 3}, {"tokens": 0}, {"tokens": 4}, {"tokens": 129},
        {"group": 3}, {"top_k": 3}, {"top_k": 2, "result_format": 1}, {"last_rows": 16},
        {"last_rows": 128}, {"tiles": 0}, {"chunks": 0}, {"chunks": 33}, {"chunks": 1 << 15},
        {"tiles": 1 << 17, "chunks": 1}, {"tiles": (1 << 16) + 1},
    ]  # fmt: skip
    for index in (0, 4):
        now = bench.fields(bench.prepared, index)
        values = [now | change for change in changes]
        values = [_agreeing(bench.config, one) if one["group"] < 3 else one for one in values]
        for name in ("activation_beats", "weight_beats", "result_beats"):
            width = commands.BY_NAME[name].width
            values += [now | {name: now[name] ^ 1 << bit} for bit in range(0, width, 3)]
        values += [now | {name: now[name] | 32 >> index} for name in commands.ALIGNED]
        for one in values:
            bench.set_fields(bench.prepared, index, **one)
            yield subject.run()
            bench.prepared.buffer.array[:] = good
    for bit in range(0, 8 * commands.BYTES, 37):
        bench.prepared.buffer.array[bit // 8] ^= 1 << bit % 8
        yield subject.run(count=1)
        bench.prepared.buffer.array[:] = good


def _agreeing(config: Config, fields: dict[str, int]) -> dict[str, int]:
    beats = commands.shape_beats(config, fields)
    return fields | {
        name: value & (1 << commands.BY_NAME[name].width) - 1 for name, value in beats.items()
    }


def see_faults(subject: Subject) -> Iterator[object]:
    """What the memory may do wrong; then the list again."""
    bench = subject.bench
    bench.driver.write("watchdog", WATCHDOG)
    slave, decode = device.RESPONSES["SLVERR"], device.RESPONSES["DECERR"]
    wrongs = [(port, *rest) for port in range(bench.config.ports) for rest in (
        ("response", 9, 2, slave), ("response", 20, 0, decode), ("early last", 11, 1, 0),
        ("no last", 13, 0, 0), ("long", 15, 0, 2), ("short", 17, 2, 0), ("late", 8, 1, 900),
        ("late", 9, 1, 4000), ("address", 7, 0, 900), ("late", 6, 0, device.NEVER),
    )]  # fmt: skip
    wrongs += [(device.WRITES, *rest) for rest in (
        ("response", 1, 0, slave), ("response", 3, 0, decode), ("late", 2, 0, 700),
        ("late", 2, 0, 4000), ("twice", 2, 0, 3), ("address", 1, 0, 700), ("data", 1, 0, 700),
        ("data", 2, 0, 4000), ("late", 0, 0, device.NEVER),
    )]  # fmt: skip
    for port, wrong, burst, beat, amount in wrongs:
        bench.device.clear_injections()
        bench.device.inject(port, wrong, burst, beat, amount)
        yield subject.run()
        yield bench.driver.read("waits")
        bench.device.clear_injections()
        bench.device.step(6000)
        yield subject.run()


def see_waits(subject: Subject) -> Iterator[object]:
    """One place blocked for so long that high bits of the counters move, the watchdog being off."""
    bench = subject.bench
    for port, wrong, burst in (
        (device.WRITES, "data", 1), (device.WRITES, "late", 1), (0, "late", 9),
        (bench.config.ports - 1, "address", 8),
    ):  # fmt: skip
        bench.driver.write("watchdog", 0)
        bench.device.clear_injections()
        bench.device.inject(port, wrong, burst, 0, LONG)
        bench.start(count=len(bench.jobs) - 1)
        bench.device.step(LONG)
        yield subject.end()


def see_orders(subject: Subject) -> Iterator[object]:
    """Doorbells while busy, empty lists, a list outside the memory, resets in the middle."""
    bench = subject.bench
    bench.start(count=len(bench.jobs) - 1)
    bench.device.step(50)
    bench.driver.write("doorbell", 1)
    bench.clear()
    yield subject.end()
    yield subject.run(count=0)
    bench.start(address=0x12_3456_6000, count=1)
    yield subject.end()
    for cycles in (20, 300, 302, 900, 1700, 1703, 2600):
        bench.start(count=len(bench.jobs) - 1)
        bench.device.step(cycles)
        bench.driver.write("control", registers.encode("control", reset=1))
        yield [bench.driver.read("waits") for _ in range(cycles % 7, 12)]
        yield subject.end()
        yield subject.run(count=2)
    bench.device.reset()
    yield subject.run()


def see_addresses(subject: Subject) -> Iterator[object]:
    """Good descriptors with random addresses, strides and tags: which burst fails, and where."""
    bench = subject.bench
    random = np.random.default_rng(9)
    good = bench.prepared.buffer.array.copy()
    for number in range(60):
        index = number % 4
        values = {
            name: int(random.integers(1 << commands.BY_NAME[name].width)) & -commands.ALIGNMENT
            for name in commands.ALIGNED if random.random() < 0.5
        }  # fmt: skip
        bench.set_fields(bench.prepared, index, tag=int(random.integers(1 << 32)), **values)
        bench.start(bench.prepared.buffer.address + index * commands.BYTES, 1)
        yield subject.end()
        bench.prepared.buffer.array[:] = good
    for number in range(24):
        now = bench.fields(bench.prepared, 0) | _shape(bench.config, random)
        outside = "weights" if number % 2 else "activations"
        now[outside] = int(random.integers(1 << 40)) & -commands.ALIGNMENT
        bench.set_fields(bench.prepared, 0, **_agreeing(bench.config, now))
        bench.start(bench.prepared.buffer.address, 1)
        yield subject.end()
        bench.prepared.buffer.array[:] = good
    for address in (0xED_CBA9_9000, 0x55_5555_5540, 0x2A_AAAA_AA80):
        bench.start(address, 1)
        yield subject.end()


def _shape(config: Config, random: np.random.Generator) -> dict[str, int]:
    """A shape within the limits: few tiles of many chunks, or many of few."""
    weights8, tiles = int(random.integers(2)), int(random.integers(1, 1 << random.integers(1, 9)))
    most = config.max_k // (config.span if weights8 else config.lanes)
    return {
        "weights8": weights8,
        "group": int(random.integers(3)),
        "tokens": int(random.integers(1, config.tokens + 1)),
        "chunks": int(random.integers(1, min(most, max(1, 256 // tiles)) + 1)),
        "tiles": tiles,
        "last_rows": int(random.integers(config.tile_rows)),
    }


def see_rows(subject: Subject) -> Iterator[object]:
    """The largest of many rows: their numbers' upper bits."""
    bench = subject.bench
    bench.start(subject.many.buffer.address, 1)
    yield subject.end()
    yield subject.many.commands[0].results.array.tobytes()


def see_most(subject: Subject) -> Iterator[object]:
    """The largest matrix: runs of a million beats, rows of 20 bits. Of a ``LargeSubject``."""
    bench = subject.bench
    bench.driver.write("watchdog", WATCHDOG)
    for one, top_k in ((subject.many, 64), (bench.prepared, 0)):
        results = one.commands[0].results.array
        results[:] = 0xA5
        bench.start(one.buffer.address, 1)
        yield bench.finish()
        yield [bench.driver.read(name) for name in registers.COUNTERS]
        yield results.tobytes() if top_k else zlib.crc32(results)


VECTORS: dict[str, Callable[[Subject], Iterator[object]]] = {
    "results": see_results, "registers": see_registers, "faults": see_faults,
    "descriptors": see_descriptors, "orders": see_orders, "addresses": see_addresses,
    "rows": see_rows, "waits": see_waits,
}  # fmt: skip

LARGE = {"most": see_most}
"""Vectors of a ``LargeSubject``."""

WITH_PAUSES = ("results", "faults")
"""Vectors that also run with random pauses."""


def vectors(subject: Subject) -> dict[str, Callable[[Subject], Iterator[object]]]:
    """Those that a device is for."""
    if isinstance(subject, LargeSubject):
        return LARGE
    if subject.stall_seed is not None:
        return {name: VECTORS[name] for name in WITH_PAUSES}
    return VECTORS
