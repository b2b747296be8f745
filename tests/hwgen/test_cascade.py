"""Cascade: the vendor twin's DSP48E2 chain on a behavioural DSP48E2, both tokens' sums exact."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from amaranth.back import rtlil

from hwgen import netlist
from hwgen.cascade import FIELD, P_BITS, Cascade
from spec import numeric

MODEL = Path(__file__).parents[1] / "sim" / "dsp48e2.v"

BENCH = """
module bench;
  reg clk = 0, rst = 0;
  reg [{width}:0] held [0:{last}];
  integer now;
  wire signed [{p}:0] sum;
  reg [{x}:0] x; reg load0, load1; reg [{swap}:0] swap; reg [{weights}:0] weights;
  cascade core(.clk(clk), .x(x), .load0(load0), .load1(load1), .swap(swap),
               .weights(weights), .sum(sum));
  initial begin
    $readmemh("stimulus.hex", held);
    for (now = 0; now <= {last}; now = now + 1) begin
      {{weights, swap, load1, load0, x}} = held[now];
      #1 $display("%0d", sum);
      clk = 1; #1 clk = 0; #1;
    end
  end
endmodule
"""


def run(length: int, cycles: list[dict[str, int]], directory: Path) -> list[int]:
    """``sum`` in each cycle, on Icarus Verilog."""
    widths = {"x": 8 * length, "load0": 1, "load1": 1, "swap": length,
              "weights": numeric.WEIGHT_BITS * length}  # fmt: skip
    text = netlist.verilog(rtlil.convert(Cascade(length), name="cascade", emit_src=False))
    bench = BENCH.format(
        width=sum(widths.values()) - 1, last=len(cycles) - 1, p=P_BITS - 1, x=widths["x"] - 1,
        swap=length - 1, weights=widths["weights"] - 1,
    )  # fmt: skip
    (directory / "design.v").write_text(text + bench)
    lines = []
    for cycle in cycles:
        image, at = 0, 0
        for name, width in widths.items():
            image |= cycle.get(name, 0) << at
            at += width
        lines.append(f"{image:x}")
    (directory / "stimulus.hex").write_text("\n".join(lines) + "\n")
    for step in (
        ["iverilog", "-g2012", "-s", "bench", "-o", "bench.vvp", "design.v", str(MODEL)],
        ["vvp", "-n", "bench.vvp"],
    ):
        done = subprocess.run(step, cwd=directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return [int(line) if "x" not in line else 0 for line in done.stdout.split()]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("length", [1, 2, 8])
def test_both_tokens_sums_come_after_the_latency(length: int, seed: int, tmp_path: Path) -> None:
    """Chunk after chunk: what is loaded takes over with ``swap``, position by position."""
    chance = random.Random(seed)
    beats = 4 * length
    cycles: list[dict[str, int]] = [{} for _ in range(3 * (beats + 4) + length + Cascade.latency)]
    wanted: dict[int, int] = {}

    def add(cycle: int, name: str, value: int) -> None:
        cycles[cycle][name] = cycles[cycle].get(name, 0) | value

    for chunk in range(3):
        edge = chunk == 0
        x = [[-128 if edge else chance.randint(-128, 127) for _ in range(length)]
             for _ in range(2)]  # fmt: skip
        start = chunk * (beats + 4)
        # The chunk before still has `length` cycles to go where its last weights pass.
        for token in range(2):
            image = sum((value & 255) << 8 * i for i, value in enumerate(x[token]))
            cycles[start + token] |= {"x": image, f"load{token}": 1}
        for beat in range(beats):
            at = start + 4 + beat
            weights = [15 if edge else chance.randint(-15, 15) for _ in range(length)]
            for i, weight in enumerate(weights):
                add(at + i, "weights", (weight & 31) << numeric.WEIGHT_BITS * i)
                if beat == 0:
                    add(at + i, "swap", 1 << i)
            sums = [sum(w * v for w, v in zip(weights, values, strict=True)) for values in x]
            wanted[at + length - 1 + Cascade.latency] = (sums[1] << FIELD) + sums[0]
    found = run(length, cycles, tmp_path)
    assert {cycle: found[cycle] for cycle in wanted} == wanted
