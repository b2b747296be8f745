"""The vendor twin: the design with DSP48E2 instances, on a behavioural DSP48E2, against golden and
against the portable twin, cycle by cycle."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from hwgen.generate import verilog
from sim import cases, comparison, device, source
from spec.config import TINY

VENDOR = dataclasses.replace(TINY, name="tiny-vendor", dsp="vendor")
MODEL = Path(__file__).with_name("dsp48e2.v").read_text()


@pytest.fixture(scope="module")
def text() -> str:
    return verilog(VENDOR, flat=True)


@pytest.fixture
def vendor(text: str, monkeypatch: pytest.MonkeyPatch):
    """``comparison.run`` simulates the vendor twin instead of replacing it."""
    emitted = source.verilog

    def with_model(config):
        return f"{text}\n{MODEL}" if config.dsp == "vendor" else emitted(config)

    monkeypatch.setattr(source, "verilog", with_model)
    monkeypatch.setattr(device, "simulated", lambda config: config)


def test_every_multiplication_is_a_dsp(text: str) -> None:
    lanes = VENDOR.token_pairs * VENDOR.lanes
    scales = VENDOR.tokens * VENDOR.subs
    assert text.count("DSP48E2 #(") == lanes + scales


@pytest.mark.parametrize("seed", range(12))
def test_equal_to_golden_and_as_fast_as_the_portable_twin(vendor, seed: int) -> None:
    chance = random.Random(seed)
    bits, group = chance.choice([4, 8]), chance.choice([32, 64, 128])
    rows, columns = chance.randint(1, 60), group * chance.randint(1, 1024 // group)
    case = cases.draw(rows, columns, bits, group, chance.randint(1, VENDOR.tokens), seed)
    fmt = chance.choice(["fp32", "bf16"])
    found = comparison.run(VENDOR, case, fmt)
    assert not found.mismatches, (seed, found.first_mismatch)
    portable = comparison.run(dataclasses.replace(VENDOR, dsp="portable"), case, fmt)
    assert not portable.mismatches
    assert found.counters.cycles == portable.counters.cycles, f"seed {seed}: latencies differ"
