"""Self-test and cross-check: they pass on devices that are right and fail on a wrong bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from host.board import selftest
from host.device import cpu
from host.device.crosscheck import CheckedAccelerator, CheckError
from host.device.driver import Accelerator
from host.device.software import BASE_ADDRESS
from host.device.transport import open_device
from host.session import Session
from host.transports.uio import UioDevice
from sim import golden_device
from spec import registers
from spec.config import KV260, TINY, Config
from spec.errors import DeviceError, MismatchError
from tests.host.fake_board import FakeBoard
from tests.host.tiny_model import random_model, random_quantised, shape

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("device", "config"),
    [("cpu", KV260), ("cpu", Config(name="coarse", group=128, tokens=1)), ("golden", TINY),
     ("rtl", TINY)],
)  # fmt: skip
def test_a_right_device_passes(device, config):
    accelerator = Accelerator(open_device(device, config, selftest.memory(config)))
    seen = []
    results = selftest.run(accelerator, progress=lambda step, done, total: seen.append(step))
    assert tuple(result.step for result in results) == selftest.STEPS == tuple(seen)


@pytest.mark.parametrize("short", [True, False])
def test_its_memory_is_enough(short):
    for config in (TINY, KV260, Config(ports=2, tokens=16, tile_rows=256)):
        steps = selftest.SHORT if short else selftest.STEPS
        device = cpu.open(config, selftest.memory(config, short))
        assert len(selftest.run(Accelerator(device), steps)) == len(steps)


class Wrong(cpu.CpuDevice):
    """Computes a bit of each command from one on wrongly, or keeps registers badly."""

    def __init__(self, config: Config, command: int | None = None, broken: str = "") -> None:
        super().__init__(config, selftest.memory(config))
        self._wrong_from, self._done, self._broken = command, 0, broken

    prepare_list = None  # nothing goes past execute

    def prepare(self, fields):
        command = super().prepare(fields)
        command.place = fields["results"]
        return command

    def execute(self, command):
        right = super().execute(command)
        if self._wrong_from is not None and self._done >= self._wrong_from:
            self.memory[command.place + 2 - BASE_ADDRESS] ^= 0x40
        self._done += 1
        return right

    def read_register(self, offset):
        value = super().read_register(offset)
        return value | 4 if offset == registers.OFFSETS.get(self._broken) else value


@pytest.mark.parametrize(
    ("command", "words"),
    [(0, "the loopback differs in 1 of"), (1, "the tile differs"), (2, "the layer's qkv differs"),
     (5, "the layer's down differs"), (6, "the token's logits differs")],
)  # fmt: skip
def test_the_first_wrong_bit_is_found(command, words):
    with pytest.raises(MismatchError, match=words):
        selftest.run(Accelerator(Wrong(TINY, command)))


def test_a_scratch_register_that_does_not_keep_is_found():
    device = Wrong(TINY)
    accelerator = Accelerator(device)
    device._broken = "scratch"
    with pytest.raises(MismatchError, match="the scratch register reads 0xaaaaaaae"):
        selftest.run(accelerator)


def test_a_constant_that_is_wrong_is_found():
    device = Wrong(TINY)
    accelerator = Accelerator(device)
    device._broken = "version"
    with pytest.raises(MismatchError, match="register version reads"):
        selftest.run(accelerator)


# Cross-check


@pytest.mark.parametrize("device", ["cpu", "golden", "rtl"])
def test_one_in_n_is_checked(device):
    checked = CheckedAccelerator(open_device(device, TINY, 1 << 18), every=3)
    handle = checked.load(random_quantised(1, 20, 128))
    values = np.random.default_rng(2).normal(size=(1, 128)).astype(np.float32)
    plain = Accelerator(cpu.open(TINY, 1 << 18))
    expected = plain.matmul(plain.load(random_quantised(1, 20, 128)), values)
    for _ in range(10):
        assert np.array_equal(checked.matmul(handle, values), expected)
    assert checked.checked == 3
    assert len(checked.matmul(handle, values, top_k=4).rows[0]) == 4


def test_top_k_is_checked_too():
    checked = CheckedAccelerator(open_device("golden", TINY, 1 << 18), every=1)
    handle = checked.load(random_quantised(1, 20, 128))
    values = np.random.default_rng(2).normal(size=(2, 128)).astype(np.float32)
    checked.matmul(handle, values, top_k=6)
    assert checked.checked == 1


def test_a_wrong_matmul_is_found_when_its_turn_comes():
    device = Wrong(TINY, command=4)
    checked = CheckedAccelerator(device, every=5)
    handle = checked.load(random_quantised(1, 20, 128), "down")
    values = np.ones((1, 128), np.float32)
    for _ in range(4):
        checked.matmul(handle, values)
    with pytest.raises(MismatchError, match=r"matmul 5 \(down, 1 tokens\) of device cpu differs"):
        checked.matmul(handle, values)


def test_through_files_it_compares_what_the_device_wrote(tmp_path):
    board = FakeBoard(tmp_path, TINY, golden_device.open(TINY, 1 << 20), BASE_ADDRESS)
    checked = CheckedAccelerator(UioDevice(TINY, 1 << 20, machine=board), every=1)
    values = np.ones((1, 128), np.float32)
    handle = checked.load(random_quantised(3, 16, 128))
    checked.matmul(handle, values)
    assert checked.checked == 1


def test_never_is_refused():
    with pytest.raises(CheckError, match="at least 1, got 0"):
        CheckedAccelerator(cpu.open(TINY, 1 << 18), every=0)


def test_a_session_checks_itself():
    session = Session.open(random_model(4, shape()), "golden", TINY, 32, check_every=2)
    assert isinstance(session.accelerator, CheckedAccelerator)
    session.transformer.forward([1, 2, 3])
    assert session.accelerator.checked > 3


def test_a_board_is_tested_when_a_model_is_loaded(tmp_path, monkeypatch):
    """The short form, before a matrix is packed; a wrong device gets no model."""
    board = FakeBoard(tmp_path, TINY, golden_device.open(TINY, 1 << 20), BASE_ADDRESS)
    model = random_model(4, shape())
    session = Session.open(model, "uio", TINY, 32, machine=board)
    assert session.accelerator.tally == {}
    expected = Session.open(model, "cpu", TINY, 32).transformer.forward([1, 2, 3])
    assert np.array_equal(session.transformer.forward([1, 2, 3]), expected)
    session.close()
    steps = []
    monkeypatch.setattr(selftest, "run", lambda device, chosen: steps.append(chosen))
    Session.open(model, "uio", TINY, 32, machine=board).close()
    assert steps == [selftest.SHORT]


def test_a_board_that_computes_wrongly_gets_no_model(tmp_path):
    board = FakeBoard(tmp_path, TINY, golden_device.open(TINY, 1 << 20), BASE_ADDRESS)
    right = board._synchronise

    def wrong(attribute, offset, size):
        if attribute == "sync_for_cpu":
            board.device.memory[offset] ^= 0x80
        right(attribute, offset, size)

    board._synchronise = wrong
    with pytest.raises((MismatchError, DeviceError), match="selftest: the loopback differs"):
        Session.open(random_model(4, shape()), "uio", TINY, 32, machine=board)


# The command


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "host.cli", *arguments], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}, timeout=120,
    )  # fmt: skip


def test_the_command_tells_each_step():
    done = run("selftest", "--device", "golden", "--config", "tiny", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [step["step"] for step in told["passed"]] == list(selftest.STEPS)
    short = run("selftest", "--config", "tiny", "--short")
    assert [line.split()[0] for line in short.stdout.splitlines()] == list(selftest.SHORT)


def test_the_command_off_the_board_is_one_sentence():
    done = run("selftest", "--device", "uio")
    assert done.returncode == 4
    assert done.stderr.strip().splitlines()[-1].startswith("error: device uio: the FPGA manager")
