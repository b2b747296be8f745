"""The gate level of a design: mapped by Yosys to AND, OR, XOR, MUX, NOT and flip-flops.

Memories stay memories, as they would be macros of a chip; everything else is gates. The text takes
the place of the Verilog in the simulated device, so that the same command lists run on it.

Two things make the netlist simulate as the design does. Every register has its initial value: the
output register of a memory has none, and where Verilog's ``if`` takes an X for false, gates pass it
on. And every net is a single bit: gates from some bits of a vector to others look like a loop to a
simulator that takes the vector for one variable.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hwgen.synthesis import yosys
from sim import device, source
from sim.build import cache_directory, digest_of
from spec.config import Config
from spec.files import write_whole

SCRIPT = """
read_rtlil design.il
hierarchy -top kria_llm
proc
flatten
opt_expr
opt_clean
memory -nordff -nomap
memory_nordff
opt_clean
techmap
opt_clean
setundef -init -zero
dfflegalize -cell $_DFF_P_ 01 -cell $_DFFE_PP_ 01
opt_clean
abc -g AND,OR,XOR,MUX
opt_clean -purge
delete t:$scopeinfo
splitnets
opt_clean -purge
write_verilog -noattr gates.v
"""


def verilog(config: Config) -> str:
    """The netlist of ``config`` as Verilog, from the cache or mapped and put there.

    Raises:
        ToolError: there is no Yosys, or it fails.
    """
    path = cache_directory() / "gates" / f"{digest_of(source.verilog(config), SCRIPT)}.v"
    if not path.is_file():
        from hwgen.generate import rtlil  # loads Amaranth

        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _mapped(rtlil(config)))
    return path.read_text()


def _mapped(text: str) -> str:
    with tempfile.TemporaryDirectory(prefix="kria-llm-gates-") as name:
        directory = Path(name)
        (directory / "design.il").write_text(text)
        yosys.find().run(SCRIPT, directory)
        return (directory / "gates.v").read_text()


class Gates(device.Device):
    """The simulated device made of gates."""

    name = "gates"

    def _verilog(self, config: Config) -> str:
        return verilog(config)


def open(config: Config, memory_bytes: int) -> Gates:  # as the other devices' modules have it
    """Opens it, with the ideal memory and no stalls.

    Raises:
        ToolError, DeviceError: as ``sim.device.open``; or there is no Yosys.
    """
    return Gates(device.simulated(config), memory_bytes, None, None, 50, 200, (), None, short=True)
