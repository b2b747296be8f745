"""The transport ``uio`` on a board made of files, with the golden model and the RTL behind it."""

from __future__ import annotations

import os

import numpy as np
import pytest

from host.device.driver import Accelerator
from host.transports import zynq
from host.transports.board import measure_clock
from host.transports.machine import AccessError, Window
from host.transports.uio import UioDevice, open
from sim import device as rtl
from sim import golden_device
from spec import registers
from spec.config import KV260, TINY, Config
from spec.errors import DeviceError, ToolError
from tests.host.fake_board import REGION, FakeBoard
from tests.host.tiny_model import random_quantised


def golden_board(tmp_path, config: Config = TINY) -> FakeBoard:
    from host.device.software import BASE_ADDRESS

    return FakeBoard(tmp_path, config, golden_device.open(config, REGION), BASE_ADDRESS)


def rtl_board(tmp_path, config: Config = TINY) -> FakeBoard:
    return FakeBoard(tmp_path, config, rtl.open(config, REGION), rtl.MEMORY_BASE)


@pytest.fixture
def board(tmp_path) -> FakeBoard:
    return golden_board(tmp_path)


@pytest.mark.parametrize("make", [golden_board, rtl_board])
def test_a_matmul_through_files_is_the_cpu_kernels(tmp_path, make):
    """Registers, memory map and cache synchronisation, all through the driver."""
    from host.device import cpu

    weights = random_quantised(5, 40, 256)
    values = np.random.default_rng(6).normal(size=(2, 256)).astype(np.float32)
    results = []
    board = make(tmp_path)
    for device in (UioDevice(TINY, REGION, machine=board), cpu.open(TINY, REGION)):
        accelerator = Accelerator(device)
        results.append(accelerator.matmul(accelerator.load(weights), values))
        accelerator.close()
    assert np.array_equal(*results)
    assert {attribute for attribute, _, _ in board.synced} == {"sync_for_device", "sync_for_cpu"}


def test_without_synchronisation_the_device_sees_nothing(board):
    """The simulated memory is not coherent: the test above can fail."""
    device = UioDevice(TINY, REGION, machine=board)
    buffer = device.allocate(64)
    buffer.array[:] = 7
    assert not board.device.memory[:64].any()
    device.flush(buffer)
    assert (board.device.memory[:64] == 7).all()
    board.device.memory[:64] = 9
    assert (buffer.array == 7).all()
    device.invalidate(buffer)
    assert (buffer.array == 9).all()


@pytest.mark.parametrize("value", [0x0101_0F02, 0x0103_0500, 0x010F_0102])
def test_another_way_to_100_mhz_is_left_alone(board, value):
    """The source of the clock is the firmware's choice."""
    board.poke(zynq.PL0_REF_CTRL, value)
    device = UioDevice(TINY, REGION, machine=board)
    assert device.system.read(zynq.PL0_REF_CTRL) == value


def test_the_zeroed_region_is_written_back_at_once(board):
    """Dirty lines that are evicted later would overwrite what the engine has written."""
    board.device.memory[:] = 1
    UioDevice(TINY, REGION, machine=board)
    assert board.synced[0] == ("sync_for_device", 0, REGION)
    assert not board.device.memory.any()


def test_only_the_buffers_own_lines_are_synchronised(board):
    device = UioDevice(TINY, REGION, machine=board)
    device.allocate(10_000)
    device.flush(device.allocate(100))
    assert board.synced[-1] == ("sync_for_device", 12288, 112)


@pytest.mark.parametrize("config", [TINY, KV260, Config(ports=4, port_bits=64)])
def test_widths_and_clock_are_set_and_read_back(tmp_path, config):
    board = golden_board(tmp_path, config)
    board.poke(zynq.AFI_FS, 0x0)
    board.poke(zynq.AFIFM[0] + zynq.WRCTRL, 0xFA2)
    board.poke(zynq.PL0_REF_CTRL, 0x0101_0600)
    device = UioDevice(config, REGION, machine=board)
    assert device.system.read(zynq.AFI_FS) == 0x200
    assert device.system.read(zynq.AFIFM[0] + zynq.WRCTRL) == 0xFA0 | zynq.HP_CODE[config.port_bits]
    assert device.system.read(zynq.PL0_REF_CTRL) == zynq.PL0_100_MHZ
    assert device.clock_mhz == pytest.approx(config.clock_mhz, rel=0.02)
    assert all(width.found == width.wanted for width in device.system.widths(config))


def test_a_register_is_one_access_of_32_bits(board):
    """Words by a memoryview, aligned and inside the window; never bytes."""
    window = board.map("/dev/uio4", registers.WINDOW_BYTES)
    for offset in (2, -4, registers.WINDOW_BYTES):
        with pytest.raises((ValueError, IndexError)):
            Window.read(window, offset)
    Window.write(window, 16, 0x1_8000_0001)
    assert Window.read(window, 16) == 0x8000_0001
    assert board.path("/dev/uio4").read_bytes()[16:20] == b"\x01\0\0\x80"
    window.close()


def test_bursts_in_flight_are_raised_never_lowered(tmp_path):
    board = golden_board(tmp_path, Config(ports=2, outstanding=8))
    board.poke(zynq.AFIFM[0] + zynq.RDISSUE, 0)
    board.poke(zynq.AFIFM[1] + zynq.WRISSUE, 0xF)
    device = UioDevice(board.config, REGION, machine=board)
    assert dict(device.system.bursts(board.config)) == {
        "HP0 read": 8, "HP0 write": 8, "HP1 read": 8, "HP1 write": 16,
    }  # fmt: skip


def test_a_port_of_128_bits_reads_every_register(board):
    """Registers lie 16 bytes apart, so a port that answers only there reads them all."""
    board.register_bits = 128
    assert all(offset % 16 == 0 for offset in registers.OFFSETS.values())
    Accelerator(UioDevice(TINY, REGION, machine=board)).close()


def test_the_measured_clock_follows_the_design(board):
    board.clock_mhz = 99.999
    assert measure_clock(board.read) == pytest.approx(99.999, rel=0.02)


FAULTS = [
    (lambda board: setattr(board, "clock_mhz", 99.999), DeviceError,
     r"runs at (99|100|101)\.\d MHz, not at the configuration's 250: .*xmutil loadapp"),
    (lambda board: setattr(board, "clock_mhz", 0), DeviceError, "counter stands still.*MMCM"),
    (lambda board: board.poke(zynq.GPIO_DATA_5, 0), DeviceError, "pl_resetn0 is held.*overlay"),
    (lambda board: board.poke(zynq.PL0_REF_CTRL, 0x0001_0F00), DeviceError,
     "pl_clk0 is switched off.*hangs the machine"),
    (lambda board: (board.poke(zynq.AFI_FS, 0), board.stuck.add(zynq.AFI_FS)), DeviceError,
     "HPM0 stays 32 bits wide after it was set to 128"),
    (lambda board: (board.poke(zynq.AFIFM[0], 0x2), board.stuck.add(zynq.AFIFM[0])), DeviceError,
     "HP0 read stays 32 bits wide after it was set to 128"),
    (lambda board: (board.poke(zynq.PL0_REF_CTRL, 0x0101_0600),
                    board.stuck.add(zynq.PL0_REF_CTRL)), DeviceError, "pl_clk0's register reads"),
    (lambda board: board.file("/sys/class/fpga_manager/fpga0/state", "unknown"), DeviceError,
     "state is unknown, not operating: load the firmware with xmutil loadapp kria-llm-"),
    (lambda board: board.file("/sys/class/uio/uio4/name", "other"), ToolError,
     "no UIO device is called kria_llm.*of_id=generic-uio"),
    (lambda board: board.file("/sys/class/u-dma-buf/udmabuf0/size", "4096"), DeviceError,
     f"has 4096 bytes, {REGION} are needed.*udmabuf0={REGION}"),
    (lambda board: board.file("/sys/class/u-dma-buf/udmabuf0/phys_addr", "0x80000000"),
     DeviceError, "does not lie in one part of the board's DDR.*DECERR"),
    (lambda board: board.file("/sys/class/u-dma-buf/udmabuf0/phys_addr", "0x7ff80000"),
     DeviceError, "does not lie in one part"),
    (lambda board: board.file("/sys/class/u-dma-buf/udmabuf0/phys_addr", "none"), ToolError,
     "holds 'none', no number"),
    (lambda board: os.remove(board.path(zynq.MEMORY)), AccessError, "/dev/mem cannot be mapped"),
    (lambda board: os.remove(board.path("/dev/uio4")), AccessError, "/dev/uio4 cannot be opened"),
]  # fmt: skip


@pytest.mark.parametrize(("break_it", "kind", "words"), FAULTS)
def test_a_trap_ends_in_its_sentence(board, break_it, kind, words):
    break_it(board)
    with pytest.raises(kind, match=words):
        UioDevice(TINY, REGION, machine=board)


def test_nothing_in_the_logic_is_touched_in_reset(board):
    """An access there would hang the whole machine."""
    board.poke(zynq.GPIO_DATA_5, 0)
    touched = []
    board.device.read_register = touched.append
    with pytest.raises(DeviceError):
        UioDevice(TINY, REGION, machine=board)
    assert touched == []


def test_a_strangers_digest_is_refused(tmp_path):
    board = golden_board(tmp_path, Config(name="other", ports=1, tokens=4))
    with pytest.raises(DeviceError, match=r"digest .* but configuration 'tiny' has"):
        Accelerator(UioDevice(TINY, REGION, machine=board))


def test_no_u_dma_buf_says_how_to_get_it(board):
    for name in ("size", "phys_addr", "sync_for_device", "sync_for_cpu"):
        os.remove(board.path(f"/sys/class/u-dma-buf/udmabuf0/{name}"))
    os.rmdir(board.path("/sys/class/u-dma-buf/udmabuf0"))
    with pytest.raises(ToolError, match=r"no u-dma-buf region.*modprobe u-dma-buf"):
        UioDevice(TINY, REGION, machine=board)


def test_a_device_that_stays_busy_ends_in_time(board):
    device = UioDevice(TINY, REGION, machine=board)
    board.device.read_register = lambda offset: registers.encode("status", busy=1)
    with pytest.raises(DeviceError, match=r"still busy after 0.05 s.*doctor"):
        device.wait(0.05)


def test_memory_ends_with_a_sentence(board):
    device = UioDevice(TINY, REGION, machine=board)
    device.allocate(REGION - 4096)
    with pytest.raises(DeviceError, match="4096 of 1048576 bytes left, 4097"):
        device.allocate(4097)


def test_an_unknown_option_is_refused(board):
    with pytest.raises(ToolError, match="no option 'memory'; it has: machine, udmabuf"):
        open(TINY, REGION, memory="ideal")


def test_a_second_process_is_refused(board):
    device = UioDevice(TINY, REGION, machine=board)
    with pytest.raises(AccessError, match="another process uses /dev/uio4"):
        UioDevice(TINY, REGION, machine=board)
    device.close()
    UioDevice(TINY, REGION, machine=board).close()
