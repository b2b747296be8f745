"""The board's wheel and Debian package: what is in them, for which machine, signed by whom."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from package import deb, wheel
from package.deb import PackageError
from spec.errors import ToolError
from tests.host.test_firmware import folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def package(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With firmware whose bitstream is none: there is no Vivado here."""
    where = tmp_path_factory.mktemp("deb")
    return deb.build(where, "1.2.3", built, folder(where / "firmware"))


def names(built: Path) -> list[str]:
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_the_wheel_is_for_the_board(built):
    assert re.fullmatch(r"kria_llm_runtime-.+-cp310-abi3-linux_aarch64\.whl", built.name)
    assert built.stat().st_size < 2 << 20


def test_the_wheel_has_the_runtime_alone(built):
    found = names(built)
    assert {name.split("/")[0] for name in found if ".dist-info/" not in name} == {"spec", "host"}
    assert "host/kernels/_kernels.abi3.so" in found
    assert sum(name.startswith("host/tasks/") and name.endswith(".toml") for name in found) == 8
    assert not [name for name in found if name.startswith(("hwgen", "sim", "tests"))]
    listed = {str(path.relative_to(ROOT)) for part in ("spec", "host")
              for path in (ROOT / part).rglob("*.py")}  # fmt: skip
    assert listed <= set(found)


def test_the_wheels_entry_points_lead_into_it(built):
    with zipfile.ZipFile(built) as archive:
        entry = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        text = archive.read(entry).decode()
        found = set(archive.namelist())
    assert "hwgen" not in text and "sim." not in text
    targets = re.findall(r"= ([\w.]+):\w+$", text, re.MULTILINE)
    assert len(targets) >= 4
    for target in targets:
        stem = target.replace(".", "/")
        assert {f"{stem}.py", f"{stem}/__init__.py"} & found


def test_the_kernels_are_the_boards(built, tmp_path):
    """An aarch64 library that exports what the runtime calls, and needs the C library alone."""
    with zipfile.ZipFile(built) as archive:
        library = archive.extract("host/kernels/_kernels.abi3.so", tmp_path)
    data = Path(library).read_bytes()
    assert data[:4] == b"\x7fELF"
    assert int.from_bytes(data[18:20], "little") == 183  # EM_AARCH64
    listing = subprocess.run(
        ["aarch64-linux-gnu-nm", "-D", "--defined-only", library], capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    assert {"kernels_abi", "kernels_matmul"} <= {line.split()[-1] for line in listing.splitlines()}
    dynamic = subprocess.run(
        ["aarch64-linux-gnu-readelf", "-d", library], capture_output=True, text=True, check=True
    ).stdout
    needed = set(re.findall(r"NEEDED.*\[(.+?)\]", dynamic))
    # The loader is the C library's too: thread-local variables are found through it.
    loader = "ld-linux-aarch64.so.1"
    assert needed <= {"libc.so.6", "libm.so.6", "libpthread.so.0", loader}


def test_the_wheel_declares_what_it_imports(built):
    """Installed without dependencies it says what is missing, and its metadata names them."""
    with zipfile.ZipFile(built) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
        text = archive.read(metadata).decode()
    assert "Name: kria-llm-runtime" in text
    for requirement in ("numpy", "tokenizers", "typer", "jinja2"):
        assert f"Requires-Dist: {requirement}" in text
    assert "amaranth" not in text


def test_the_runtime_imports_nothing_that_it_lacks(built, tmp_path):
    """Every module of the wheel, from the unpacked wheel alone, with neither hwgen nor sim."""
    with zipfile.ZipFile(built) as archive:
        archive.extractall(tmp_path)
        modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                   for name in archive.namelist() if name.endswith(".py")]  # fmt: skip
    code = (
        "import importlib, sys\n"
        f"sys.path[:0] = [{str(tmp_path)!r}]\n"
        "for found in ('hwgen', 'sim', 'amaranth'): sys.modules[found] = None\n"
        f"for name in {[m for m in modules if not m.endswith('__main__')]!r}:\n"
        "    importlib.import_module(name)\n"
        "import host; print(host.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "host/__init__.py")


def test_a_missing_compiler_is_named(tmp_path):
    with pytest.raises(ToolError, match="apt-get install gcc-aarch64-linux-gnu"):
        wheel.build(tmp_path, compiler="no-such-gcc")


# The Debian package


def test_the_package_holds_what_it_should(package):
    entries = {entry.path: entry for entry in deb.contents(package)}
    app = "kria-llm-0123456789abcdef"
    for path in ("usr/bin/kria-llm", "lib/systemd/system/kria-llm.service",
                 f"usr/share/kria-llm/firmware/{app}/{app}.bit.bin",
                 f"usr/share/kria-llm/firmware/{app}/SHA256SUMS",
                 "etc/modprobe.d/kria-llm.conf", "usr/share/doc/kria-llm/copyright"):  # fmt: skip
        assert entries[path].size > 0
    assert entries["usr/bin/kria-llm"].mode == "-rwxr-xr-x"
    assert any(path.endswith("linux_aarch64.whl") for path in entries)
    assert all(entry.owner == "root/root" for entry in entries.values())


def test_its_fields(package):
    said = subprocess.run(["dpkg-deb", "--field", package], capture_output=True, text=True).stdout
    fields = dict(line.split(": ", 1) for line in said.splitlines())
    assert fields["Package"] == "kria-llm"
    assert fields["Architecture"] == "arm64"
    assert fields["Version"] == "1.2.3"
    assert "python3-venv" in fields["Depends"]


def test_dpkg_unpacks_it_and_the_sums_agree(package, tmp_path):
    subprocess.run(["dpkg-deb", "--raw-extract", package, tmp_path / "x"], check=True)
    root = tmp_path / "x"
    sums = (root / "DEBIAN/md5sums").read_text()
    done = subprocess.run(["md5sum", "-c", "--quiet", "DEBIAN/md5sums"], cwd=root)
    assert done.returncode == 0
    installed = {str(path.relative_to(root)) for path in root.rglob("*")
                 if path.is_file() and "DEBIAN" not in path.parts}  # fmt: skip
    assert {line.split("  ")[1] for line in sums.splitlines()} == installed
    assert "name=1.2.3-" in (root / "DEBIAN/postinst").read_text()


@pytest.mark.parametrize(
    "name", ["start", "stop", "kria-llm", "kria-llm-rollback", "postinst", "prerm"]
)
def test_scripts_are_shell(name):
    assert subprocess.run(["sh", "-n", deb.FILES / name]).returncode == 0
    assert (deb.FILES / name).read_text().startswith("#!/bin/sh\n")


def test_the_start_script_loads_and_tests(tmp_path):
    """Run with programs that note their calls, on files in place of the system's."""
    bin_folder, log = tmp_path / "bin", tmp_path / "calls"
    bin_folder.mkdir()
    for name in ("modprobe", "xmutil", "kria-llm"):
        path = bin_folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\n')
        path.chmod(0o755)
    store = tmp_path / "current"
    store.mkdir()
    (store / "design.json").write_text(json.dumps({"app": "kria-llm-00ff"}, indent=2))
    text = (deb.FILES / "start").read_text()
    text = text.replace("/var/lib/kria-llm/firmware/current", str(store))
    text = text.replace("/sys/devices", str(tmp_path / "sys"))
    environment = {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    calls = log.read_text().splitlines()
    assert "xmutil loadapp kria-llm-00ff" in calls
    assert calls[-1].startswith("kria-llm selftest --device uio")
    assert calls[-1].endswith("--short")
    assert any("of_id=generic-uio" in call for call in calls)


@pytest.fixture
def installation(tmp_path):
    """Runs postinst and the way back on directories of this test, with pip and venv pretended."""
    home, share, bin_folder = tmp_path / "opt", tmp_path / "share", tmp_path / "bin"
    (share / "firmware/kria-llm-00ff").mkdir(parents=True)
    bin_folder.mkdir()
    log = tmp_path / "calls"
    programs = {
        "python3": 'mkdir -p "$3/bin"; for p in pip kria-llm; do printf "#!/bin/sh\\n$PRETEND\\n"'
                   ' >"$3/bin/$p"; chmod +x "$3/bin/$p"; done',
        "kria-llm": f'echo "$*" >> {log}',
    }  # fmt: skip
    for name, text in programs.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_folder / name).chmod(0o755)

    def run(script: str, version: str = "1", pretend: str = "exit 0") -> int:
        text = (deb.FILES / script).read_text().replace("@VERSION@-$(date +%s)", version)
        text = text.replace("/opt/kria-llm", str(home)).replace("/usr/share/kria-llm", str(share))
        text = text.replace("/run/systemd/system", str(tmp_path / "no-systemd"))
        environment = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PRETEND": pretend}
        return subprocess.run(["sh", "-c", text, script, "configure"], env=environment).returncode

    return run, home, log


def test_an_update_keeps_the_version_before_and_goes_back(installation):
    run, home, log = installation
    assert run("kria-llm-rollback") == 2
    for version in ("1", "2", "3"):
        assert run("postinst", version) == 0
    assert (os.readlink(home / "current"), os.readlink(home / "previous")) == ("3", "2")
    assert sorted(path.name for path in home.iterdir() if not path.is_symlink()) == ["2", "3"]
    assert "firmware install" in log.read_text()
    assert run("kria-llm-rollback") == 0
    assert (os.readlink(home / "current"), os.readlink(home / "previous")) == ("2", "3")
    assert log.read_text().splitlines()[-1] == "firmware rollback"


def test_a_runtime_that_does_not_run_leaves_the_one_in_use(installation):
    run, home, _ = installation
    assert run("postinst", "1") == 0
    assert run("postinst", "2", pretend="exit 1") != 0
    assert os.readlink(home / "current") == "1"


def test_a_refused_app_is_examined(tmp_path):
    bin_folder, log = tmp_path / "bin", tmp_path / "calls"
    bin_folder.mkdir()
    for name, code in (("modprobe", 0), ("xmutil", 1), ("kria-llm", 0)):
        path = bin_folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\nexit {code}\n')
        path.chmod(0o755)
    (tmp_path / "design.json").write_text(json.dumps({"app": "kria-llm-00ff"}, indent=2))
    text = (deb.FILES / "start").read_text()
    text = text.replace("/var/lib/kria-llm/firmware/current", str(tmp_path))
    environment = {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert log.read_text().splitlines()[-1].startswith("kria-llm doctor --device uio")


def test_the_unit_is_systemds(tmp_path):
    """Each setting is one that systemd knows; verified by systemd where it is installed."""
    text = (deb.FILES / "kria-llm.service").read_text()
    assert set(re.findall(r"^\[(\w+)\]$", text, re.MULTILINE)) == {"Unit", "Service", "Install"}
    if shutil.which("systemd-analyze"):
        unit = tmp_path / "kria-llm.service"
        unit.write_text(re.sub(r"/usr/lib/kria-llm/\w+", "/bin/true", text))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True
        )
        assert "kria-llm.service:" not in done.stderr


def test_firmware_with_another_hash_is_refused(built, tmp_path):
    path = folder(tmp_path)
    (path / f"{path.name}.dtbo").write_bytes(b"another overlay")
    with pytest.raises(PackageError, match="is not the file that was built"):
        deb.build(tmp_path / "out", "1", built, path)


def test_firmware_without_a_file_is_refused(built, tmp_path):
    path = folder(tmp_path)
    (path / "shell.json").unlink()
    with pytest.raises(PackageError, match=r"lacks shell\.json"):
        deb.build(tmp_path / "out", "1", built, path)


def test_a_stray_file_is_found(package, tmp_path):
    subprocess.run(["dpkg-deb", "--raw-extract", package, tmp_path / "x"], check=True)
    (tmp_path / "x/usr/bin/stray").write_text("")
    other = tmp_path / "other.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", tmp_path / "x", other], check=True,
        capture_output=True,
    )  # fmt: skip
    with pytest.raises(PackageError, match=r"unexpected \['usr/bin/stray'\]"):
        deb.check(other, "1.2.3", "kria-llm-0123456789abcdef")


def test_the_signature_is_minisigns(package, tmp_path):
    secret, public = tmp_path / "key", tmp_path / "key.pub"
    subprocess.run(
        ["minisign", "-G", "-W", "-s", secret, "-p", public], check=True, capture_output=True
    )
    signature = deb.sign(package, secret)
    verify = ["minisign", "-V", "-p", public, "-m", package, "-x", signature]
    assert subprocess.run(verify, capture_output=True).returncode == 0
    changed = tmp_path / package.name
    changed.write_bytes(package.read_bytes() + b"x")
    verify[5] = changed
    assert subprocess.run(verify, capture_output=True).returncode != 0


def test_the_command_lists_the_contents(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "package", "--firmware", folder(tmp_path / "f"), "-o",
         tmp_path / "out", "--json"], cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert Path(told["deb"]).is_file() and Path(told["wheel"]).is_file()
    assert "usr/bin/kria-llm" in told["contents"]
