"""From a configuration to files: the Verilog of the design, its description, its register map.

The output is a function of the configuration and of this package alone: the same inputs give the
same bytes, so a build can be cached by their digest.
"""

from __future__ import annotations

import json
import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import amaranth
from amaranth.back import rtlil as backend
from amaranth.lib import wiring

from hwgen import netlist
from hwgen.top import Top
from spec import layout, registers
from spec.config import ADDRESS_BITS, Config
from spec.digest import digest
from spec.files import write_files

MODULE = "kria_llm"
"""Name of the Verilog module and stem of its file."""

FILES = (f"{MODULE}.v", "design.json", "csr.json")

DISTRIBUTION = "kria-llm"


@lru_cache(maxsize=4)
def verilog(config: Config, *, flat: bool = False) -> str:
    """The design as one Verilog file with the top module ``kria_llm``.

    Source attributes are left out: they would name this machine's paths.

    Args:
        flat: without the modules' hierarchy, for simulation.
    """
    return netlist.verilog(_elaborate(config)[0], flat=flat)


def rtlil(config: Config) -> str:
    """The design in Yosys's RTLIL, with its hierarchy."""
    return _elaborate(config)[0]


def ports(config: Config) -> list[dict[str, Any]]:
    """The top module's ports: ``name``, ``direction`` (``input`` or ``output``) and ``width``."""
    return [dict(port) for port in _elaborate(config)[1]]


@lru_cache(maxsize=4)
def _elaborate(config: Config) -> tuple[str, list[dict[str, Any]]]:
    """RTLIL and ports of one design; one Top serves both, so that none is left unelaborated."""
    top = Top(config)
    listed = [
        {
            "name": "__".join(map(str, path)),
            "direction": "input" if member.flow is wiring.In else "output",
            "width": len(value),
        }
        for path, member, value in top.signature.flatten(top)
    ]
    return backend.convert(top, name=MODULE, emit_src=False), listed


def describe(config: Config) -> dict[str, Any]:
    """The contents of ``design.json``: configuration, digest, derived shape, versions, ports."""
    derived = (
        "port_bytes", "beat_bits", "beat_bytes", "lanes", "span", "sub_lanes", "subs",
        "token_pairs", "accumulator_bits",
    )  # fmt: skip
    return {
        "module": MODULE,
        "config": config.as_dict(),
        "digest": f"{digest(config):016x}",
        "derived": {
            **{name: getattr(config, name) for name in derived},
            "address_bits": ADDRESS_BITS,
            "multiplies_per_cycle": config.lanes * config.tokens,
            "peak_bytes_per_second": round(config.beat_bytes * config.clock_mhz * 1e6),
        },
        "versions": {
            "generator": _generator_version(),
            "amaranth": amaranth.__version__,
            "python": platform.python_version(),
            "registers": registers.VERSION,
            "layout": layout.VERSION,
        },
        "ports": ports(config),
    }


def register_map() -> dict[str, Any]:
    """The contents of ``csr.json``: ``spec.registers`` as data."""
    return {
        "version": registers.VERSION,
        "magic": registers.MAGIC,
        "stride": registers.STRIDE,
        "window_bytes": registers.WINDOW_BYTES,
        "registers": [
            {
                "name": register.name,
                "offset": registers.OFFSETS[register.name],
                "access": register.access,
                "doc": register.doc,
                "fields": [
                    {"name": bits.name, "lsb": bits.lsb, "width": bits.width, "doc": bits.doc}
                    for bits in register.bits
                ],
            }
            for register in registers.REGISTERS
        ],
    }


def write(config: Config, directory: Path) -> list[Path]:
    """Writes ``kria_llm.v``, ``design.json`` and ``csr.json``; each appears whole or not at all.

    Returns:
        The files, in that order.

    Raises:
        OutputError: ``directory`` is a file or cannot be written.
    """
    texts = (
        verilog(config),
        json.dumps(describe(config), indent=2) + "\n",
        json.dumps(register_map(), indent=2) + "\n",
    )
    return write_files(directory, dict(zip(FILES, texts, strict=True)))


def _generator_version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "source tree"
