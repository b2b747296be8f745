"""The simulated device: the generated Verilog, clock cycle by clock cycle, behind the transport.

``open`` builds the simulator when the cache has none (sim/build.py) and loads it through ctypes.
Memory is one NumPy array that the C++ memory model reads and writes in place. Time passes only
while a register is accessed or ``wait`` runs.
"""

from __future__ import annotations

import ctypes
import dataclasses
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np

from host.device.transport import Buffer
from sim import build, source
from sim import memory as memories
from sim.binding import Statistics, load
from sim.memory_binding import Ddr4Counters, Ddr4Statistics, parameters, statistics
from spec import commands, registers
from spec.config import Config
from spec.errors import DeviceError

MEMORY_BASE = 0x8_0000_0000
"""Where the memory lies: the upper DDR region of Zynq UltraScale+ (UG1085), beyond 32 bits."""

MEMORY_MAX = 1 << 37
"""Most bytes of memory; pages are only taken when they are touched."""

PAGE = 4096

POLL_CYCLES = 64
"""Cycles between two looks at the status register."""

SLICE_CYCLES = 100_000
"""Cycles per call into the simulator: how soon a time limit or Ctrl-C is noticed, if not set."""

SILENCE_CYCLES = 50_000
"""Cycles without one AXI handshake, beyond the latency, after which a busy engine hangs: the
longest it computes on its own is a tile of results, 256 rows x 16 tokens."""

RESPONSES = {"SLVERR": 2, "DECERR": 3}
"""AXI error responses (AMBA AXI, IHI 0022, table A3-4)."""


WRONGS = (
    "response", "early last", "short", "no last", "long", "endless", "late", "twice", "address",
    "data",
)  # fmt: skip
"""What a memory can be made to do wrong: ``Wrong`` of sim/harness/injection.hpp, in its order."""

WRITES = -1
"""The port number of the writes, for ``Device.inject``."""

NEVER = (1 << 64) - 1
"""Cycles that last until ``clear_injections``."""


@dataclasses.dataclass(frozen=True)
class MemoryStatistics:
    """What the simulated AXI ports saw since the device was opened."""

    bytes_read: tuple[int, ...]
    """By port."""
    read_bursts: tuple[int, ...]
    """By port."""
    bytes_written: int
    write_bursts: int
    read_outstanding_max: int
    """Most read bursts in flight on one port."""
    write_outstanding_max: int
    error_responses: int
    """Beats and bursts answered SLVERR or DECERR."""
    ddr4: Ddr4Statistics | None = None
    """What the DDR4 model counted; None with the ideal memory."""


def open(  # the name that the entry-point group asks for
    config: Config,
    memory_bytes: int,
    *,
    memory: str | Path | memories.Ddr4 = memories.IDEAL,
    stall_seed: int | None = None,
    latency: int = 50,
    jitter: int = 200,
    faults: tuple[tuple[int, str], ...] = (),
    trace: str | Path | None = None,
    short: bool = False,
) -> Device:
    """Builds (or finds) the simulator of ``config`` and opens it.

    A configuration with ``dsp = "vendor"`` is simulated with its portable twin, whose digest the
    device then shows: ``Device.config`` says what runs.

    Args:
        memory_bytes: size of the memory.
        memory: its timing: ``ideal``, a preset or a TOML file of sim/memory.py, or such a value.
        stall_seed: random pauses on every AXI channel; None for none.
        latency: cycles from a burst's address to its first beat in the ideal memory (50 are 200 ns
            at 250 MHz).
        jitter: most cycles that a burst takes longer there when ``stall_seed`` is given.
        faults: addresses that answer ``SLVERR`` or ``DECERR``.
        trace: an FST file to write; builds another, slower simulator.
        short: for less than a million cycles: a simulator that is built sooner and runs slower.

    Raises:
        ToolError: a tool is missing or cannot build the simulator.
        DeviceError: the memory cannot be had.
        TimingError: no such timing, or one that breaks a rule.
    """
    timing = memories.load(memory)
    return Device(
        simulated(config), memory_bytes, timing, stall_seed, latency, jitter, faults, trace, short
    )


def simulated(config: Config) -> Config:
    """The configuration that is simulated: the portable twin of a vendor one."""
    return dataclasses.replace(config, dsp="portable")


class Device:
    """The transport ``rtl`` (see host/device/transport.py)."""

    name = "rtl"

    def __init__(
        self,
        config: Config,
        memory_bytes: int,
        timing: memories.Memory,
        stall_seed: int | None,
        latency: int,
        jitter: int,
        faults: tuple[tuple[int, str], ...],
        trace: str | Path | None,
        short: bool = False,
    ) -> None:
        self.config = config
        self.latency = latency
        self.timing = timing
        """None is the ideal memory."""
        self.stalling = stall_seed is not None
        self._burst_cycles = latency + (jitter if self.stalling else 0)
        native = None
        if timing is not None:
            self._burst_cycles = timing.worst_cycles(config.clock_mhz)
            native = ctypes.byref(parameters(timing, config.port_bytes))
        recipe = build.Recipe(self._verilog(config), config, trace is not None, short)
        self._library = load(build.library(recipe))
        self._arena = _arena(memory_bytes)
        self._used = 0
        # Seed 0 means "no stalls" in the harness; a seed of 0 here is a seed like any other.
        seed = 0 if stall_seed is None else stall_seed + 1
        self._handle = ctypes.c_void_p(
            self._library.sim_create(latency, jitter, seed, native, round(config.clock_mhz * 1000))
        )
        self._close = weakref.finalize(self, self._library.sim_destroy, self._handle)
        self._library.sim_set_memory(
            self._handle, MEMORY_BASE, self._arena.ctypes.data, self._arena.size
        )
        self.set_faults(faults)
        self._bound = 0
        """Cycles that the running list may take."""
        self.slice_cycles = SLICE_CYCLES
        """Cycles between two calls of ``progress``."""
        self.progress: Callable[[int], None] | None = None
        """Called while ``wait`` simulates, with the cycles since it began; may read registers."""
        if trace is not None and self._library.sim_trace(self._handle, str(trace).encode()):
            raise DeviceError(f"the trace {trace} cannot be written: give a writable path")

    def _verilog(self, config: Config) -> str:
        """What is simulated."""
        return source.verilog(config)

    @property
    def simulated_cycles(self) -> int:
        """Clock cycles since the device was opened."""
        return self._library.sim_cycle(self._handle)

    @property
    def memory(self) -> np.ndarray:
        """All of the device's memory, uint8, from address MEMORY_BASE on; the bytes themselves."""
        return self._arena

    @property
    def memory_statistics(self) -> MemoryStatistics:
        """What the AXI ports saw since the device was opened."""
        raw = self._statistics()
        ports = self.config.ports
        return MemoryStatistics(
            bytes_read=tuple(raw.bytes_read[:ports]),
            read_bursts=tuple(raw.read_bursts[:ports]),
            bytes_written=raw.bytes_written,
            write_bursts=raw.write_bursts,
            read_outstanding_max=raw.read_outstanding_max,
            write_outstanding_max=raw.write_outstanding_max,
            error_responses=raw.error_responses,
            ddr4=self._ddr4_statistics(),
        )

    def set_faults(self, faults: tuple[tuple[int, str], ...]) -> None:
        """Replaces the addresses that answer with an error: ``(address, "SLVERR" | "DECERR")``."""
        self._library.sim_clear_faults(self._handle)
        for address, response in faults:
            if response not in RESPONSES:
                raise DeviceError(f"a fault answers {' or '.join(RESPONSES)}, got {response!r}")
            self._library.sim_add_fault(self._handle, address, RESPONSES[response])

    def inject(self, port: int, wrong: str, burst: int, beat: int = 0, amount: int = 0) -> None:
        """Makes the memory do something wrong, once.

        Args:
            port: of the reads, or ``WRITES``.
            wrong: one of ``WRONGS``; what it means is in sim/harness/injection.hpp.
            burst: which of the port's bursts since the last ``clear_injections``.
            beat: which beat of it; a write's response is at beat 0.
            amount: cycles, beats, responses or the response code.
        """
        self._library.sim_inject(self._handle, port, WRONGS.index(wrong), burst, beat, amount)

    def clear_injections(self) -> None:
        """Ends what ``inject`` began: what was held back comes now."""
        self._library.sim_clear_injections(self._handle)

    def reset(self) -> None:
        """Holds ``aresetn`` low for some cycles; memory keeps its contents."""
        self._library.sim_reset(self._handle)

    @property
    def protocol_breaches(self) -> int:
        """How often the design broke AXI since the device was opened."""
        return self._library.sim_breaches(self._handle)

    def step(self, cycles: int) -> None:
        """Lets time pass."""
        self._library.sim_step(self._handle, cycles)

    def read_register(self, offset: int) -> int:
        value = ctypes.c_uint32()
        failed = self._library.sim_read_register(self._handle, offset, ctypes.byref(value))
        self._check_access(failed, f"a read of register offset {offset:#x}")
        return value.value

    def write_register(self, offset: int, value: int) -> None:
        if offset == registers.OFFSETS["doorbell"]:
            self._bound = self._work_bound(value)
        failed = self._library.sim_write_register(self._handle, offset, value)
        self._check_access(failed, f"a write of register offset {offset:#x}")

    def allocate(self, size: int) -> Buffer:
        if not 0 < size <= self._arena.size - self._used:
            raise DeviceError(
                f"device {self.name} has {self._arena.size - self._used} of {self._arena.size}"
                f" bytes left, {size} were asked for: open it with more memory"
            )
        start = self._used
        self._used = min(start + -(-size // PAGE) * PAGE, self._arena.size)
        return Buffer(MEMORY_BASE + start, self._arena[start : start + size])

    def flush(self, buffer: Buffer) -> None:
        """Host and design share one array: nothing to do."""

    def invalidate(self, buffer: Buffer) -> None:
        """Host and design share one array: nothing to do."""

    def wait(self, timeout: float) -> None:
        """Simulates until the engine is idle.

        Raises:
            DeviceError: seconds or cycles run out, the engine falls silent, or it broke AXI.
        """
        busy = registers.encode("status", busy=1)
        status = registers.OFFSETS["status"]
        begin, limit = self.simulated_cycles, time.monotonic() + timeout
        while True:
            result = self._library.sim_run(
                self._handle, self.slice_cycles, POLL_CYCLES, status, busy
            )
            self._check_access(result % 3, "a read of the status register")
            self._check_protocol()
            now = self.simulated_cycles
            if self.progress is not None:
                self.progress(now - begin)
            if result == 0:
                return
            silent = now - max(begin, self._statistics().last_activity)
            if silent > SILENCE_CYCLES + self._burst_cycles:
                self._hang(f"no AXI transfer for {silent} cycles")
            if now - begin > self._bound:
                self._hang(f"still busy after {now - begin} cycles, its work takes less")
            if time.monotonic() > limit:
                self._hang(f"still busy after {timeout:g} s ({now - begin} cycles)")

    def close(self) -> None:
        """Frees the simulation. Buffers stay readable."""
        self._close()

    def _work_bound(self, count: int) -> int:
        """Generous bound on the cycles of the list about to start, from its descriptors.

        Every beat may wait for a burst of its own; stalls make each step take several times as
        long. Lists that cannot be decoded are the engine's to refuse.
        """
        low, high = (
            self.read_register(registers.OFFSETS[f"list_address_{half}"])
            for half in ("low", "high")
        )
        start = (high << 32 | low) - MEMORY_BASE
        size = count * commands.BYTES
        beats = count + 1
        if 0 <= start <= self._arena.size - size:
            image = self._arena[start : start + size].tobytes()
            for at in range(0, size, commands.BYTES):
                try:
                    fields = commands.unpack(image[at : at + commands.BYTES])
                except commands.CommandError:
                    continue
                results = fields["tiles"] * fields["tokens"] * self.config.tile_rows * 4
                beats += fields["weight_beats"] + fields["activation_beats"]
                beats += results // self.config.port_bytes
        return 2 * SILENCE_CYCLES + beats * (self._burst_cycles + (100 if self.stalling else 20))

    def _statistics(self) -> Statistics:
        raw = Statistics()
        self._library.sim_statistics(self._handle, ctypes.byref(raw))
        return raw

    def _ddr4_statistics(self) -> Ddr4Statistics | None:
        if self.timing is None:
            return None
        raw = Ddr4Counters()
        self._library.sim_ddr4_statistics(self._handle, ctypes.byref(raw))
        return statistics(self.timing, raw, self.config.ports)

    def _check_access(self, failed: int, what: str) -> None:
        if failed:
            how = "was never answered" if failed == 1 else "was answered with an error"
            raise DeviceError(
                f"device {self.name}: {what} {how}: the design's control port is broken"
            )

    def _check_protocol(self) -> None:
        breaches = self._library.sim_breaches(self._handle)
        if breaches:
            first = self._library.sim_first_breach(self._handle).decode()
            raise DeviceError(
                f"device {self.name} broke the AXI protocol {breaches} times, first at {first}"
            )

    def _hang(self, why: str) -> None:
        counters = ", ".join(
            f"{name} {self.read_register(registers.OFFSETS[name])}" for name in registers.COUNTERS
        )
        raise DeviceError(f"device {self.name} hangs: {why}; counters: {counters}")


def _arena(memory_bytes: int) -> np.ndarray:
    """Zeroed memory on a page boundary."""
    if not PAGE <= memory_bytes <= MEMORY_MAX:
        raise DeviceError(f"memory must lie in {PAGE}..{MEMORY_MAX} bytes, got {memory_bytes}")
    try:
        raw = np.zeros(memory_bytes + PAGE, np.uint8)
    except MemoryError:
        raise DeviceError(
            f"{memory_bytes} bytes of simulated memory cannot be had: open it with less"
        ) from None
    start = -raw.ctypes.data % PAGE
    return raw[start : start + memory_bytes]
