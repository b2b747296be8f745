"""The firmware: its folder and hashes, what is loaded, and why a load failed."""

from __future__ import annotations

import hashlib
import json
import re

from host.doctor.findings import FAULT, OK, UNKNOWN, WARNING, Finding
from host.transports.board import FIRMWARE_FOLDER, app_name
from host.transports.machine import Machine
from host.transports.uio import STATE
from spec.config import Config
from spec.digest import digest

MAX_BITSTREAM = 64 << 20

REFUSED = re.compile(
    r"(OF: (?:overlay|resolver).*(?:fail|error|not find).*|create_overlay: Failed.*"
    r"|of_fpga_region.*(?:fail|error).*|fpga_manager.*(?:Error|failed).*)", re.IGNORECASE,
)  # fmt: skip
"""Lines of the kernel about an overlay or a bitstream that it did not take."""


def folder(config: Config) -> str:
    """Where a configuration's firmware lies."""
    return f"{FIRMWARE_FOLDER}/{app_name(config)}"


def files(machine: Machine, config: Config) -> Finding:
    """Whether the folder has its files, and they are those that were built."""
    where, app = folder(config), app_name(config)
    wanted = (f"{app}.bit.bin", f"{app}.dtbo", "shell.json")
    missing = [name for name in wanted if not machine.exists(f"{where}/{name}")]
    if missing:
        return Finding(
            "firmware files", FAULT, f"{where} lacks {', '.join(missing)}",
            "kria-llm firmware install FOLDER, with what make package wrote",
        )  # fmt: skip
    sums = machine.read(f"{where}/SHA256SUMS")
    if sums is None:
        return Finding("firmware files", WARNING, "there is no SHA256SUMS to compare with",
                       "install the folder that make package wrote")  # fmt: skip
    for line in sums.splitlines():
        wanted_hash, _, name = line.partition("  ")
        found = _hash(machine, f"{where}/{name}")
        if found != wanted_hash:
            return Finding(
                "firmware files", FAULT,
                f"{name} is not the file that was built (SHA-256 {(found or 'none')[:12]}, not"
                f" {wanted_hash[:12]})",
                "a stale file of the same name would load without a word: kria-llm firmware install"
                " again",
            )  # fmt: skip
    return _design(machine, config)


def _design(machine: Machine, config: Config) -> Finding:
    try:
        told = json.loads(machine.read(f"{folder(config)}/design.json") or "")["digest"]
    except (ValueError, KeyError, TypeError):
        return Finding("firmware files", OK, "hashes agree; no design.json")
    if told != f"{digest(config):016x}":
        return Finding(
            "firmware files", FAULT,
            f"design.json has digest {told}, the configuration {digest(config):016x}",
            "give the configuration that the firmware was built from",
        )  # fmt: skip
    return Finding("firmware files", OK, f"hashes agree, digest {told}")


def _hash(machine: Machine, name: str) -> str | None:
    try:
        data = machine.path(name).read_bytes()
    except OSError:
        return None
    return hashlib.sha256(data).hexdigest() if len(data) <= MAX_BITSTREAM else None


def loaded(machine: Machine, config: Config) -> Finding:
    """Whether this firmware is in the logic."""
    state = machine.read(STATE)
    app = app_name(config)
    if state is None:
        return Finding("logic", UNKNOWN, f"{STATE} is not there: this is not the board")
    if state != "operating":
        return Finding("logic", FAULT, f"the FPGA manager says {state}", explain(machine, config))
    code, text = machine.run("xmutil", "listapps")
    active = active_apps(text) if code == 0 else []
    if active and app not in active:
        return Finding(
            "logic", FAULT, f"{active[0]} is loaded, not {app}",
            f"xmutil unloadapp, then xmutil loadapp {app}",
        )  # fmt: skip
    return Finding("logic", OK, f"operating, {active[0] if active else 'loaded without xmutil'}")


def active_apps(listing: str) -> list[str]:
    """Apps of ``xmutil listapps`` with a slot: the last column is not -1."""
    found = []
    for line in listing.splitlines():
        words = line.split()
        if len(words) >= 2 and re.fullmatch(r"\d+,?", words[-1]):
            found.append(words[0])
    return found


def kernel_log(machine: Machine) -> Finding:
    """An overlay that the kernel refused: configfs says "applied" all the same."""
    code, text = machine.run("dmesg")
    if code:
        return Finding("kernel log", UNKNOWN, text.strip()[:80] or "dmesg failed", "run as root")
    refusals = REFUSED.findall(text)
    if refusals:
        statuses = machine.names("/sys/kernel/config/device-tree/overlays/*/status")
        applied = [name for name in statuses if machine.read(name) == "applied"]
        note = " although configfs says applied" if applied else ""
        return Finding(
            "kernel log", FAULT, f"the kernel refused the overlay{note}: {refusals[-1].strip()}",
            "the overlay does not fit this kernel's device tree: xmutil unloadapp, then build the"
            " overlay for this kernel, or restart if an earlier one is half removed",
        )  # fmt: skip
    return Finding("kernel log", OK, "no refused overlay")


def explain(machine: Machine, config: Config) -> str:
    """Why ``xmutil loadapp`` fails: all that it says is ``error: 1``."""
    app = app_name(config)
    code, text = machine.run("xmutil", "listapps")
    active = active_apps(text) if code == 0 else []
    if app in active:
        return f"{app} is loaded already: xmutil unloadapp first"
    if active:
        return f"{active[0]} holds the slot: xmutil unloadapp, then xmutil loadapp {app}"
    found = files(machine, config)
    if found.state == FAULT:
        return f"{found.found}: {found.remedy}"
    log = kernel_log(machine)
    if log.state == FAULT:
        return f"{log.found}: {log.remedy}"
    if code == 0 and app not in text:
        return f"xmutil does not list {app}: its folder in {FIRMWARE_FOLDER} is not complete"
    return f"xmutil loadapp {app}; if that says no more than an error, see dmesg"
