"""Boards by name: the platform, what Vivado calls the board, and facts of the processing system."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from hwgen.board.platforms import KR260Platform, KriaPlatform, KV260Platform
from spec.config import Config
from spec.errors import UserError


class BoardError(UserError):
    """A board that is not known, or a configuration that it cannot take."""


@dataclass(frozen=True)
class Board:
    """One starter kit."""

    name: str
    title: str
    platform: type[KriaPlatform]
    board_part: str
    """Pattern: 1.3, 1.4 and 2.0 are in use, Vivado is asked for the newest that it has."""
    connections: tuple[tuple[str, str], ...]
    """Connector of the module -> connector of the carrier."""

    @property
    def part(self) -> str:
        """The device as Vivado names it."""
        platform = self.platform
        return f"{platform.device}-{platform.package}-{platform.speed}"

    def pins(self) -> dict[str, str]:
        """Package pin -> I/O standard of everything that the logic reaches on this board."""
        found: dict[str, str] = {}
        for resource in self.platform.resources:
            attributes = dict(resource.attrs)
            for pin in resource.ios[0].names:
                found[pin] = attributes["IOSTANDARD"]
        for connector in self.platform.connectors:
            found |= dict.fromkeys(connector.mapping.values(), "LVCMOS33")
        return found


KV260 = Board(
    "kv260", "Kria KV260 Vision AI starter kit", KV260Platform, "xilinx.com:kv260_som:part0:*",
    (("som240_1_connector", "xilinx.com:kv260_carrier:som240_1_connector:*"),),
)  # fmt: skip

KR260 = Board(
    "kr260", "Kria KR260 Robotics starter kit", KR260Platform, "xilinx.com:kr260_som:part0:*",
    (
        ("som240_1_connector", "xilinx.com:kr260_carrier:som240_1_connector:*"),
        ("som240_2_connector", "xilinx.com:kr260_carrier:som240_2_connector:*"),
    ),
)  # fmt: skip

BOARDS = {board.name: board for board in (KV260, KR260)}

CONTROL_BASE = 0xA000_0000
"""First address of HPM0_FPD's lower window (UG1085, table 10-1)."""

CONTROL_BITS = 128
"""Width of HPM0_FPD: the stock firmware's, so that the design is right where nobody sets it."""

PL_CLOCK_MHZ = 100.0
"""``pl_clk0`` as the stock firmware leaves it, nominal; 1,499.985 MHz / 15 = 99.999 MHz."""

DDR_LOW = (0x0, 2 << 30)
DDR_HIGH = (0x8_0000_0000, 2 << 30)
"""Base and size of the two parts of the 4 GB memory (UG1085, table 10-2)."""

RESET_BIT = 95
"""``pl_resetn0`` is this bit of the processing system's EMIO GPIO."""


def find(name: str) -> Board:
    """A board by name.

    Raises:
        BoardError: not known; names the nearest one.
    """
    if name in BOARDS:
        return BOARDS[name]
    near = difflib.get_close_matches(name.lower(), BOARDS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise BoardError(f"no board {name!r}, known: {', '.join(BOARDS)}{hint}")


def check(board: Board, config: Config) -> None:
    """Refuses a configuration that the board's ports or clocking cannot serve.

    Raises:
        BoardError: the clock is out of the mixed-mode clock manager's or the DSPs' reach.
    """
    if not 20 <= config.clock_mhz <= 500:
        raise BoardError(
            f"clock_mhz must lie in 20..500 on the {board.name}, got {config.clock_mhz:g}: below,"
            " pl_clk0 serves better; above, no path of this size closes on a -2LV device"
        )
