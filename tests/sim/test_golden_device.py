"""The golden device keeps decoded weights only as long as their bytes cannot have changed."""

from __future__ import annotations

import dataclasses

import numpy as np

from host.layout import pack
from sim import golden_device
from spec import layout
from tests.host.matmul_case import MEMORY, Run, random_case, results


def test_golden_forgets_weights_that_change():
    """New weights at the same address, flushed; then weights overwritten by results."""
    first, second = random_case(5), random_case(5)
    rng = np.random.default_rng(9)
    patterns = rng.permuted(second.weights.scales.view(np.uint16), axis=0)
    changed = dataclasses.replace(second.weights, scales=patterns.view(np.float16) + 1)
    second = dataclasses.replace(second, weights=changed)
    run = Run(golden_device.open(first.config, MEMORY), first)
    run.ring()
    stride = layout.port_stride(first.config, run.matrix.beats)
    pack.pack_weights(first.config, second.weights, run.weights.array, stride)
    run.ring()
    assert np.array_equal(run.results.array, results(golden_device.open, second))
    run.fields = {**run.fields, "results": run.weights.address}
    run.ring()
    after = run.weights.array.copy()
    run.fields = {**run.fields, "results": run.results.address}
    run.ring()
    fresh = Run(golden_device.open(first.config, MEMORY), first)
    fresh.weights.array[:] = after
    fresh.ring()
    assert np.array_equal(run.results.array, fresh.results.array)


def test_a_cache_of_no_bytes_changes_nothing():
    case = random_case(6)
    expected = results(golden_device.open, case)
    assert np.array_equal(results(golden_device.open, case, cache_bytes=0), expected)
