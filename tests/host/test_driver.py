"""The driver against a device made of the specification alone."""

from __future__ import annotations

import numpy as np
import pytest

from host.device.driver import Accelerator, InputError, memory_needed
from host.forward.linear import FloatBackend, dequantise
from host.layout import checksum
from host.layout.blockfloat import ActivationError
from host.weights import Quantised
from spec import commands, numeric, registers
from spec.config import TINY, Config
from spec.digest import digest
from spec.errors import DeviceError
from spec.layout import LayoutError
from tests.host.fake_device import BASE, FakeDevice

TWO_PORTS = Config(
    name="two ports", ports=2, port_bits=64, burst_beats=4, outstanding=2, fifo_beats=32, tokens=3,
    group=32, tile_rows=16, max_k=1024,
)  # fmt: skip


def random_weights(rng: np.random.Generator, rows: int, columns: int, bits: int, group: int):
    groups = (rows, columns // group)
    scales = rng.uniform(0.001, 0.1, groups).astype(np.float16)
    if bits == 8:
        values = rng.integers(-128, 128, (rows, columns)).astype(np.int8)
        return Quantised(8, group, values, scales)
    values = rng.integers(0, 16, (rows, columns)).astype(np.uint8)
    return Quantised(4, group, values, scales, rng.integers(0, 16, groups).astype(np.uint8))


def expected(weights: Quantised, activations: np.ndarray) -> np.ndarray:
    """The definition in double precision: one rounding of the exact sum of rounded activations."""
    rounded = np.empty(activations.shape)
    for token, vector in enumerate(activations):
        base, shifts, mantissas = numeric.quantise([float(value) for value in vector])
        exponents = base - np.repeat(shifts, numeric.BLOCK)[: len(vector)]
        rounded[token] = np.array(mantissas) * 2.0**exponents
    # 24 bits of weight times scale and 8 of activation: every product fits a double exactly.
    return rounded @ dequantise(weights).astype(np.float64).T


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice(TINY)


@pytest.fixture
def small() -> Quantised:
    return random_weights(np.random.default_rng(0), 16, 32, 4, 32)


@pytest.mark.parametrize("config", [TINY, TWO_PORTS], ids=lambda config: config.name)
@pytest.mark.parametrize(
    ("rows", "columns", "bits", "group"),
    [(1, 32, 4, 32), (17, 64, 4, 64), (16, 128, 8, 128), (33, 96, 8, 32), (20, 256, 4, 128)],
)
def test_matmul_follows_the_definition(config, rows, columns, bits, group):
    rng = np.random.default_rng(rows)
    device = FakeDevice(config)
    device.columns = columns
    accelerator = Accelerator(device)
    weights = random_weights(rng, rows, columns, bits, group)
    handle = accelerator.load(weights)
    for tokens in range(1, config.tokens + 2):  # the last one needs a second pass
        activations = rng.normal(size=(tokens, columns)).astype(np.float32)
        results = accelerator.matmul(handle, activations)
        assert results.dtype == np.float32
        np.testing.assert_allclose(results, expected(weights, activations), rtol=1e-6, atol=1e-9)


def test_one_doorbell_runs_a_list(device):
    rng = np.random.default_rng(3)
    device.columns = 64
    accelerator = Accelerator(device)
    weights = [random_weights(rng, rows, 64, 4, 32) for rows in (16, 5, 40)]
    handles = [accelerator.load(matrix) for matrix in weights]
    prepared = accelerator.prepare(list(zip(handles, (1, 2, 1), strict=True)))
    for _ in range(2):
        inputs = [rng.normal(size=(tokens, 64)).astype(np.float32) for tokens in (1, 2, 1)]
        before = device.calls["doorbell"]
        outputs = accelerator.run(prepared, inputs)
        assert device.calls["doorbell"] == before + 1
        for matrix, values, result in zip(weights, inputs, outputs, strict=True):
            np.testing.assert_allclose(result, expected(matrix, values), rtol=1e-6, atol=1e-9)


def test_nothing_is_allocated_once_the_matrices_are_loaded(device, small):
    accelerator = Accelerator(device)
    handle = accelerator.load(small)
    before = device.calls["allocate"]
    results = [accelerator.matmul(handle, np.full((2, 32), 0.5, np.float32)) for _ in range(3)]
    assert device.calls["allocate"] == before
    np.testing.assert_array_equal(results[0], results[2])


def test_results_survive_the_next_matmul(device, small):
    accelerator = Accelerator(device)
    handle = accelerator.load(small)
    first = accelerator.matmul(handle, np.ones((1, 32), np.float32))
    kept = first.copy()
    accelerator.matmul(handle, np.full((1, 32), -3.0, np.float32))
    np.testing.assert_array_equal(first, kept)


def test_counters_are_differences_that_wrap(device, small):
    for name in registers.COUNTERS:
        device.registers[name] = 0xFFFFFFFF
    accelerator = Accelerator(device)
    handle = accelerator.load(small, "down")
    accelerator.matmul(handle, np.ones((1, 32), np.float32))
    beats = handle.matrix.beats + handle.matrix.activation_beats(1) + commands.beats(TINY)
    spent = accelerator.tally["down"]
    assert spent.commands == 1
    assert spent.cycles == beats + 10
    assert spent.bytes_read == beats * 16
    assert spent.bytes_written == 64
    assert spent.stalls["stall_data"] == 10


def test_memory_needed_is_enough(small):
    rng = np.random.default_rng(5)
    weights = [small, random_weights(rng, 200, 64, 8, 64), random_weights(rng, 700, 32, 4, 32)]
    needed = memory_needed(TINY, weights)
    accelerator = Accelerator(FakeDevice(TINY, needed))
    for matrix in weights:
        accelerator.load(matrix)


def test_a_stranger_is_refused_with_both_digests(device):
    device.registers["digest_low"] ^= 1
    with pytest.raises(DeviceError) as caught:
        Accelerator(device)
    assert f"{digest(TINY):016x}" in str(caught.value)
    assert f"{digest(TINY) ^ 1:016x}" in str(caught.value)
    assert "regenerate" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"), [("magic", "no accelerator"), ("version", "map version")]
)
def test_something_else_is_refused(device, name, words):
    device.registers[name] += 1
    with pytest.raises(DeviceError, match=words):
        Accelerator(device)


def test_a_control_port_that_drops_bits_is_refused(device):
    device.scratch_mask = 0xFFFF
    with pytest.raises(DeviceError, match="scratch"):
        Accelerator(device)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"read": 1, "response": 2, "port": 3}, ("SLVERR", "read", "port 3", "0x1234567000")),
        ({"write": 1, "response": 3, "port": 0}, ("DECERR", "write", "port 0", "0x1234567000")),
        ({"descriptor": 1}, ("descriptor",)),
        ({"doorbell": 1}, ("doorbell",)),
        ({"range": 1}, ("range",)),
        ({"watchdog": 1}, ("nothing moved", "read data of port 2 are missing", "raise")),
        ({"answer": 1, "port": 1}, ("RLAST", "port 1", "0x1234567000", "interconnect")),
        ({"acknowledgement": 1}, ("write response", "port 0", "interconnect")),
    ],
)
def test_an_error_is_told_and_the_next_run_works(device, small, error, words):
    device.registers["waits"] = registers.encode("waits", data2=1)
    accelerator = Accelerator(device)
    handle = accelerator.load(small)
    activations = np.ones((1, 32), np.float32)
    good = accelerator.matmul(handle, activations)
    device.fail_next = registers.encode("error", **error)
    device.fail_address = 0x12_3456_7000
    with pytest.raises(DeviceError) as caught:
        accelerator.matmul(handle, activations)
    for word in words:
        assert word in str(caught.value)
    np.testing.assert_array_equal(accelerator.matmul(handle, activations), good)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("weights", BASE + (1 << 30), "weights"),
        ("weights", 0, "weights"),
        ("activations", BASE - 64, "activations"),
        ("results", BASE + (1 << 30), "results"),
        ("weight_beats", 1 << 20, "weight_beats"),
        ("activation_beats", 1 << 20, "activation_beats"),
        ("tiles", 1 << 10, "weight_beats"),
        ("tiles", 0, "tiles = 0 must lie in 1"),
        ("tokens", 3, "tokens"),
        ("opcode", 9, "opcode"),
    ],
)
def test_a_list_that_points_outside_is_not_started(device, small, field, value, words):
    accelerator = Accelerator(device)
    prepared = accelerator.prepare([(accelerator.load(small), 1)])
    overwrite(prepared, 0, {field: value})
    assert_refused(device, accelerator, prepared, words)


@pytest.mark.parametrize("step", [-1, 1])
@pytest.mark.parametrize("field", ["weight_beats", "activation_beats", "chunks", "result_beats"])
def test_counts_that_disagree_with_the_shape_are_not_started(device, small, field, step):
    """On the engine itself each of them would wait for beats that never come."""
    accelerator = Accelerator(device)
    prepared = accelerator.prepare([(accelerator.load(small), 1)])
    right = commands.unpack(prepared.commands[0].descriptor)[field]
    overwrite(prepared, 0, {field: right + step})
    assert_refused(device, accelerator, prepared, "must")


def test_results_over_weights_are_not_started(device, small):
    accelerator = Accelerator(device)
    handle = accelerator.load(small)
    prepared = accelerator.prepare([(handle, 1)])
    overwrite(prepared, 0, {"results": handle.weights.address})
    assert_refused(device, accelerator, prepared, "results")


def test_results_over_other_results_are_not_started(device, small):
    accelerator = Accelerator(device)
    handle = accelerator.load(small)
    prepared = accelerator.prepare([(handle, 1), (handle, 1)])
    overwrite(prepared, 1, {"results": prepared.commands[0].results.address})
    assert_refused(device, accelerator, prepared, "overlap")


def test_a_damaged_descriptor_is_not_started(device, small):
    accelerator = Accelerator(device)
    prepared = accelerator.prepare([(accelerator.load(small), 1)])
    prepared.buffer.array[20] ^= 1
    assert_refused(device, accelerator, prepared, "check sum")


def overwrite(prepared, index: int, changed: dict[str, int]) -> None:
    """Changes fields of a descriptor in the device's memory."""
    place = slice(index * commands.BYTES, (index + 1) * commands.BYTES)
    fields = commands.unpack(prepared.buffer.array[place].tobytes())
    fields = {name: fields[name] for name in fields if name not in ("magic", "check")} | changed
    prepared.buffer.array[place] = np.frombuffer(commands.pack(fields), np.uint8)


def assert_refused(device, accelerator, prepared, words: str) -> None:
    before = device.calls["doorbell"]
    with pytest.raises(DeviceError, match=words):
        accelerator.ring(prepared)
    assert device.calls["doorbell"] == before


def test_wrong_activations_are_refused(device, small):
    accelerator = Accelerator(device)
    handle = accelerator.load(small)
    with pytest.raises(InputError, match=r"\(1, 32\)"):
        accelerator.matmul(handle, np.ones((1, 33), np.float32))
    with pytest.raises(InputError, match="at least one token"):
        accelerator.matmul(handle, np.ones((0, 32), np.float32))
    with pytest.raises(ActivationError, match="finite"):
        accelerator.matmul(handle, np.full((1, 32), np.nan, np.float32))


def test_a_matrix_that_the_engine_cannot_hold_is_refused(device):
    weights = random_weights(np.random.default_rng(1), 16, 2048, 4, 32)
    with pytest.raises(LayoutError, match="max_k"):
        Accelerator(device).load(weights)


def test_short_memory_is_told():
    accelerator = Accelerator(FakeDevice(TINY, 128 << 10))
    with pytest.raises(DeviceError, match="bytes left"):
        accelerator.load(random_weights(np.random.default_rng(1), 1000, 1024, 4, 32))


def test_float_backend_multiplies_the_dequantised_weights():
    values = np.array([[0, 8, 15] + [8] * 29], np.uint8)
    weights = Quantised(4, 32, values, np.array([[0.5]], np.float16), np.array([[8]], np.uint8))
    linear = FloatBackend().load(weights, "qkv")
    activations = np.zeros((1, 32), np.float32)
    activations[0, :3] = (1, 2, 3)
    assert linear(activations)[0, 0] == 1 * -4 + 2 * 0 + 3 * 3.5


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_in_the_weights_is_found(device, seed):
    chance = np.random.default_rng(seed)
    driver = Accelerator(device)
    handles = [driver.load(random_weights(chance, 50, 256, bits, 64)) for bits in (4, 8)]
    for handle in handles:
        driver.verify(handle)
    where = int(chance.integers(len(handles[1].weights.array)))
    handles[1].weights.array[where] ^= 1 << int(chance.integers(8))
    driver.verify(handles[0])
    with pytest.raises(DeviceError, match="have changed since they were loaded, in 1 block"):
        driver.verify(handles[1])


def test_a_flipped_bit_is_located(monkeypatch):
    monkeypatch.setattr(checksum, "BLOCK", 100)
    array = np.arange(1000, dtype=np.uint8)
    wanted = checksum.checksums(array)
    assert (len(wanted), checksum.changed(array, wanted)) == (10, [])
    array[299] ^= 128
    array[900] ^= 1
    assert checksum.changed(array, wanted) == [200, 900]
