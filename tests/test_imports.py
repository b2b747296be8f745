"""Imports run one way: hardware, reference and runtime read the spec and never each other."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("spec", "hwgen", "sim", "host", "package", "tests", "benches")
MAX_LINES = 400

ARROWS = {
    "spec": {"spec"},
    "hwgen": {"spec", "hwgen"},
    "host": {"spec", "host"},
    "sim.golden": {"spec", "sim.golden"},
    "sim.cycles": {"spec", "sim.cycles"},
    "sim.memory": {"spec", "sim.memory"},
    "sim.area": {"spec", "sim.area"},
    "sim": {"spec", "hwgen", "host", "sim"},
    "package": {"spec", "package"},
    "tests": set(OURS),
    "benches": set(OURS),
}
"""What a module may import of ours, by the longest prefix of its name. The reference, the cycle
model and the memory model stand alone, so that their agreement with the hardware means something.
"""


def within(module: str, prefix: str) -> bool:
    """Whether ``module`` is ``prefix`` or lies in it."""
    return module == prefix or module.startswith(prefix + ".")


def imports(source: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that ``source`` imports, at any depth, by any form.

    ``from a import b`` yields ``a.b``: whether b is a module or a value, it lies in a.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            base = parts[: len(parts) - node.level + is_package] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{origin}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else None
            called = node.func.id if isinstance(node.func, ast.Name) else called
            first = node.args[0]
            if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield node.lineno, str(first.value)


MODULES = {
    "cocotb": {"cocotb", "cocotb_tools"},
    "cocotbext-axi": {"cocotbext"},
    "pynq": {"pynq", "pyxrt"},  # pyxrt is XRT's, which PYNQ works on
}
"""What distributions provide whose modules are named otherwise."""


def forbidden(source: str, module: str, is_package: bool = False) -> list[str]:
    """The arrows from ``module`` that are not allowed, one sentence each."""
    prefix = max((known for known in ARROWS if within(module, known)), key=len)
    allowed = ARROWS[prefix]
    found = []
    for line, target in imports(source, module, is_package):
        ours = target.split(".")[0] in OURS
        if ours and not any(within(target, ok) for ok in allowed):
            found.append(f"{module}:{line} imports {target}; {prefix} may import {sorted(allowed)}")
    return found


def modules() -> list[tuple[str, Path]]:
    """Every module of ours by its full name."""
    found = []
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def third_party(prefix: str) -> dict[str, str]:
    """Top-level modules that are neither ours nor Python's, with one importer of each."""
    found = {}
    for module, path in modules():
        if within(module, prefix):
            for line, target in imports(path.read_text(), module, path.name == "__init__.py"):
                top = target.split(".")[0]
                if top not in OURS and top not in sys.stdlib_module_names:
                    found[top] = f"{path.relative_to(ROOT)}:{line}"
    return found


def declared(*extras: str) -> set[str]:
    """Modules that the distribution and these extras declare in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    names = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in lines}
    return {module for name in names for module in MODULES.get(name, {name.replace("-", "_")})}


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: str(value))
def test_arrows(module: str, path: Path) -> None:
    assert not forbidden(path.read_text(), module, path.name == "__init__.py")


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: str(value))
def test_length(module: str, path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= MAX_LINES, f"{module} has {lines} lines, {MAX_LINES} is the ceiling"


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("spec", None),
        ("host", ("board",)),
        ("hwgen", ("generator", "vivado")),
        ("sim", ("generator", "simulation", "sweep")),
        ("tests", ("generator", "simulation", "sweep", "development", "comparison", "board")),
    ],
)
def test_third_party_is_declared(package: str, extras: tuple[str, ...] | None) -> None:
    """Each package imports what its install provides; spec the standard library alone."""
    allowed = set() if extras is None else declared(*extras)
    if package == "spec":
        allowed = {"tomli"}  # tomllib's own code, on the board's Python 3.10
    assert {k: v for k, v in third_party(package).items() if k not in allowed} == {}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("spec.layout", "import hwgen"),
        ("spec.layout", "from host.weights import Quantised"),
        ("host.device.driver", "import hwgen.cli"),
        ("host.device.driver", "from sim import golden"),
        ("host.device.driver", "def later():\n    from sim.device import Device"),
        ("host.device.driver", "import importlib\nimportlib.import_module('sim.device')"),
        ("host.device.driver", "__import__('hwgen')"),
        ("host.device.driver", "if TYPE_CHECKING:\n    import sim"),
        ("host.checkpoint.awq", "from ...sim import device"),
        ("hwgen.top", "from sim.golden import matmul"),
        ("hwgen.top", "import numpy, host"),
        ("sim.golden", "import hwgen.scale"),
        ("sim.golden", "from host.device.transport import Buffer"),
        ("sim.golden", "from sim.device import Device"),
        ("sim.golden", "from . import device"),
        ("sim.cycles", "from sim import golden"),
        ("sim.memory", "import sim.device"),
        ("sim.device", "from tests import shapes"),
    ],
)
def test_forbidden_arrow_is_found(module: str, source: str) -> None:
    assert forbidden(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("spec.digest", "from spec import commands, layout\nimport json"),
        (
            "host.device.driver",
            "import numpy as np\nfrom spec import config\nfrom . import counters",
        ),
        ("sim.golden", "from spec import numeric"),
        ("sim.golden_device", "from host.device.transport import Buffer\nfrom sim import golden"),
        ("sim.device", "from hwgen import top\nfrom host.device.transport import Buffer"),
        ("tests.sim.test_device", "import sim.device, host.device.driver, hwgen.top"),
    ],
)
def test_allowed_arrow_is_not_found(module: str, source: str) -> None:
    assert not forbidden(source, module)


def test_package_relative_import_resolves() -> None:
    assert [name for _, name in imports("from .a import b", "host.checkpoint", True)] == [
        "host.checkpoint.a.b"
    ]
    assert [name for _, name in imports("from .a import b", "host.checkpoint")] == ["host.a.b"]
