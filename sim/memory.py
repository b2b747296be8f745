"""What the simulated memory is: ``ideal``, a DDR4 preset, or a TOML file of DDR4 parameters.

The timing model itself is C++ (sim/harness/ddr4.hpp). Nothing here was measured by this project; a
value's source is one of

* ``JESD79-4``: the DDR4 standard's value for this speed, 8 Gb devices of 16 bits;
* ``board``: manuals, boot firmware and published measurements of the Kria K26;
* ``typical``: usual for such devices, not published for this board;
* ``assumed``: a choice of this model.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spec import tomlfile
from spec.errors import UserError

IDEAL = "ideal"
"""Every burst takes the same time and only the ports' own width limits the rate."""


PORTS = 4
"""HP ports, HP0..HP3."""

BUS_BYTES = 8
"""Bytes of one transfer: a bus of 64 bits (board)."""

BURST_LENGTH = 8
"""Transfers of one access (JESD79-4, BL8): 64 bytes."""


class TimingError(UserError):
    """A memory that cannot be simulated; the sentence names the field and its rule."""


def _value(default: Any, unit: str, source: str, low: float, high: float) -> Any:
    """A field with its unit, its source, and the range that the model takes."""
    return dataclasses.field(
        default=default, metadata={"unit": unit, "source": source, "low": low, "high": high}
    )


def _clocks(default: int, source: str = "JESD79-4", low: int = 1, high: int = 255) -> Any:
    return _value(default, "DRAM clocks", source, low, high)


def _bits(default: int) -> Any:
    return _value(default, "address bits", "board", 0, 39)


def _check_value(field: dataclasses.Field, value: Any) -> None:
    """Type and range."""
    wanted: Any = (int, float) if field.type == "float" else int
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise TimingError(f"{field.name} must be {field.type}, got {value!r}")
    low, high, unit = (field.metadata[key] for key in ("low", "high", "unit"))
    if not low <= value <= high:
        raise TimingError(f"{field.name} must lie in {low}..{high} ({unit}), got {value}")


@dataclass(frozen=True)
class Ddr4:
    """A DDR4 memory behind the HP ports; the defaults are ``ddr4-2133``. Validated when made.

    Raises:
        TimingError: a field breaks a rule.
    """

    name: str = "ddr4-2133"
    data_rate: float = _value(2133.333, "MT/s", "board: stock boot firmware", 100, 10_000)

    cl: int = _clocks(16)
    cwl: int = _clocks(14)
    trcd: int = _clocks(16)
    trp: int = _clocks(16)
    tras: int = _clocks(36)
    trfc: int = _clocks(374, high=10_000)
    trefi: int = _clocks(8256, "board", high=100_000)
    trrd_s: int = _clocks(6, "typical")
    trrd_l: int = _clocks(8)
    tfaw: int = _clocks(32)
    tccd_s: int = _clocks(4, low=4)
    tccd_l: int = _clocks(6, low=4)
    twr: int = _clocks(16, "typical")
    trtp: int = _clocks(8, "typical")
    twtr_s: int = _clocks(3, "typical")
    twtr_l: int = _clocks(8, "typical")

    group_low: int = _bits(6)
    group_bits: int = _bits(1)
    bank_low: int = _bits(14)
    bank_bits: int = _bits(2)
    row_low: int = _bits(16)
    row_bits: int = _bits(16)

    read_queue: int = _value(32, "accesses", "board", 1, 256)
    write_queue: int = _value(32, "accesses", "board", 1, 256)
    bank_window: int = _value(8, "accesses", "board: looked at per bank", 1, 256)
    row_hits_max: int = _value(
        4, "accesses to a row before an older one to another row", "assumed", 1, 10_000
    )
    write_high: int = _value(32, "accesses that start a batch of writes", "assumed", 1, 256)
    write_low: int = _value(4, "accesses that end it while reads wait", "assumed", 0, 256)
    write_idle: int = _clocks(32, "assumed: without reads, then writes go", 0, 10_000)

    controller_ports: tuple[int, ...] = (3, 4, 4, 5)
    """Port of the controller behind each of HP0..HP3 (board)."""
    controller_port_bytes: int = _value(16, "bytes by direction", "board", 1, 64)
    controller_port_mhz: float = _value(533.333, "MHz", "board", 1, 5000)
    read_latency_ns: float = _value(
        200.0,
        "ns from address to first data of an unloaded read, bank closed",
        "assumed",
        1,
        10_000,
    )
    outstanding: int = _value(8, "bursts in flight by HP port and direction", "board", 1, 64)
    burst_beats: int = _value(16, "beats: an HP port cuts longer bursts", "board (AXI3)", 1, 256)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.metadata:
                _check_value(field, getattr(self, field.name))
        if not isinstance(self.name, str):
            raise TimingError(f"name must be text, got {self.name!r}")
        ports = self.controller_ports
        if (
            not isinstance(ports, tuple)
            or len(ports) != PORTS
            or any(type(port) is not int for port in ports)
        ):
            raise TimingError(f"controller_ports must be {PORTS} whole numbers, got {ports!r}")
        self._check_order()
        self._check_map()

    @property
    def clock_khz(self) -> int:
        """DRAM clock: half the data rate."""
        return round(self.data_rate * 500)

    @property
    def peak_gb_per_second(self) -> float:
        """GB/s (1e9 bytes) of the bus when every clock carries data."""
        return self.data_rate * BUS_BYTES / 1000

    @property
    def burst_clocks(self) -> int:
        """DRAM clocks of one access's data."""
        return BURST_LENGTH // 2

    @property
    def access_clocks(self) -> int:
        """DRAM clocks that one access takes on a controller port."""
        beats = BURST_LENGTH * BUS_BYTES / self.controller_port_bytes
        return max(1, round(beats * self.clock_khz / (1000 * self.controller_port_mhz)))

    @property
    def path_clocks(self) -> tuple[int, int]:
        """DRAM clocks from an HP port to the controller, and back: what ``read_latency_ns`` leaves
        beside the DRAM's own time, in halves."""
        path = self._latency_clocks() - self._dram_clocks()
        return path // 2, path - path // 2

    def clocks_to_ns(self, clocks: float) -> float:
        """DRAM clocks in nanoseconds."""
        return clocks * 1e6 / self.clock_khz

    def worst_cycles(self, clock_mhz: float) -> int:
        """Bound on the cycles, at a port's clock, that one access takes with full queues ahead."""
        row_cycle = self.tras + self.trp + self.twr + self.cwl + self.burst_clocks
        queued = (self.read_queue + self.write_queue) * row_cycle
        nanoseconds = self.read_latency_ns + self.clocks_to_ns(2 * self.trfc + queued)
        return 1 + int(nanoseconds * clock_mhz / 1000)

    def as_dict(self) -> dict[str, Any]:
        """Fields by name."""
        return dataclasses.asdict(self)

    def _latency_clocks(self) -> int:
        return round(self.read_latency_ns * self.clock_khz / 1e6)

    def _dram_clocks(self) -> int:
        """Of an unloaded read of a closed bank, from the controller's queue to its port's end."""
        return self.trcd + self.cl + self.burst_clocks + self.access_clocks

    def _check_order(self) -> None:
        for low, high in (
            ("tccd_s", "tccd_l"), ("trrd_s", "trrd_l"), ("twtr_s", "twtr_l"),
            ("write_low", "write_high"), ("write_high", "write_queue"), ("cwl", "cl"),
            ("trfc", "trefi"),
        ):  # fmt: skip
            small, large = getattr(self, low), getattr(self, high)
            if small > large:
                raise TimingError(f"{low} must not exceed {high}, got {small} and {large}")
        if 2 * (self.trfc + self.trp + self.tras) > self.trefi:
            raise TimingError(
                f"trefi must be twice trfc + trp + tras or more, or little but refreshes happens,"
                f" got {self.trefi} and {self.trfc} + {self.trp} + {self.tras}"
            )
        if self._latency_clocks() < self._dram_clocks():
            raise TimingError(
                f"read_latency_ns must cover the DRAM's own"
                f" {self.clocks_to_ns(self._dram_clocks()):.1f} ns, got {self.read_latency_ns:g}"
            )

    def _check_map(self) -> None:
        used: set[int] = set()
        for part in ("group", "bank", "row"):
            low, width = getattr(self, f"{part}_low"), getattr(self, f"{part}_bits")
            bits = set(range(low, low + width))
            if low < 6 or bits & used:
                raise TimingError(
                    f"{part}_low must be 6 or more and its {width} bits nobody else's, got {low}"
                )
            used |= bits
        if self.group_bits + self.bank_bits > 5 or self.row_bits > 31:
            raise TimingError(
                "group_bits + bank_bits must be 5 at most and row_bits 31, got"
                f" {self.group_bits} + {self.bank_bits} and {self.row_bits}"
            )


DDR4_2133 = Ddr4()
DDR4_2400 = dataclasses.replace(
    DDR4_2133, name="ddr4-2400", data_rate=2400.0, cl=17, cwl=16, trcd=17, trp=17, tras=39,
    trfc=420, trefi=9288, trrd_s=7, trrd_l=8, tfaw=36, tccd_l=6, twr=18, trtp=9, twtr_l=9,
)  # fmt: skip
"""JESD79-4's 17-17-17 grade; needs a boot firmware of one's own on the board."""

PRESETS = {preset.name: preset for preset in (DDR4_2133, DDR4_2400)}

CHOICES = "|".join([IDEAL, *PRESETS, "FILE"])
"""What ``--memory`` takes."""

Memory = Ddr4 | None
"""None is the ideal memory."""


def load(source: str | Path | Ddr4) -> Memory:
    """``ideal`` (None), a preset by name, or a TOML file of fields on top of a ``preset``.

    Raises:
        TimingError: no such preset or file, not TOML, too large, or a rule broken.
    """
    if isinstance(source, Ddr4):
        return source
    if str(source) == IDEAL:
        return None
    if str(source) in PRESETS:
        return PRESETS[str(source)]
    path = Path(source)
    if not path.is_file():
        raise TimingError(
            f"no memory {str(source)!r}: give {IDEAL}, {', '.join(PRESETS)} or a TOML file"
        )
    values = tomlfile.read(path, "memory", TimingError)
    return from_mapping({"name": path.stem, **values})


def name(memory: Memory) -> str:
    """For reports."""
    return memory.name if memory else IDEAL


def from_mapping(values: dict[str, Any]) -> Ddr4:
    """A memory from names and values, on top of ``preset`` (``ddr4-2133`` if not given).

    Raises:
        TimingError: an unknown field (with the nearest known one) or a broken rule.
    """
    values = dict(values)
    base = values.pop("preset", DDR4_2133.name)
    if base not in list(PRESETS):
        raise TimingError(f"preset must be one of {', '.join(PRESETS)}, got {base!r}")
    known = [field.name for field in dataclasses.fields(Ddr4)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
            raise TimingError(f"unknown memory field {key!r}{hint}")
    if isinstance(values.get("controller_ports"), list):
        values["controller_ports"] = tuple(values["controller_ports"])
    return dataclasses.replace(PRESETS[base], **{"name": "custom", **values})
