"""Vivado's reports beside the estimates: one table, each column with its label."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwgen.synthesis.resources import RESOURCES
from spec.device import XCK26
from spec.errors import ToolError, UserError

MAX_BYTES = 64 << 20


class ReportError(UserError):
    """A folder without reports, or one that cannot be read as a report."""


@dataclass(frozen=True)
class Column:
    """What one tool says of a design."""

    label: str
    """``estimate`` (Yosys) or ``implemented`` (Vivado, after routing)."""
    resources: dict[str, float]
    worst_slack_ns: float | None = None
    clocks_mhz: dict[str, float] = field(default_factory=dict)
    """Constrained clocks, by name."""
    fmax_mhz: dict[str, float] = field(default_factory=dict)
    power_watt: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "label": self.label,
            "resources": self.resources,
            "worst_slack_ns": self.worst_slack_ns,
            "clocks_mhz": self.clocks_mhz,
            "fmax_mhz": self.fmax_mhz,
            "power_watt": self.power_watt,
        }


def implemented(directory: Path) -> Column:
    """Vivado's figures from a build's ``reports`` folder.

    Raises:
        ReportError: a report is missing or is none.
        ToolError: ``edalize[reporting]`` is not installed.
    """
    try:
        from edalize.vivado_reporting import VivadoReporting
    except ImportError:
        raise ToolError(
            "reading Vivado's reports needs edalize: pip install 'kria-llm[vivado]'"
        ) from None
    folder = directory / "reports"
    utilisation = _one(folder, "*_utilization_placed.rpt")
    timing = _one(folder, "*_timing_summary_routed.rpt")
    try:
        tables = VivadoReporting.report_resources(str(utilisation))
        times = VivadoReporting.report_timing(str(timing))
        summary = VivadoReporting.report_summary(tables, times)
        blocks = tables["BLOCKRAM"].set_index("Site Type")["Used"]
        slack = float(times["Design Timing Summary"]["WNS(ns)"].iloc[0])
        found = {
            "lut": float(summary["lut"]), "ff": float(summary["reg"]),
            "dsp": float(summary["dsp"]), "bram36": float(summary["blkmem"]),
            "uram": float(blocks["URAM"]),
        }  # fmt: skip
        clocks = {str(name): float(value) for name, value in dict(summary["constraint"]).items()}
        fmax = {
            str(name): round(float(value), 3)
            for name, value in dict(summary["fmax"]).items()
            if value is not None and value == value
        }
    except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
        raise ReportError(
            f"{utilisation.name} or {timing.name} is not a report of Vivado ({error!r}): run"
            " build.tcl again"
        ) from None
    return Column("implemented", found, slack, clocks, fmax, power(folder / "power.rpt"))


def estimated(directory: Path) -> Column | None:
    """The figures of ``hwgen synth -o`` in the same folder; None when it was not run."""
    path = directory / "synth.json"
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text())
        return Column(document["label"], {name: document["total"][name] for name in RESOURCES})
    except (ValueError, KeyError, TypeError):
        raise ReportError(f"{path} is not what hwgen synth writes: run it again") from None


def power(path: Path) -> float | None:
    """Watts on the chip by Vivado's estimate; None without a power report."""
    if not path.is_file():
        return None
    text = path.read_text(errors="replace")[:MAX_BYTES]
    found = re.search(r"\|\s*Total On-Chip Power \(W\)\s*\|\s*([\d.]+)", text)
    return float(found[1]) if found else None


def lines(columns: list[Column]) -> list[str]:
    """One table for a person."""
    width = 14
    text = [f"{'':<14}" + "".join(f"{column.label:>{width}}" for column in columns)
            + f"{'device':>{width}}"]  # fmt: skip
    for name in RESOURCES:
        values = "".join(f"{column.resources[name]:>{width},g}" for column in columns)
        text.append(f"{name.upper():<14}{values}{XCK26.limits[name]:>{width},}")
    for title, figures in (
        ("slack ns", [column.worst_slack_ns for column in columns]),
        ("clock MHz", [max(column.clocks_mhz.values(), default=None) for column in columns]),
        ("power W", [column.power_watt for column in columns]),
    ):
        cells = ("-" if value is None else f"{value:g}" for value in figures)
        text.append(f"{title:<14}" + "".join(f"{cell:>{width}}" for cell in cells))
    return text


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1 or found[0].stat().st_size > MAX_BYTES:
        raise ReportError(
            f"{folder} has {len(found)} files {pattern}, one is wanted: run build.tcl to its end"
        )
    return found[0]
