"""From Amaranth's RTLIL to readable Verilog: registers with enables, instead of copies of copies.

Amaranth's own converter leaves every register as a process that first copies the old value;
Verilator then simulates that copy in each cycle. In the datapath Yosys's ``proc`` and ``opt_dff``
find the enables; in the flat text for Verilator state machines stay the case statements that they
are. This makes the simulation about twice as fast. The function is the same; the simulated device
and the Verilog for Vivado come from one RTLIL.
"""

import re

# The Yosys that Amaranth itself found (its wheel, or one on PATH). The module is internal to
# Amaranth, whose version pyproject.toml therefore bounds.
from amaranth._toolchain.yosys import find_yosys

MINIMUM_YOSYS = (0, 40)

NO_ATTRIBUTES = "-remove generator -remove top -remove src -remove amaranth.hierarchy " \
    "-remove amaranth.decoding"  # fmt: skip

REPEATED = re.compile(r"(?<=[{,] )((?:\\\S+ |[A-Za-z_]\w*)(?:\[\d+\])?)((?: ?, \1){2,})(?= ?[,}])")
"""One bit several times in a concatenation, as Yosys writes a sign that is extended."""

CLEAN = ("opt_expr", "opt_clean", "opt_dff -nosdff", "opt_clean")
HIERARCHY = ("proc", *CLEAN)
# Yosys cleans no module that holds a process: everything else is cleaned before it is flattened
# into one that does.
FLAT = (
    "select -set datapath *.datapath", "flatten @datapath",
    "select -set machines w:fsm_state %m", "select -set plain * @machines %d",
    "proc @plain", *(f"{step} @plain" for step in ("opt_expr", "opt_merge", *CLEAN)),
    "proc -nomux -norom @machines", "flatten",
)  # fmt: skip


def verilog(rtlil: str, *, flat: bool = False) -> str:
    """Verilog of a design in RTLIL.

    Args:
        flat: one module, equal registers merged: what Verilator simulates fastest.
    """
    script = [
        f"read_rtlil <<rtlil\n{rtlil}\nrtlil",
        *(FLAT if flat else HIERARCHY),
        "memory_collect",
        f"attrmap {NO_ATTRIBUTES}",
        f"attrmap -modattr {NO_ATTRIBUTES}",
        # Internal names ($procmux$1) are legal only as escaped ones, and Icarus takes a function of
        # such a name for a system function; Verilator's input keeps them.
        "write_verilog -norename" if flat else "write_verilog",
    ]
    yosys = find_yosys(lambda version: version >= MINIMUM_YOSYS)
    text = yosys.run(["-q", "-"], "\n".join(script), ignore_warnings=True)
    return REPEATED.sub(_replication, text)


def _replication(found: re.Match[str]) -> str:
    """``a, a, a`` as ``{3{ a }}``: simulators then extend a sign in one step."""
    bit = found[1]
    return f"{{{1 + found[2].count(bit)}{{ {bit} }}}}"
