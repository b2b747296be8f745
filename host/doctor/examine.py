"""The examination: Linux first, then the PS, and the logic only when it is safe to touch."""

from __future__ import annotations

from collections.abc import Callable

from host.board import selftest
from host.device.driver import Accelerator
from host.device.transport import open_device
from host.doctor import firmware, linux
from host.doctor.findings import FAULT, OK, UNKNOWN, Finding, worst
from host.transports import BOARD_DEVICES
from host.transports.board import clock_sentence, measure_clock
from host.transports.machine import AccessError, Machine
from host.transports.zynq import SystemRegisters
from spec.config import Config
from spec.errors import UserError

Step = Callable[[], Finding]


def examine(
    device: str, config: Config, needed: int, machine: Machine | None = None, **options: object
) -> list[Finding]:
    """Everything that can be looked at, in the order in which one thing needs the other.

    Args:
        needed: bytes of contiguous memory that a model takes.
        machine: whose files; tests give their own.
        options: the device's own.
    """
    if device not in BOARD_DEVICES:
        return [opened(device, config, **options)]
    machine = machine or Machine()
    findings = [
        linux.model(machine),
        linux.permissions(machine),
        linux.modules(machine, device),
        linux.contiguous(machine, needed, device),
        linux.memory(machine, needed),
        linux.idle_cores(machine),
        linux.sensor(machine),
        firmware.files(machine, config),
        firmware.loaded(machine, config),
        firmware.kernel_log(machine),
        *system(machine, config),
    ]
    unsafe = [
        finding.name for finding in findings
        if finding.state == FAULT and finding.name in ("permissions", "logic", "reset", "pl_clk0")
    ]  # fmt: skip
    if unsafe:
        findings.append(
            Finding("accelerator", UNKNOWN, f"not touched: {', '.join(unsafe)} first",
                    "an access to logic without clock or in reset hangs the machine")
        )  # fmt: skip
        return findings
    return [*findings, opened(device, config, machine=machine, **options)]


def system(machine: Machine, config: Config) -> list[Finding]:
    """Clock, reset and port widths, as the PS's registers say."""
    registers = SystemRegisters(machine)
    try:
        found = [
            _clock(registers),
            _reset(registers),
            _widths(registers, config),
            _bursts(registers, config),
        ]
    except AccessError as error:
        return [Finding("processing system", UNKNOWN, "its registers cannot be read", str(error))]
    return found


def _clock(registers: SystemRegisters) -> Finding:
    if not registers.clock_runs():
        return Finding("pl_clk0", FAULT, "switched off", "load the overlay with xmutil loadapp")
    found = f"{registers.clock_mhz():.1f} MHz"
    if abs(registers.clock_mhz() - 100) > 1:
        return Finding(
            "pl_clk0", "warning", f"{found}, the design's MMCM expects 100",
            "load the overlay with xmutil loadapp, which sets it",
        )  # fmt: skip
    return Finding("pl_clk0", OK, found)


def _reset(registers: SystemRegisters) -> Finding:
    if registers.reset_released():
        return Finding("reset", OK, "released")
    return Finding(
        "reset", FAULT, "pl_resetn0 is held low",
        "a bitstream was loaded without its overlay: load it with xmutil loadapp",
    )  # fmt: skip


def _widths(registers: SystemRegisters, config: Config) -> Finding:
    wrong = [width for width in registers.widths(config) if width.found != width.wanted]
    if wrong:
        text = ", ".join(f"{width.port} {width.found} bits, not {width.wanted}" for width in wrong)
        return Finding(
            "port widths", "warning", text,
            "the driver sets them when it opens the device; the overlay does too",
        )  # fmt: skip
    return Finding("port widths", OK, f"HPM0 and {config.ports} HP ports as in the design")


def _bursts(registers: SystemRegisters, config: Config) -> Finding:
    wanted = min(config.outstanding, 16)
    few = [f"{port} {number}" for port, number in registers.bursts(config) if number < wanted]
    if few:
        return Finding(
            "bursts in flight", "warning", f"{', '.join(few)}, not {wanted}",
            "one burst at a time reaches a fifth of the rate; the driver sets it when it opens the"
            " device",
        )  # fmt: skip
    return Finding("bursts in flight", OK, f"{wanted} or more at each port")


def opened(device: str, config: Config, **options: object) -> Finding:
    """The accelerator itself: identity, scratch, clock, and the short self-test."""
    try:
        transport = open_device(device, config, selftest.memory(config, short=True), **options)
        try:
            accelerator = Accelerator(transport)
            results = selftest.run(accelerator, selftest.SHORT)
            clock = ""
            if device in BOARD_DEVICES:
                mhz = measure_clock(transport.read_register)
                sentence = clock_sentence(mhz, config)
                if sentence:
                    return Finding("accelerator", FAULT, f"{mhz:.1f} MHz", sentence)
                clock = f", {mhz:.1f} MHz measured"
        finally:
            transport.close()
    except UserError as error:
        return Finding("accelerator", FAULT, str(error), _remedy(str(error)))
    steps = ", ".join(result.step for result in results)
    return Finding("accelerator", OK, f"{config.name}{clock}; passed {steps}")


def _remedy(sentence: str) -> str:
    """The part of an error's sentence that says what to do."""
    return sentence.rpartition(": ")[2] if ": " in sentence else "see the sentence"


def healthy(findings: list[Finding]) -> bool:
    """No fault among them."""
    return worst(findings) != FAULT
