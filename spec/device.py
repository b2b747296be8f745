"""The devices that an accelerator is made for, and what they have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """What a device has."""

    name: str
    limits: dict[str, int]
    """Resource -> number of it; BRAM36 are block RAMs of 36 kbit."""


XCK26 = Device("XCK26", {"lut": 117_120, "ff": 234_240, "dsp": 1_248, "bram36": 144, "uram": 64})
"""The Kria K26's device. Source: AMD DS987, Kria K26 SOM Data Sheet."""
