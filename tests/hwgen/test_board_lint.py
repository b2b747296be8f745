"""The lint of the generated Tcl: clean on what is generated, and each seeded error is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hwgen.board import boards, files
from hwgen.board.lint import check
from spec.config import KV260, TINY, Config

BD, BUILD, PINS = "block_design.tcl", "build.tcl", "pins.xdc"

SEEDED = [
    # names
    (BD, "create_bd_cell -type module", "create_bd_sell -type module", "unknown command"),
    (BD, "xilinx.com:ip:clk_wiz clk_wiz_0", "xilinx.com:ip:clk_wizz clk_wiz_0", "no IP"),
    (BD, "PSU__USE__IRQ0", "PSU__USE__IRQ_0", "no property PSU__USE__IRQ_0"),
    (BD, "CONFIG.REG_AR {1}", "CONFIG.REG_AR {3}", "REG_AR"),
    (BD, "PSU__SAXIGP2__DATA_WIDTH {128}", "PSU__SAXIGP2__DATA_WIDTH {256}", "DATA_WIDTH"),
    (BD, "kria_llm_0/irq]", "kria_llm_0/interrupt]", "kria_llm_0/interrupt"),
    (BD, "-reference kria_llm_board", "-reference kria_llm_bord", "no module"),
    (BD, "HP0_DDR_LOW]", "HP0_DDR]", "HP0_DDR"),
    (BD, "bd_rule:zynq_ultra_ps_e -config", "bd_rule:zynq_ultra_ps -config", "no rule"),
    (BD, 'apply_board_preset "1"', 'apply_board_preset "0"', "preset"),
    (BD, "CONFIG.USE_LOCKED {true}", "USE_LOCKED {true}", "lacks CONFIG."),
    # pins and buses
    (BD, "connect_bd_net [get_bd_pins clk_wiz_0/locked] [get_bd_pins proc_sys_reset_0/dcm_locked]",
     "", "dcm_locked is not connected"),
    (BD, "    [get_bd_pins slice_hp1/aclk] \\\n", "", "slice_hp1/aclk"),
    (BD, "    [get_bd_pins zynq_ultra_ps_e_0/saxihp2_fpd_aclk] \\\n", "", "saxihp2_fpd_aclk"),
    (BD, "proc_sys_reset_0/peripheral_aresetn]", "proc_sys_reset_0/peripheral_reset]", "polarity"),
    (BD, "validate_bd_design",
     "connect_bd_net [get_bd_pins zynq_ultra_ps_e_0/pl_clk0] [get_bd_pins kria_llm_0/aclk]\n"
     "validate_bd_design", "drive the same net"),
    (BD, "CONFIG.DIN_WIDTH {3}", "CONFIG.DIN_WIDTH {4}", "3 bits"),
    (BD, "[get_bd_intf_pins kria_llm_0/m_axi_hp1] [get_bd_intf_pins slice_hp1/S_AXI]",
     "[get_bd_intf_pins kria_llm_0/m_axi_hp0] [get_bd_intf_pins slice_hp1/S_AXI]", "2 times"),
    (BD, "connect_bd_intf_net [get_bd_intf_pins slice_hp3/M_AXI]"
     " [get_bd_intf_pins zynq_ultra_ps_e_0/S_AXI_HP3_FPD]", "", "S_AXI_HP3_FPD is not connected"),
    (BD, "[get_bd_intf_pins slice_hp0/M_AXI] [get_bd_intf_pins zynq_ultra_ps_e_0/S_AXI_HP0_FPD]",
     "[get_bd_intf_pins slice_hp0/M_AXI] [get_bd_intf_pins zynq_ultra_ps_e_0/M_AXI_HPM0_FPD]",
     "both masters"),
    (BD, "PSU__SAXIGP3__DATA_WIDTH {128}", "PSU__SAXIGP3__DATA_WIDTH {64}", "widths differ"),
    (BD, "PSU__USE__M_AXI_GP1 {0}", "PSU__USE__M_AXI_GP1 {1}", "maxihpm1_fpd_aclk"),
    (BD, "    [get_bd_pins slice_hp0/aclk] \\\n",
     "    [get_bd_pins zynq_ultra_ps_e_0/pl_resetn0] \\\n", "pl_resetn0"),
    (BD, "[get_bd_pins kria_llm_0/irq] [get_bd_pins zynq_ultra_ps_e_0/pl_ps_irq0]",
     "[get_bd_pins zynq_ultra_ps_e_0/pl_clk0] [get_bd_pins zynq_ultra_ps_e_0/pl_ps_irq0]",
     "is a clock"),
    (BD, "[get_bd_pins fan_0/Dout] [get_bd_ports fan_en_b]", "", "fan_en_b"),
    # addresses
    (BD, "-offset 0xa0000000", "-offset 0x90000000", "outside HPM0_FPD"),
    (BD, "-offset 0xa0000000", "-offset 0xa0001000", "not aligned"),
    (BD, "-range 64K", "-range 4K", "answers 0x10000"),
    (BD, "-range 64K", "-range 128K", "has 0x10000 bytes"),
    (BD, "-offset 0x800000000 -range 2G", "-offset 0x000000000 -range 2G", "overlap"),
    (BD, "-offset 0x000000000 -range 2G", "-offset 0x000000000 -range 4G", "bytes"),
    (BD, "exclude_bd_addr_seg -target_address_space [get_bd_addr_spaces kria_llm_0/m_axi_hp2]"
     " [get_bd_addr_segs zynq_ultra_ps_e_0/SAXIGP4/HP2_QSPI]", "", "HP2_QSPI is neither"),
    (BD, "kria_llm_0/m_axi_hp3] [get_bd_addr_segs zynq_ultra_ps_e_0/SAXIGP5/HP3_DDR_LOW]",
     "kria_llm_0/m_axi_hp3] [get_bd_addr_segs zynq_ultra_ps_e_0/SAXIGP4/HP2_DDR_LOW]",
     "cannot be reached"),
    (BD, "_QSPI]", "_DDR_LOW]", "left out"),
    # agreement with configuration, firmware, board
    (BD, "CLKOUT1_REQUESTED_OUT_FREQ {250}", "CLKOUT1_REQUESTED_OUT_FREQ {200}", "200 MHz"),
    (BD, "PSU__MAXIGP0__DATA_WIDTH {128}", "PSU__MAXIGP0__DATA_WIDTH {32}", "PSU__MAXIGP0"),
    (BD, "save_bd_design", "", "validated, saved"),
    (BUILD, "xck26-sfvc784-2LV-c", "xck26-sfvc784-2LVI-i", "part"),
    (BUILD, "set_property board_connections", "#", "board_connections"),
    (BUILD, "pins.xdc $here/timing.xdc", "pins.xdc", "timing.xdc"),
    (BUILD, "-to_step write_bitstream", "-to_step bitstream", "no step"),
    (BUILD, "KEEP_EQUIVALENT_REGISTERS", "KEEP_EQUAL_REGISTERS", "no property"),
    (BUILD, "launch_runs synth_1", "launch_runs synth1", "no run synth1"),
    (BUILD, "report_power", "# report_power", "never calls report_power"),
    (BUILD, "set_property top kria_llm_system_wrapper", "set_property top kria_llm_sys", "top"),
    (BUILD, "$setup < 0 || $hold < 0", "$setup < -1", "slack is negative"),
    (BUILD, "$setup < 0 || $hold < 0", "$setup < 0", "hold slack is negative"),
    (BUILD, "Synth 8-4767", "Synth 8-9999", "8-4767"),
    (BUILD, "open_run impl_1\n", "", "before a run is opened"),
    (BUILD, "[llength $boards] == 0", "0", "board's files are missing"),
    (PINS, "PACKAGE_PIN A12", "PACKAGE_PIN A13", "A13"),
    (PINS, "set_property PACKAGE_PIN A12 [get_ports fan_en_b]", "", "no PACKAGE_PIN"),
    (PINS, "LVCMOS33", "LVCMOS18", "IOSTANDARD"),
    (PINS, "fan_en_b", "fan_enable", "fan_enable"),
    ("timing.xdc", "-to [get_ports fan_en_b]", "", "names nothing"),
]  # fmt: skip
"""File, text, what is put in its place (the first time), words of a finding."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of the preset."""
    return around(tmp_path_factory.mktemp("build"), boards.KV260, KV260)


def around(folder: Path, board: boards.Board, config: Config) -> Path:
    """A build without the engine's own Verilog, which does not matter here."""
    texts = {**files.surroundings(board, config), "kria_llm.v": "", "design.json": "{}"}
    files.write(board, config, folder, texts)
    return folder


def test_the_generated_tcl_is_clean(built):
    assert check.lint(built, boards.KV260, KV260) == []


def test_another_board_and_shape_is_clean(tmp_path):
    for config in (TINY, Config(ports=2, port_bits=64, clock_mhz=214.3), Config(ports=4)):
        folder = around(tmp_path / str(config.ports), boards.KR260, config)
        assert check.lint(folder, boards.KR260, config) == []


def test_there_are_enough_seeded_errors():
    assert len(SEEDED) >= 30


@pytest.mark.parametrize(("name", "old", "new", "words"), SEEDED)
def test_a_seeded_error_is_found(built, tmp_path, name, old, new, words):
    folder = tmp_path / "build"
    shutil.copytree(built, folder)
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    findings = check.lint(folder, boards.KV260, KV260)
    assert any(words in finding for finding in findings), findings


def test_a_design_for_another_configuration_is_found(tmp_path):
    around(tmp_path, boards.KV260, TINY)
    findings = check.lint(tmp_path, boards.KV260, KV260)
    assert any("PSU__USE__S_AXI_GP3 = not set" in finding for finding in findings)
