"""The proofs that a mutant is the same design: found where it is, never where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth import Module, Mux, Signal
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from benches import equivalence, mutants
from benches.equivalence import Netlist, Prover
from benches.mutants import Mutant
from spec.errors import ToolError

END = 9


class Counter(wiring.Component):
    """Counts to ``END`` and stays. Bits that come late, never, stay; one that nothing shows."""

    def __init__(self) -> None:
        super().__init__({
            "go": In(1), "late": Out(1), "never": Out(1), "masked": Out(1), "once": Out(1, init=1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        count = Signal(4)
        late, never, unread = Signal(), Signal(), Signal()
        m.d.comb += [late.eq(count == END), never.eq(count == END + 2)]
        m.d.sync += [
            count.eq(Mux(self.go & ~late, count + 1, count)), self.late.eq(late),
            self.never.eq(never), unread.eq(self.go),
            self.once.eq(self.once),
            self.masked.eq(self.go & (unread | (count <= END))),  # its second part is always so
        ]  # fmt: skip
        return m


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Netlist:
    """The counter, flattened as the design is."""
    text = rtlil.convert(Counter(), name=mutants.TOP, emit_src=False)
    return equivalence.flattened_text(text)


def mutant(module: Netlist, wire: str, mode: str) -> Mutant:
    """A change of the port that drives a wire."""
    (bit,) = module["netnames"][wire]["bits"]
    for name, cell in module["cells"].items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "output" and bit in bits:
                place = bits.index(bit)
                return Mutant(1, "top", f"-mode {mode} -cell {name} -port {port} -portbit {place}")
    raise AssertionError(f"nothing drives {wire}")


PART = ("top",)


@pytest.mark.parametrize(
    ("wire", "mode", "proved"),
    [("never", "const0", True), ("never", "const1", False), ("never", "inv", False),
     ("late", "const0", False), ("late", "const1", False), ("once", "const1", True),
     ("once", "const0", False)],
)  # fmt: skip
def test_a_bit_that_never_has_the_other_value(
    module: Netlist, wire: str, mode: str, proved: bool
) -> None:
    """``late`` becomes 1 after nine cycles at the earliest."""
    prover = Prover(module)
    assert prover.never_differs(mutant(module, wire, mode), PART) is proved
    assert prover.never_seen(mutant(module, wire, mode), PART) is proved


@pytest.mark.parametrize("mode", ["const0", "const1", "inv"])
def test_a_bit_that_nothing_shows(module: Netlist, mode: str) -> None:
    prover = Prover(module)
    assert not prover.never_differs(mutant(module, "unread", mode), PART)
    assert prover.never_seen(mutant(module, "unread", mode), PART)


def test_what_enters_a_part_is_free(module: Netlist) -> None:
    """Without the counter's own register its count is anything."""
    prover = Prover(module)
    for mode in ("const0", "const1", "inv"):
        assert not prover.never_differs(mutant(module, "never", mode), ("elsewhere",))


def test_the_mutants_around_are_those_of_the_path() -> None:
    assert list(equivalence.around("engine.reader0.flying")) == [
        ("engine.reader0.flying",), ("engine.reader0",),
    ]  # fmt: skip


def test_no_abc_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivalence, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(Path("/nonexistent")))
    with pytest.raises(ToolError, match=r"needs ABC: pip install 'kria-llm\[synthesis\]'"):
        equivalence.abc()
