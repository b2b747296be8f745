"""A failing test of the hardware runs again by itself, with a trace; a passing one leaves nothing.

The second run writes FST files of what it simulates (VCD where Amaranth's own simulator runs it)
below ``build/waves`` and the report of the failure gains one line that replays it: module,
parameters with the seed, and the command. ``--waves`` traces the first run already.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import os
import re
import shlex
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "KRIA_LLM_WAVES"
"""Environment variable: the directory that traces go to; set while they are wanted."""

FOLDERS = ("tests/hwgen", "tests/sim")
"""Where tests simulate hardware."""

REPLAYS = pytest.StashKey[list[str]]()
SECTION = "replay"

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hardware")
    group.addoption("--waves", action="store_true", help="trace every simulation of these tests")
    group.addoption(
        "--no-rerun", action="store_true", help="leave failing tests of the hardware untraced"
    )


def directory() -> Path | None:
    """Where a simulation should put its trace; None when none is wanted."""
    found = os.environ.get(VARIABLE)
    return Path(found) if found else None


def next_file(suffix: str) -> Path | None:
    """A new trace file, if traces are wanted."""
    where = directory()
    if where is None:
        return None
    where.mkdir(parents=True, exist_ok=True)
    return where / f"{next(_numbers):03}{suffix}"


@contextlib.contextmanager
def tracing(where: Path) -> Iterator[None]:
    """Simulated devices that are opened meanwhile write traces; other simulators look at
    ``directory``."""
    from sim import device

    made = device.Device.__init__

    def traced(*arguments: Any, **named: Any) -> None:
        bound = inspect.signature(made).bind(*arguments, **named)
        if bound.arguments["trace"] is None:
            bound.arguments["trace"] = next_file(".fst")
        made(*bound.args, **bound.kwargs)

    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(where)
    device.Device.__init__ = traced  # type: ignore[method-assign]
    try:
        yield
    finally:
        device.Device.__init__ = made  # type: ignore[method-assign]
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def place(item: pytest.Item) -> Path:
    """The directory of a test's traces."""
    name = re.sub(r"[^\w.-]+", "-", item.nodeid.removeprefix("tests/"))
    return item.config.rootpath / "build" / "waves" / name[:150]


def replay_line(item: pytest.Item) -> str:
    """Module, parameters and command of a test, in one line."""
    module = Path(item.nodeid.split("::")[0]).stem.removeprefix("test_")
    spec = getattr(item, "callspec", None)
    named = {} if spec is None else spec.params
    shown = " ".join(f"{key}={_short(value)}" for key, value in named.items())
    command = f"python -m pytest -p no:xdist --waves {shlex.quote(item.nodeid)}"
    return f"REPLAY module={module} {shown + ' ' if shown else ''}: {command}"


def _short(value: object) -> str:
    text = str(getattr(value, "name", value))
    return text if len(text) <= 60 else f"{text[:57]}..."


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """The call of a test's function; after a failure of a hardware test, once more with a trace."""
    relevant = pyfuncitem.nodeid.startswith(FOLDERS) or pyfuncitem.get_closest_marker("hardware")
    if not relevant:
        return (yield)
    where = place(pyfuncitem)
    if pyfuncitem.config.getoption("--waves"):
        with tracing(where):
            return (yield)
    try:
        return (yield)
    except Exception:
        if not pyfuncitem.config.getoption("--no-rerun"):
            _again(pyfuncitem, where)
        raise


def _again(item: pytest.Function, where: Path) -> None:
    """Runs the function once more with traces, and says what came of it."""
    wanted = item._fixtureinfo.argnames
    arguments = {name: item.funcargs[name] for name in wanted}
    try:
        with tracing(where):
            item.obj(**arguments)
        outcome = "the second run passed: it depends on more than its parameters"
    except Exception as error:
        outcome = f"failed again: {type(error).__name__}"
    files = sorted(where.rglob("*.fst")) + sorted(where.rglob("*.vcd")) if where.is_dir() else []
    shown = ", ".join(os.path.relpath(file, item.config.rootpath) for file in files[:8])
    traces = f"traces: {shown}" if files else "nothing of it is simulated in this process"
    lines = [replay_line(item), f"{outcome}; {traces}"]
    item.add_report_section("call", SECTION, "\n".join(lines))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The replay lines once more, together, at the end."""
    lines = [
        content.splitlines()[0]
        for report in terminalreporter.stats.get("failed", [])
        for name, content in report.sections
        if name.endswith(SECTION)
    ]
    if lines:
        terminalreporter.section("replay")
        for line in lines:
            terminalreporter.write_line(line)
