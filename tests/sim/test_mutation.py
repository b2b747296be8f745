"""The mutation tool: a broken design is noticed, the design as it is is not."""

from __future__ import annotations

import pytest

from benches import mutants, mutation
from benches.mutation_subject import CONFIG, Subject


def test_the_sample_is_spread_over_the_modules_and_repeats() -> None:
    lines = [
        f"mutate -mode inv -module kria_llm -cell $flatten\\a.\\{module}.${cell} -port A -portbit 0"
        for module in ("x", "y") for cell in range(20)
    ]  # fmt: skip
    lines += ["mutate -mode inv -module kria_llm -cell $flatten\\a.\\z.$1 -port CLK -portbit 0"]
    drawn = mutants._drawn(lines, 10, seed=3)
    assert [mutant.module for mutant in drawn] == ["a.x", "a.y"] * 5
    assert [mutant.number for mutant in drawn] == list(range(1, 11))
    assert len({mutant.options for mutant in drawn}) == 10
    assert drawn == mutants._drawn(lines, 10, seed=3) != mutants._drawn(lines, 10, seed=4)


@pytest.mark.slow
def test_a_sample_of_mutants_is_noticed() -> None:
    found = list(mutation.run(80, seed=2))
    survivors = [mutant for mutant, killed in found if not killed]
    assert len(found) == 80
    assert len(survivors) <= 12, survivors  # docs/mutation.md: one in ten survives


@pytest.mark.slow
def test_the_design_itself_is_no_mutant() -> None:
    """The vectors see the same twice, so that a difference means the mutant."""
    verilog, _ = mutants.sample(CONFIG, 4, seed=5)
    for stall_seed in (None, 3):
        subject = Subject(CONFIG, verilog, stall_seed)
        wanted = mutation.observe(subject, 0, None)
        assert mutation.observe(subject, 0, wanted) == {"killed": ""}
        assert mutation.observe(subject, 7, wanted) == {"killed": ""}, "a number without a mutant"
