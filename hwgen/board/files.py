"""The files of a board build: from a configuration to what Vivado, bootgen and dtc read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files as resources
from pathlib import Path

import jinja2

from hwgen import generate
from hwgen.board import boards, wrapper
from hwgen.board.boards import Board
from spec import registers
from spec.config import Config
from spec.digest import digest
from spec.files import write_files

DESIGN = "kria_llm_system"
"""Name of the block design."""

AFI_WIDTH = {128: 0, 64: 1, 32: 2}
"""Code of a width in the AFIFM registers RDCTRL and WRCTRL (UG1087)."""

AFI_FS = {32: 0x000, 64: 0x100, 128: 0x200}
"""Code of HPM0's width in FPD_SLCR.AFI_FS, bits 9..8 (UG1087)."""

WAIVED = ("CASEOVERLAP", "DECLFILENAME", "PINMISSING", "UNSIGNED", "UNUSEDSIGNAL", "WIDTH")
"""Verilator's warnings about how Yosys writes Verilog: priority cases, adders and comparisons of
unequal operands, signals that only lie inside wider ones, cascades whose last DSP leaves PCOUT
open. The wrapper is waived nothing."""


def app(config: Config) -> str:
    """Name of the firmware: with the digest, so that another design never loads under this one's.

    Source of the need: firmware is loaded by file name, and a stale file loads silently.
    """
    return f"kria-llm-{digest(config):016x}"


SOURCES = (
    "build.tcl", "block_design.tcl", "kria_llm.v", "kria_llm_board.v", "pins.xdc", "timing.xdc",
)  # fmt: skip
"""What a bitstream is made of."""


def contents(board: Board, config: Config, sources: Sequence[str] = SOURCES) -> dict[str, str]:
    """The text of every file by its name.

    Args:
        sources: files on which the bitstream depends.

    Raises:
        BoardError: the board cannot serve the configuration.
    """
    boards.check(board, config)
    return {
        f"{generate.MODULE}.v": generate.verilog(config),
        "design.json": _json(
            {**generate.describe(config), "board": board.name, "app": app(config)}
        ),
        **surroundings(board, config, sources),
    }


def surroundings(board: Board, config: Config, sources: Sequence[str] = SOURCES) -> dict[str, str]:
    """Everything but the engine and its description; quick.

    Raises:
        BoardError: the board cannot serve the configuration.
    """
    boards.check(board, config)
    name = app(config)
    environment = _environment()
    values = {**_values(board, config), "sources": " ".join(sources)}
    texts = {
        f"{wrapper.MODULE}.v": wrapper.verilog(config),
        "csr.json": _json(generate.register_map()),
        "config.toml": _toml(config),
        "shell.json": _json({"shell_type": "XRT_FLAT", "num_slots": "1"}),
        "verilator.vlt": _waivers(),
    }
    for template, target in (
        ("build.tcl", "build.tcl"), ("block_design.tcl", "block_design.tcl"),
        ("overlay.dts", f"{name}.dts"), ("app.bif", f"{name}.bif"), ("Makefile", "Makefile"),
        ("README.md", "README.md"),
    ):  # fmt: skip
        texts[target] = environment.get_template(template).render(values)
    folder = resources("hwgen.board") / "constraints" / board.name
    for constraint in ("pins.xdc", "timing.xdc"):
        texts[constraint] = (folder / constraint).read_text()
    return texts


def write(
    board: Board, config: Config, directory: Path, texts: dict[str, str] | None = None
) -> list[Path]:
    """Writes every file; each appears whole or not at all.

    Args:
        texts: what ``contents`` gave, if it was called before.

    Raises:
        BoardError: as for ``contents``.
        OutputError: ``directory`` is a file or cannot be written.
    """
    texts = contents(board, config) if texts is None else texts
    return write_files(directory, texts)


def ps_properties(config: Config) -> list[tuple[str, str]]:
    """What the design asks of the processing system's cell, by property."""
    chosen = [
        ("PSU__FPGA_PL0_ENABLE", "1"),
        ("PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ", f"{boards.PL_CLOCK_MHZ:g}"),
        ("PSU__NUM_FABRIC_RESETS", "1"),
        ("PSU__USE__IRQ0", "1"),
        ("PSU__TTC0__WAVEOUT__ENABLE", "1"),
        ("PSU__TTC0__WAVEOUT__IO", "EMIO"),
        ("PSU__USE__M_AXI_GP0", "1"),
        ("PSU__MAXIGP0__DATA_WIDTH", f"{boards.CONTROL_BITS}"),
        ("PSU__USE__M_AXI_GP1", "0"),
        ("PSU__USE__M_AXI_GP2", "0"),
    ]
    for port in range(config.ports):
        chosen.append((f"PSU__USE__S_AXI_GP{port + 2}", "1"))
        chosen.append((f"PSU__SAXIGP{port + 2}__DATA_WIDTH", f"{config.port_bits}"))
    return chosen


def config_afi(config: Config) -> str:
    """The overlay's ``config-afi``: register id and value of every port's width."""
    code = AFI_WIDTH[config.port_bits]
    pairs = [(4 + register, code) for register in range(2 * config.ports)]
    pairs.append((14, AFI_FS[boards.CONTROL_BITS]))
    return ", ".join(f"<{register} {value:#x}>" for register, value in pairs)


def _values(board: Board, config: Config) -> dict[str, object]:
    return {
        "title": board.title,
        "board": board.name,
        "part": board.part,
        "board_part": board.board_part,
        "connections": " ".join(" ".join(pair) for pair in board.connections),
        "config": config,
        "digest": f"{digest(config):016x}",
        "app": app(config),
        "design": DESIGN,
        "clock_mhz": f"{config.clock_mhz:g}",
        "control_bits": boards.CONTROL_BITS,
        "control_base": f"{boards.CONTROL_BASE:#x}",
        "control_address": boards.CONTROL_BASE,
        "window": registers.WINDOW_BYTES,
        "ps_properties": ps_properties(config),
        "config_afi": config_afi(config),
        "afi_fs": AFI_FS[boards.CONTROL_BITS],
    }


def _environment() -> jinja2.Environment:
    """Delimiters that neither Tcl nor make uses."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("hwgen.board"),
        undefined=jinja2.StrictUndefined,
        variable_start_string="<<", variable_end_string=">>",
        block_start_string="<%", block_end_string="%>",
        comment_start_string="<#", comment_end_string="#>",
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip


def _toml(config: Config) -> str:
    """The configuration as a file that every command of the project reads."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in config.as_dict().items())


def _waivers() -> str:
    lines = [f'lint_off -rule {rule} -file "*{generate.MODULE}.v"' for rule in WAIVED]
    return "`verilator_config\n" + "\n".join(lines) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
