"""The Debian package for the board: runtime, firmware, service; checked, and signed on demand."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from spec.errors import ToolError, UserError

FILES = Path(__file__).resolve().parent / "files"

NAME = "kria-llm"
ARCHITECTURE = "arm64"

PLACES = {
    "kria-llm": ("usr/bin/kria-llm", 0o755),
    "kria-llm-rollback": ("usr/sbin/kria-llm-rollback", 0o755),
    "start": ("usr/lib/kria-llm/start", 0o755),
    "stop": ("usr/lib/kria-llm/stop", 0o755),
    "kria-llm.service": ("lib/systemd/system/kria-llm.service", 0o644),
    "modprobe.conf": ("etc/modprobe.d/kria-llm.conf", 0o644),
}
"""File of this package -> where it goes, and its mode."""

SCRIPTS = ("postinst", "prerm")

DEPENDS = "python3 (>= 3.10), python3-venv, kmod"
RECOMMENDS = "dfx-mgr, u-dma-buf-dkms, minisign"

FIRMWARE_FILES = ("{app}.bit.bin", "{app}.dtbo", "shell.json", "design.json", "SHA256SUMS")


class PackageError(UserError):
    """Firmware or a package that is not what it should be."""


@dataclass(frozen=True)
class Entry:
    """One file of a package."""

    path: str
    mode: str
    """As ``ls -l`` shows it."""
    owner: str
    size: int


def build(
    output: Path, version: str, wheel: Path, firmware: Path, wheels: Path | None = None
) -> Path:
    """Builds the package.

    Args:
        output: directory for it.
        wheel: the runtime's wheel for the board.
        firmware: the folder that ``make package`` wrote: ``firmware/<app>``.
        wheels: a directory of wheels with everything that the runtime needs; without it the board
            fetches them when the package is installed.

    Raises:
        PackageError: the firmware's folder lacks a file or a hash does not agree.
        ToolError: dpkg-deb is missing or fails.
    """
    check_firmware(firmware)
    if shutil.which("dpkg-deb") is None:
        raise ToolError("dpkg-deb is missing: apt-get install dpkg")
    output.mkdir(parents=True, exist_ok=True)
    target = output / f"{NAME}_{version}_{ARCHITECTURE}.deb"
    with tempfile.TemporaryDirectory(prefix="kria-deb-") as name:
        root = Path(name)
        _fill(root, wheel, firmware, wheels)
        _control(root, version)
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ToolError(f"dpkg-deb failed: {done.stderr.strip()[-300:]}")
    check(target, version, firmware.name)
    return target


def check_firmware(folder: Path) -> None:
    """Refuses a folder that is not what ``make package`` writes."""
    app = folder.name
    if not re.fullmatch(r"kria-llm-[0-9a-f]{16}", app):
        raise PackageError(f"{folder} is no firmware folder: its name must be kria-llm-<digest>")
    for pattern in FIRMWARE_FILES:
        if not (folder / pattern.format(app=app)).is_file():
            raise PackageError(f"{folder} lacks {pattern.format(app=app)}: run make package again")
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        wanted, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            raise PackageError(f"{path} is not the file that was built: run make package again")


def _fill(root: Path, wheel: Path, firmware: Path, wheels: Path | None) -> None:
    for name, (place, mode) in PLACES.items():
        _put(FILES / name, root / place, mode)
    share = root / "usr/share/kria-llm"
    _put(wheel, share / "wheels" / wheel.name, 0o644)
    if wheels is not None:
        for other in sorted(wheels.glob("*.whl")):
            _put(other, share / "wheels" / other.name, 0o644)
        (share / "wheels/COMPLETE").write_text("nothing is fetched\n")
    for path in sorted(firmware.iterdir()):
        _put(path, share / "firmware" / firmware.name / path.name, 0o644)
    _put(FILES.parent.parent / "LICENSE", root / "usr/share/doc/kria-llm/copyright", 0o644)
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)


def _put(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _control(root: Path, version: str) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    kilobytes = -(-sum(path.stat().st_size for path in files) // 1024)
    sums = "".join(
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}"
        f"  {path.relative_to(root)}\n"
        for path in files
    )
    folder = root / "DEBIAN"
    folder.mkdir()
    folder.chmod(0o755)
    fields = {
        "Package": NAME, "Version": version, "Architecture": ARCHITECTURE, "Section": "science",
        "Priority": "optional", "Maintainer": "kria-llm <kria-llm@localhost>",
        "Installed-Size": kilobytes, "Depends": DEPENDS, "Recommends": RECOMMENDS,
        "Description": "language models on the Kria KV260: runtime, firmware and service",
    }  # fmt: skip
    text = "".join(f"{name}: {value}\n" for name, value in fields.items())
    (folder / "control").write_text(text)
    (folder / "md5sums").write_text(sums)
    (folder / "conffiles").write_text("/etc/modprobe.d/kria-llm.conf\n")
    for name in SCRIPTS:
        path = folder / name
        path.write_text((FILES / name).read_text().replace("@VERSION@", version))
        path.chmod(0o755)


def contents(package: Path) -> list[Entry]:
    """What is in a package, by dpkg-deb."""
    listing = _ask("--contents", package)
    entries = []
    for line in listing.splitlines():
        mode, owner, size, _day, _time, path = line.split(maxsplit=5)
        if not mode.startswith("d"):
            entries.append(Entry(path.removeprefix("./"), mode, owner, int(size)))
    return entries


def check(package: Path, version: str, app: str) -> list[Entry]:
    """Compares a package with what it should hold.

    Raises:
        PackageError: a file is missing, unexpected, not root's, or of another mode.
    """
    entries = contents(package)
    found = {entry.path: entry for entry in entries}
    firmware = f"usr/share/kria-llm/firmware/{app}"
    wanted = {place for place, _ in PLACES.values()} | {"usr/share/doc/kria-llm/copyright"}
    wanted |= {f"{firmware}/{name.format(app=app)}" for name in FIRMWARE_FILES}
    missing = sorted(wanted - set(found))
    stray = sorted(
        path for path in set(found) - wanted
        if not path.startswith((f"{firmware}/", "usr/share/kria-llm/wheels/"))
    )  # fmt: skip
    if missing or stray:
        raise PackageError(f"{package.name}: missing {missing}, unexpected {stray}")
    for place, mode in PLACES.values():
        if found[place].mode != ("-rwxr-xr-x" if mode == 0o755 else "-rw-r--r--"):
            raise PackageError(f"{package.name}: {place} has mode {found[place].mode}")
    foreign = [entry.path for entry in entries if entry.owner != "root/root"]
    if foreign:
        raise PackageError(f"{package.name}: {foreign[0]} does not belong to root")
    fields = dict(
        line.split(": ", 1) for line in _ask("--field", package).splitlines() if ": " in line
    )
    if (fields["Architecture"], fields["Version"]) != (ARCHITECTURE, version):
        raise PackageError(f"{package.name}: {fields['Architecture']} {fields['Version']}")
    return entries


def sign(package: Path, key: Path, password: str = "") -> Path:
    """Signs a package with minisign.

    Args:
        key: the secret key; its password on stdin, empty for a key without one.

    Raises:
        ToolError: minisign is missing or fails.
    """
    if shutil.which("minisign") is None:
        raise ToolError("minisign is missing: apt-get install minisign")
    signature = package.with_name(f"{package.name}.minisig")
    command = ["minisign", "-S", "-s", str(key), "-m", str(package), "-x", str(signature),
               "-t", package.name]  # fmt: skip
    done = subprocess.run(
        command, input=f"{password}\n", capture_output=True, text=True, check=False
    )
    if done.returncode or not signature.is_file():
        raise ToolError(f"minisign did not sign {package.name}: {done.stderr.strip()[-200:]}")
    return signature


def _ask(option: str, package: Path) -> str:
    done = subprocess.run(
        ["dpkg-deb", option, str(package)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PackageError(f"{package} is no Debian package: {done.stderr.strip()[-200:]}")
    return done.stdout
