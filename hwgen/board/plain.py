"""The second route's files: Amaranth's own Vivado flow, with the same gate, reports and packaging.

No block design: PS8 and MMCM are instances (``hwgen.board.system``); one Verilog file holds all.
"""

from __future__ import annotations

from hwgen.board import files
from hwgen.board.boards import Board
from hwgen.board.system import Design
from spec.config import Config

NAME = "kria_llm"

SOURCES = ("build.tcl", "kria_llm.v", "kria_llm.xdc")

GATE = """
file mkdir reports output
report_timing_summary -max_paths 20 -file reports/{name}_timing_summary_routed.rpt
report_utilization -file reports/{name}_utilization_placed.rpt
report_power -file reports/power.rpt
# The gate: a design that misses its clock is not packaged.
set setup [get_property SLACK [get_timing_paths -setup]]
set hold [get_property SLACK [get_timing_paths -hold]]
if {{$setup eq "" || $hold eq ""}} {{
    puts "ERROR: \\[kria_llm\\] no path is constrained: the clock does not reach the design"
    exit 5
}}
if {{$setup < 0 || $hold < 0}} {{
    puts "ERROR: \\[kria_llm\\] timing is not met (setup $setup ns, hold $hold ns): not packaged"
    exit 5
}}
"""

BEFORE = ("block_design.tcl", "kria_llm_board.v", "pins.xdc", "timing.xdc")
"""Files of the block design's route that this one does not have."""


def contents(board: Board, config: Config) -> dict[str, str]:
    """The text of every file by its name.

    Raises:
        BoardError: as for ``files.contents``, or ports that are not 128 bits wide.
    """
    texts = files.contents(board, config, SOURCES)
    for name in BEFORE:
        del texts[name]
    app = files.app(config)
    plan = board.platform().build(
        Design(config), name=NAME, do_build=False, debug_verilog=False,
        script_before_bitstream=GATE.format(name=NAME),
        script_after_bitstream=f"file copy -force {NAME}.bit output/{app}.bit\n",
    )  # fmt: skip
    texts["build.tcl"] = _text(plan.files[f"{NAME}.tcl"])
    for name in ("kria_llm.v", "kria_llm.xdc"):
        texts[name] = _text(plan.files[name])
    return texts


def _text(content: str | bytes) -> str:
    return content if isinstance(content, str) else content.decode()
