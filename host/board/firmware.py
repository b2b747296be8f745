"""Firmware on the board: installed beside the previous version, switched by one rename, taken back
by another.

``/var/lib/kria-llm/firmware/<number>-<app>/`` holds the files of a version; the symbolic link
``current`` names the one in use and ``previous`` the one before. ``/lib/firmware/xilinx/<app>/`` is
a real directory, since a loader may pass over links to directories, whose files are links through
``current``: only the current app's lead anywhere, so a stale one cannot be loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from host.transports.machine import Machine
from spec.errors import ToolError, UserError

STORE = "/var/lib/kria-llm/firmware"
LOADER = "/lib/firmware/xilinx"
PUBLIC_KEY = "/etc/kria-llm/minisign.pub"

SUMS = "SHA256SUMS"
SIGNATURE = f"{SUMS}.minisig"

MAX_FILES = 32
MAX_BYTES = 64 << 20
"""Of one file: a bitstream of the XCK26 is 8 MB."""

LOADED = ("{app}.bit.bin", "{app}.dtbo", "shell.json", "design.json")
"""Files that the loader, the kernel or the doctor reads."""


class FirmwareError(UserError):
    """A folder that is no firmware, or no version to go back to."""


@dataclass(frozen=True)
class Version:
    """An installed version."""

    folder: str
    """Name in the store: ``0002-kria-llm-<digest>``."""

    @property
    def app(self) -> str:
        """What ``xmutil loadapp`` takes."""
        return self.folder.partition("-")[2]


def name_of(folder: Path) -> str:
    """The app that a folder is named after.

    Raises:
        FirmwareError: it is no firmware folder.
    """
    app = folder.resolve().name
    if not re.fullmatch(r"kria-llm-[0-9a-f]{16}", app):
        raise FirmwareError(
            f"{folder} is no firmware folder: give the one called kria-llm-<digest> that make"
            " package wrote"
        )
    for pattern in (*LOADED, SUMS):
        if not (folder / pattern.format(app=app)).is_file():
            raise FirmwareError(f"{folder} lacks {pattern.format(app=app)}: run make package again")
    files = [path for path in folder.iterdir() if path.is_file()]
    if len(files) > MAX_FILES or any(path.stat().st_size > MAX_BYTES for path in files):
        raise FirmwareError(f"{folder} holds more than firmware does: run make package again")
    return app


def check(folder: Path, app: str) -> None:
    """Compares files with their hashes, and the digest with the app's name.

    Raises:
        FirmwareError: one does not agree.
    """
    listed = _sums(folder)
    for pattern in LOADED:
        name = pattern.format(app=app)
        if listed.get(name) != hashlib.sha256((folder / name).read_bytes()).hexdigest():
            raise FirmwareError(
                f"{name} is not the file that was built: its SHA-256 is not the one in {SUMS}"
            )
    try:
        digest = json.loads((folder / "design.json").read_text())["digest"]
    except (ValueError, KeyError, TypeError):
        raise FirmwareError(f"design.json of {app} is not what hwgen build writes") from None
    if app != f"kria-llm-{digest}":
        raise FirmwareError(f"the folder is called {app} but its design.json has digest {digest}")


def verify(machine: Machine, folder: Path) -> None:
    """Checks the signature of the hashes, with the key that the board trusts.

    Raises:
        FirmwareError: no signature, or not by that key.
        ToolError: no key, or minisign is missing.
    """
    if not machine.exists(PUBLIC_KEY):
        raise ToolError(
            f"there is no public key {PUBLIC_KEY} to check the signature with: put it there, or"
            " give --unsigned"
        )
    if not (folder / SIGNATURE).is_file():
        raise FirmwareError(
            f"the firmware is not signed ({SIGNATURE} is missing): give --unsigned to install it"
            " all the same"
        )
    code, text = machine.run(
        "minisign", "-V", "-q", "-p", str(machine.path(PUBLIC_KEY)), "-m", str(folder / SUMS),
        "-x", str(folder / SIGNATURE),
    )  # fmt: skip
    if code == 127:
        raise ToolError("minisign is missing: apt-get install minisign, or give --unsigned")
    if code:
        raise FirmwareError(
            f"the firmware is not signed by the key in {PUBLIC_KEY}: minisign says"
            f" {text.strip()[-100:] or 'no'}"
        )


def install(machine: Machine, folder: Path, unsigned: bool = False) -> Version:
    """Installs a folder and makes it the current version; the one before stays.

    Raises:
        FirmwareError, ToolError: as for ``name_of``, ``check`` and ``verify``; nothing has changed.
    """
    app = name_of(folder)
    store = machine.path(STORE)
    store.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(name.folder[:4]) for name in versions(machine)), default=0)
    new = Version(f"{number:04}-{app}")
    staged = store / f".{new.folder}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    try:
        for path in folder.iterdir():
            if path.is_file():
                shutil.copyfile(path, staged / path.name)
        # The copy is what is checked, so what was checked is what is installed.
        check(staged, app)
        if not unsigned:
            verify(machine, staged)
        staged.rename(store / new.folder)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    _expose(machine, app)
    _switch(machine, new)
    for old in versions(machine):
        if old not in (current(machine), previous(machine)):
            shutil.rmtree(store / old.folder)
    return new


def rollback(machine: Machine) -> Version:
    """Makes the previous version current, and the current one previous.

    Raises:
        FirmwareError: there is none.
    """
    before = previous(machine)
    if before is None or before == current(machine):
        raise FirmwareError("there is no previous firmware to go back to")
    _switch(machine, before)
    return before


def versions(machine: Machine) -> list[Version]:
    """Installed versions, oldest first."""
    names = (name.rpartition("/")[2] for name in machine.names(f"{STORE}/[0-9]*-kria-llm-*"))
    return [Version(name) for name in names]


def current(machine: Machine) -> Version | None:
    """The version in use."""
    return _linked(machine, "current")


def previous(machine: Machine) -> Version | None:
    """The version before."""
    return _linked(machine, "previous")


def _linked(machine: Machine, name: str) -> Version | None:
    link = machine.path(f"{STORE}/{name}")
    if not link.is_symlink():
        return None
    version = Version(os.readlink(link))
    return version if version in versions(machine) else None


def _switch(machine: Machine, new: Version) -> None:
    """``previous`` first: if the second rename never comes, the current version still stands."""
    old = current(machine)
    if old is not None:
        _link(machine.path(f"{STORE}/previous"), old.folder)
    _link(machine.path(f"{STORE}/current"), new.folder)


def _link(link: Path, target: str) -> None:
    """Makes a symbolic link, or points an existing one elsewhere, in one rename."""
    beside = link.with_name(f".{link.name}.next")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    os.replace(beside, link)


def _expose(machine: Machine, app: str) -> None:
    """The app's directory for the loader: links through ``current``."""
    folder = machine.path(f"{LOADER}/{app}")
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in (*LOADED, SUMS, "{app}.bit", "{app}.hwh"):
        name = pattern.format(app=app)
        _link(folder / name, f"{STORE}/current/{name}")


def _sums(folder: Path) -> dict[str, str]:
    found = {}
    for line in (folder / SUMS).read_text(errors="replace").splitlines():
        value, _, name = line.partition("  ")
        found[name] = value
    return found
