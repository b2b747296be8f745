"""Matrices that stay in the accelerator's layout: rows read back, bytes copied to a device."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from host.device.driver import Accelerator, memory_needed
from host.device.transport import open_device
from host.forward.head import exact_results
from host.layout import packed
from host.layout.blockfloat import quantise
from host.layout.pack import PackError
from host.weights import Dense
from spec.config import KV260
from tests.host.checkpoint_files import assert_same
from tests.host.test_pack import CONFIGS, SHAPES, random_weights


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("config", [*CONFIGS, KV260], ids=lambda config: config.name)
def test_rows_come_back_in_any_order(config, bits, group):
    if group < config.group:
        group = config.group
    rng = np.random.default_rng(10 * bits + group)
    for rows, columns in SHAPES:
        weights = random_weights(rng, rows, columns, bits, group)
        held = packed.packed(config, weights)
        assert (held.rows, held.columns, held.bits, held.group) == (rows, columns, bits, group)
        for chosen in (rng.integers(0, rows, 7), slice(None), slice(rows // 2, None), [0]):
            assert_same(held.select(chosen), weights.select(chosen))
        np.testing.assert_array_equal(held.floats(), weights.floats())


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_the_device_gets_the_same_bytes(config):
    weights = random_weights(np.random.default_rng(3), 70, 384, 4, 64)
    held = packed.packed(config, weights)
    activations = np.random.default_rng(4).normal(size=(2, 384)).astype(np.float32)
    memory = 2 * memory_needed(config, [held])
    driver = Accelerator(open_device("cpu", config, memory))
    one, other = driver.load(weights), driver.load(held)
    np.testing.assert_array_equal(one.weights.array, other.weights.array)
    np.testing.assert_array_equal(
        driver.matmul(one, activations), driver.matmul(other, activations)
    )


@pytest.mark.parametrize("bits", [4, 8])
def test_exact_results_from_packed_rows(bits):
    weights = random_weights(np.random.default_rng(5), 100, 256, bits, 64)
    parts = quantise(np.random.default_rng(6).normal(size=(1, 256)).astype(np.float32))
    rows = np.array([99, 0, 64, 64])
    np.testing.assert_array_equal(
        exact_results(packed.packed(KV260, weights), rows, *parts),
        exact_results(weights, rows, *parts),
    )


def test_another_configuration_is_refused():
    held = packed.packed(KV260, random_weights(np.random.default_rng(1), 4, 128, 4, 64))
    assert packed.packed(dataclasses.replace(KV260, name="renamed"), held) is held
    with pytest.raises(PackError, match=r"packed for configuration 'kv260' .* not for 'other'"):
        packed.matrix(dataclasses.replace(KV260, name="other", tile_rows=32), held)


def test_floats_are_for_floating_point():
    with pytest.raises(PackError, match="floating point only"):
        packed.matrix(KV260, Dense(np.zeros((4, 128), np.float32)))
