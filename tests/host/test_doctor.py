"""The doctor on a board made of files: a healthy one, and each trap with finding and remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from host.device.software import BASE_ADDRESS
from host.doctor import firmware
from host.doctor.examine import examine, healthy
from host.doctor.findings import Finding, worst
from host.transports import zynq
from sim import golden_device
from spec.config import TINY, Config
from tests.host.fake_board import REGION, FakeBoard

ROOT = Path(__file__).parents[2]
NEEDED = 340 << 20


@pytest.fixture
def board(tmp_path) -> FakeBoard:
    return FakeBoard(tmp_path, TINY, golden_device.open(TINY, REGION), BASE_ADDRESS)


def findings(board: FakeBoard, **options) -> dict[str, Finding]:
    found = examine("uio", TINY, options.pop("needed", NEEDED), board, **options)
    assert len({finding.name for finding in found}) == len(found)
    return {finding.name: finding for finding in found}


def test_a_healthy_board_has_no_fault(board):
    found = findings(board)
    assert {finding.state for finding in found.values()} == {"ok"}, found
    assert "passed registers, scratch, loopback, tile" in found["accelerator"].found
    assert "MHz measured" in found["accelerator"].found
    assert "4.87 W" in found["power sensor"].found


def app(board: FakeBoard) -> str:
    return f"/lib/firmware/xilinx/{board.app}"


def slow_clock(board):
    board.clock_mhz = 99.999


def narrow_control(board):
    board.poke(zynq.AFI_FS, 0)


def wide_control_narrow_design(board):
    board.register_bits = 128


def one_burst(board):
    board.poke(zynq.AFIFM[0] + zynq.RDISSUE, 0)


def stale_firmware(board):
    board.firmware(bitstream=b"an old build", build=b"the new build")


def refused_overlay(board):
    board.file("/sys/kernel/config/device-tree/overlays/kria/status", "applied\n")
    lines = (
        "[ 31.2] OF: overlay: node_overlaps_later_fragment: failed",
        "[ 31.3] create_overlay: Failed to create overlay (err=-22)",
    )
    board.programs["dmesg"] = (0, "\n".join(lines))


def small_cma(board):
    board.file("/proc/meminfo", "MemAvailable: 3100000 kB\nCmaTotal: 262144 kB\nCmaFree: 200000 kB")


def fragmented_cma(board):
    board.file("/proc/meminfo", "MemAvailable: 3100000 kB\nCmaTotal: 1024000 kB\nCmaFree: 90000 kB")
    for name in ("size", "phys_addr", "sync_for_device", "sync_for_cpu"):
        os.remove(board.path(f"/sys/class/u-dma-buf/udmabuf0/{name}"))
    os.rmdir(board.path("/sys/class/u-dma-buf/udmabuf0"))


def held_reset(board):
    board.poke(zynq.GPIO_DATA_5, 0)


def no_clock(board):
    board.poke(zynq.PL0_REF_CTRL, 0x0001_0F00)


def other_clock(board):
    board.poke(zynq.PL0_REF_CTRL, 0x0101_0600)


def other_digest(board):
    board.device = golden_device.open(Config(name="x", ports=1, tokens=4), REGION)


def other_design_json(board):
    board.file(f"{app(board)}/design.json", json.dumps({"digest": "0" * 16}))
    os.remove(board.path(f"{app(board)}/SHA256SUMS"))


def missing_overlay(board):
    os.remove(board.path(f"{app(board)}/{board.app}.dtbo"))


def parked_core(board):
    board.file("/sys/devices/system/cpu/cpu2/cpuidle/state1/disable", "0\n")


def no_modules(board):
    board.file("/proc/modules", "ext4 1 0 - Live\n")


def no_permission(board):
    os.remove(board.path(zynq.MEMORY))


def little_memory(board):
    board.file("/proc/meminfo", "MemAvailable: 90000 kB\nCmaTotal: 1024000 kB\nCmaFree: 900000 kB")


def no_sensor(board):
    os.remove(board.path("/sys/class/hwmon/hwmon0/name"))


def another_app(board):
    board.programs["xmutil"] = (0, "Accelerator  Active_slot\nk26-starter-kits  0,\n")


def not_operating(board):
    board.file("/sys/class/fpga_manager/fpga0/state", "unknown\n")
    board.programs["xmutil"] = (0, f"Accelerator  Active_slot\n{board.app}  -1\n")


def wrong_values(board):
    """The arithmetic is wrong in one bit, as where timing is not met."""
    right = board._synchronise

    def wrong(attribute, offset, size):
        if attribute == "sync_for_cpu":
            board.device.memory[offset + 4] ^= 1
        right(attribute, offset, size)

    board._synchronise = wrong


def board_of_another_kind(board):
    board.file("/proc/device-tree/model", "Raspberry Pi 4\0")


TRAPS = [
    (slow_clock, "accelerator", "fault", "MHz, not at the configuration's 250"),
    (narrow_control, "port widths", "warning", "HPM0 32 bits, not 128"),
    (one_burst, "bursts in flight", "warning", "HP0 read 1, not 2"),
    (stale_firmware, "firmware files", "fault", "is not the file that was built"),
    (refused_overlay, "kernel log", "fault", "although configfs says applied"),
    (small_cma, "contiguous memory", "fault", "put cma=600M on the kernel command line"),
    (fragmented_cma, "contiguous memory", "fault", "in pieces"),
    (held_reset, "reset", "fault", "pl_resetn0 is held low"),
    (held_reset, "accelerator", "unknown", "not touched: reset first"),
    (no_clock, "pl_clk0", "fault", "switched off"),
    (no_clock, "accelerator", "unknown", "not touched: pl_clk0 first"),
    (other_clock, "pl_clk0", "warning", "250.0 MHz, the design's MMCM expects 100"),
    (other_digest, "accelerator", "fault", "digest"),
    (other_design_json, "firmware files", "warning", "no SHA256SUMS"),
    (missing_overlay, "firmware files", "fault", "lacks"),
    (parked_core, "cpuidle", "warning", "state1 is enabled on 1 cores"),
    (no_modules, "kernel modules", "fault", "of_id=generic-uio"),
    (no_permission, "permissions", "fault", "run as root"),
    (little_memory, "memory", "warning", "87 MB available"),
    (no_sensor, "power sensor", "warning", "ina2xx"),
    (another_app, "logic", "fault", "xmutil unloadapp, then xmutil loadapp kria-llm-"),
    (not_operating, "logic", "fault", "xmutil loadapp kria-llm-"),
    (not_operating, "accelerator", "unknown", "logic first"),
    (wrong_values, "accelerator", "fault", "selftest: the loopback differs"),
    (board_of_another_kind, "board", "warning", "Raspberry"),
]


@pytest.mark.parametrize(("trap", "name", "state", "words"), TRAPS)
def test_a_trap_has_its_finding_and_remedy(board, trap, name, state, words):
    trap(board)
    finding = findings(board)[name]
    assert finding.state == state, finding
    assert words in f"{finding.found}: {finding.remedy}"
    assert finding.remedy or state == "unknown"


def test_more_memory_than_boots_is_said(board):
    finding = findings(board, needed=2000 << 20)["contiguous memory"]
    assert finding.state == "fault"
    assert "more than cma=1900M does not boot" in finding.remedy


def test_a_wide_control_port_is_no_trap(board):
    wide_control_narrow_design(board)
    assert healthy(list(findings(board).values()))


def test_a_wrong_design_json_is_a_fault(board):
    folder = board.firmware()
    (folder / "design.json").write_text(json.dumps({"digest": "0" * 16}))
    (folder / "SHA256SUMS").write_text("")
    finding = findings(board)["firmware files"]
    assert finding.state == "fault" and "the configuration that the firmware was built from" in (
        finding.remedy
    )


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        ("{app}  0,", "is loaded already"),
        ("k26-starter-kits  0,", "k26-starter-kits holds the slot"),
        ("k26-starter-kits  -1", "does not list"),
        ("{app}  -1", "xmutil loadapp"),
    ],
)
def test_why_xmutil_fails(board, listing, words):
    """All that it says is "error: 1"."""
    board.programs["xmutil"] = (0, "Accelerator  Active_slot\n" + listing.format(app=board.app))
    assert words in firmware.explain(board, TINY)


def test_why_xmutil_fails_missing_file_and_refused_overlay(board):
    board.programs["xmutil"] = (0, f"{board.app} -1\n")
    refused_overlay(board)
    assert "refused the overlay" in firmware.explain(board, TINY)
    missing_overlay(board)
    assert f"lacks {board.app}.dtbo" in firmware.explain(board, TINY)


def test_the_worst_state_decides():
    assert worst([]) == "ok"
    assert worst([Finding("a", "unknown", ""), Finding("b", "warning", "")]) == "warning"
    assert not healthy([Finding("a", "ok", ""), Finding("b", "fault", "")])


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "host.cli", *arguments], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "golden"])
def test_the_command_on_a_simulated_device(device):
    done = run("doctor", "--device", device, "--config", "tiny", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "ok"


def test_the_command_off_the_board_ends_with_4():
    done = run("doctor", "--json")
    assert done.returncode == 4
    told = json.loads(done.stdout)
    assert told["state"] == "fault"
    assert "Traceback" not in done.stderr


def test_the_command_refuses_an_unknown_device():
    done = run("doctor", "--device", "gpu")
    assert done.returncode == 3 and done.stderr.startswith("error: no device 'gpu'")
