"""The device that the mutation score's vectors run on, with its matrices."""

from __future__ import annotations

import contextlib
import dataclasses
from unittest import mock

import numpy as np

from benches.mutants import SELECT_OFFSET
from host.weights import Quantised
from sim import cases, source
from spec import numeric, registers
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
    values = random.integers(0, 16, (MOST, 64), np.uint8)
    scales = np.full((MOST, 2), 0.125, np.float16)
    scales[random.integers(1 << 18, MOST, 300)] *= 64
    return cases.Case(
        Quantised(4, 32, values, scales, random.integers(0, 16, (MOST, 2), np.uint8)),
        np.zeros(tokens, np.int8), np.zeros((tokens, 1), np.uint8),
        random.integers(-127, 128, (tokens, 64)).astype(np.int8),
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
