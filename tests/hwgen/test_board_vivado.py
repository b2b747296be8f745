"""Running Vivado, pretended by programs that note their calls; and the reports that it writes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from hwgen.board import reports, vivado
from spec.errors import ToolError

REPORTS = Path(__file__).parents[1] / "fixtures/vivado"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts programs on PATH that note how they are called and do what a script says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "calls"

    def make(name: str, script: str = "") -> None:
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\n{script}\n')
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for tool in ("vivado", "bootgen"):
        make(tool)
    return make, log


def package(folder: Path, app: str) -> str:
    """A shell line that leaves firmware as make package does."""
    target = folder / "firmware" / app
    return f"mkdir -p {target} && touch {target}/{app}.bit.bin"


def test_a_local_build_runs_make(tmp_path, fake):
    make, log = fake
    make("make", package(tmp_path, "app"))
    vivado.run("local", tmp_path, "app")
    assert log.read_text() == f"make -C {tmp_path} package\n"


def test_a_container_build_mounts_the_folder(tmp_path, fake):
    make, log = fake
    make("podman", package(tmp_path, "app"))
    vivado.run("container:xilinx/vivado:2023.2", tmp_path, "app")
    assert f"run --rm -v {tmp_path}:/work -w /work xilinx/vivado:2023.2" in log.read_text()


def test_an_ssh_build_goes_there_and_back(tmp_path, fake):
    make, log = fake
    make("ssh")
    make("rsync", package(tmp_path, "app"))
    vivado.run("ssh:builder", tmp_path, "app")
    calls = log.read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["ssh", "rsync", "ssh", "rsync"]
    assert "make package" in calls[2]
    assert calls[3].endswith(f"builder:kria-llm-builds/app/ {tmp_path}/")


def test_a_missed_clock_is_the_sentence(tmp_path, fake):
    make, _ = fake
    line = (
        "ERROR: [kria_llm] timing is not met (setup -0.212 ns, hold 0.01 ns): nothing was packaged"
    )
    make("make", f"echo '{line}' > {tmp_path}/vivado.log; exit 2")
    with pytest.raises(vivado.BuildError, match=r"^timing is not met \(setup -0.212 ns"):
        vivado.run("local", tmp_path, "app")


def test_reports_come_back_after_a_failure_far_away(tmp_path, fake):
    make, log = fake
    make("ssh", "case $* in *make*) exit 2;; esac")
    make("rsync")
    with pytest.raises(vivado.BuildError, match="ended with 2"):
        vivado.run("ssh:builder", tmp_path, "app")
    assert log.read_text().splitlines()[-1].startswith("rsync")


def test_an_end_without_firmware_is_an_error(tmp_path, fake):
    fake[0]("make")
    with pytest.raises(vivado.BuildError, match=r"no firmware/app/app\.bit\.bin"):
        vivado.run("local", tmp_path, "app")


@pytest.mark.parametrize(
    "where", ["remote", "ssh:", "container", "ssh:-oProxyCommand=x", "local:x"]
)
def test_another_way_to_vivado_is_refused(tmp_path, where):
    with pytest.raises(vivado.VivadoError, match="local, container:IMAGE or ssh:HOST"):
        vivado.steps(where, tmp_path, "app")


def test_a_missing_tool_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="podman or docker"):
        vivado.steps("container:image", tmp_path, "app")
    with pytest.raises(ToolError, match="--vivado local needs vivado on PATH: source"):
        vivado.run("local", tmp_path, "app")


# Reports


@pytest.fixture
def ran(tmp_path) -> Path:
    """A build folder after Vivado; the reports are written by hand."""
    shutil.copytree(REPORTS, tmp_path / "reports")
    return tmp_path


def test_reports_are_read(ran):
    column = reports.implemented(ran)
    assert column.resources == {"lut": 24876, "ff": 31870, "dsp": 528, "bram36": 17.5, "uram": 8}
    assert column.worst_slack_ns == 0.113
    assert column.clocks_mhz["clk_out1_kria_llm_system_clk_wiz_0"] == 250
    assert column.fmax_mhz["clk_out1_kria_llm_system_clk_wiz_0"] == pytest.approx(257.3, abs=0.1)
    assert column.power_watt == 5.214


def test_the_table_has_estimate_and_implementation(ran):
    total = {"lut": 20513, "ff": 25103, "dsp": 528, "bram36": 16.5, "uram": 8}
    (ran / "synth.json").write_text(json.dumps({"label": "estimate", "total": total}))
    estimate = reports.estimated(ran)
    lines = reports.lines([estimate, reports.implemented(ran)])
    assert lines[0].split() == ["estimate", "implemented", "device"]
    assert lines[1].split() == ["LUT", "20,513", "24,876", "117,120"]
    assert any(line.split() == ["slack", "ns", "-", "0.113"] for line in lines)


def test_missing_and_wrong_reports_are_one_sentence(ran):
    with pytest.raises(reports.ReportError, match=r"run build\.tcl to its end"):
        reports.implemented(ran / "nowhere")
    (ran / "reports/kria_llm_system_wrapper_utilization_placed.rpt").write_text("nothing")
    with pytest.raises(reports.ReportError, match="is not a report of Vivado"):
        reports.implemented(ran)
    (ran / "synth.json").write_text("{}")
    with pytest.raises(reports.ReportError, match="hwgen synth"):
        reports.estimated(ran)
