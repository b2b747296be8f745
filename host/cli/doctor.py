"""``kria-llm doctor``: what is wrong with a device, and what to do."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from host.cli.options import Json
from host.doctor.examine import examine, healthy
from host.doctor.findings import Finding, worst
from host.session import require_device
from spec import config as configuration
from spec.errors import DeviceError

DEFAULT_MEGABYTES = 500
"""Qwen2.5-0.5B in int4 with an int8 head takes 340 MB, its buffers a few more."""

COLOURS = {"ok": "green", "warning": "yellow", "fault": "red", "unknown": "dim"}


def doctor(
    device: Annotated[str, typer.Option(help="The device; uio and pynq are the board.")] = "uio",
    config: Annotated[
        str, typer.Option(help="What the firmware was built from: a preset or a TOML file.")
    ] = "kv260",
    megabytes: Annotated[
        int, typer.Option(min=1, help="Contiguous memory that the model takes, MB.")
    ] = DEFAULT_MEGABYTES,
    as_json: Json = False,
) -> None:
    """Looks at all that is known to go wrong on the board, and says what to do about it.

    Clock (measured by the design's own cycle counter), port widths, reset, firmware files and
    hashes, overlay and kernel log, contiguous memory, kernel modules, permissions, cpuidle, power
    sensor; then the short self-test. The logic is left alone until clock and reset are right, since
    touching it would hang the machine. Ends with 4 if anything is a fault.

    Examples:

        kria-llm doctor

        kria-llm doctor --device pynq --config my.toml --json

        kria-llm doctor --device rtl --config tiny
    """
    require_device(device)
    findings = examine(device, configuration.load(config), megabytes << 20)
    if as_json:
        listed = [finding.as_dict() for finding in findings]
        print(json.dumps({"state": worst(findings), "findings": listed}, indent=2))
    else:
        Console().print(table(findings))
    if not healthy(findings):
        raise typer.Exit(DeviceError.exit_code)


def table(findings: list[Finding]) -> Table:
    """For a person."""
    result = Table(box=box.SIMPLE_HEAD)
    for heading in ("", "what", "found", "remedy"):
        result.add_column(heading)
    for finding in findings:
        colour = COLOURS[finding.state]
        state = f"[{colour}]{finding.state}[/{colour}]"
        result.add_row(state, finding.name, finding.found, finding.remedy)
    return result
