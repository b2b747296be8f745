"""The Kria starter kits as Amaranth platforms, in the manner of ``amaranth_boards``.

Sources: AMD UG1089 (KV260 user guide), UG1092 (KR260 user guide), DS987 (K26 SOM data sheet) and
the boards' published XDC files. The processing system has its pins on the module, so only what the
programmable logic reaches is listed. No clock comes to the logic from a pin on the KV260: it is the
processing system's ``pl_clk0``.
"""

from typing import ClassVar

from amaranth.build import Attrs, Connector, Pins, Resource
from amaranth.vendor import XilinxPlatform

__all__ = ["KR260Platform", "KV260Platform"]

BANK_45 = Attrs(IOSTANDARD="LVCMOS33")
"""Bank 45 of the module is wired to 3.3 V on both carriers."""

PMOD_1 = "H12 E10 D10 C11 - - B10 E12 D11 B11 - -"
"""Pins 1-4 and 7-10 as PMOD numbers them; 5, 6, 11 and 12 are ground and 3.3 V."""


def fan() -> Resource:
    """The fan's enable (``fan_en_b``): the kernel's pwm-fan drives it through TTC0 by EMIO."""
    return Resource(
        "fan", 0, Pins("A12", dir="o"), Attrs(IOSTANDARD="LVCMOS33", SLEW="SLOW", DRIVE="4")
    )


class KriaPlatform(XilinxPlatform):
    """What every board with the commercial K26 module shares."""

    device = "xck26"
    package = "sfvc784"
    speed = "2LV-c"


class KV260Platform(KriaPlatform):
    """Kria KV260 Vision AI starter kit."""

    resources: ClassVar = [fan()]
    connectors: ClassVar = [Connector("pmod", 0, PMOD_1)]


class KR260Platform(KriaPlatform):
    """Kria KR260 Robotics starter kit."""

    resources: ClassVar = [
        fan(),
        Resource("led", 0, Pins("F8", dir="o"), Attrs(IOSTANDARD="LVCMOS18")),
        Resource("led", 1, Pins("E8", dir="o"), Attrs(IOSTANDARD="LVCMOS18")),
    ]
    connectors: ClassVar = [
        Connector("pmod", 0, PMOD_1),
        Connector("pmod", 1, "J11 J10 K13 K12 - - H11 G10 F12 F11 - -"),
        Connector("pmod", 2, "AE12 AF12 AG10 AH10 - - AF11 AG11 AH12 AH11 - -"),
        Connector("pmod", 3, "AC12 AD12 AE10 AF10 - - AD11 AD10 AA11 AA10 - -"),
    ]
