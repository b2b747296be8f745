"""Firmware: installed by one rename, kept, taken back; nothing that is not what was built."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from host.board import firmware
from host.board.firmware import LOADER, STORE, FirmwareError
from host.transports.machine import Machine
from spec.errors import ToolError

ROOT = Path(__file__).parents[2]


def folder(where: Path, digest: str = "0123456789abcdef", bits: bytes = b"bits") -> Path:
    """What make package writes, with a bitstream that is none."""
    app = f"kria-llm-{digest}"
    path = where / app
    path.mkdir(parents=True)
    files = {
        f"{app}.bit.bin": bits,
        f"{app}.dtbo": b"overlay",
        "shell.json": b"{}",
        "design.json": json.dumps({"digest": digest, "app": app}).encode(),
    }
    for name, data in files.items():
        (path / name).write_bytes(data)
    sums = (f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    (path / "SHA256SUMS").write_text("".join(sums))
    return path


@pytest.fixture
def machine(tmp_path) -> Machine:
    (tmp_path / "board").mkdir()
    return Machine(tmp_path / "board")


def loaded(machine: Machine, app: str) -> bytes:
    """What the loader would read; links are absolute, so they are followed below the root."""
    link = machine.path(f"{LOADER}/{app}/{app}.bit.bin")
    return machine.path(os.readlink(link)).read_bytes()


def test_the_first_install(machine, tmp_path):
    version = firmware.install(machine, folder(tmp_path / "a"), unsigned=True)
    assert version.folder == "0001-kria-llm-0123456789abcdef"
    assert firmware.current(machine) == version
    assert firmware.previous(machine) is None
    assert loaded(machine, version.app) == b"bits"
    assert not machine.path(f"{LOADER}/{version.app}").is_symlink()


def test_an_update_keeps_the_one_before_and_goes_back(machine, tmp_path):
    old = firmware.install(machine, folder(tmp_path / "a", bits=b"old"), unsigned=True)
    new = firmware.install(machine, folder(tmp_path / "b", bits=b"new"), unsigned=True)
    assert (firmware.current(machine), firmware.previous(machine)) == (new, old)
    assert loaded(machine, new.app) == b"new"
    assert firmware.rollback(machine) == old
    assert loaded(machine, old.app) == b"old"
    assert (firmware.current(machine), firmware.previous(machine)) == (old, new)
    assert firmware.rollback(machine) == new


def test_two_versions_are_kept_no_more(machine, tmp_path):
    for number in range(4):
        firmware.install(machine, folder(tmp_path / str(number)), unsigned=True)
    names = [version.folder[:4] for version in firmware.versions(machine)]
    assert names == ["0003", "0004"]


def test_an_app_that_is_not_current_leads_nowhere(machine, tmp_path):
    """So that a stale one cannot be loaded by its name."""
    old = firmware.install(machine, folder(tmp_path / "a", "a" * 16), unsigned=True)
    firmware.install(machine, folder(tmp_path / "b", "b" * 16), unsigned=True)
    with pytest.raises(FileNotFoundError):
        loaded(machine, old.app)
    firmware.rollback(machine)
    assert loaded(machine, old.app) == b"bits"


def test_an_interrupted_switch_leaves_the_current_version(machine, tmp_path, monkeypatch):
    old = firmware.install(machine, folder(tmp_path / "a", bits=b"old"), unsigned=True)
    replace = os.replace
    renames = []

    def interrupted(source, target):
        renames.append(Path(target).name)
        if Path(target).name == "current":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        firmware.install(machine, folder(tmp_path / "b", bits=b"new"), unsigned=True)
    assert renames[-2:] == ["previous", "current"]
    assert firmware.current(machine) == old
    assert loaded(machine, old.app) == b"old"
    monkeypatch.undo()
    new = firmware.install(machine, folder(tmp_path / "c", bits=b"third"), unsigned=True)
    assert (firmware.current(machine), loaded(machine, new.app)) == (new, b"third")


def spoil_hash(path: Path) -> None:
    (path / f"{path.name}.bit.bin").write_bytes(b"other")


def spoil_name(path: Path) -> None:
    (path / "design.json").write_text(json.dumps({"digest": "f" * 16}))
    sums = (path / "SHA256SUMS").read_text().splitlines()
    right = hashlib.sha256((path / "design.json").read_bytes()).hexdigest()
    lines = [f"{right}  design.json" if line.endswith("design.json") else line for line in sums]
    (path / "SHA256SUMS").write_text("\n".join(lines))


def spoil_json(path: Path) -> None:
    (path / "design.json").write_text("[1")
    sums = (path / "SHA256SUMS").read_text().splitlines()
    right = hashlib.sha256(b"[1").hexdigest()
    lines = [f"{right}  design.json" if line.endswith("design.json") else line for line in sums]
    (path / "SHA256SUMS").write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_hash, "is not the file that was built"),
        (spoil_name, "but its design.json has digest ffff"),
        (spoil_json, "is not what hwgen build writes"),
        (lambda path: os.remove(path / "shell.json"), "lacks shell.json"),
        (lambda path: os.remove(path / "SHA256SUMS"), "lacks SHA256SUMS"),
        (lambda path: [(path / f"x{n}").touch() for n in range(40)], "more than firmware does"),
    ],
)
def test_a_wrong_folder_changes_nothing(machine, tmp_path, spoil, words):
    old = firmware.install(machine, folder(tmp_path / "a"), unsigned=True)
    wrong = folder(tmp_path / "b", bits=b"new")
    spoil(wrong)
    with pytest.raises(FirmwareError, match=words):
        firmware.install(machine, wrong, unsigned=True)
    assert firmware.current(machine) == old
    assert len(firmware.versions(machine)) == 1


def test_another_folder_is_refused(machine, tmp_path):
    with pytest.raises(FirmwareError, match="no firmware folder"):
        firmware.install(machine, tmp_path, unsigned=True)


def test_nothing_to_go_back_to(machine, tmp_path):
    with pytest.raises(FirmwareError, match="no previous firmware"):
        firmware.rollback(machine)
    firmware.install(machine, folder(tmp_path / "a"), unsigned=True)
    with pytest.raises(FirmwareError, match="no previous firmware"):
        firmware.rollback(machine)


# Signatures, by the real minisign


@pytest.fixture
def keys(tmp_path, machine) -> Path:
    """A key pair without a password; the public one is the board's."""
    assert shutil.which("minisign"), "scripts/setup installs minisign"
    secret = tmp_path / "test.key"
    public = machine.path(firmware.PUBLIC_KEY)
    public.parent.mkdir(parents=True)
    subprocess.run(
        ["minisign", "-G", "-W", "-s", secret, "-p", public], check=True, capture_output=True
    )
    return secret


def sign(path: Path, secret: Path) -> None:
    subprocess.run(
        ["minisign", "-S", "-s", secret, "-m", path / "SHA256SUMS"], check=True,
        capture_output=True, input=b"\n",
    )  # fmt: skip


def test_a_signed_folder_is_installed(machine, tmp_path, keys):
    path = folder(tmp_path / "a")
    sign(path, keys)
    assert firmware.install(machine, path).app == path.name


def test_an_unsigned_folder_is_refused(machine, tmp_path, keys):
    with pytest.raises(FirmwareError, match=r"is not signed.*--unsigned"):
        firmware.install(machine, folder(tmp_path / "a"))
    assert firmware.versions(machine) == []


def test_another_keys_signature_is_refused(machine, tmp_path, keys):
    path = folder(tmp_path / "a")
    other = tmp_path / "other.key"
    subprocess.run(
        ["minisign", "-G", "-W", "-s", other, "-p", tmp_path / "other.pub"], check=True,
        capture_output=True,
    )  # fmt: skip
    sign(path, other)
    with pytest.raises(
        FirmwareError, match=r"not signed by the key in /etc/kria-llm/minisign\.pub"
    ):
        firmware.install(machine, path)


def test_hashes_changed_after_signing_are_refused(machine, tmp_path, keys):
    path = folder(tmp_path / "a")
    sign(path, keys)
    (path / "SHA256SUMS").write_text((path / "SHA256SUMS").read_text() + "\n")
    with pytest.raises(FirmwareError, match="not signed by the key"):
        firmware.install(machine, path)


def test_no_key_says_so(machine, tmp_path):
    with pytest.raises(ToolError, match=r"no public key /etc/kria-llm/minisign\.pub"):
        firmware.install(machine, folder(tmp_path / "a"))


# The command


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "host.cli", "firmware", *arguments], cwd=ROOT, capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}, timeout=60,
    )  # fmt: skip


def test_the_command_without_firmware():
    assert not Path(STORE).exists(), "this machine is a board"
    told = json.loads(run("status", "--json").stdout)
    assert told == {"current": None, "previous": None, "app": None}
    refused = run("rollback")
    assert refused.returncode == 2
    assert refused.stderr == "error: there is no previous firmware to go back to\n"


def test_the_command_refuses_a_folder_in_one_sentence(tmp_path):
    done = run("install", str(tmp_path), "--unsigned")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert done.stdout == ""
