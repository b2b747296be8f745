"""Registers, errors, counters and memory of the devices that are programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from host.device import cpu
from host.device.software import SoftwareDevice
from host.device.transport import Buffer
from sim import golden_device
from spec import commands, registers
from spec.config import KV260, TINY
from spec.digest import digest
from spec.errors import DeviceError
from tests.host.matmul_case import MEMORY, Run, read, results, small_case, write


@pytest.fixture(params=["cpu", "golden"])
def device(request) -> Iterator[SoftwareDevice]:
    opened = {"cpu": cpu.open, "golden": golden_device.open}[request.param](TINY, MEMORY)
    assert opened.name == request.param
    yield opened
    opened.close()


def test_identity(device):
    assert read(device, "magic") == registers.MAGIC
    assert read(device, "version") == registers.VERSION
    assert read(device, "digest_high") << 32 | read(device, "digest_low") == digest(TINY)
    for name in ("status", "error", "completed", "doorbell", "control"):
        assert read(device, name) == 0


def test_registers_keep_and_ignore_as_declared(device):
    for register in registers.REGISTERS:
        if register.name in ("doorbell", "control"):
            continue
        before = read(device, register.name)
        write(device, register.name, 0xFFFF_FFFF)
        kept = {"list_address_high": 0xFF}.get(register.name, 0xFFFF_FFFF)
        assert read(device, register.name) == (kept if register.access == "rw" else before)
    write(device, "control", registers.encode("control", clear=1, irq_enable=1))
    assert registers.decode("control", read(device, "control")) == registers.decode(
        "control", registers.encode("control", irq_enable=1)
    )
    last = registers.WINDOW_BYTES - 4
    for offset in (4, len(registers.REGISTERS) * registers.STRIDE, last):
        device.write_register(offset, 5)
        assert device.read_register(offset) == 0
    with pytest.raises(DeviceError, match="control window has 0x10000 bytes, got offset 0x10000"):
        device.read_register(registers.WINDOW_BYTES)


def test_memory_runs_out_in_a_sentence(device):
    device.allocate(MEMORY - 4096)
    device.allocate(1)
    with pytest.raises(DeviceError, match=r"cannot allocate 1 bytes: 0 of 4194304 are free"):
        device.allocate(1)


@pytest.mark.parametrize("size", [0, -1, 1 << 60])
def test_impossible_memory_is_refused(size):
    with pytest.raises(DeviceError, match=f"bytes.* got {size}"):
        golden_device.open(TINY, size)


def test_wait_gives_up_in_time(device):
    run = Run(device, small_case())
    ring_bytes(device, commands.pack(run.fields) * 2, 2)
    with pytest.raises(DeviceError, match="did not end its list in -1 s: 2 commands are left"):
        device.wait(-1)
    device.wait(60)
    assert read(device, "completed") == 2


@pytest.mark.parametrize("factory", [cpu.open, golden_device.open])
def test_result_out_of_range_is_held(factory):
    case = small_case()
    tiny = np.full_like(case.weights.scales.view(np.uint16), 0x0400).view(np.float16)
    weights = dataclasses.replace(case.weights, scales=tiny)
    activations = (np.int8([-128]), np.full((1, 2), 15, np.uint8), np.full((1, 128), 99, np.int8))
    case = dataclasses.replace(case, weights=weights, activations=activations)
    run = Run(factory(case.config, MEMORY), case)
    assert run.ring()["range"] == 1
    assert registers.decode("status", read(run.device, "status"))["error"] == 1
    assert read(run.device, "completed") == 1


def test_counters_are_the_commands(device):
    run = Run(device, small_case())
    for expected in (1, 2):
        run.ring()
        read_beats = commands.beats(TINY) + run.fields["activation_beats"] + run.matrix.beats
        assert read(device, "completed") == expected
        assert read(device, "beats_port0") == expected * read_beats
        assert read(device, "beats_port1") == 0
        written = run.matrix.result_bytes(1, "fp32") // TINY.port_bytes
        assert read(device, "beats_written") == expected * written


@pytest.mark.parametrize("config", [TINY, KV260], ids=lambda config: config.name)
@pytest.mark.parametrize("region", ["weights", "activations", "results"])
def test_address_outside_memory_ends_the_list(config, region):
    run = Run(cpu.open(config, MEMORY), small_case(config))
    good = dict(run.fields)
    run.fields = {**good, region: 0x7_0000_0000}
    error = run.ring()
    assert (error["read"], error["write"]) == (int(region != "results"), int(region == "results"))
    assert error["response"] == 3
    assert read(run.device, "error_address_high") == 7
    assert read(run.device, "completed") == 0
    assert read(run.device, "status") == registers.encode("status", error=1)
    write(run.device, "control", registers.encode("control", clear=1))
    run.fields = good
    assert not any(run.ring().values())
    assert np.array_equal(run.results.array, results(cpu.open, run.case))


def test_region_across_the_end_fails_where_memory_ends():
    run = Run(cpu.open(KV260, MEMORY), small_case(KV260))
    end = run.device.allocate(4096).address // 4096 * 4096
    while end < 0x1000_0000 + MEMORY:  # the last page of the memory
        end += 4096
    run.fields = {**run.fields, "results": end - 64}
    run.device.write_register(registers.OFFSETS["control"], 1)
    assert run.ring()["write"] == 1
    assert read(run.device, "error_address_low") == end


def test_first_error_keeps_its_address(device):
    run = Run(device, small_case())
    good = dict(run.fields)
    run.fields = {**good, "weights": 0x1_0000_0000}
    run.ring()
    run.fields = {**good, "results": 0x2_0000_0000}
    error = run.ring()
    assert (error["read"], error["write"]) == (1, 1)
    assert read(device, "error_address_high") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"opcode": 2}, {"group": 3}, {"group": 0}, {"tokens": 0}, {"tokens": 17}, {"chunks": 0},
        {"chunks": 60000}, {"tiles": 0}, {"weight_beats": 7}, {"activation_beats": 3},
        {"result_beats": 1},
    ],
    ids=str,
)  # fmt: skip
def test_descriptor_that_makes_no_sense_is_refused(change):
    config = dataclasses.replace(KV260, tokens=2)
    run = Run(cpu.open(config, MEMORY), small_case(config))
    run.fields = {**run.fields, **change}
    assert run.ring()["descriptor"] == 1
    assert read(run.device, "completed") == 0
    assert (run.results.array == 0xEE).all()


def ring_bytes(device: SoftwareDevice, data: bytes, count: int) -> None:
    listed = device.allocate(len(data))
    listed.array[:] = np.frombuffer(data, np.uint8)
    write(device, "list_address_low", listed.address)
    write(device, "doorbell", count)


def test_list_stops_at_a_broken_descriptor(device):
    run = Run(device, small_case())
    whole = commands.pack(run.fields)
    ring_bytes(device, whole + bytes([whole[0] ^ 1]) + whole[1:] + whole, 3)
    device.wait(60)
    assert registers.decode("error", read(device, "error"))["descriptor"] == 1
    assert read(device, "completed") == 1


def test_doorbell_during_a_list_is_ignored_and_held(device):
    run = Run(device, small_case())
    ring_bytes(device, commands.pack(run.fields) * 3, 3)
    write(device, "doorbell", 3)
    polls = 0
    while registers.decode("status", read(device, "status"))["busy"]:
        polls += 1
    assert polls == 3
    assert read(device, "completed") == 3
    assert registers.decode("error", read(device, "error"))["doorbell"] == 1


def test_buffers_share_memory_and_are_aligned(device):
    first, second = device.allocate(1), device.allocate(5000)
    assert isinstance(first, Buffer)
    assert first.address % 4096 == second.address % 4096 == 0
    assert second.address == first.address + 4096
    assert second.array.ctypes.data == first.array.ctypes.data + 4096
    assert not second.array.any()
