"""One matmul on the simulated design, compared bit for bit with golden.

The operands are packed by the runtime's packer and run by the runtime's driver; the reference reads
the same memory image. So packer, driver, Verilog and reference all have to agree.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from host.device import largest
from host.device.counters import Counters
from host.device.driver import Accelerator, memory_needed
from host.layout import blockfloat
from sim import cases, device, golden
from sim import memory as memories
from spec import commands
from spec.config import Config
from spec.digest import digest
from spec.errors import DeviceError
from spec.layout import Matrix

MEMORY_SPARE = 1 << 16
"""Bytes beyond what driver and operands take."""

TIMEOUT = 3600.0
"""Seconds; the device notices a hang long before."""


@dataclass(frozen=True)
class Report:
    """What one matmul on the simulated design showed."""

    config: Config
    wanted: np.ndarray
    """[tokens, rows] golden's bit patterns, padding rows included; for top-k [tokens, k] its
    entries: a pattern, then in the lower 32 bits the row."""
    found: np.ndarray
    """The same of the design."""
    top_k: int
    """Entries per token; 0 for all results."""
    counters: Counters
    statistics: device.MemoryStatistics
    seconds: float
    fields: dict[str, int]
    """Of the command's descriptor."""
    image: np.ndarray
    """The device's memory before the run."""

    @property
    def mismatches(self) -> int:
        """Results that differ."""
        return int(np.count_nonzero(self.wanted != self.found))

    @property
    def first_mismatch(self) -> dict[str, Any] | None:
        """Token, row (for top-k the entry's number) and both bit patterns of the first
        difference."""
        if not self.mismatches:
            return None
        token, row = (int(index) for index in np.argwhere(self.wanted != self.found)[0])
        digits = 2 * self.wanted.itemsize
        return {
            "token": token,
            "entry" if self.top_k else "row": row,
            "golden": f"{self.wanted[token, row]:#0{digits + 2}x}",
            "rtl": f"{self.found[token, row]:#0{digits + 2}x}",
        }

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``; the caller adds what it asked for."""
        counters = self.counters
        return {
            "label": "simulated",
            "equal": not self.mismatches,
            "mismatches": self.mismatches,
            "first_mismatch": self.first_mismatch,
            "cycles": counters.cycles,
            "bytes_read": counters.bytes_read,
            "bytes_written": counters.bytes_written,
            "bytes_per_cycle": round(counters.bytes_read / max(1, counters.cycles), 3),
            "stalls": {name.removeprefix("stall_"): n for name, n in counters.stalls.items()},
            "memory": self.statistics.ddr4.memory if self.statistics.ddr4 else memories.IDEAL,
            "ddr4": self.statistics.ddr4.as_dict() if self.statistics.ddr4 else None,
            "seconds": round(self.seconds, 3),
            "digest": f"{digest(self.config):016x}",
            "config": self.config.as_dict(),
        }


def run(
    config: Config, case: cases.Case, fmt: str = "fp32", top_k: int = 0, **options: Any
) -> Report:
    """Runs a case on the simulated design and on golden.

    Args:
        fmt: ``fp32`` or ``bf16``.
        top_k: only each token's largest results, rounded up to an even number; 0 for all.
        options: of ``sim.device.open``: ``memory``, ``stall_seed``, ``latency``, ``trace``.

    Raises:
        LayoutError, CommandError, TopKError: the configuration cannot hold the case.
        DeviceError: the design hangs, breaks AXI or writes where it must not.
    """
    config = device.simulated(config)
    # The driver keeps one set of buffers, this case another of at most the same size.
    size = 2 * memory_needed(config, [case.weights]) + MEMORY_SPARE
    transport = device.open(config, size, **options)
    try:
        return _run(transport, case, fmt, largest.even(top_k))
    finally:
        transport.close()


def _run(transport: device.Device, case: cases.Case, fmt: str, top_k: int) -> Report:
    config = transport.config
    accelerator = Accelerator(transport, timeout=TIMEOUT)
    handle = accelerator.load(case.weights)
    job = (handle, case.tokens, top_k) if top_k else (handle, case.tokens)
    prepared = accelerator.prepare([job])
    command = prepared.commands[0]
    blockfloat.pack_activations(
        config, handle.matrix, case.bases, case.shifts, case.mantissas,
        command.activations.array, command.stride,
    )  # fmt: skip
    fields = commands.matmul(
        handle.matrix, case.tokens, weights=handle.weights.address, weight_stride=handle.stride,
        activations=command.activations.address, activation_stride=command.stride,
        results=command.results.address, result_format=fmt, top_k=top_k,
    )  # fmt: skip
    size = commands.result_bytes(handle.matrix, case.tokens, fmt, top_k)
    descriptor = commands.pack(fields)
    prepared.buffer.array[:] = np.frombuffer(descriptor, np.uint8)
    before = transport.memory.copy()
    wanted = _golden(config, before, descriptor, fields["results"], size)
    started = time.perf_counter()
    counters = accelerator.ring(prepared)
    seconds = time.perf_counter() - started
    found = command.results.array[:size].copy()
    _check_elsewhere(before, transport.memory, fields["results"], size)
    wanted, found = (_patterns(handle.matrix, case.tokens, fmt, top_k, raw)
                     for raw in (wanted, found))  # fmt: skip
    statistics = transport.memory_statistics
    return Report(
        config, wanted, found, top_k, counters, statistics, seconds, fields, before
    )  # fmt: skip


def _patterns(matrix: Matrix, tokens: int, fmt: str, top_k: int, raw: np.ndarray) -> np.ndarray:
    """What ``Report`` compares, from a command's result bytes."""
    if top_k:
        entries = raw.view("<u4").reshape(tokens, -1, 2).astype(np.uint64)
        return entries[..., 0] << np.uint64(32) | entries[..., 1]
    whole = dataclasses.replace(matrix, rows=matrix.tiles * matrix.config.tile_rows)
    return blockfloat.result_patterns(matrix.config, whole, tokens, fmt, raw)


def _golden(
    config: Config, memory: np.ndarray, descriptor: bytes, results: int, size: int
) -> np.ndarray:
    """Golden's result bytes for a command on this memory image."""
    out = np.zeros(size, np.uint8)

    def read(address: int, count: int) -> np.ndarray:
        start = address - device.MEMORY_BASE
        return memory[start : start + count]

    def write(address: int, data: np.ndarray) -> None:
        out[address - results : address - results + data.size] = data

    golden.execute(config, read, write, descriptor)
    return out


def _check_elsewhere(before: np.ndarray, after: np.ndarray, results: int, size: int) -> None:
    """Nothing but the results may have changed."""
    changed = np.flatnonzero(before != after) + device.MEMORY_BASE
    stray = changed[(changed < results) | (changed >= results + size)]
    if stray.size:
        raise DeviceError(
            f"the design wrote {stray.size} bytes outside its results, first at {stray[0]:#x}:"
            f" results lie at {results:#x}, {size} bytes"
        )
