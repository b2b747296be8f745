"""Runs a build's Tcl in good and in bad weather, and compares it with board and configuration."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hwgen.board import clocking, files
from hwgen.board.boards import Board, BoardError
from hwgen.board.lint import catalogue
from hwgen.board.lint.flow import Flow
from hwgen.board.lint.session import Session
from spec.config import Config

REQUIRED_REPORTS = ("report_timing_summary", "report_utilization", "report_power", "report_cdc")

BAD_LOG = "WARNING: [Synth 8-4767] Trying to implement RAM 'x' in registers.\n"


@dataclass(frozen=True)
class Weather:
    """What the pretended Vivado finds, and how the script must end."""

    name: str
    setup: float = 0.1
    hold: float = 0.01
    log: str = ""
    boards: bool = True
    packaged: bool = False


WEATHERS = (
    Weather("timing is met", packaged=True),
    Weather("setup slack is negative", setup=-0.001),
    Weather("hold slack is negative", hold=-0.001),
    Weather("synthesis reports 8-4767", log=BAD_LOG),
    Weather("the board's files are missing", boards=False),
)


def lint(directory: Path, board: Board, config: Config) -> list[str]:
    """Everything that the lint finds wrong with the Tcl and XDC files of a build.

    Raises:
        ToolError: this Python has no Tcl.
    """
    findings: list[str] = []
    for weather in WEATHERS:
        with tempfile.TemporaryDirectory(prefix="kria-lint-") as name:
            copy = Path(name) / "build"
            shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("vivado", "output"))
            found = _run(copy, board, config, weather)
        findings += [finding for finding in found if finding not in findings]
    return findings


def _run(directory: Path, board: Board, config: Config, weather: Weather) -> list[str]:
    part = board.board_part.replace("*", "1.4")
    flow = Flow([part] if weather.boards else [], weather.setup, weather.hold, weather.log)
    session = Session(directory)
    session.add(flow.commands())
    # The block design's own file exists once the design is saved.
    session.files.add(str(directory / f"{files.DESIGN}.bd"))
    code = session.run(directory / "build.tcl")
    if flow.packaged != weather.packaged or (code == 0) != weather.packaged:
        session.find(
            f"when {weather.name}, the script ends with {code} and"
            f" {'packages' if flow.packaged else 'does not package'} the design"
        )
    if weather.packaged:
        _constraints(session, directory, board)
        _wanted(session, board, config)
    return session.findings


def _constraints(session: Session, directory: Path, board: Board) -> None:
    """Runs the XDC files; every external port needs a pin of the board."""
    added = {Path(file).name for file in session.files}
    for name in ("pins.xdc", "timing.xdc"):
        session.run(directory / name)
        if name not in added:
            session.find(f"{name} is not part of the project")
    pins = board.pins()
    taken: dict[str, str] = {}
    for port in session.design.ports:
        chosen = session.xdc.get(port, {})
        pin = chosen.get("PACKAGE_PIN", "")
        if not pin:
            session.find(f"port {port} has no PACKAGE_PIN")
        elif pin not in pins:
            session.find(f"port {port} is on pin {pin}, which the {board.name} does not wire")
        elif chosen.get("IOSTANDARD") != pins[pin]:
            session.find(f"port {port} has IOSTANDARD {chosen.get('IOSTANDARD')}, not {pins[pin]}")
        if pin in taken:
            session.find(f"ports {taken[pin]} and {port} share pin {pin}")
        taken[pin] = port


def _wanted(session: Session, board: Board, config: Config) -> None:
    """What this board and configuration ask beyond consistency."""
    if session.project.get("part") != board.part:
        session.find(f"the project's part is {session.project.get('part')}, not {board.part}")
    for name in ("board_part", "board_connections"):
        if name not in session.project:
            session.find(f"the project has no {name}: the preset would be another board's")
    if session.top != f"{files.DESIGN}_wrapper":
        session.find(f"the top module is {session.top!r}, not {files.DESIGN}_wrapper")
    for report in REQUIRED_REPORTS:
        if not any(event.startswith(f"{report} ") for event in session.events):
            session.find(f"the script never calls {report}")
    cells = list(session.design.cells.values())
    for cell in cells:
        if cell.kind is catalogue.CLOCK:
            _clock(session, cell.properties, config)
        if cell.kind is catalogue.PS:
            _processing_system(session, cell.properties, config)
    for kind, what in ((catalogue.CLOCK, "clock manager"), (catalogue.PS, "processing system")):
        if not any(cell.kind is kind for cell in cells):
            session.find(f"the design has no {what}")
    order = [event for event in session.events if event in ("validate", "save", "generate")]
    if order != ["validate", "save", "generate"]:
        session.find("the block design must be validated, saved and generated, in this order")


def _clock(session: Session, properties: dict[str, str], config: Config) -> None:
    asked = float(properties.get("CLKOUT1_REQUESTED_OUT_FREQ", "100"))
    if abs(asked - config.clock_mhz) > 0.01:
        session.find(f"the clock manager makes {asked:g} MHz, not the {config.clock_mhz:g} asked")
    try:
        clocking.settings(asked)
    except BoardError as error:
        session.find(str(error))


def _processing_system(session: Session, properties: dict[str, str], config: Config) -> None:
    for name, value in files.ps_properties(config):
        found = properties.get(name, "not set")
        if found != value:
            session.find(f"the PS has {name} = {found}, the firmware and driver expect {value}")
