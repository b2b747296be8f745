"""The proofs: bounded ones, inductive ones, and for each property a design that breaks it."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
from amaranth.hdl import Fragment

from tests.formal import prove

DEPTHS = {
    "queue": (10, 24), "burst": (9, 24), "abandon": (12, 40), "fetch": (8, 14), "reader": (9, 20),
    "writer": (8, 16),
}  # fmt: skip
"""Cycles that are looked at: in every run of the tests, and in the slow ones."""

REFUTED_IN = 26
"""Cycles within which a broken design must show it."""

INDUCTIVE = {
    "queue": ("output stays while it waits",),
    "burst": ("no burst crosses 4 KB", "no burst is too long", "burst stays while it waits"),
    "fetch": ("item stays while it waits", "region stays while it waits",
              "results stays while it waits"),
    "reader": ("a stopped reader asks for nothing", "request stays while it waits",
               "beat stays while it waits"),
    "writer": ("data stays while it waits",),
}  # fmt: skip
"""Properties that hold for ever: five cycles of each imply the sixth."""

INDUCTION = 5


def module(name: str) -> ModuleType:
    return importlib.import_module(f"tests.formal.{name}_properties")


def properties() -> list[tuple[str, str]]:
    """Every property by component, each with a mutation that breaks it."""
    return [(name, one) for name in DEPTHS for one in module(name).MUTATIONS]


def assert_holds(name: str, depth: int) -> None:
    found = module(name)
    with prove.mutated(None, found.MODULES) as parts:
        for make in {found.make, *getattr(found, "OTHERS", {}).values()}:
            assert prove.bounded(lambda make=make: make(*parts), depth)


@pytest.mark.parametrize("name", DEPTHS)
def test_properties_hold_from_reset(name: str) -> None:
    assert_holds(name, DEPTHS[name][0])


@pytest.mark.slow
@pytest.mark.parametrize("name", DEPTHS)
def test_properties_hold_from_reset_for_longer(name: str) -> None:
    assert_holds(name, DEPTHS[name][1])


@pytest.mark.parametrize(
    ("name", "one"), [(name, one) for name, ones in INDUCTIVE.items() for one in ones]
)
def test_properties_hold_for_ever(name: str, one: str) -> None:
    found = module(name)
    with prove.mutated(None, found.MODULES) as parts:
        assert prove.inductive(lambda: found.make(*parts), INDUCTION, one)


@pytest.mark.parametrize(("name", "one"), properties())
def test_a_broken_design_is_refuted(name: str, one: str) -> None:
    found = module(name)
    make = getattr(found, "OTHERS", {}).get(one, found.make)
    with prove.mutated(found.MUTATIONS[one], found.MODULES) as parts:
        assert not prove.bounded(lambda: make(*parts), REFUTED_IN, one)


@pytest.mark.parametrize("name", DEPTHS)
def test_every_property_has_a_design_that_breaks_it(name: str) -> None:
    found = module(name)
    with prove.mutated(None, found.MODULES) as parts:
        harness = found.make(*parts)
        Fragment.get(harness, None)
    assert set(harness.properties) == set(found.MUTATIONS)
