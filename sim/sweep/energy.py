"""A proxy of the energy of a token, to compare points with: every coefficient is assumed.

Power grows with what switches, energy with what moves. Nothing here was measured, and no figure of
it is a board's.
"""

from __future__ import annotations

from collections.abc import Mapping

BASE_WATTS = 3.5
"""Assumed: processors, DDR in idle, leakage: about what a K26 draws before a design is loaded."""

LUT_WATTS = 25e-6
"""Assumed: one LUT and its flip-flops at 250 MHz with an eighth of the nodes switching."""

BLOCK_WATTS = {"dsp": 1.0e-3, "bram36": 6e-3, "uram": 15e-3}
"""Assumed: of one block at 250 MHz, every cycle in use."""

DRAM_JOULES_PER_BYTE = 0.16e-9
"""Assumed: 20 pJ per bit of DDR4, device and interface."""


def millijoules(
    resources: Mapping[str, float], clock_mhz: float, seconds: float, read: float
) -> float:
    """Of one token.

    Args:
        seconds: that the token takes.
        read: bytes from memory.
    """
    fabric = resources["lut"] * LUT_WATTS
    fabric += sum(resources[name] * watts for name, watts in BLOCK_WATTS.items())
    watts = BASE_WATTS + fabric * clock_mhz / 250
    return 1e3 * (seconds * watts + read * DRAM_JOULES_PER_BYTE)
