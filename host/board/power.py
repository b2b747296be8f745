"""Power of the whole board from its INA260, as hwmon shows it; sampled while a model runs."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from host.transports.machine import Machine

MICRO = 1e-6
"""hwmon's ``power1_input`` is in microwatts (Documentation/hwmon/sysfs-interface)."""

INTERVAL = 0.05
"""Seconds between samples; the INA260 converts in 1.1 ms and the driver averages."""


def find(machine: Machine) -> str | None:
    """The power attribute of the board's INA260; None without one."""
    for name in machine.names("/sys/class/hwmon/hwmon*"):
        if (machine.read(f"{name}/name") or "").startswith("ina260"):
            attribute = f"{name}/power1_input"
            if machine.read(attribute) is not None:
                return attribute
    return None


def read_watt(machine: Machine, attribute: str) -> float | None:
    """The present power; None when it cannot be read."""
    try:
        return int(machine.read(attribute) or "") * MICRO
    except ValueError:
        return None


@dataclass
class Energy:
    """What was sampled."""

    joules: float = 0.0
    seconds: float = 0.0
    samples: int = 0

    @property
    def watts(self) -> float | None:
        """Mean power; None without samples."""
        return self.joules / self.seconds if self.seconds else None

    def per_token(self, tokens: int) -> float | None:
        """Joules per token; None without samples or tokens."""
        return self.joules / tokens if tokens and self.samples else None


@dataclass
class Meter:
    """Samples the power in a thread while its ``with`` block runs.

    Without a sensor it samples nothing and ``energy`` stays empty.
    """

    machine: Machine = field(default_factory=Machine)
    interval: float = INTERVAL
    energy: Energy = field(default_factory=Energy)

    def __enter__(self) -> Meter:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        attribute = find(self.machine)
        if attribute is not None:
            self._thread = threading.Thread(target=self._sample, args=(attribute,), daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _sample(self, attribute: str) -> None:
        """Adds power times the time since the sample before; the last piece is not lost."""
        before = time.monotonic()
        stopped = False
        while not stopped:
            stopped = self._stop.wait(self.interval)
            watts = read_watt(self.machine, attribute)
            now = time.monotonic()
            if watts is not None:
                self.energy.joules += watts * (now - before)
                self.energy.seconds += now - before
                self.energy.samples += 1
            before = now
