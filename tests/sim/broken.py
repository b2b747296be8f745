"""Designs that are wrong on purpose: the Verilog of a configuration with one fault in it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from sim import source
from spec.config import Config

DATAPATH = r"\\engine\.datapath\."

FAULTS = {
    "nibble": (rf"({DATAPATH}unpack\.nibbles  <= )(.*?) ;",
               r"\1{ \2 [127:8], \2 [3:0], \2 [7:4] };"),
    "zero": (rf"({DATAPATH}unpack\.nibbles \[3:0\]) - ", r"\1 + "),
    "product sum": (rf"({DATAPATH}dot\.high  <= )(.*?);", r"\1(\2) - 18'd1;"),
    "scale": (rf"({DATAPATH}scale\.term  <= )(.*?);", r"\1(\2) << 1;"),
    "accumulator": (rf"({DATAPATH}accumulate\.carry(?:\$\d+)?  <= )(.*?);", r"\g<1>1'h0;"),
    "rounding": (rf"({DATAPATH}round\.wide8_0  <= )(.*?);", r"\g<1>1'h0;"),
    "output": (r"(m_axi_hp0_wdata = )(.*?);", r"\1(\2) ^ 128'h1;"),
}  # fmt: skip
"""Stage -> what is replaced by what: swapped nibbles, a zero point added, a borrow too many between
the two tokens' sums, a term twice as large, a carry that is dropped, a rounding that only cuts, a
bit of the written beats."""


def text(config: Config, stage: str) -> str:
    """The Verilog with the fault of one stage."""
    pattern, replacement = FAULTS[stage]
    broken, count = re.subn(pattern, replacement, source.verilog(config), count=1)
    assert count == 1, f"the Verilog has nothing like {pattern}"
    return broken


def install(monkeypatch: pytest.MonkeyPatch, config: Config, stage: str) -> None:
    """Every device opened from now on has the fault."""
    broken = text(config, stage)
    changed: Callable[[Config], str] = lambda _config: broken  # noqa: E731
    monkeypatch.setattr(source, "verilog", changed)
