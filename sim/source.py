"""The Verilog of a configuration, kept between runs: emitting it takes seconds.

Keyed by the configuration and by every source file that it comes from, so an edited generator is
never simulated by its old output.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import hwgen
import spec
from sim.build import cache_directory, digest_of
from spec.config import Config
from spec.files import write_whole

AFTERWARDS = {"synthesis", "board", "formal", "cli.py", "device.py"}
"""Parts of ``hwgen`` and ``spec`` that the Verilog does not come from: an edit there leaves the
cache as it is."""


def verilog(config: Config) -> str:
    """The Verilog of ``config``: from the cache, or emitted and put there."""
    path = cache_directory() / "verilog" / f"{_key(config)}.v"
    if path.is_file():
        return path.read_text()
    from hwgen.generate import verilog as emit  # loads Amaranth: a second that a cached run saves

    text = emit(config, flat=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return text


def _key(config: Config) -> str:
    """Digest over all that decides the Verilog."""
    files = [
        file
        for package in (hwgen, spec)
        for file in sorted(Path(str(package.__file__)).parent.rglob("*.py"))
        if not AFTERWARDS & {*file.parts[-2:]}
    ]
    return digest_of(
        repr(config), version("amaranth"), *(f"{file.name}\n{file.read_text()}" for file in files)
    )
