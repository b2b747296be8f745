"""Builds the simulated device: Verilog through Verilator and g++ into one shared library, cached.

A build is keyed by everything that it depends on: the Verilog, the harness, the flags, the tools'
versions and the processor (the code is compiled for this one). It is made in a temporary directory
and renamed into place, so that a reader finds a whole library or none, however many build at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from spec.config import Config
from spec.errors import ToolError

HARNESS = Path(__file__).parent / "harness"
LIBRARY = "libkria_llm_sim.so"
PREFIX = "Vkria_llm"

PACKAGES = {"verilator": "verilator", "g++": "g++", "make": "make"}
"""Debian and Ubuntu packages of the tools."""

MINIMUM_VERILATOR = (5, 6)

VERILATOR_FLAGS = (
    "--cc", "--exe", "--prefix", PREFIX, "--top-module", "kria_llm", "-O3", "--noassert",
    "--x-assign", "fast", "--x-initial", "fast", "--output-split", "20000", "-Wno-lint",
    "-Wno-fatal",
)  # fmt: skip

OPTIMISE = {"OPT_FAST": "-O2 -march=native", "OPT_SLOW": "-O0", "OPT_GLOBAL": "-O2"}
"""Compiler options by part: the code of every cycle, the code that runs once, Verilator's own."""

PLAIN_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")
"""Compiler options of what has no design in it."""

OPTIMISE_SHORT = OPTIMISE | {"OPT_FAST": "-O1"}
"""For traces and other short runs: the time to compile is most of it."""

JOBS = 2
"""Compilers at once: one of them takes up to 1 GB for the largest designs."""


@dataclass(frozen=True)
class Recipe:
    """What a build is made from."""

    verilog: str
    config: Config
    trace: bool = False
    """Able to write FST traces; half as fast."""
    short: bool = False
    """For less than a million cycles: built in two thirds of the time, and slower."""

    @property
    def macros(self) -> dict[str, int]:
        """The shape of the design, as sim/harness/geometry.hpp wants it."""
        return {
            "KRIA_PORTS": self.config.ports,
            "KRIA_PORT_BYTES": self.config.port_bytes,
            "KRIA_BURST_BEATS": self.config.burst_beats,
            "KRIA_OUTSTANDING": self.config.outstanding,
        }

    @property
    def compiler_flags(self) -> str:
        """Flags of every C++ file. Nobody replaces a symbol of the library: its functions may call
        one another directly."""
        macros = [f"-D{name}={value}" for name, value in self.macros.items()]
        return " ".join(["-std=c++17", "-fPIC", "-fno-semantic-interposition", *macros])

    @property
    def verilator_flags(self) -> tuple[str, ...]:
        """Verilator's flags, without paths."""
        libraries = "-shared -lz" if self.trace else "-shared"
        return (
            *VERILATOR_FLAGS, *(("--trace-fst",) if self.trace else ()),
            "-CFLAGS", self.compiler_flags, "-LDFLAGS", libraries,
        )  # fmt: skip

    @property
    def optimise(self) -> dict[str, str]:
        """Compiler options by part."""
        return OPTIMISE_SHORT if self.trace or self.short else OPTIMISE

    def digest(self) -> str:
        """Name of the build: 32 hexadecimal digits over all that it depends on."""
        parts = [
            self.verilog, *self.verilator_flags, *map(str, self.optimise.items()),
            *_tool_versions(),
            *(f"{path.name}\n{path.read_text()}" for path in sorted(HARNESS.iterdir())),
        ]  # fmt: skip
        return digest_of(*parts)


def digest_of(*parts: str) -> str:
    """32 hexadecimal digits over some texts and their boundaries."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode()
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()[:32]


def cache_directory() -> Path:
    """Where builds are kept: ``$XDG_CACHE_HOME/kria-llm/sim`` or ``~/.cache/kria-llm/sim``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "kria-llm" / "sim"


def library(recipe: Recipe) -> Path:
    """The shared library for a recipe, built if the cache has none.

    Raises:
        ToolError: a tool is missing or too old, or a build step fails; the log is kept.
    """
    check_tools()
    return _cached(recipe.digest(), lambda final: _build(recipe, final))


def plain_library(name: str) -> Path:
    """The shared library of ``sim/harness/<name>.cpp`` alone, without a design, built if need be.

    Raises:
        ToolError: g++ is missing or fails; the log is kept.
    """
    _check_present("g++")
    headers = sorted(HARNESS.glob("*.hpp"))
    digest = digest_of(
        name, *PLAIN_FLAGS, *_compiler_version(),
        *(f"{path.name}\n{path.read_text()}" for path in (HARNESS / f"{name}.cpp", *headers)),
    )  # fmt: skip
    return _cached(digest, lambda final: _build_plain(name, final))


def _cached(digest: str, make: Callable[[Path], None]) -> Path:
    """The library in the cache's directory ``digest``, which ``make`` fills once."""
    root = cache_directory()
    root.mkdir(parents=True, exist_ok=True)
    final = root / digest
    if not (final / LIBRARY).is_file():
        with _only_one(root / f"{final.name}.lock"):
            if not (final / LIBRARY).is_file():
                make(final)
    return final / LIBRARY


def _check_present(*tools: str) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        packages = " ".join(PACKAGES[tool] for tool in missing)
        raise ToolError(
            f"the simulated device needs {', '.join(missing)}: install it with"
            f" 'apt-get install {packages}'"
        )


def check_tools() -> None:
    """Names every missing tool with its package.

    Raises:
        ToolError: a tool is missing, or Verilator is older than 5.006.
    """
    _check_present(*PACKAGES)
    line = verilator_version()
    number = line.split()[1] if line.startswith("Verilator ") else ""
    found = tuple(int(part) for part in number.split(".") if part.isdigit())
    if found < MINIMUM_VERILATOR:
        raise ToolError(
            f"the simulated device needs Verilator 5.006 or newer, found {line!r}: install"
            " 'verilator' from Debian 12, Ubuntu 24.04 or newer"
        )


def _build(recipe: Recipe, final: Path) -> None:
    """Verilates and compiles in a temporary directory; keeps the library alone."""
    with tempfile.TemporaryDirectory(prefix=".build-", dir=final.parent) as name:
        work = Path(name)
        source = work / "kria_llm.v"
        source.write_text(recipe.verilog)
        log = work / "build.log"
        steps = (
            ["verilator", *recipe.verilator_flags, "-Mdir", str(work / "obj"),
             "-o", f"../{LIBRARY}", str(source), str(HARNESS / "harness.cpp")],
            ["make", "-C", str(work / "obj"), "-f", f"{PREFIX}.mk", "-j", str(JOBS),
             *(f"{name}={value}" for name, value in recipe.optimise.items())],
        )  # fmt: skip
        with _progress(f"building the simulator of {recipe.config.name} (once, then cached)"):
            for step in steps:
                _run(step, log, final)
        _keep(final, work / LIBRARY, source, log)


def _build_plain(name: str, final: Path) -> None:
    """Compiles one file of the harness; a second or two, so it does so silently."""
    with tempfile.TemporaryDirectory(prefix=".build-", dir=final.parent) as directory:
        work = Path(directory)
        log = work / "build.log"
        _run(["g++", *PLAIN_FLAGS, str(HARNESS / f"{name}.cpp"), "-o", str(work / LIBRARY)],
             log, final)  # fmt: skip
        _keep(final, work / LIBRARY, log)


def _keep(final: Path, *files: Path) -> None:
    """Makes the directory ``final`` of some files beside it, whole or not at all."""
    result = files[0].parent / "result"
    result.mkdir()
    for path in files:
        path.rename(result / path.name)
    shutil.rmtree(final, ignore_errors=True)  # a directory without a library: not a build
    result.rename(final)


def _run(step: list[str], log: Path, final: Path) -> None:
    """One step, its output in ``log``; on failure the log is kept beside the builds."""
    environment = {key: value for key, value in os.environ.items() if key != "MAKEFLAGS"}
    with log.open("ab") as output:
        result = subprocess.run(
            step, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
            check=False,
        )  # fmt: skip
    if result.returncode:
        kept = final.parent / f"failed-{final.name}.log"
        shutil.copyfile(log, kept)
        lines = log.read_text(errors="replace").splitlines()
        first = next((line for line in lines if "rror" in line), f"exit {result.returncode}")
        raise ToolError(f"{step[0]} could not build the simulator ({first.strip()}); see {kept}")


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Holds a lock between processes; the system drops it when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _progress(what: str) -> Iterator[None]:
    """Says on stderr what takes long: alive on a terminal, one line elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(what):
            yield
    else:
        print(what, file=sys.stderr, flush=True)
        yield


@lru_cache(maxsize=1)
def verilator_version() -> str:
    """What Verilator says about itself."""
    return _output(["verilator", "--version"])


@lru_cache(maxsize=1)
def _tool_versions() -> tuple[str, ...]:
    """Verilator, and the compiler with what ``-march=native`` means on this processor."""
    return (verilator_version(), *_compiler_version())


@lru_cache(maxsize=1)
def _compiler_version() -> tuple[str, ...]:
    return (
        _output(["g++", "--version"]),
        _output(["g++", "-march=native", "-Q", "--help=target"]),
    )


def _output(command: list[str]) -> str:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    ).stdout
