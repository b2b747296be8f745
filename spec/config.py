"""The configuration: one frozen value that fixes the shape of an accelerator.

Everything derivable is a property, so no two parts can disagree about it.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from spec import numeric, tomlfile
from spec.errors import UserError

ADDRESS_BITS = 40
"""Width of every AXI address: HP ports carry 49 bits, 40 reach all of the KV260's DDR."""


class ConfigError(UserError):
    """A configuration that cannot be built; the message names the rule that it breaks."""


@dataclass(frozen=True)
class Config:
    """The shape of one accelerator. Immutable; validated when made.

    Raises:
        ConfigError: a field breaks a rule; the sentence names field, value and rule.
    """

    name: str = "custom"
    """For people; not part of the digest."""
    ports: int = 4
    """AXI4 read ports that deliver one beat together."""
    port_bits: int = 128
    """Data width of one port, in bits."""
    burst_beats: int = 16
    """Beats of the longest AXI burst (an HP port cuts anything longer than 16)."""
    outstanding: int = 8
    """Read bursts in flight per port."""
    fifo_beats: int = 512
    """Depth of each port's read FIFO, in beats."""
    tokens: int = 8
    """M: activations vectors that meet each weight."""
    group: int = 64
    """Finest quantisation group along K that the scale stage serves; coarser ones always work."""
    tile_rows: int = 64
    """T: rows of the weight matrix that share one chunk of activations."""
    max_k: int = 9216
    """Longest dot product; sizes the activation memory and the accumulators."""
    clock_mhz: float = 250.0
    """Clock that the design is constrained to, MHz."""
    dsp: str = "portable"
    """``vendor``: DSP48E2 instances; ``portable``: the same function in plain logic."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            wanted: Any = {"int": int, "float": (int, float), "str": str}[str(field.type)]
            if isinstance(value, bool) or not isinstance(value, wanted):
                raise ConfigError(f"{field.name} must be {field.type}, got {value!r}")
        _one_of("ports", self.ports, (1, 2, 4))
        _one_of("port_bits", self.port_bits, (32, 64, 128))
        if not 128 <= self.beat_bits <= 512:
            raise ConfigError(
                f"ports x port_bits must lie in 128..512 bits, got {self.ports} x {self.port_bits}"
                f" = {self.beat_bits}"
            )
        _power_of_two("burst_beats", self.burst_beats, 1, 256)
        if self.burst_beats * self.port_bytes > 4096:
            raise ConfigError(
                f"burst_beats x port bytes must not exceed AXI's 4096, got {self.burst_beats} x"
                f" {self.port_bytes} = {self.burst_beats * self.port_bytes}"
            )
        _in_range("outstanding", self.outstanding, 1, 32)
        _power_of_two("fifo_beats", self.fifo_beats, 16, 4096)
        if self.fifo_beats < self.burst_beats:
            raise ConfigError(
                f"fifo_beats must hold one burst of {self.burst_beats} beats, got {self.fifo_beats}"
            )
        _in_range("tokens", self.tokens, 1, numeric.MAX_TOKENS)
        _one_of("group", self.group, numeric.GROUPS)
        _power_of_two("tile_rows", self.tile_rows, 16, 256)
        _in_range("max_k", self.max_k, 128, 32768)
        if self.max_k % 128:
            raise ConfigError(f"max_k must be a multiple of 128, got {self.max_k}")
        _in_range("clock_mhz", self.clock_mhz, 1, 1000)
        _one_of("dsp", self.dsp, ("portable", "vendor"))

    @property
    def port_bytes(self) -> int:
        """Bytes that one port moves per beat."""
        return self.port_bits // 8

    @property
    def beat_bits(self) -> int:
        """Bits of one beat over all ports."""
        return self.ports * self.port_bits

    @property
    def beat_bytes(self) -> int:
        """Bytes of one beat over all ports."""
        return self.beat_bits // 8

    @property
    def lanes(self) -> int:
        """Multipliers along K per token: one per nibble of a beat."""
        return self.beat_bits // 4

    @property
    def span(self) -> int:
        """Activations (int8) in one beat: half the lanes. One lane ``l`` uses byte ``l % span``."""
        return self.lanes // 2

    @property
    def sub_lanes(self) -> int:
        """Lanes summed before scaling: within one group, one activation block and one half-beat."""
        return min(self.group, numeric.BLOCK, self.lanes // 2)

    @property
    def subs(self) -> int:
        """Partial sums per token and beat, each with its own scale."""
        return self.lanes // self.sub_lanes

    @property
    def chain(self) -> int:
        """Lanes whose products are summed in one DSP cascade."""
        return min(16, self.sub_lanes)

    @property
    def token_pairs(self) -> int:
        """Pairs of tokens; one DSP multiplies one weight with both activations of a pair."""
        return (self.tokens + 1) // 2

    @property
    def accumulator_bits(self) -> int:
        """Width that no sum of ``max_k`` products can overflow."""
        return numeric.accumulator_bits(self.max_k)

    def as_dict(self) -> dict[str, Any]:
        """Fields by name, in order of declaration."""
        return dataclasses.asdict(self)


def _one_of(name: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} must lie in {low}..{high}, got {value}")


def _power_of_two(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high or value & (value - 1):
        raise ConfigError(f"{name} must be a power of two in {low}..{high}, got {value}")


TINY = Config(
    name="tiny", ports=1, burst_beats=4, outstanding=2, fifo_beats=32, tokens=2, group=32,
    tile_rows=16, max_k=1024,
)  # fmt: skip
"""Small enough for a unit test: one port, 32 lanes, two tokens."""

KV260 = Config(name="kv260", dsp="vendor")
"""Kria KV260: four HP ports of 128 bits, 128 lanes, eight tokens, 250 MHz."""

PRESETS = {preset.name: preset for preset in (TINY, KV260)}


def from_mapping(values: dict[str, Any]) -> Config:
    """A configuration from names and values, optionally on top of ``preset``.

    Raises:
        ConfigError: an unknown field (with the nearest known one) or a broken rule.
    """
    values = dict(values)
    base = values.pop("preset", None)
    if base is not None and base not in list(PRESETS):
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {base!r}")
    known = [field.name for field in fields(Config)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
            raise ConfigError(f"unknown configuration field {key!r}{hint}")
    start = PRESETS[base] if base else Config()
    return dataclasses.replace(start, **{"name": "custom", **values})


def load(source: str | Path) -> Config:
    """A preset by name, or a TOML file of fields.

    Raises:
        ConfigError: no such preset or file, not TOML, too large, or a rule broken.
    """
    if str(source) in PRESETS:
        return PRESETS[str(source)]
    path = Path(source)
    if not path.is_file():
        raise ConfigError(
            f"no configuration {str(source)!r}: give a preset ({', '.join(PRESETS)}) or a TOML file"
        )
    values = tomlfile.read(path, "configuration", ConfigError)
    return from_mapping({"name": path.stem, **values})
