"""The transport ``pynq`` on a simulated board: through the real PYNQ where it is installed, else
through a double of it; a slow test installs the real one and runs this file there."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from host.device.driver import Accelerator
from host.transports import zynq
from host.transports.pynq import PynqDevice, open
from sim import golden_device
from spec.config import TINY, Config
from spec.errors import DeviceError, ToolError
from tests.host import pynq_double
from tests.host.fake_board import REGION, FakeBoard
from tests.host.tiny_model import random_quantised

ROOT = Path(__file__).parents[2]

try:
    import pynq

    REAL = pynq.__version__
except ImportError:
    pynq = pynq_double.module()
    REAL = ""

SYNC = types.ModuleType("pyxrt")
SYNC.xclBOSyncDirection = types.SimpleNamespace(  # type: ignore[attr-defined]
    XCL_BO_SYNC_BO_TO_DEVICE="to", XCL_BO_SYNC_BO_FROM_DEVICE="from"
)


class BufferObject:
    """XRT's ``bo``: synchronises parts of itself."""

    def __init__(self, device: SimulatedDevice) -> None:
        self.device = device

    def sync(self, direction: str, size: int, offset: int) -> None:
        self.device.copy(direction, offset, size)


class SimulatedDevice(pynq.Device):
    """A PYNQ device whose registers and memory are a simulated accelerator's."""

    def __init__(self, board: FakeBoard) -> None:
        super().__init__("simulated")
        self.capabilities = {"REGISTER_RW": True, "CALLABLE": False}
        self.name = "simulated"
        self.board = board
        self.memory = np.zeros(REGION, np.uint8)
        """The processor's view: what its caches hold."""
        self.copies: list[tuple[str, int, int]] = []
        self.downloads: list[str] = []
        self.cma = REGION
        self.refuses = ""

    def read_registers(self, address: int, length: int) -> bytes:
        return self.board.read(address - zynq.CONTROL_BASE).to_bytes(length, "little")

    def write_registers(self, address: int, data) -> None:
        value = int.from_bytes(bytes(data), "little")
        self.board.device.write_register(address - zynq.CONTROL_BASE, value)

    def allocate(self, shape, dtype, cacheable=0, **options):
        if shape[0] > self.cma:
            raise RuntimeError("BO allocation failed: Cannot allocate memory")
        buffer = pynq.buffer.PynqBuffer(
            shape=shape, dtype=dtype, buffer=self.memory, device=self, coherent=not cacheable,
            device_address=self.board.base, bo=BufferObject(self),
        )  # fmt: skip
        buffer.pointer = None
        return buffer

    def copy(self, direction: str, offset: int, size: int) -> None:
        self.copies.append((direction, offset, size))
        part = slice(offset, offset + size)
        if direction == "to":
            self.board.device.memory[part] = self.memory[part]
            self.board._tell(offset, size)
        else:
            self.memory[part] = self.board.device.memory[part]

    def flush(self, bo, offset, pointer, size) -> None:
        self.copy("to", offset, size)

    def invalidate(self, bo, offset, pointer, size) -> None:
        self.copy("from", offset, size)

    def download(self, bitstream, parser=None) -> None:
        if self.refuses:
            raise RuntimeError(self.refuses)
        self.downloads.append(bitstream.bitfile_name)
        self.board.poke(zynq.GPIO_DATA_5, zynq.RESET_RELEASED)

    def get_bitfile_metadata(self, bitfile_name, partial=False):
        empty = ("ip_dict", "gpio_dict", "interrupt_controllers", "interrupt_pins", "clock_dict",
                 "hierarchy_dict", "mem_dict")  # fmt: skip
        return types.SimpleNamespace(systemgraph=None, **{name: {} for name in empty})


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynq", pynq)
    monkeypatch.setitem(sys.modules, "pyxrt", SYNC)


@pytest.fixture
def board(tmp_path) -> FakeBoard:
    from host.device.software import BASE_ADDRESS

    return FakeBoard(tmp_path, TINY, golden_device.open(TINY, REGION), BASE_ADDRESS)


@pytest.fixture
def target(board) -> SimulatedDevice:
    return SimulatedDevice(board)


@pytest.fixture
def bitstream(tmp_path) -> Path:
    path = tmp_path / "design.bit"
    path.write_bytes(b"bits")
    return path


def opened(target, bitstream, **options) -> PynqDevice:
    return PynqDevice(
        TINY, REGION, bitstream=bitstream, machine=target.board, target=target, **options
    )


def test_a_matmul_through_pynq_is_the_golden_one(board, target, bitstream):
    weights = random_quantised(5, 40, 256)
    values = np.random.default_rng(6).normal(size=(2, 256)).astype(np.float32)
    results = []
    for device in (opened(target, bitstream), golden_device.open(TINY, REGION)):
        accelerator = Accelerator(device)
        results.append(accelerator.matmul(accelerator.load(weights), values))
    assert np.array_equal(*results)
    assert {direction for direction, _, _ in target.copies} == {"to", "from"}
    assert target.downloads == [str(bitstream)]


def test_the_rtl_stands_behind_pynq_too(tmp_path, bitstream):
    from sim import device as rtl

    device = rtl.open(TINY, REGION)
    target = SimulatedDevice(FakeBoard(tmp_path / "rtl", TINY, device, rtl.MEMORY_BASE))
    target.board._tell = lambda offset, size: None
    accelerator = Accelerator(opened(target, bitstream))
    weights = random_quantised(7, 16, 128)
    values = np.random.default_rng(8).normal(size=(1, 128)).astype(np.float32)
    golden = Accelerator(golden_device.open(TINY, REGION))
    wanted = golden.matmul(golden.load(weights), values)
    assert np.array_equal(accelerator.matmul(accelerator.load(weights), values), wanted)


def test_a_buffer_is_synchronised_alone(target, bitstream):
    """PYNQ's own flush would write back everything that was allocated."""
    device = opened(target, bitstream)
    device.allocate(10_000)
    device.flush(device.allocate(100))
    assert target.copies[-1] == ("to", 12288, 100)


def test_without_xrts_module_pynqs_own_flush_serves(target, bitstream, monkeypatch):
    device = opened(target, bitstream)
    monkeypatch.setitem(sys.modules, "pyxrt", None)
    device.allocate(4096)
    device.flush(device.allocate(100))
    device.invalidate(device.allocate(100))
    assert [copy[0] for copy in target.copies[-2:]] == ["to", "from"]
    assert target.copies[-2][1:] == (4096, 100)


def test_memory_is_cacheable_and_taken_once(target, bitstream):
    device = opened(target, bitstream)
    assert device._buffer.coherent is False
    assert device.allocate(100).address % 4096 == 0


def test_a_hand_off_file_makes_it_an_overlay(target, bitstream):
    bitstream.with_suffix(".hwh").write_text("<hwh/>")
    device = opened(target, bitstream)
    assert type(device._overlay).__name__ == "Overlay"
    assert target.downloads == [str(bitstream)]


def test_the_overlay_beside_it_stays_xmutils(target, bitstream):
    """PYNQ would insert it, and the kernel load the firmware a second time."""
    bitstream.with_suffix(".hwh").write_text("<hwh/>")
    bitstream.with_suffix(".dtbo").write_bytes(b"overlay")
    target.insert_device_tree = None
    device = opened(target, bitstream)
    loaded = Path(target.downloads[0])
    assert loaded.name == bitstream.name and loaded.read_bytes() == bitstream.read_bytes()
    assert not loaded.with_suffix(".dtbo").exists() and loaded.with_suffix(".hwh").exists()
    assert device._overlay is not None


def test_loaded_firmware_is_left_alone(target, tmp_path):
    opened(target, tmp_path / "nowhere.bit", load=False)
    assert target.downloads == []


def test_widths_are_set_where_pynq_has_not(board, target, bitstream):
    board.poke(zynq.AFIFM[0], 0xFA2)
    device = opened(target, bitstream)
    assert device.system.read(zynq.AFIFM[0]) == 0xFA0


@pytest.mark.parametrize(
    ("break_it", "kind", "words"),
    [
        (lambda t: setattr(t.board, "clock_mhz", 99.999), DeviceError, "not at the configuration"),
        (lambda t: setattr(t, "cma", 4096), DeviceError, "contiguous bytes cannot be had.*cma="),
        (lambda t: setattr(t, "refuses", "busy"), DeviceError, r"not loaded \(busy\).*unloadapp"),
        (lambda t: t.board.poke(zynq.PL0_REF_CTRL, 0), DeviceError, "pl_clk0 is switched off"),
        (lambda t: setattr(t.board, "base", 0xC000_0000), DeviceError, "DECERR"),
    ],
)
def test_a_trap_ends_in_its_sentence(target, bitstream, break_it, kind, words):
    break_it(target)
    with pytest.raises(kind, match=words):
        opened(target, bitstream)


def test_reset_held_after_loading(target, bitstream):
    target.download = lambda bitstream, parser=None: target.board.poke(zynq.GPIO_DATA_5, 0)
    with pytest.raises(DeviceError, match="pl_resetn0 is held low"):
        opened(target, bitstream)


def test_a_strangers_digest_is_refused(tmp_path, bitstream):
    from host.device.software import BASE_ADDRESS

    other = Config(name="other", ports=1, tokens=4)
    device = golden_device.open(other, REGION)
    target = SimulatedDevice(FakeBoard(tmp_path / "other", TINY, device, BASE_ADDRESS))
    with pytest.raises(DeviceError, match=r"digest .* but configuration 'tiny' has"):
        Accelerator(opened(target, bitstream))


def test_a_missing_bitstream_says_how_to_install_it(target, tmp_path):
    with pytest.raises(ToolError, match=r"no bitstream .*kria-llm firmware install"):
        opened(target, tmp_path / "nowhere.bit")


def test_no_pynq_says_how_to_install_it(board, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynq", None)
    with pytest.raises(ToolError, match=r"pip install 'kria-llm\[board\]', or use --device uio"):
        PynqDevice(TINY, REGION, machine=board)


def test_an_unknown_option_is_refused():
    with pytest.raises(ToolError, match="no option 'memory'"):
        open(TINY, REGION, memory="ideal")


@pytest.mark.slow
def test_the_real_pynq_gives_the_same(tmp_path):
    """Installs PYNQ 3.1.2 in an environment of its own and runs this file with it."""
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet"]
    needs = ["numpy<2", "pycparser<3", "setuptools<81", "wheel", "cffi", "pydantic", "pynqutils"]
    ours = ["tokenizers", "gguf", "jinja2", "huggingface_hub", "typer", "rich"]
    tests = ["pytest", "amaranth[builtin-yosys]~=0.5.10"]
    subprocess.run([*install, *needs, *ours, *tests], check=True)
    subprocess.run([*install, "--no-deps", "--no-build-isolation", "pynq==3.1.2"], check=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(
        [python, "-c", "import pynq; print(pynq.__version__)"], env=environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.split()[-1] == "3.1.2"
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__], cwd=ROOT,
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
