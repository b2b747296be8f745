"""Every module's test once more on its Verilog under cocotb: idle x backpressure x seed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from spec.config import TINY
from tests.hwgen import (
    cocotb_module,
    test_accumulate,
    test_burst,
    test_choices,
    test_control,
    test_descriptor,
    test_dot,
    test_queue,
    test_reader,
    test_results,
    test_round,
    test_scale,
    test_scatter,
    test_sequence,
    test_unpack,
    test_writer,
)  # fmt: skip

from tests.hwgen import test_activations, test_fetch, test_multiplier  # isort: skip
from tests.plugins import simulators

Test = Callable[[], None]


def _of(name: str, function: Callable[..., None], **parameters: object) -> object:
    return pytest.param(functools.partial(function, **parameters), id=name)


CASES = [
    *[
        case
        for seed in (3, 4)  # backpressure, and both with idle cycles
        for case in (
            _of(f"reader-{seed}", test_reader.test_beats_arrive_in_order_within_the_room,
                config=TINY, seed=seed),
            _of(f"writer-{seed}", test_writer.test_runs_are_written_as_whole_bursts,
                config=TINY, seed=seed),
            _of(f"burst-{seed}", test_burst.test_bursts_are_the_run, config=TINY, seed=seed),
            _of(f"queue-{seed}", test_queue.
                test_all_leave_in_order_and_the_level_is_what_is_held, depth=4, seed=seed),
            _of(f"scatter-{seed}", test_scatter.test_runs_are_the_stripes, ports=2, seed=seed),
            _of(f"results-{seed}", test_results.test_tiles_leave_token_by_token,
                config=TINY, seed=seed),
            _of(f"sequence-{seed}", test_sequence.test_kinds_positions_and_waits,
                config=TINY, seed=seed),
            _of(f"fetch-{seed}", test_fetch.test_a_list_is_walked, config=TINY, seed=seed),
        )
    ],
    _of("descriptor-good", test_descriptor.test_good_descriptors, config=TINY, idle=0.5),
    _of("descriptor-bad", test_descriptor.test_bad_descriptors_and_a_good_one_after_each,
        config=TINY),
    _of("control-access", test_control.test_reset_values_and_access_types, pause=0.5),
    _of("control-doorbell", test_control.test_doorbell_and_interrupt),
    _of("control-at-once", test_control.test_reads_and_writes_at_once, seed=1),
    _of("unpack-int4", test_unpack.test_every_weight_and_scale_of_a_matrix,
        config=TINY, bits=4, group=32, idle=0.5),
    _of("unpack-int8", test_unpack.test_every_weight_and_scale_of_a_matrix,
        config=TINY, bits=8, group=128, idle=0.5),
    _of("activations-int4", test_activations.test_chunks_are_loaded, bits=4, seed=1),
    _of("activations-int8", test_activations.test_chunks_are_loaded, bits=8, seed=2),
    _of("dot", test_dot.test_sums, config=TINY, seed=1),
    _of("scale", test_scale.test_terms, config=TINY, seed=1),
    _of("multiplier", test_multiplier.test_products_come_after_the_latency, seed=1),
    _of("accumulate", test_accumulate.test_sums, config=TINY, seed=1, idle=0.4),
    _of("round", test_round.test_pauses_change_nothing, seed=1),
    _of("choices", test_choices.test_random_commands_one_after_another, seed=2),
]  # fmt: skip


QUICK_ON_VERILATOR = ("queue-3",)
"""It compiles each module for seconds; the others are slow."""

RUNS = [
    pytest.param(
        simulator, *case.values, id=f"{simulator}-{case.id}",
        marks=[pytest.mark.slow] if simulator != simulators.ICARUS
        and case.id not in QUICK_ON_VERILATOR else [],
    )
    for simulator in simulators.present() for case in CASES
]  # fmt: skip


@pytest.mark.parametrize(("simulator", "test"), RUNS)
def test_the_verilog_does_the_same(simulator: str, test: Test, tmp_path: Path) -> None:
    found = cocotb_module.record(test)
    assert found
    compared = [
        cocotb_module.replay(one, tmp_path / str(number), simulator)
        for number, one in enumerate(found)
    ]
    assert all(compared)
