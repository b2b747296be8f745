"""Settings of an MMCME4 that make the configuration's clock out of the firmware's 100 MHz."""

from __future__ import annotations

from dataclasses import dataclass

from hwgen.board.boards import PL_CLOCK_MHZ, BoardError

VCO_MHZ = (800.0, 1600.0)
"""Range of the oscillator of an MMCME4, speed grade -2LV (AMD DS922/DS925, MMCM specification)."""

STEPS = 8
"""Multiplier and first divider go in eighths."""

TOLERANCE = 0.002
"""Share by which the clock may miss: below what the depth of a report could show."""


@dataclass(frozen=True)
class Mmcm:
    """``output = input / divide * multiply / output_divide``."""

    divide: int
    multiply: float
    output_divide: float

    def output(self, source_mhz: float = PL_CLOCK_MHZ) -> float:
        """The clock that it makes, MHz."""
        return source_mhz / self.divide * self.multiply / self.output_divide


def settings(clock_mhz: float, source_mhz: float = PL_CLOCK_MHZ) -> Mmcm:
    """The nearest settings; among equals whole dividers and the fastest oscillator: least jitter.

    Raises:
        BoardError: nothing within 0.2 %.
    """
    best: tuple[tuple, Mmcm] | None = None
    for divide in (1, 2):
        for eighths in range(2 * STEPS, 128 * STEPS + 1):
            multiply = eighths / STEPS
            vco = source_mhz / divide * multiply
            if not VCO_MHZ[0] <= vco <= VCO_MHZ[1]:
                continue
            # The nearest eighth; a divider of 1.125..1.875 does not exist (UG572).
            output_divide = max(1.0, round(vco / clock_mhz * STEPS) / STEPS)
            if 1 < output_divide < 2 or output_divide > 128:
                continue
            mmcm = Mmcm(divide, multiply, output_divide)
            miss = round(abs(mmcm.output(source_mhz) - clock_mhz), 6)
            key = (miss, divide, multiply % 1 + output_divide % 1 > 0, -vco)
            if best is None or key < best[0]:
                best = (key, mmcm)
    if best is None or best[0][0] > TOLERANCE * clock_mhz:
        raise BoardError(
            f"no MMCM setting makes {clock_mhz:g} MHz of {source_mhz:g} MHz within 0.2 %: give a"
            " clock_mhz that is a simple fraction, such as 250, 214.3 or 200"
        )
    return best[1]
