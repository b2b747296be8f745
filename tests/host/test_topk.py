"""Top-k in the software devices and in the driver."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from host.device import cpu
from host.device.driver import Accelerator, memory_needed
from host.device.largest import TopKError
from host.device.software import SoftwareDevice
from host.weights import Quantised
from sim import golden_device
from spec import commands
from spec.config import TINY
from spec.errors import DeviceError
from tests.host.fake_device import FakeDevice
from tests.host.matmul_case import MEMORY, Case, Run, random_case, random_weights, small_case
from tests.host.test_driver import assert_refused, overwrite


def entries(factory, case: Case, top_k: int, **options) -> tuple[bytes, dict[str, int]]:
    """What a top-k command writes, and the error register."""
    run = Run(factory(case.config, MEMORY, **options), case)
    size = run.fields["tokens"] * top_k * commands.CHOICE_BYTES
    target = run.device.allocate(size + 64)
    target.array[:] = 0xEE
    beats = size // case.config.port_bytes
    run.fields |= {"results": target.address, "top_k": top_k, "result_beats": beats}
    error = run.ring()
    return target.array.tobytes(), error


@pytest.mark.parametrize("seed", range(120))
def test_cpu_equals_golden(seed):
    """Weights with few values and zero scales make most of these ties."""
    rng = np.random.default_rng(seed)
    case = dataclasses.replace(random_case(seed), fmt="fp32")
    rows = int(rng.integers(2, 600))
    groups = int(rng.integers(1, 4))
    weights = random_weights(rng, rows, groups, case.weights.group)
    bases, shifts, mantissas = case.activations
    columns = groups * weights.group
    repeats = -(-columns // mantissas.shape[1])
    mantissas = np.tile(mantissas, (1, repeats))[:, :columns]
    shifts = np.tile(shifts, (1, repeats))[:, : -(-columns // 64)]
    case = dataclasses.replace(case, weights=weights, activations=(bases, shifts, mantissas))
    top_k = min(int(rng.choice([2, 4, 40, 64])), rows // 2 * 2)
    expected = entries(golden_device.open, case, top_k)
    assert entries(cpu.open, case, top_k, threads=1 + seed % 4) == expected, f"seed {seed}"


@pytest.mark.parametrize("factory", [cpu.open, golden_device.open])
@pytest.mark.parametrize(
    "change",
    [
        {"top_k": 3, "result_beats": 3}, {"top_k": 66, "result_beats": 33},
        {"top_k": 6, "result_beats": 3}, {"top_k": 4, "result_beats": 3},
        {"top_k": 4, "result_beats": 2, "result_format": 1}, {"last_rows": 16},
        {"top_k": 4, "result_beats": 2, "last_rows": 2},
    ],
    ids=str,
)  # fmt: skip
def test_a_top_k_that_makes_no_sense_is_refused(factory, change):
    """The matrix has 5 rows in tiles of 16."""
    run = Run(factory(TINY, MEMORY), small_case())
    run.fields |= change
    assert run.ring()["descriptor"] == 1
    assert (run.results.array == 0xEE).all()


def ordered(results: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest of full results [tokens, N]."""
    rows = np.argsort(-results, axis=1, kind="stable")[:, :top_k]
    return np.take_along_axis(results, rows, axis=1), rows


def signs(seed: int, rows: int) -> Quantised:
    """Weights of a few values: many equal results."""
    rng = np.random.default_rng(seed)
    values = np.repeat(rng.integers(7, 10, (rows, 1)), 32, axis=1).astype(np.uint8)
    return Quantised(
        4, 32, values, np.full((rows, 1), 0.5, np.float16), np.full((rows, 1), 8, np.uint8)
    )


@pytest.mark.parametrize("rows", [2, 5, 16, 33])
def test_matmul_gives_the_largest_of_all_results(rows):
    """Odd k is cut from the even one; the last call needs a second pass."""
    device = FakeDevice(TINY)
    device.columns = 32
    accelerator = Accelerator(device)
    handle = accelerator.load(signs(rows, rows))
    rng = np.random.default_rng(rows)
    for tokens in range(1, TINY.tokens + 2):
        activations = rng.normal(size=(tokens, 32)).astype(np.float32)
        results = accelerator.matmul(handle, activations)
        for top_k in {1, 2, 3, rows // 2 * 2}:
            if top_k > rows // 2 * 2:
                continue
            values, found = accelerator.matmul(handle, activations, top_k=top_k)
            assert values.dtype == np.float32 and found.dtype == np.int32
            expected, wanted = ordered(results, top_k)
            np.testing.assert_array_equal(values, expected)
            np.testing.assert_array_equal(found, wanted)


def test_a_prepared_list_mixes_both():
    device = FakeDevice(TINY)
    device.columns = 32
    accelerator = Accelerator(device)
    first, second = (accelerator.load(signs(seed, 20 + seed)) for seed in (1, 2))
    prepared = accelerator.prepare([(first, 2), (second, 1, 7), (first, 1)])
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(tokens, 32)).astype(np.float32) for tokens in (2, 1, 1)]
    before = device.calls["doorbell"]
    full, top, last = accelerator.run(prepared, inputs)
    assert device.calls["doorbell"] == before + 1
    np.testing.assert_array_equal(full, accelerator.matmul(first, inputs[0]))
    np.testing.assert_array_equal(last, accelerator.matmul(first, inputs[2]))
    values, rows = ordered(accelerator.matmul(second, inputs[1]), 7)
    np.testing.assert_array_equal(top.values, values)
    np.testing.assert_array_equal(top.rows, rows)


def test_only_the_entries_are_written_and_nothing_is_allocated_again():
    device = FakeDevice(TINY)
    device.columns = 32
    accelerator = Accelerator(device)
    handle = accelerator.load(signs(3, 100), "head")
    ones = np.ones((2, 32), np.float32)
    accelerator.matmul(handle, ones, top_k=63)
    before = device.calls["allocate"]
    assert accelerator.tally["head"].bytes_written == 2 * 64 * 8
    accelerator.matmul(handle, ones, top_k=63)
    assert device.calls["allocate"] == before


def test_memory_needed_covers_a_top_k_of_every_matrix():
    matrices = [signs(seed, rows) for seed, rows in enumerate((2, 64, 64, 700, 33, 16))]
    for device in (cpu.open, golden_device.open):
        opened: SoftwareDevice = device(TINY, memory_needed(TINY, matrices))
        accelerator = Accelerator(opened)
        handles = [accelerator.load(matrix) for matrix in matrices]
        for tokens in range(1, TINY.tokens + 1):
            for handle in handles:
                top_k = min(64, handle.matrix.rows // 2 * 2)
                ones = np.ones((tokens, 32), np.float32)
                assert accelerator.matmul(handle, ones, top_k=top_k).rows.shape == (tokens, top_k)


@pytest.mark.parametrize(
    ("rows", "top_k", "words"),
    [(5, 5, r"1\.\.4 for 5 rows, got 5"), (5, 0, "got 0"), (5, -2, "got -2"),
     (100, 65, r"1\.\.64 for 100 rows, got 65"), (1, 1, "one row has no top-k")],
)  # fmt: skip
def test_a_top_k_out_of_range_is_refused(rows, top_k, words):
    accelerator = Accelerator(FakeDevice(TINY))
    handle = accelerator.load(signs(0, rows))
    with pytest.raises(TopKError, match=words):
        accelerator.matmul(handle, np.ones((1, 32), np.float32), top_k=top_k)
    with pytest.raises(TopKError, match=words):
        accelerator.prepare([(handle, 1, top_k)])


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"top_k": 6}, "result_beats"), ({"top_k": 5}, "top_k = 5 must be even"),
     ({"top_k": 34, "result_beats": 17}, "top_k = 34 must lie in 0..33"),
     ({"last_rows": 16}, "last_rows = 16"),
     ({"result_format": 1}, "needs results in fp32"), ({"top_k": 0}, "result_beats")],
    ids=str,
)  # fmt: skip
def test_a_list_with_a_wrong_top_k_is_not_started(changed, words):
    device = FakeDevice(TINY)
    accelerator = Accelerator(device)
    prepared = accelerator.prepare([(accelerator.load(signs(1, 33)), 1, 4)])
    overwrite(prepared, 0, changed)
    assert_refused(device, accelerator, prepared, words)


def test_results_over_a_list_of_entries_are_not_started():
    device = FakeDevice(TINY)
    accelerator = Accelerator(device)
    handle = accelerator.load(signs(1, 33))
    prepared = accelerator.prepare([(handle, 1, 8), (handle, 1, 2)])
    overwrite(prepared, 1, {"results": prepared.commands[0].results.address})
    assert_refused(device, accelerator, prepared, "overlap")
    with pytest.raises(DeviceError, match="lie outside the buffers"):
        overwrite(prepared, 1, {"results": handle.weights.address})
        accelerator.ring(prepared)
