"""cocotb tests of the top, run by test_top.py inside the simulation.

The memory and the host's port are cocotbext-axi's, so nothing here shares code with the harness of
the simulated device. All ports look into one memory image; what lies outside it answers SLVERR.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import (
    AxiBus,
    AxiLiteBus,
    AxiLiteMaster,
    AxiRam,
    AxiRamRead,
    AxiReadBus,
    AxiResp,
)

from host.layout import blockfloat, pack
from sim import cases, golden
from spec import commands, layout, registers
from spec.digest import digest
from spec.layout import Matrix
from tests.hwgen.axi_checks import MasterChecks
from tests.hwgen.cocotb_top import simulated_config

CONFIG = simulated_config()
BASE = 0x8_0000_0000
"""Where the image begins, beyond 32 bits."""
SIZE = 1 << 20
CYCLES_MAX = 6_000
"""Cycles after which a list has hung."""
PAUSES = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.4, 0.4))
"""Chance of a pause in the channels that the memory drives, and in those that it takes from."""


class Image:
    """The memory of all ports, as cocotbext-axi wants it: addressed by slices."""

    def __init__(self) -> None:
        self.bytes = np.zeros(SIZE, np.uint8)
        self.faults: set[int] = set()
        self.written: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, where: slice) -> bytes:
        return self._part(where).tobytes()

    def __setitem__(self, where: slice, data: bytes) -> None:
        self._part(where)[:] = np.frombuffer(bytes(data), np.uint8)
        self.written.append((where.start, where.stop))

    def read(self, address: int, size: int) -> np.ndarray:
        """Golden's view of it."""
        return self.bytes[address - BASE : address - BASE + size]

    def _part(self, where: slice) -> np.ndarray:
        if not BASE <= where.start <= where.stop <= BASE + SIZE:
            raise ValueError(f"{where.start:#x} lies outside the memory")
        if any(where.start <= fault < where.stop for fault in self.faults):
            raise ValueError(f"{where.start:#x} was told to fail")
        return self.bytes[where.start - BASE : where.stop - BASE]


class Bench:
    """The design under its clock, a memory behind all ports, the host on the control port."""

    def __init__(self, dut) -> None:
        self.dut = dut
        self.image = Image()
        self._used = 0
        clock, reset = dut.aclk, dut.aresetn
        Clock(clock, 4, "ns").start()
        common = {"reset": reset, "reset_active_level": False, "mem": self.image}
        self.first = AxiRam(AxiBus.from_prefix(dut, "m_axi_hp0"), clock, **common)
        self.reads = [self.first.read_if]
        for port in range(1, CONFIG.ports):
            bus = AxiReadBus.from_prefix(dut, f"m_axi_hp{port}")
            self.reads.append(AxiRamRead(bus, clock, **common))
        self.host = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axi_control"), clock, reset, reset_active_level=False
        )

    async def reset(self) -> None:
        """Holds the reset for some cycles."""
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, 5)
        self.dut.aresetn.value = 1
        await ClockCycles(self.dut.aclk, 5)

    def pause(self, seed: int, giving: float, taking: float) -> None:
        """Random pauses on every channel, each with its own generator."""
        write, host = self.first.write_if, self.host
        gives = [write.b_channel, *(read.r_channel for read in self.reads)]
        gives += [host.write_if.aw_channel, host.write_if.w_channel, host.read_if.ar_channel]
        takes = [write.aw_channel, write.w_channel, *(read.ar_channel for read in self.reads)]
        takes += [host.write_if.b_channel, host.read_if.r_channel]
        for number, channel in enumerate(gives + takes):
            chance = giving if channel in gives else taking
            channel.set_pause_generator(pauses(random.Random(f"{seed} {number}"), chance))

    def allocate(self, size: int) -> int:
        """Address of ``size`` bytes of the image on a 4 KB boundary."""
        address = BASE + self._used
        self._used += -(-size // 4096) * 4096
        assert self._used <= SIZE
        return address

    def prepare(self, case: cases.Case, fmt: str) -> dict[str, int]:
        """Packs a matmul's operands into the image; the fields of its descriptor."""
        weights = case.weights
        matrix = Matrix(CONFIG, weights.rows, weights.columns, weights.bits, weights.group)
        sizes = (matrix.beats, matrix.activation_beats(case.tokens))
        strides = [layout.port_stride(CONFIG, beats) for beats in sizes]
        spots = [self.allocate(layout.region_bytes(CONFIG, beats)) for beats in sizes]
        pack.pack_weights(CONFIG, weights, self.image.bytes[spots[0] - BASE :], strides[0])
        blockfloat.pack_activations(
            CONFIG, matrix, case.bases, case.shifts, case.mantissas,
            self.image.bytes[spots[1] - BASE :], strides[1],
        )  # fmt: skip
        results = self.allocate(matrix.result_bytes(case.tokens, fmt))
        return commands.matmul(
            matrix, case.tokens, weights=spots[0], weight_stride=strides[0], activations=spots[1],
            activation_stride=strides[1], results=results, result_format=fmt,
        )  # fmt: skip

    def write_list(self, fields: list[dict[str, int]]) -> int:
        """Puts descriptors into the image; their address."""
        data = b"".join(commands.pack(values) for values in fields)
        address = self.allocate(len(data))
        self.image.bytes[address - BASE : address - BASE + len(data)] = np.frombuffer(
            data, np.uint8
        )
        return address

    async def read(self, name: str) -> int:
        """A register by name; the answer must be OKAY."""
        answer = await self.host.read(registers.OFFSETS[name], 4)
        assert answer.resp == AxiResp.OKAY
        return int.from_bytes(answer.data, "little")

    async def write(self, name: str, value: int) -> None:
        """Writes a register by name; the answer must be OKAY."""
        answer = await self.host.write(registers.OFFSETS[name], value.to_bytes(4, "little"))
        assert answer.resp == AxiResp.OKAY

    async def ring(self, address: int, count: int) -> None:
        """Starts a list and waits for the interrupt."""
        await self.write("list_address_low", address & 0xFFFFFFFF)
        await self.write("list_address_high", address >> 32)
        await self.write("doorbell", count)
        await ClockCycles(self.dut.aclk, 3)
        assert int(self.dut.irq.value) == 0, "the interrupt must fall when a list starts"
        for _ in range(CYCLES_MAX):
            await RisingEdge(self.dut.aclk)
            if int(self.dut.irq.value):
                break
        else:
            raise AssertionError(f"no interrupt within {CYCLES_MAX} cycles")
        assert registers.decode("status", await self.read("status"))["busy"] == 0

    def assert_equal(self, fields: dict[str, int]) -> None:
        """The results of a command are golden's."""
        size = fields["result_beats"] * CONFIG.port_bytes
        wanted = np.zeros(size, np.uint8)

        def write(address: int, data: np.ndarray) -> None:
            start = address - fields["results"]
            wanted[start : start + data.size] = data

        golden.execute(CONFIG, self.image.read, write, commands.pack(fields))
        np.testing.assert_array_equal(self.image.read(fields["results"], size), wanted)


def pauses(chance: random.Random, share: float) -> Iterator[int]:
    """1 in a cycle in which a channel pauses."""
    while True:
        yield int(chance.random() < share)


def two_commands(bench: Bench, seed: int) -> list[dict[str, int]]:
    """A ragged int4 matmul and an int8 one with short results."""
    tokens = CONFIG.tokens
    return [
        bench.prepare(cases.draw(19, 96, 4, 32, tokens, seed), "fp32"),
        bench.prepare(cases.draw(7, 64, 8, 64, tokens, seed + 1), "bf16"),
    ]


async def started(dut, seed: int = 0, giving: float = 0.0, taking: float = 0.0) -> Bench:
    """A bench out of reset, with pauses."""
    bench = Bench(dut)
    await bench.reset()
    await bench.write("control", registers.encode("control", irq_enable=1))
    await ClockCycles(dut.aclk, 5)
    assert int(dut.irq.value) == 0, "an interrupt before any list"
    bench.pause(seed, giving, taking)
    return bench


async def a_list_is_equal_to_golden(dut, seed: int, giving: float, taking: float) -> None:
    """Results, and nothing else, are written; counters and interrupt follow the list."""
    bench = await started(dut, seed, giving, taking)
    fields = two_commands(bench, seed)
    address = bench.write_list(fields)
    before = {name: await bench.read(name) for name in registers.COUNTERS}
    clock = await bench.read("cycles_low")
    await bench.ring(address, len(fields))
    spent = {name: await bench.read(name) - before[name] for name in registers.COUNTERS}
    for values in fields:
        bench.assert_equal(values)
    results = [
        (values["results"], values["results"] + values["result_beats"] * CONFIG.port_bytes)
        for values in fields
    ]
    assert all(
        any(low <= start and stop <= high for low, high in results)
        for start, stop in bench.image.written
    )
    beats = sum(values["weight_beats"] + values["activation_beats"] for values in fields)
    beats += len(fields) * commands.beats(CONFIG)
    for port in range(4):
        assert spent[f"beats_port{port}"] == (beats if port < CONFIG.ports else 0)
    assert spent["beats_written"] == sum(values["result_beats"] for values in fields)
    assert spent["completed"] == len(fields)
    elapsed = await bench.read("cycles_low") - clock
    assert beats <= spent["busy_cycles"] <= elapsed
    assert await bench.read("error") == 0


@cocotb.test()
@cocotb.parametrize(pattern=[0, 3])
async def lists_are_equal_to_golden(dut, pattern: int) -> None:
    giving, taking = PAUSES[pattern]
    await a_list_is_equal_to_golden(dut, 100 + pattern, giving, taking)


@cocotb.test()
async def registers_answer(dut) -> None:
    """Identity, what keeps its value, what does not, and addresses without a register."""
    bench = await started(dut, 5, 0.3, 0.3)
    assert await bench.read("magic") == registers.MAGIC
    assert await bench.read("version") == registers.VERSION
    found = await bench.read("digest_high") << 32 | await bench.read("digest_low")
    assert found == digest(CONFIG)
    for name, value in (("scratch", 0xDEADBEEF), ("list_address_low", 0x12345678), ("magic", 0)):
        await bench.write(name, value)
    assert await bench.read("scratch") == 0xDEADBEEF
    assert await bench.read("list_address_low") == 0x12345678
    assert await bench.read("magic") == registers.MAGIC
    for offset in (len(registers.REGISTERS) * registers.STRIDE, registers.WINDOW_BYTES - 4):
        answer = await bench.host.read(offset, 4)
        assert (answer.resp, bytes(answer.data)) == (AxiResp.OKAY, bytes(4))
    await bench.host.write(registers.OFFSETS["scratch"] + 1, b"\x55")  # one byte: ignored
    assert await bench.read("scratch") == 0xDEADBEEF


@cocotb.test()
async def an_error_answer_is_held_and_the_next_run_is_right(dut) -> None:
    """SLVERR on the last port's weights, then on the results."""
    bench = await started(dut, 9, 0.2, 0.2)
    fields = two_commands(bench, 50)
    address = bench.write_list(fields)
    port = CONFIG.ports - 1
    burst = CONFIG.burst_beats * CONFIG.port_bytes
    weights = fields[0]["weights"] + port * fields[0]["weight_stride"] + 2 * burst
    for kind, place in (("read", weights), ("write", fields[1]["results"])):
        bench.image.faults = {place}
        await bench.ring(address, len(fields))
        error = registers.decode("error", await bench.read("error"))
        wanted = {"read": 0, "write": 0} | {kind: 1}
        assert {name: error[name] for name in wanted} == wanted
        assert (error["response"], error["port"]) == (2, port if kind == "read" else 0)
        held = await bench.read("error_address_high") << 32 | await bench.read("error_address_low")
        assert held == place
        bench.image.faults = set()
        await bench.write("control", registers.encode("control", clear=1, irq_enable=1))
        assert await bench.read("error") == 0
        await bench.ring(address, len(fields))
        for values in fields:
            bench.assert_equal(values)


@cocotb.test()
async def requests_follow_the_axi_rules(dut) -> None:
    """Whole beats, INCR, aligned, within 4 KB, no longer than configured; stable until taken."""
    bench = await started(dut, 13, 0.5, 0.5)
    fields = two_commands(bench, 70)
    address = bench.write_list(fields)
    watchers = [
        MasterChecks(
            dut, dut.aclk, f"m_axi_hp{port}", beat_bytes=CONFIG.port_bytes,
            burst_beats=CONFIG.burst_beats, outstanding=CONFIG.outstanding, writes=port == 0,
        )
        for port in range(CONFIG.ports)
    ]  # fmt: skip
    await bench.ring(address, len(fields))
    for watcher in watchers:
        watcher.task.cancel()
        watcher.assert_empty()
    assert sum(len(watcher.bursts["ar"]) for watcher in watchers) > 20
    assert watchers[0].bursts["aw"]
