"""``hwgen.fetch.Fetch``, the command queue: every command in order, once, and every list ends."""

from __future__ import annotations

from amaranth import Module, Mux, Signal

from spec import commands
from spec.config import ADDRESS_BITS, TINY
from tests.formal.prove import Harness, Mutation

MODULES = ("hwgen.fetch",)
IDLE, ANNOUNCE, DESCRIPTOR, RESULTS, ACTIVATIONS, WEIGHTS, WAIT = range(7)


class FetchHarness(Harness):
    """An automaton of what must come next runs beside it; lists have up to three commands."""

    def __init__(self, fetch) -> None:
        super().__init__()
        self._fetch = fetch

    def build(self, m: Module) -> None:
        m.submodules.fetch = unit = self._fetch.Fetch(TINY)
        command, region, item = unit.command.payload, unit.region.payload, unit.item.payload
        for signal in (
            unit.start, unit.address, unit.count, unit.halt, unit.bad, unit.command.valid,
            command.as_value(), unit.item.ready, unit.region.ready, unit.results.ready,
        ):  # fmt: skip
            self.chosen(signal)
        self.assumptions += [
            unit.count <= 3, unit.address[20:] == 0, ~unit.start | ~unit.busy,
        ]  # fmt: skip
        state = Signal(3)
        left = Signal(2)  # descriptors not asked for
        address = Signal(ADDRESS_BITS)  # of the next one
        begun, awaited = Signal(), Signal()  # a command is held; a descriptor is on its way
        now = Signal(unit.command.payload.shape())
        with m.Switch(state):
            with m.Case(IDLE):
                m.d.sync += [address.eq(unit.address), left.eq(unit.count), begun.eq(0)]
                with m.If(unit.start & (unit.count != 0)):
                    m.d.sync += state.eq(ANNOUNCE)
            with m.Case(ANNOUNCE):
                m.d.sync += awaited.eq(0)
                with m.If(unit.item.ready):
                    m.d.sync += state.eq(Mux(left != 0, DESCRIPTOR, RESULTS))
            with m.Case(DESCRIPTOR), m.If(unit.region.ready):
                m.d.sync += [
                    left.eq(left - 1), address.eq(address + commands.BYTES), awaited.eq(1),
                    state.eq(Mux(begun, RESULTS, WAIT)),
                ]  # fmt: skip
            with m.Case(RESULTS), m.If(unit.results.ready):
                m.d.sync += state.eq(ACTIVATIONS)
            with m.Case(ACTIVATIONS), m.If(unit.region.ready):
                m.d.sync += state.eq(WEIGHTS)
            with m.Case(WEIGHTS), m.If(unit.region.ready):
                m.d.sync += state.eq(Mux(awaited, WAIT, IDLE))
            with m.Case(WAIT), m.If(unit.command.valid):
                m.d.sync += [
                    now.eq(command), begun.eq(1),
                    state.eq(Mux(unit.bad | unit.halt, IDLE, ANNOUNCE)),
                ]  # fmt: skip
        regions = (state == DESCRIPTOR) | (state == ACTIVATIONS) | (state == WEIGHTS)
        self.holds("a command is announced in its turn", unit.item.valid == (state == ANNOUNCE))
        self.holds("regions are asked for in their turn", unit.region.valid == regions)
        self.holds("results are announced in their turn", unit.results.valid == (state == RESULTS))
        self.holds("descriptors are taken in their turn", unit.command.ready == (state == WAIT))
        self.holds("every list ends", unit.busy == (state != IDLE))
        self.holds(
            "descriptors follow each other",
            (state != DESCRIPTOR) | (region.address == address),
        )
        for kind, here, start, beats in (
            ("activations", ACTIVATIONS, now.activations, now.activation_beats),
            ("weights", WEIGHTS, now.weights, now.weight_beats),
        ):
            self.holds(
                f"{kind} are the command's",
                (state != here) | ((region.address == start) & (region.beats == beats)),
            )
        self.holds(
            "an item says what comes",
            ~unit.item.valid | ((item.descriptor == (left != 0)) & (item.matmul == begun)),
        )
        self.holds(
            "a bad descriptor is told once, and no failed one",
            unit.descriptor_error == ((state == WAIT) & unit.command.valid & unit.bad & ~unit.halt),
        )
        for name in ("item", "region", "results"):
            self.stays(m, name, getattr(unit, name))


def make(fetch) -> FetchHarness:
    """The harness around the ``Fetch`` of a module."""
    return FetchHarness(fetch)


def _in_state(state: str, old: str, new: str) -> Mutation:
    """A change within one state of its machine."""
    return Mutation("hwgen.fetch", old, new, after=f'm.State("{state}")')


MUTATIONS = {
    "a command is announced in its turn": _in_state(
        "WAIT", 'm.next = "ANNOUNCE"', 'm.next = "RESULTS"',
    ),
    "regions are asked for in their turn": _in_state(
        "ACTIVATIONS", 'm.next = "WEIGHTS"', 'm.next = "WAIT"',
    ),
    "results are announced in their turn": _in_state(
        "ANNOUNCE", 'm.next = "RESULTS"', 'm.next = "ACTIVATIONS"',
    ),
    "descriptors are taken in their turn": _in_state(
        "DESCRIPTOR", 'm.next = "WAIT"', 'm.next = "ANNOUNCE"',
    ),
    "every list ends": _in_state("WEIGHTS", "with m.If(~more):", "with m.If(0):"),
    "descriptors follow each other": _in_state(
        "DESCRIPTOR", "low + commands.BYTES", "low + 2 * commands.BYTES",
    ),
    "activations are the command's": _in_state(
        "ACTIVATIONS", "eq(command.activation_beats)", "eq(command.weight_beats)",
    ),
    "weights are the command's": _in_state(
        "WEIGHTS", "eq(command.weights)", "eq(command.activations)",
    ),
    "an item says what comes": _in_state("WAIT", "more.eq(left != 1)", "more.eq(left != 0)"),
    "a bad descriptor is told once, and no failed one": _in_state(
        "WAIT", "self.bad & ~self.halt", "self.bad",
    ),
    "item stays while it waits": Mutation(
        "hwgen.fetch", "item.matmul.eq(begun)", "item.matmul.eq(begun ^ self.halt)",
    ),
    "region stays while it waits": _in_state(
        "WEIGHTS", "eq(command.weights)", "eq(Cat(self.halt, command.weights))",
    ),
    "results stays while it waits": _in_state(
        "RESULTS", "self.results.valid.eq(1)", "self.results.valid.eq(~self.halt)",
    ),
}  # fmt: skip
