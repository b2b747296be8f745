"""The register map as data: hardware, driver, tests and exports all read it by name.

Registers are 32 bits on a 16-byte stride: they read right through a control port of any width
(Kria's stock firmware leaves HPM0 at 128 bits).
"""

from __future__ import annotations

from dataclasses import dataclass

STRIDE = 16
MAGIC = 0x4D4C_4C4B
"""Reads "KLLM" in memory."""
VERSION = 2

WATCHDOG_CYCLES = 1 << 20
"""The watchdog's limit after reset: 4.2 ms at 250 MHz, a thousand times a slow read."""


@dataclass(frozen=True)
class Bits:
    """Named bits of a register."""

    name: str
    lsb: int
    width: int
    doc: str


@dataclass(frozen=True)
class Register:
    """One register. ``access``: ``ro``, ``rw`` or ``wo`` (reads zero; a write acts)."""

    name: str
    access: str
    doc: str
    bits: tuple[Bits, ...] = ()


STATUS = (
    Bits("busy", 0, 1, "a list is running"),
    Bits("error", 1, 1, "an error is held; see `error`"),
    Bits("draining", 2, 1, "a list was abandoned, its AXI transfers are not over; no doorbell now"),
)

CONTROL = (
    Bits("clear", 0, 1, "forget the held error and its address; ignored while a list runs"),
    Bits("irq_enable", 1, 1, "raise the interrupt line when a list ends"),
    Bits("reset", 2, 1, "abandon the list: AXI transfers are ended, then the engine starts afresh"),
    Bits("give_up", 3, 1, "while draining: wait for answers no longer; late ones are dropped"),
)

ERROR = (
    Bits("read", 0, 1, "an AXI read was answered SLVERR or DECERR"),
    Bits("write", 1, 1, "an AXI write was answered SLVERR or DECERR"),
    Bits("descriptor", 2, 1, "a descriptor's magic, check sum or a field was wrong; list stopped"),
    Bits("doorbell", 3, 1, "the doorbell rang while a list was running; it was ignored"),
    Bits("range", 4, 1, "a result left the range of fp32 (a token exponent out of bounds)"),
    Bits("watchdog", 5, 1, "nothing moved for `watchdog` cycles; list abandoned, see `waits`"),
    Bits("answer", 6, 1, "read data without a request, or RLAST on a wrong beat; list abandoned"),
    Bits("acknowledgement", 7, 1, "a write response without a burst; list abandoned"),
    Bits("response", 8, 2, "AXI response code of the first failing transfer"),
    Bits("port", 10, 2, "port of the first failing transfer"),
)

WAITS = (
    *(Bits(f"request{p}", p, 1, f"a read request of port {p} is not taken") for p in range(4)),
    *(Bits(f"data{p}", 4 + p, 1, f"read data of port {p} are missing") for p in range(4)),
    Bits("write_request", 8, 1, "a write request is not taken"),
    Bits("write_data", 9, 1, "write data are not taken"),
    Bits("write_response", 10, 1, "a write response is missing"),
    Bits("beat", 11, 1, "the engine waits for a beat"),
    Bits("activation", 12, 1, "the engine's weights wait for activations"),
    Bits("output", 13, 1, "the engine's weights wait for room for results"),
    Bits("command", 14, 1, "the engine waits for a command"),
)

REGISTERS = (
    Register("magic", "ro", "constant"),
    Register("version", "ro", "version of this map"),
    Register("digest_low", "ro", "configuration digest, bits 31..0"),
    Register("digest_high", "ro", "configuration digest, bits 63..32"),
    Register("scratch", "rw", "keeps what is written"),
    Register("status", "ro", "what the engine does now", STATUS),
    Register("control", "rw", "what the host wants", CONTROL),
    Register("error", "ro", "held until cleared", ERROR),
    Register("error_address_low", "ro", "start of the first failing burst, bits 31..0"),
    Register("error_address_high", "ro", "start of the first failing burst, bits 39..32"),
    Register("list_address_low", "rw", "address of the command list, bits 31..0"),
    Register("list_address_high", "rw", "address of the command list, bits 39..32"),
    Register("doorbell", "wo", "descriptors in the list; writing starts it"),
    Register("completed", "ro", "commands completed since reset, modulo 2**32"),
    Register("cycles_low", "ro", "free-running cycle counter, bits 31..0"),
    Register("cycles_high", "ro", "free-running cycle counter, bits 63..32"),
    Register("busy_cycles", "ro", "cycles with a list running"),
    Register("beats_port0", "ro", "beats read by port 0"),
    Register("beats_port1", "ro", "beats read by port 1"),
    Register("beats_port2", "ro", "beats read by port 2"),
    Register("beats_port3", "ro", "beats read by port 3"),
    Register("beats_written", "ro", "beats of results written"),
    Register("stall_data", "ro", "busy cycles in which a beat was wanted and a port had none"),
    Register("stall_activation", "ro", "busy cycles in which weights waited for activations"),
    Register("stall_output", "ro", "busy cycles in which weights waited for room for results"),
    Register("stall_command", "ro", "busy cycles in which no command was under way"),
    Register("watchdog", "rw", "cycles of a busy engine without a transfer; 0: no limit"),
    Register("waits", "ro", "what waits now; once `watchdog` is held, what waited then", WAITS),
)

OFFSETS = {register.name: index * STRIDE for index, register in enumerate(REGISTERS)}
"""Byte offset of each register."""

BY_NAME = {register.name: register for register in REGISTERS}

WINDOW_BYTES = 1 << 16
"""Size of the control window; every offset in it answers."""

COUNTERS = (
    "completed", "busy_cycles", "beats_port0", "beats_port1", "beats_port2", "beats_port3",
    "beats_written", "stall_data", "stall_activation", "stall_output", "stall_command",
)  # fmt: skip
"""Free-running 32-bit counters: take differences modulo 2**32."""


def decode(name: str, value: int) -> dict[str, int]:
    """The named bits of a register's value."""
    return {bits.name: value >> bits.lsb & ((1 << bits.width) - 1) for bits in BY_NAME[name].bits}


def encode(name: str, **values: int) -> int:
    """A register's value from named bits."""
    known = {bits.name: bits for bits in BY_NAME[name].bits}
    return sum(value << known[key].lsb for key, value in values.items())
