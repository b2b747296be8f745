"""The depth rule on small Verilog: each case is drawn so that its depth is plain to see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwgen.synthesis import command as synth
from hwgen.synthesis import depth, mapped, yosys

PRELUDE = "module kria_llm(input clk, input [{inputs}:0] a, output reg [{outputs}:0] q);\n"


def verdict(tmp_path: Path, body: str, inputs: int = 40, outputs: int = 40) -> depth.Verdict:
    """The rule applied to a module with registered inputs ``r`` and outputs ``q``."""
    text = PRELUDE.format(inputs=inputs, outputs=outputs)
    text += f"reg [{inputs}:0] r; always @(posedge clk) r <= a;\n{body}\nendmodule\n"
    (tmp_path / "design.v").write_text(text)
    script = synth.SCRIPT.replace("read_rtlil design.il", "read_verilog design.v")
    yosys.find().run(script, tmp_path)
    return depth.check(mapped.read(json.loads((tmp_path / "mapped.json").read_bytes())))


def test_six_inputs_are_one_level_and_36_are_two(tmp_path: Path) -> None:
    found = verdict(
        tmp_path,
        "reg s, t; always @(posedge clk) begin s <= ^r[5:0]; t <= ^r[35:0]; q <= {s, t}; end",
    )
    levels = {path.end: path.levels for path in found.paths}
    assert levels["s.D"] == 1
    assert levels["t.D"] == 2
    assert found.met


def test_a_parity_of_1200_bits_takes_a_fourth_level(tmp_path: Path) -> None:
    found = verdict(tmp_path, "always @(posedge clk) q <= {40'b0, ^r};", inputs=1199)
    worst = found.paths[0]
    assert not found.met
    assert worst.levels == 4  # 6**3 = 216 < 1200 <= 6**4
    assert worst.start.startswith("r[")
    assert worst.end == "q[0].D"


@pytest.mark.parametrize(("bits", "met"), [(16, True), (32, True), (33, False), (40, False)])
def test_a_sum_is_one_carry_chain_of_its_bits(tmp_path: Path, bits: int, met: bool) -> None:
    body = f"reg [{bits - 1}:0] s; always @(posedge clk) begin"
    body += f" s <= r[{bits - 1}:0] + r[{2 * bits - 1}:{bits}]; q <= s; end"
    found = verdict(tmp_path, body, inputs=2 * bits)
    worst = max(found.paths, key=lambda path: path.chain_bits)
    assert (worst.chains, worst.chain_bits) == (1, bits)
    assert found.met == met


def test_a_carry_out_that_is_kept_does_not_lengthen_the_chain(tmp_path: Path) -> None:
    body = "reg [32:0] s; always @(posedge clk) begin s <= r[31:0] + r[63:32]; q <= s; end"
    found = verdict(tmp_path, body, inputs=63)
    assert max(path.chain_bits for path in found.paths) == 32
    assert found.met


def test_two_sums_in_a_row_are_two_chains(tmp_path: Path) -> None:
    body = "wire [15:0] s = r[15:0] + r[31:16]; always @(posedge clk)"
    body += " q <= (s ^ {16{r[40]}}) - {r[7:0], r[15:8]};"
    found = verdict(tmp_path, body)
    assert not found.met
    assert found.paths[0].chains == 2


MEMORY = """(* ram_style = "block" *) reg [31:0] memory [0:1023]; reg [31:0] out, late;
always @(posedge clk) begin
  if (r[40]) memory[r[9:0]] <= {r[31:0]};
  out <= memory[r[19:10]]; late <= out; q <= %s; end"""


@pytest.mark.parametrize(("after", "met"), [("late", True), ("out ^ r[39:8]", False)])
def test_logic_behind_a_block_ram_misses_its_output_register(
    tmp_path: Path, after: str, met: bool
) -> None:
    found = verdict(tmp_path, MEMORY % after)
    assert found.met == met
    assert bool(found.unregistered) == (not met)
    if not met:
        assert "memory.0.0 has no output register" in found.unregistered[0]


def test_a_dsp_without_its_registers_is_named(tmp_path: Path) -> None:
    found = verdict(tmp_path, "always @(posedge clk) q <= $signed(r[16:0]) * $signed(r[36:20]);")
    assert not found.met
    assert "works without MREG, PREG" in found.unregistered[0]


def test_a_path_ends_at_the_processor_and_starts_anew_behind_it(tmp_path: Path) -> None:
    found = verdict(
        tmp_path,
        "wire [31:0] s; wire x = ^r[35:0];\n"
        "PS8 ps(.MAXIGP0ACLK(clk), .MAXIGP0RDATA({31'b0, x}), .MAXIGP0WDATA(s));\n"
        "always @(posedge clk) q <= {40'b0, ^s};",
    )
    ends = {path.end: path.levels for path in found.paths}
    assert max(ends.values()) == 2
    assert any("MAXIGP0RDATA" in end for end in ends)
    assert any("MAXIGP0WDATA" in path.start for path in found.paths)
