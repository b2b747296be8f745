"""``hwgen generate``: the same files from the same configuration, whole, as described."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from hwgen import cli, generate
from spec import registers
from spec.config import KV260, TINY, Config
from spec.digest import digest
from spec.errors import ToolError
from spec.files import OutputError

TWO_PORTS = dataclasses.replace(TINY, name="two", ports=2, port_bits=64)

READ = "arid araddr arlen arsize arburst arlock arcache arprot arqos arvalid arready rid rdata"
READ += " rresp rlast rvalid rready"
WRITE = "awid awaddr awlen awsize awburst awlock awcache awprot awqos awvalid awready wdata wstrb"
WRITE += " wlast wvalid wready bid bresp bvalid bready"


def expected_names(config: Config) -> set[str]:
    """Names that Vivado's interface inference wants for this number of ports."""
    control = "awaddr awprot awvalid awready wdata wstrb wvalid wready bresp bvalid bready araddr"
    control += " arprot arvalid arready rdata rresp rvalid rready"
    names = {"aclk", "aresetn", "irq", *(f"s_axi_control_{name}" for name in control.split())}
    for port in range(config.ports):
        names |= {f"m_axi_hp{port}_{name}" for name in READ.split()}
    return names | {f"m_axi_hp0_{name}" for name in WRITE.split()}


def verilog_ports(text: str) -> dict[str, tuple[str, int]]:
    """Direction and width of each port of the top module, from the Verilog itself."""
    module = text[re.search(r"^module kria_llm\(", text, re.MULTILINE).start() :]
    module = module[: module.index("endmodule")]
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", module, re.MULTILINE)
    return {name: (way, int(top or 0) + 1) for way, top, name in found}


@pytest.mark.parametrize("config", [TINY, TWO_PORTS, dataclasses.replace(KV260, tokens=1)],
                         ids=lambda config: config.name)  # fmt: skip
def test_the_verilog_has_the_described_ports_and_no_others(config: Config) -> None:
    found = verilog_ports(generate.verilog(config))
    assert set(found) == expected_names(config)
    described = {
        port["name"]: (port["direction"], port["width"]) for port in generate.ports(config)
    }
    assert found == described
    for name, way in (("awready", "output"), ("rdata", "output"), ("wvalid", "input")):
        assert found[f"s_axi_control_{name}"][0] == way
    assert found["m_axi_hp0_araddr"] == ("output", 40)
    assert found["m_axi_hp0_rdata"] == ("input", config.port_bits)
    assert found["m_axi_hp0_wstrb"] == ("output", config.port_bytes)


def test_files_are_complete_and_the_same_each_time(tmp_path: Path) -> None:
    first = generate.write(TINY, tmp_path / "a" / "b")
    assert [path.name for path in first] == ["kria_llm.v", "design.json", "csr.json"]
    assert sorted(os.listdir(tmp_path / "a" / "b")) == sorted(path.name for path in first)
    # Another process: nothing may hang on this one's hashes or history.
    script = "from hwgen import generate; from pathlib import Path; from spec.config import TINY;"
    script += f"generate.write(TINY, Path({str(tmp_path / 'c')!r}))"
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    for path in first:
        assert path.read_bytes() == (tmp_path / "c" / path.name).read_bytes()
    assert str(Path(generate.__file__).parent) not in first[0].read_text()


def test_the_design_tells_configuration_digest_and_shape(tmp_path: Path) -> None:
    _, design_file, _ = generate.write(TWO_PORTS, tmp_path)
    design = json.loads(design_file.read_text())
    assert Config(**design["config"]) == TWO_PORTS
    assert design["digest"] == f"{digest(TWO_PORTS):016x}"
    assert design["derived"]["lanes"] == TWO_PORTS.lanes
    assert design["derived"]["multiplies_per_cycle"] == TWO_PORTS.lanes * TWO_PORTS.tokens
    assert set(design["versions"]) >= {"generator", "amaranth", "registers", "layout"}


def test_the_register_map_is_the_specification(tmp_path: Path) -> None:
    csr = json.loads(generate.write(TINY, tmp_path)[2].read_text())
    found = {register["name"]: register for register in csr["registers"]}
    assert {name: entry["offset"] for name, entry in found.items()} == registers.OFFSETS
    for register in registers.REGISTERS:
        fields = [(field["name"], field["lsb"]) for field in found[register.name]["fields"]]
        assert fields == [(bits.name, bits.lsb) for bits in register.bits]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    script = "from hwgen.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_writes_and_reports(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text('preset = "tiny"\ntokens = 1\n')
    result = run("generate", "-c", str(config), "-o", str(tmp_path / "out"), "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["config"]["tokens"] == 1
    assert report["config"]["name"] == "mine"
    assert [Path(name).name for name in report["files"]] == list(generate.FILES)
    assert all(Path(name).stat().st_size for name in report["files"])


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [("tokens = 17", "tokens must lie in 1..16, got 17"),
     ("ports = 3", "ports must be one of 1, 2, 4, got 3"),
     ("tokenz = 1", "unknown configuration field 'tokenz'; did you mean tokens?"),
     ("tokens = ", "is not TOML"),
     ("group = 65", "group must be one of 32, 64, 128, got 65")],
)  # fmt: skip
def test_a_configuration_that_cannot_be_built_is_one_sentence(
    tmp_path: Path, toml: str, sentence: str
) -> None:
    config = tmp_path / "bad.toml"
    config.write_text(toml)
    result = run("generate", "-c", str(config), "-o", str(tmp_path / "out"))
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_directory_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = run("generate", "-c", "tiny", "-o", str(tmp_path / "file"))
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: cannot write to {tmp_path / 'file'} (")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate.write(TINY, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(generate, "verilog", lambda config: "half")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left on device"):
        generate.write(TINY, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_command_whose_package_is_missing_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = EntryPoint("elsewhere", "no_such_package.module:command", cli.GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [point])
    monkeypatch.setattr(cli.app, "registered_commands", list(cli.app.registered_commands))
    cli.add_installed_commands()
    added = cli.app.registered_commands[-1]
    assert added.name == "elsewhere"
    with pytest.raises(ToolError, match=r"needs the package no_such_package.*kria-llm\[simulation"):
        added.callback()


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"]])
def test_help_teaches(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 0
    assert "hwgen generate --config kv260" in result.stdout
