"""The files of a board build: what each tool that is here says of them."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import tkinter
from pathlib import Path

import pytest

from hwgen import generate
from hwgen.board import boards, clocking, files, plain, wrapper
from hwgen.board.command import build
from hwgen.synthesis import yosys
from spec.config import KV260, TINY, Config

DSP_MODEL = Path(__file__).parents[1] / "sim/dsp48e2.v"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    files.write(boards.KV260, TINY, folder)
    return folder


def run(folder: Path, *command: str) -> str:
    """Runs a tool; it must end with 0. Returns all that it says."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# Platforms and clocking


@pytest.mark.parametrize("board", boards.BOARDS.values(), ids=lambda board: board.name)
def test_platform_is_the_part_and_has_the_fan(board):
    platform = board.platform()
    assert platform._part == board.part == "xck26-sfvc784-2LV-c"
    assert board.pins()["A12"] == "LVCMOS33"
    assert len(board.pins()) == len(set(board.pins()))


def test_the_kr260_has_more_pmods():
    assert len(boards.KV260.platform.connectors) == 1
    assert len(boards.KR260.platform.connectors) == 4
    assert {"H12", "AE12", "AC12", "J11"} <= set(boards.KR260.pins())


@pytest.mark.parametrize("clock", [100, 125, 150, 187.5, 200, 214.3, 250, 275, 300, 333, 350, 400])
def test_the_mmcm_makes_the_clock(clock):
    mmcm = clocking.settings(clock)
    low, high = clocking.VCO_MHZ
    assert low <= 100 / mmcm.divide * mmcm.multiply <= high
    assert mmcm.output() == pytest.approx(clock, rel=clocking.TOLERANCE)
    assert (mmcm.multiply * 8) % 1 == (mmcm.output_divide * 8) % 1 == 0


def test_the_preset_takes_whole_dividers():
    assert clocking.settings(250) == clocking.Mmcm(1, 15.0, 6.0)


def test_an_unknown_board_names_the_nearest():
    with pytest.raises(boards.BoardError, match=r"kv26.*did you mean kv260"):
        boards.find("kv26")


def test_a_clock_out_of_reach_is_refused(tmp_path):
    with pytest.raises(boards.BoardError, match=r"clock_mhz must lie in 20..500.*900"):
        files.write(boards.KV260, Config(clock_mhz=900.0), tmp_path)


# The Verilog top, read by three tools


@pytest.mark.parametrize("config", [TINY, KV260, Config(ports=2, tokens=1)], ids=lambda c: c.name)
def test_interfaces_are_what_vivado_infers(config):
    text = wrapper.verilog(config)
    assert wrapper.check(config, text) == []
    inferred = wrapper.infer(text)
    assert inferred["s_axi_control"].protocol == "AXI4LITE"
    assert inferred["m_axi_hp0"].access == "READ_WRITE"
    if config.ports > 1:
        assert inferred["m_axi_hp1"].access == "READ_ONLY"


@pytest.mark.parametrize("config", [TINY, Config(ports=2, tokens=1)], ids=lambda c: c.name)
def test_the_wrappers_ports_are_the_engines(config):
    listed = {port["name"]: (port["direction"], port["width"]) for port in generate.ports(config)}
    assert wrapper.ports(wrapper.verilog(config)) == listed


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("wire [7:0] m_axi_hp0_arlen", "wire [7:0] m_axi_hp0_arlength", "no attribute"),
        ("m_axi_hp0 RVALID", "m_axi_hp0 RREADY", "stated to be RREADY"),
        (" m_axi_hp0_rready", " m_axi_hp0_r_ready", "rready"),
        ("wire [31:0] s_axi_control_rdata", "wire [63:0] s_axi_control_rdata", "64 bits"),
        ("input wire m_axi_hp0_rvalid", "input wire m_axi_hpo_rvalid", "m_axi_hpo"),
    ],
)
def test_a_port_off_the_naming_rules_is_found(old, new, words):
    text = wrapper.verilog(TINY)
    assert old in text
    assert any(words in finding for finding in wrapper.check(TINY, text.replace(old, new)))


def test_verilator_has_nothing_to_say(tiny):
    said = run(tiny, "verilator", "--lint-only", "-Wall", "--top-module", wrapper.MODULE,
               "verilator.vlt", "kria_llm_board.v", "kria_llm.v")  # fmt: skip
    assert said == ""


def test_the_wrapper_is_waived_nothing(tiny, tmp_path):
    broken = (tiny / "kria_llm_board.v").read_text().replace(".irq(irq)", ".irq()")
    (tmp_path / "kria_llm_board.v").write_text(broken)
    for name in ("kria_llm.v", "verilator.vlt"):
        shutil.copy(tiny / name, tmp_path)
    done = subprocess.run(
        ["verilator", "--lint-only", "-Wall", "--top-module", wrapper.MODULE, "verilator.vlt",
         "kria_llm_board.v", "kria_llm.v"], cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "irq" in done.stderr


def test_icarus_has_nothing_to_say(tiny):
    said = run(tiny, "iverilog", "-g2005", "-Wall", "-o", "/dev/null", "-s", wrapper.MODULE,
               "kria_llm_board.v", "kria_llm.v")  # fmt: skip
    assert said == ""


def test_yosys_reads_it_without_warnings(tiny, tmp_path):
    script = (
        f"read_verilog {tiny}/kria_llm_board.v {tiny}/kria_llm.v\n"
        f"hierarchy -check -top {wrapper.MODULE}\nproc\ncheck -assert\n"
    )
    yosys.find().run(script, tmp_path)
    assert "Warning" not in (tmp_path / "yosys.log").read_text()


@pytest.mark.slow
def test_the_preset_is_read_too(tmp_path):
    """With the vendor's DSP as a model: 528 instances, four ports."""
    files.write(boards.KV260, KV260, tmp_path)
    said = run(tmp_path, "iverilog", "-g2005-sv", "-o", "/dev/null", "-s", wrapper.MODULE,
               "kria_llm_board.v", "kria_llm.v", str(DSP_MODEL))  # fmt: skip
    assert said == ""
    assert (tmp_path / "kria_llm.v").read_text().count("DSP48E2 #(") == 528
    (tmp_path / "model.vlt").write_text('`verilator_config\nlint_off -file "*dsp48e2.v"\n')
    said = run(tmp_path, "verilator", "--lint-only", "-Wall", "--top-module", wrapper.MODULE,
               "verilator.vlt", "model.vlt", "kria_llm_board.v", "kria_llm.v",
               str(DSP_MODEL))  # fmt: skip
    assert said == ""


# Overlay, BIF, shell.json, names


@pytest.mark.parametrize("board", boards.BOARDS.values(), ids=lambda board: board.name)
@pytest.mark.parametrize("config", [TINY, Config(name="narrow", ports=4, port_bits=64)],
                         ids=lambda config: config.name)  # fmt: skip
def test_the_overlay_compiles_without_warnings(tmp_path, board, config):
    files.write(board, config, tmp_path, files.surroundings(board, config))
    said = run(tmp_path, "make", "--no-print-directory", "check")
    assert "arning" not in said
    assert (tmp_path / "output" / f"{files.app(config)}.dtbo").stat().st_size > 500


BASE_TREE = """/dts-v1/;
/ {
	#address-cells = <2>; #size-cells = <2>;
	fpga_full: fpga-region { #address-cells = <2>; #size-cells = <2>; };
	gic: interrupt-controller { #interrupt-cells = <3>; interrupt-controller; };
	zynqmp_clk: clock-controller { #clock-cells = <1>; };
	zynqmp_reset: reset-controller { #reset-cells = <1>; };
	amba: axi { compatible = "simple-bus"; #address-cells = <2>; #size-cells = <2>; ranges; };
};
"""
"""The labels of the module's device tree that the overlay refers to, with their cells."""


def test_the_overlay_applies_to_a_tree_with_the_modules_labels(tmp_path):
    files.write(boards.KV260, KV260, tmp_path, files.surroundings(boards.KV260, KV260))
    (tmp_path / "base.dts").write_text(BASE_TREE)
    run(tmp_path, "dtc", "-@", "-o", "base.dtb", "base.dts")
    run(tmp_path, "make", "check")
    overlay = f"output/{files.app(KV260)}.dtbo"
    run(tmp_path, "fdtoverlay", "-i", "base.dtb", "-o", "whole.dtb", overlay)
    tree = run(tmp_path, "dtc", "-q", "-I", "dtb", "-O", "dts", "whole.dtb")
    assert f'firmware-name = "{files.app(KV260)}.bit.bin"' in tree
    assert "kria_llm@a0000000 {" in tree
    assert re.search(r"assigned-clock-rates = <0x5f5dd19>", tree)  # 99,999,001 Hz
    broken = BASE_TREE.replace("zynqmp_reset:", "other_reset:")
    (tmp_path / "base.dts").write_text(broken)
    run(tmp_path, "dtc", "-@", "-o", "base.dtb", "base.dts")
    done = subprocess.run(
        ["fdtoverlay", "-i", "base.dtb", "-o", "whole.dtb", overlay], cwd=tmp_path,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode != 0


def test_the_overlay_sets_the_widths_and_the_window():
    texts = files.surroundings(boards.KV260, KV260)
    overlay = texts[f"{files.app(KV260)}.dts"]
    pairs = re.findall(r"<(\d+) (0x\w+)>", overlay)
    assert [int(register) for register, _ in pairs] == [4, 5, 6, 7, 8, 9, 10, 11, 14]
    assert {value for _, value in pairs[:-1]} == {"0x0"}
    assert pairs[-1] == ("14", "0x200")
    assert "reg = <0x0 0xa0000000 0x0 0x10000>" in overlay
    assert f'firmware-name = "{files.app(KV260)}.bit.bin"' in overlay
    assert "zynqmp_reset 116" in overlay


def test_narrow_ports_have_their_code():
    narrow = Config(ports=4, port_bits=64)
    assert files.config_afi(narrow).startswith("<4 0x1>, <5 0x1>")


def test_the_bif_has_bootgens_grammar_and_names_the_bitstream(tiny):
    text = (tiny / f"{files.app(TINY)}.bif").read_text()
    found = re.fullmatch(r"all:\n\{\n\t\[destination_device = pl\] (\S+)\n\}\n", text)
    assert found and found[1] == f"{files.app(TINY)}.bit"
    assert f"output/{files.app(TINY)}.bit" in (tiny / "build.tcl").read_text()


def test_shell_json_is_what_dfx_mgr_reads(tiny):
    assert json.loads((tiny / "shell.json").read_text()) == {
        "shell_type": "XRT_FLAT", "num_slots": "1",
    }  # fmt: skip


def test_the_firmwares_name_carries_the_digest(tiny):
    told = json.loads((tiny / "design.json").read_text())
    assert told["app"] == f"kria-llm-{told['digest']}"
    assert files.app(TINY) != files.app(KV260)


def test_the_configuration_comes_back(tiny):
    from spec import config

    assert config.load(tiny / "config.toml") == TINY


# The command


def test_build_says_what_was_not_run(tmp_path, capsys):
    build(tmp_path / "out", config="tiny", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["lint"] == "clean"
    assert told["vivado"] == "not run"
    assert {Path(name).name for name in told["files"]} >= {"build.tcl", "pins.xdc", "Makefile"}


def test_the_plain_flow_has_gate_and_packaging(tmp_path, capsys):
    build(tmp_path, config="tiny", flow="plain", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["flow"] == "plain"
    script = (tmp_path / "build.tcl").read_text()
    gate, bitstream = script.index("timing is not met"), script.index("write_bitstream")
    assert script.index("route_design") < gate < bitstream
    assert f"output/{files.app(TINY)}.bit" in script[bitstream:]
    assert tkinter.Tcl().eval(f"info complete {{{script}}}") == "1"
    constraints = (tmp_path / "kria_llm.xdc").read_text()
    assert "A12" in constraints
    assert re.search(r"create_clock -name \S+ -period 10(\.0*)? \[get_", constraints), constraints
    made = run(tmp_path, "make", "--no-print-directory", "--dry-run", "bitstream")
    assert "-source build.tcl" in made
    run(tmp_path, "make", "--no-print-directory", "check")


def test_the_plain_flows_gate_stops_before_the_bitstream(tmp_path):
    """Run in Tcl with commands that do nothing but for the slack."""
    script = plain.contents(boards.KV260, TINY)["build.tcl"]
    for slack, packaged in (("0.1", True), ("-0.001", False), ("", False)):
        tcl = tkinter.Tcl()
        seen = []
        tcl.createcommand("unknown", lambda *words, seen=seen: seen.append(words[0]) or "")
        tcl.createcommand("get_property", lambda *words, slack=slack: slack)
        tcl.createcommand("puts", lambda *words: "")
        tcl.createcommand("file", lambda *words: "")
        tcl.eval("proc exit {code} {return -level 99 -code return $code}")
        with contextlib.suppress(tkinter.TclError):
            tcl.eval(script)
        assert ("write_bitstream" in seen) is packaged, (slack, seen)


def test_an_unknown_flow_is_refused(tmp_path):
    with pytest.raises(boards.BoardError, match="--flow must be block-design or plain, got 'x'"):
        build(tmp_path, config="tiny", flow="x")


def test_the_same_configuration_gives_the_same_files():
    assert files.contents(boards.KV260, TINY) == files.contents(boards.KV260, TINY)
