"""Faults of every kind: none hangs, none is silent, and the next list is right."""

from __future__ import annotations

import pytest

from benches import faults
from spec.config import TINY, Config


def assert_all_told_or_harmless(count: int, configs: tuple[Config, ...], seed: int) -> None:
    found = faults.run(count, configs, seed)
    assert [line for tally in found.values() for line in tally.bad] == []
    sums = faults.total(found)
    assert sums["injected"] == sums["recovered"] == sums["told"] + sums["harmless"] == count
    assert all(tally.injected for tally in found.values())
    for kind in ("read SLVERR", "RLAST missing", "read data never", "descriptor of noise"):
        assert found[kind].told > found[kind].harmless, kind
    for kind in ("read data late", "write data taken late", "registers used while busy"):
        assert found[kind].told == 0, kind


def test_some_faults_of_every_kind() -> None:
    assert_all_told_or_harmless(3 * len(faults.KINDS), (TINY,), seed=1)


@pytest.mark.slow
def test_a_thousand_faults() -> None:
    assert_all_told_or_harmless(faults.COUNT, faults.CONFIGS, seed=0)
