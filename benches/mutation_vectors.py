"""The vectors of the mutation score.

They are those of the device's tests in a compact form: matmuls of all formats against golden, the
same with random pauses, every register, every error and the recovery from it, cycles and counters
as without a mutant; then the long ones, which need a matrix of their own or many cycles.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import numpy as np

from benches.mutation_subject import HELD, LONG, WATCHDOG, LargeSubject, Subject
from sim import device
from spec import commands, layout, registers
from spec.config import Config


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
    bench.driver.write("watchdog", LONG)
    bench.device.clear_injections()
    bench.device.inject(0, "late", 9, 0, device.NEVER)
    bench.start(count=len(bench.jobs) - 1)
    bench.device.step(LONG + 10_000)
    yield subject.end()


def see_shapes(subject: Subject) -> Iterator[object]:
    """Whether shapes anywhere within the limits are begun, and those that are a bit off refused."""
    bench = subject.bench
    random = np.random.default_rng(11)
    good = bench.prepared.buffer.array.copy()
    for number in range(40):
        now = bench.fields(bench.prepared, 0) | _shape(bench.config, random, 1 << 30)
        now = _agreeing(bench.config, now)
        if number % 4 == 3:
            name = ("activation_beats", "weight_beats", "result_beats")[random.integers(3)]
            now[name] ^= 1 << int(random.integers(now[name].bit_length()))
        bench.set_fields(bench.prepared, 0, **now)
        bench.start(bench.prepared.buffer.address, 1)
        bench.device.step(1500)
        yield [bench.driver.read(name) for name in (*HELD, *registers.COUNTERS)]
        bench.driver.write("control", registers.encode("control", reset=1))
        yield subject.end()
        bench.prepared.buffer.array[:] = good


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
        now = bench.fields(bench.prepared, 0) | _shape(bench.config, random, 256)
        outside = "weights" if number % 2 else "activations"
        now[outside] = int(random.integers(1 << 40)) & -commands.ALIGNMENT
        bench.set_fields(bench.prepared, 0, **_agreeing(bench.config, now))
        bench.start(bench.prepared.buffer.address, 1)
        yield subject.end()
        bench.prepared.buffer.array[:] = good
    for address in (0xED_CBA9_9000, 0x55_5555_5540, 0x2A_AAAA_AA80):
        bench.start(address, 1)
        yield subject.end()


def _shape(config: Config, random: np.random.Generator, most_chunks: int) -> dict[str, int]:
    """A shape within the limits: few tiles of many chunks, or many of few."""
    bits = min(layout.MAX_ROWS // config.tile_rows, most_chunks).bit_length() - 1
    weights8 = int(random.integers(2))
    tiles = int(random.integers(1, (1 << random.integers(1, bits + 1)) + 1))
    most = config.max_k // (config.span if weights8 else config.lanes)
    return {
        "weights8": weights8,
        "group": int(random.integers(3)),
        "tokens": int(random.integers(1, config.tokens + 1)),
        "chunks": int(random.integers(1, min(most, max(1, most_chunks // tiles)) + 1)),
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
    "rows": see_rows, "shapes": see_shapes, "waits": see_waits,
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
