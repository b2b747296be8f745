"""The compiled runner: whole passes without Python, equal to Python's way, and what stops it."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from host.device import cpu
from host.device.crosscheck import CheckedAccelerator
from host.device.driver import Accelerator, memory_needed
from host.device.software import BASE_ADDRESS
from host.forward.linear import AcceleratorBackend
from host.forward.model import Transformer, matrices
from host.forward.program import Program
from host.forward.schedule import SHIFT, events
from host.forward.two_step import two_step
from host.kernels import runner
from host.layout.blockfloat import ActivationError
from host.transports.uio import UioDevice
from sim import device as rtl
from sim import golden_device
from spec import commands
from spec.config import TINY
from spec.errors import DeviceError
from tests.host import fake_board, replay
from tests.host.tiny_model import random_model, shape

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
MODEL = random_model(7, shape("qwen2", context=32))


@pytest.fixture
def board(tmp_path, monkeypatch) -> fake_board.FakeBoard:
    """A board of files with the golden model behind it: not coherent, registers by functions."""
    size = -(-memory_needed(TINY, (one for _, one in matrices(MODEL))) // 4096) * 4096
    monkeypatch.setattr(fake_board, "REGION", size)
    return fake_board.FakeBoard(tmp_path, TINY, golden_device.open(TINY, size), BASE_ADDRESS)


def transport(name: str, board: fake_board.FakeBoard):
    if name == "uio":
        return UioDevice(TINY, fake_board.REGION, machine=board)
    opened = {"cpu": cpu.open, "golden": golden_device.open, "rtl": rtl.open}[name]
    return opened(TINY, fake_board.REGION)


def opened(device, accelerator=Accelerator, model=MODEL, **options) -> Transformer:
    backend = AcceleratorBackend(accelerator(device), fine=model.fine, **options)
    return Transformer(model, backend, 32, threads=1)


def logits(model: Transformer, likeliest: int | None = None) -> list[np.ndarray]:
    """Of the prompt's end, three decoded tokens, and five at a time."""
    found = [model.forward(PROMPT, likeliest=likeliest)]
    found += [model.forward([token], likeliest=likeliest) for token in (7, 8, 9)]
    return [*found, model.forward([2, 7, 1, 8, 2], all_logits=True, likeliest=likeliest)]


def assert_equal(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(ours, theirs)


def slow_way() -> list[np.ndarray]:
    """By Python alone, one pass at a time."""
    model = opened(cpu.open(TINY, 4 << 20), lambda one: CheckedAccelerator(one, 10**9))
    model._lanes.count = 1
    found = logits(model)
    assert model._launcher.launches["compiled"] == 0
    return found


@pytest.mark.parametrize(
    "name", ["cpu", "golden", "uio", pytest.param("rtl", marks=pytest.mark.slow)]
)
def test_equal_to_one_pass_at_a_time_in_python(board, name):
    """Logits, counters and commands, with two passes under way at a time."""
    model = opened(transport(name, board))
    assert_equal(logits(model), slow_way())
    launcher = model._launcher
    by = "compiled" if name in ("cpu", "uio") else "python"
    assert launcher.launches[by] > 0 and sum(launcher.launches.values()) == launcher.launches[by]
    plain = opened(golden_device.open(TINY, 4 << 20), lambda one: CheckedAccelerator(one, 10**9))
    logits(plain)
    assert launcher.ran == plain._launcher.ran
    for operation, spent in plain._launcher.tally.items():
        ours = launcher.tally[operation]
        assert (ours.commands, ours.bytes_read) == (spent.commands, spent.bytes_read)
        if name != "rtl":
            assert ours == spent


@pytest.mark.parametrize("name", ["cpu", "golden", "uio"])
def test_a_head_in_two_steps(board, name):
    model = two_step(MODEL)
    found = logits(opened(transport(name, board), model=model), 1)
    plain = opened(cpu.open(TINY, 4 << 20), lambda one: CheckedAccelerator(one, 10**9), model)
    head = plain._head
    plain.forward(PROMPT, likeliest=1)
    expected = head.likeliest(plain._lanes.normed[:1], 1)
    assert np.array_equal(found[0], expected)
    assert np.isfinite(found[0]).sum() == head.top_k == np.isfinite(found[-1][2]).sum()
    assert_equal(found, logits(opened(golden_device.open(TINY, 4 << 20), model=model), 1))


def test_a_token_is_one_call_from_python(board, monkeypatch):
    model = opened(transport("uio", board))
    model.forward(PROMPT)
    model.forward([1])
    program = model._programs["both", 1, True]
    calls = itertools.count()
    kept = program._run

    def counted(*arguments):
        next(calls)
        return kept(*arguments)

    monkeypatch.setattr(program, "_run", counted)
    model.forward([2])
    assert next(calls) == 1


def test_a_list_that_takes_long_is_waited_for_in_python(board):
    model = opened(transport("uio", board))
    waits = itertools.count()
    device, wait = model._launcher.transport, model._launcher.transport.wait
    device.wait = lambda timeout: (next(waits), wait(timeout))
    model._launcher.port.patience = -1
    assert_equal(logits(model), slow_way())
    assert next(waits) > 0
    assert model._launcher.ran == {
        (key, "fabric"): n for (key, _), n in model._launcher.ran.items()
    }


@pytest.mark.parametrize("name", ["cpu", "uio"])
def test_a_changed_descriptor_is_not_started(board, name):
    model = opened(transport(name, board))
    model.forward(PROMPT)
    page = model._lanes._matmuls[0][2][0].by_hand.__self__._lists[0].buffer.array
    kept, model_length = page.copy(), model.cache.length
    page[8] ^= 1
    with pytest.raises(DeviceError, match="command 0 of a list was not started"):
        model.forward([1])
    page[:] = kept
    assert model.cache.length == model_length
    assert np.array_equal(model.forward([7]), slow_way()[1])


def test_an_error_of_the_device_is_told_and_the_next_pass_works(board):
    model = opened(transport("uio", board))
    model.forward(PROMPT)
    lists = model._lanes._matmuls[0][2][0].by_hand.__self__._lists
    place = lists[0].buffer.address - BASE_ADDRESS
    held = board.device.memory[place : place + commands.BYTES].copy()
    board.device.memory[place : place + commands.BYTES] = 0
    with pytest.raises(DeviceError, match="refused a command descriptor"):
        model.forward([1])
    board.device.memory[place : place + commands.BYTES] = held
    assert np.array_equal(model.forward([7]), slow_way()[1])


@pytest.mark.parametrize("where", range(0, 60, 7))
def test_ctrl_c_ends_a_pass_and_leaves_the_device_ready(board, where):
    """Wherever it comes: in the runner's calls, or in Python between them."""
    model = opened(transport("uio", board))
    model.forward(PROMPT)
    device, count = model._launcher.transport, itertools.count()
    read = type(board).read

    def interrupted(self, name):
        if not isinstance(name, str) and next(count) == where:
            os.kill(os.getpid(), signal.SIGINT)
        return read(self, name)

    type(board).read = interrupted
    try:
        with pytest.raises(KeyboardInterrupt):
            model.forward([1, 2, 3, 4])
            model.forward([1, 2, 3, 4])
    finally:
        type(board).read = read
    model.cache.truncate(len(PROMPT))
    assert not model._launcher.port.running
    assert np.array_equal(model.forward([7]), slow_way()[1])
    assert device is model._launcher.transport


@pytest.mark.parametrize("name", ["cpu", "golden", "uio"])
def test_an_activation_that_is_not_finite(board, name):
    """In the second of two passes, while the first one's list runs."""
    model = random_model(7, shape("qwen2", context=32))
    model = dataclasses.replace(model, embedding=np.array(model.embedding))
    ours = opened(transport(name, board), model=model)
    expected = ours.forward(PROMPT[:2])
    ours.reset()
    model.embedding[5, 3] = np.inf
    with pytest.raises(ActivationError, match=r"activation \[0, \d+\]"):
        ours.forward([1, 2, 5])
    ours.reset()
    assert np.array_equal(ours.forward(PROMPT[:2]), expected)


def test_a_closed_device_is_refused(board):
    model = opened(transport("uio", board))
    model._launcher.close()
    with pytest.raises(DeviceError, match="closed"):
        model.forward([1])


@pytest.mark.parametrize("name", ["cpu", "golden", "uio"])
def test_a_result_out_of_range_is_told(board, name):
    """The runner leaves it to the device's own way, which keeps it as an error."""
    model = opened(transport(name, board))
    model.forward(PROMPT)
    start, finish = model._lanes._matmuls[0][1]
    lane = start.by_hand.__self__
    lane._lists[0].commands[0].activations.array[: TINY.beat_bytes] = 127  # the tokens' exponents
    program = Program([start, finish], model._launcher)
    program.set(0, 1)
    with pytest.raises(DeviceError, match="left the range of fp32"):
        program()
    assert np.array_equal(model.forward([7]), slow_way()[1])


@pytest.mark.parametrize("shift", [0, 1, SHIFT, 3])
@pytest.mark.parametrize("matmuls", [4, 8, 96])
def test_two_passes_take_turns(matmuls, shift):
    """Every kernel behind what it reads, one list at a time, the second pass never ahead."""
    done: set[tuple[int, int]] = set()
    running, kernels = None, set()
    for what, lane, matmul in events(matmuls, 2, shift):
        if what == "kernel":
            assert matmul == 0 or (lane, matmul - 1) in done
            assert lane == 0 or (0, matmul) in kernels
            kernels.add((lane, matmul))
        elif what == "start":
            assert running is None and (lane, matmul) in kernels
            running = lane, matmul
        else:
            assert running == (lane, matmul)
            done.add((lane, matmul))
            running = None
    assert running is None and len(done) == 2 * matmuls


def test_one_pass_is_one_after_the_other():
    assert [event.what for event in events(2, 1)] == ["kernel", "start", "finish"] * 2


CASE = Path(__file__).with_name("runner_case.c")


@pytest.mark.parametrize("processor", ["this", "aarch64"])
def test_mapped_registers_and_the_caches_instructions(tmp_path, processor):
    """Without Python: every word that is written, wrapped counters, errors, patience."""
    compiler, emulator = {
        "this": (["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"], []),
        "aarch64": ([replay.COMPILER, *replay.FLAGS], [replay.EMULATOR, "-cpu", "cortex-a53"]),
    }[processor]  # fmt: skip
    program = str(tmp_path / "case")
    sources = [str(replay.KERNELS / "runner.c"), str(CASE)]
    alone = ["-static", "-Wl,--unresolved-symbols=ignore-all"]  # no kernel is called
    command = [*compiler, f"-I{replay.KERNELS}", *alone, *sources, "-o", program]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, f"{built.stderr}\n{replay.REMEDY}"
    done = subprocess.run([*emulator, program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("", 0)


def test_structures_are_those_of_the_header(tmp_path):
    """Sizes as the C compiler has them."""
    names = {
        "step": runner.Step, "lane": runner.Lane, "gathering": runner.Gathering,
        "quantising": runner.Quantising, "rescoring": runner.Rescoring, "span": runner.Span,
        "launch": runner.Launch, "meter": runner.Meter, "port": runner.Port,
        "runner": runner.Runner,
    }  # fmt: skip
    source = tmp_path / "sizes.c"
    prints = "".join(f'printf("%zu\\n", sizeof(struct {name}));' for name in names)
    source.write_text(f'#include <stdio.h>\n#include "runner.h"\nint main(void){{{prints}}}')
    folder = Path(runner.__file__).parent
    program = tmp_path / "sizes"
    subprocess.run(["gcc", f"-I{folder}", "-o", str(program), str(source)], check=True)
    found = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    assert [int(line) for line in found.split()] == [ctypes.sizeof(one) for one in names.values()]
