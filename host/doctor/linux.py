"""What Linux says about the board: memory, modules, permissions, cores, power."""

from __future__ import annotations

import re

from host.board import power
from host.doctor.findings import FAULT, OK, UNKNOWN, WARNING, Finding
from host.transports.machine import AccessError, Machine
from host.transports.zynq import MEMORY

KIB = 1024
CMA_MOST = "1900M"
"""Works on a board with 4 GB; 2048M and more fails."""

MODULES = {
    "uio": ("uio_pdrv_genirq", "u_dma_buf"),
    "pynq": ("zocl",),
}
LOAD = {
    "uio_pdrv_genirq": "modprobe uio_pdrv_genirq of_id=generic-uio",
    "u_dma_buf": "modprobe u-dma-buf udmabuf0=BYTES (Debian: u-dma-buf-dkms)",
    "zocl": "modprobe zocl (Debian: xrt)",
}


def model(machine: Machine) -> Finding:
    """Which board this is."""
    text = (machine.read("/proc/device-tree/model") or "").strip("\0\n ")
    if re.search(r"K26|KV260|KR260", text):
        return Finding("board", OK, text)
    if not text:
        return Finding("board", UNKNOWN, "no device tree: this is not the board")
    return Finding("board", WARNING, text, "the firmware is for a KV260 or KR260: check the board")


def permissions(machine: Machine) -> Finding:
    """Whether the PS's registers can be mapped."""
    try:
        machine.map(MEMORY, 4, 0xFF5E_00C0).close()
    except AccessError as error:
        return Finding("permissions", FAULT, f"{MEMORY} cannot be mapped", str(error))
    return Finding("permissions", OK, f"{MEMORY} can be mapped")


def contiguous(machine: Machine, needed: int, device: str) -> Finding:
    """CMA: its size is fixed at boot, and what is free of it may be in pieces."""
    sizes = meminfo(machine)
    if "CmaTotal" not in sizes:
        return Finding("contiguous memory", UNKNOWN, "/proc/meminfo has no CmaTotal")
    total, free = sizes["CmaTotal"], sizes.get("CmaFree", 0)
    found = f"{free // KIB**2} of {total // KIB**2} MB free, {-(-needed // KIB**2)} needed"
    asked = re.search(r"\bcma=(\S+)", machine.read("/proc/cmdline") or "")
    if needed > int(CMA_MOST[:-1]) * KIB**2:
        return Finding(
            "contiguous memory", FAULT, found,
            f"more than cma={CMA_MOST} does not boot: take a smaller model or --head int4",
        )  # fmt: skip
    if total < needed:
        return Finding(
            "contiguous memory", FAULT, found,
            f"put cma={_cma(needed)} on the kernel command line"
            f"{f' in place of cma={asked[1]}' if asked else ''} and restart",
        )  # fmt: skip
    # The u-dma-buf region has been taken from CMA already.
    if free < needed and not (device == "uio" and machine.names("/sys/class/u-dma-buf/*")):
        return Finding(
            "contiguous memory", FAULT, found,
            "another process holds it, or it is in pieces: end what uses it, or restart and load"
            " the model first",
        )  # fmt: skip
    return Finding("contiguous memory", OK, found)


def _cma(needed: int) -> str:
    """A size with a quarter to spare, at most what boots."""
    megabytes = min(-(-needed * 5 // 4 // KIB**2 // 100) * 100 + 100, int(CMA_MOST[:-1]))
    return f"{megabytes}M"


def memory(machine: Machine, needed: int) -> Finding:
    """What is left for the process itself: the model's host part and the KV cache."""
    sizes = meminfo(machine)
    if "MemAvailable" not in sizes:
        return Finding("memory", UNKNOWN, "/proc/meminfo has no MemAvailable")
    available = sizes["MemAvailable"]
    found = f"{available // KIB**2} MB available"
    if available < max(needed // 2, 256 * KIB**2):
        return Finding(
            "memory", WARNING, found, "end what is not needed, or add swap on fast storage"
        )
    return Finding("memory", OK, found)


def meminfo(machine: Machine) -> dict[str, int]:
    """``/proc/meminfo`` in bytes."""
    lines = re.findall(r"^(\w+):\s+(\d+) kB", machine.read("/proc/meminfo") or "", re.MULTILINE)
    return {name: int(value) * KIB for name, value in lines}


def modules(machine: Machine, device: str) -> Finding:
    """The drivers that a transport needs."""
    text = machine.read("/proc/modules")
    if text is None:
        return Finding("kernel modules", UNKNOWN, "/proc/modules cannot be read")
    loaded = {line.split()[0] for line in text.splitlines() if line}
    missing = [
        name for name in MODULES.get(device, ())
        if name not in loaded and not machine.exists(f"/sys/module/{name}")
    ]  # fmt: skip
    if missing:
        return Finding(
            "kernel modules", FAULT, f"{', '.join(missing)} not loaded",
            "; ".join(LOAD[name] for name in missing),
        )  # fmt: skip
    return Finding("kernel modules", OK, ", ".join(MODULES.get(device, ())) or "none needed")


def idle_cores(machine: Machine) -> Finding:
    """TF-A 2.8 can park an idle core for ever."""
    switches = machine.names("/sys/devices/system/cpu/cpu[0-9]*/cpuidle/state1/disable")
    if not switches:
        return Finding("cpuidle", OK, "no deep idle state")
    enabled = [name for name in switches if machine.read(name) != "1"]
    if enabled:
        return Finding(
            "cpuidle", WARNING, f"state1 is enabled on {len(enabled)} cores",
            "a core may sleep for ever (TF-A 2.8): write 1 to"
            " /sys/devices/system/cpu/cpu*/cpuidle/state1/disable, as the service does",
        )  # fmt: skip
    return Finding("cpuidle", OK, f"state1 is disabled on {len(switches)} cores")


def sensor(machine: Machine) -> Finding:
    """The INA260 behind ``J/token``."""
    name = power.find(machine)
    if name is None:
        return Finding("power sensor", WARNING, "no INA260 in /sys/class/hwmon",
                       "modprobe ina2xx; reports leave J/token out")  # fmt: skip
    return Finding("power sensor", OK, f"{power.read_watt(machine, name):.2f} W at {name}")
