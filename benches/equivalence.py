"""Whether a mutant is the same design: a proof over all inputs and all time, by ABC.

A change of a cell's port differs from the design only while a bit has the other value: ``const0``
of a bit while it is 1, ``cnot1`` while the bit that it depends on is 1. Two ways, both from reset:

- *never differs*: that bit never has that value in the design. One copy of it, one property.
- *never seen*: the design and the mutant side by side, with the same inputs, have the same outputs.

The proof is about a part of the flattened design: the mutant's module, or one that it lies in, or
more of them. All that enters the part is left to the solver, so what is proved holds there
whatever the rest does. ABC merges what is equal (``scorr``) and finds the invariant (``pdr``).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benches import mutants
from benches.mutants import Mutant
from hwgen import generate
from hwgen.synthesis import yosys
from spec.config import Config
from spec.errors import ToolError

SECONDS = 20
"""Of one attempt."""

TO_AIG = """memory_map
opt_clean
techmap
dfflegalize -cell $_DFF_P_ 0
setundef -zero
opt_clean
aigmap
write_aiger -symbols proof.aig
"""

NEVER_DIFFERS = "read_json part.json\n" + TO_AIG

NEVER_SEEN = (
    """read_json part.json
miter -equiv -flatten design mutant miter
hierarchy -top miter
"""
    + TO_AIG
)

LARGER = (("engine.sequencer", "engine.datapath"),)
"""Parts that are tried too: what the one gives the other."""

COMPARED = 3
"""Parts of which two are compared: the module and two around it."""

TOO_LARGE = (("engine",), ("engine.datapath",))
"""Parts of which no two are compared."""

Netlist = dict[str, Any]


@dataclass(frozen=True)
class Proof:
    """What was proved of a mutant."""

    how: str
    """``never differs`` or ``never seen``."""
    part: tuple[str, ...]
    """Paths of the modules that the proof is about; one behind a ``-`` is left out."""

    def __str__(self) -> str:
        return f"{self.how} in {' and '.join(self.part)}"


def flattened(config: Config) -> Netlist:
    """The design as one module, in Yosys's JSON."""
    return flattened_text(generate.rtlil(config))


def flattened_text(text: str) -> Netlist:
    """The same of a design in RTLIL."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        mutants.flatten(text, directory, "write_json flat.json\n")
        return json.loads((directory / "flat.json").read_text())["modules"][mutants.TOP]


class Prover:
    """A flattened design, of which parts are taken."""

    def __init__(self, module: Netlist) -> None:
        self._module = module

    def prove(self, mutant: Mutant) -> Proof | None:
        """A proof that the mutant is the same design; None if none was found."""
        for number, part in enumerate(around(mutant.module)):
            if self.never_differs(mutant, part):
                return Proof("never differs", part)
            if number < COMPARED and part not in TOO_LARGE and self.never_seen(mutant, part):
                return Proof("never seen", part)
        for part in (one for one in LARGER if _inside(mutant.module, one)):
            if self.never_differs(mutant, part):
                return Proof("never differs", part)
        return None

    def never_differs(self, mutant: Mutant, part: tuple[str, ...]) -> bool:
        """Whether the bit that makes the difference is never so, in a part of the design."""
        found = options(mutant)
        if found["mode"] == "inv":
            return False
        port = self._module["cells"][found["cell"]]["connections"][found["port"]]
        bit = port[int(found.get("ctrlbit", found["portbit"]))]
        wrong = found["mode"] in ("const0", "cnot1")  # its value that makes the difference
        if bit in ("0", "1"):
            return bit != str(int(wrong))
        netlist = self._part(part, [bit])
        if not netlist["cells"]:
            return False  # it enters the part: it may be anything
        if not wrong:
            _invert(netlist)
        return _abc({"design": netlist}, NEVER_DIFFERS)

    def never_seen(self, mutant: Mutant, part: tuple[str, ...]) -> bool:
        """Whether nothing that leaves a part of the design shows the mutant."""
        design = self._part(part, None)
        return _abc({"design": design, "mutant": _mutated(design, mutant)}, NEVER_SEEN)

    def _part(self, part: tuple[str, ...], outputs: Sequence[object] | None) -> Netlist:
        """The cells of some modules; what they read and do not drive are inputs.

        Args:
            outputs: bits; None: all that the rest of the design reads.
        """
        cells = self._module["cells"]
        chosen = {name: cell for name, cell in cells.items() if _inside(mutants.module(name), part)}
        if outputs is not None:
            chosen = _cone(chosen, outputs)
        driven, read = set[object](), set[object]()
        outside = {
            bit for port in self._module["ports"].values() if port["direction"] == "output"
            for bit in port["bits"]
        }  # fmt: skip
        for name, cell in cells.items():
            for port, bits in cell["connections"].items():
                gives = cell["port_directions"][port] == "output"
                if name in chosen:
                    (driven if gives else read).update(bits)
                elif not gives:
                    outside.update(bits)
        constant = {"0", "1", "x", "z"}
        free = sorted((read | set(outputs or ())) - driven - constant, key=str)
        if outputs is None:
            outputs = sorted(driven & outside, key=str)
        ports = {
            "free": {"direction": "input", "bits": free},
            "seen": {"direction": "output", "bits": list(outputs)},
        }
        names = {}
        for name, net in self._module["netnames"].items():
            # What else would be an alias of an input.
            kept = [place for place, bit in enumerate(net["bits"]) if bit in driven]
            if kept:
                bits = [net["bits"][place] for place in kept]
                initial = net["attributes"].get("init", "x" * len(net["bits"]))[::-1]
                values = "".join(initial[place] for place in kept)[::-1]
                names[name] = {"hide_name": 0, "bits": bits, "attributes": {"init": values}}
        return {"ports": ports, "cells": chosen, "netnames": names}


def options(mutant: Mutant) -> dict[str, str]:
    """What ``mutate`` is told, by name."""
    return {name: value.lstrip("\\") for name, value in re.findall(r"-(\w+) (\S+)", mutant.options)}


def around(module: str) -> Iterator[tuple[str, ...]]:
    """The module, and each that it lies in."""
    path = module.split(".")
    for length in range(len(path), 1, -1):
        yield (".".join(path[:length]),)


def _cone(cells: Netlist, outputs: Sequence[object]) -> Netlist:
    """The cells that bits hang on, through registers too."""
    drivers = {
        bit: name for name, cell in cells.items() for port, bits in cell["connections"].items()
        if cell["port_directions"][port] == "output" for bit in bits
    }  # fmt: skip
    wanted, chosen = list(outputs), set[str]()
    while wanted:
        name = drivers.get(wanted.pop())
        if name is not None and name not in chosen:
            chosen.add(name)
            for port, bits in cells[name]["connections"].items():
                if cells[name]["port_directions"][port] == "input":
                    wanted.extend(bits)
    return {name: cell for name, cell in cells.items() if name in chosen}


def _inside(module: str, part: tuple[str, ...]) -> bool:
    def among(paths: Iterable[str]) -> bool:
        return any(module == path or module.startswith(f"{path}.") for path in paths)

    return among(part) and not among(path[1:] for path in part if path.startswith("-"))


def _invert(netlist: Netlist) -> None:
    """The one output becomes its complement."""
    (bit,) = netlist["ports"]["seen"]["bits"]
    netlist["ports"]["seen"]["bits"] = [_gate(netlist, "$not", bit)]


def _mutated(design: Netlist, mutant: Mutant) -> Netlist:
    """A part of the design with the mutant's change, as Yosys's ``mutate`` makes it."""
    netlist: Netlist = json.loads(json.dumps(design))
    found = options(mutant)
    cell = netlist["cells"][found["cell"]]
    bits = cell["connections"][found["port"]]
    place, other = int(found["portbit"]), bits[int(found.get("ctrlbit", found["portbit"]))]
    kind, *operands = {
        "inv": ("$not",), "const0": ("$and", "0"), "const1": ("$or", "1"),
        "cnot0": ("$xnor", other), "cnot1": ("$xor", other),
    }[found["mode"]]  # fmt: skip
    if cell["port_directions"][found["port"]] == "input":
        bits[place] = _gate(netlist, kind, bits[place], *operands)
        return netlist
    old, fresh = bits[place], _fresh(netlist)
    bits[place] = fresh
    for name, net in list(netlist["netnames"].items()):  # a register keeps its initial value
        if old in net["bits"]:
            at = net["bits"].index(old)
            values = list(net["attributes"]["init"][::-1])
            netlist["netnames"][f"{name}_as_it_was"] = {
                "hide_name": 0, "bits": [fresh], "attributes": {"init": values[at]},
            }  # fmt: skip
            values[at] = "x"
            net["attributes"]["init"] = "".join(values[::-1])
    _gate(netlist, kind, fresh, *operands, output=old)
    return netlist


def _gate(netlist: Netlist, kind: str, *operands: object, output: object = None) -> object:
    """Adds a gate of one bit; its output."""
    output = _fresh(netlist) if output is None else output
    names = "AB"[: len(operands)]
    netlist["cells"][f"gate_{output}"] = {
        "hide_name": 0, "type": kind, "attributes": {},
        "parameters": {"Y_WIDTH": 1, **{f"{name}_{what}": value for name in names
                                        for what, value in (("SIGNED", 0), ("WIDTH", 1))}},
        "port_directions": {**dict.fromkeys(names, "input"), "Y": "output"},
        "connections": {**{name: [one] for name, one in zip(names, operands, strict=True)},
                        "Y": [output]},
    }  # fmt: skip
    return output


def _fresh(netlist: Netlist) -> int:
    cells = [cell["connections"] for cell in netlist["cells"].values()]
    used = (bit for cell in cells for bits in cell.values() for bit in bits)
    return 1 + max(bit for bit in used if isinstance(bit, int))


def _abc(modules: dict[str, Netlist], script: str) -> bool:
    """Whether no output can become 1; False too when the time is over."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "part.json").write_text(json.dumps({"modules": modules}))
        yosys.find().run(script, directory)
        _orders(
            "read_aiger proof.aig; strash; orpos; scorr; fraig; write_aiger less.aig", directory
        )
        if not (directory / "less.aig").exists():
            return False
        if _always_zero(directory / "less.aig"):
            return True
        output = _orders(f"read_aiger less.aig; strash; pdr -T {SECONDS}", directory)
    return "Property proved" in output


def _orders(orders: str, directory: Path) -> str:
    try:
        result = subprocess.run(
            [abc(), "-c", orders], cwd=directory, capture_output=True, text=True, check=False,
            timeout=2 * SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ""
    output = result.stdout + result.stderr
    if result.returncode or "Error" in output:
        raise ToolError(f"ABC failed: {output.strip()[-300:]}")
    return output


def _always_zero(file: Path) -> bool:
    """Whether the one output of a file in AIGER's format (version 1.9) is a constant 0."""
    lines = file.read_bytes().split(b"\n")
    latches, outputs = (int(field) for field in lines[0].split()[3:5])
    assert outputs == 1
    return lines[1 + latches].split() == [b"0"]


def abc() -> str:
    """The program ABC: beside the package ``pyosys``, or on PATH.

    Raises:
        ToolError: there is none.
    """
    package = find_spec("pyosys")
    beside = [Path(place) / "yosys-abc" for place in package.submodule_search_locations or ()] if (
        package
    ) else []  # fmt: skip
    for program in (*map(str, beside), "yosys-abc", "berkeley-abc", "abc"):
        found = shutil.which(program)
        if found:
            return found
    raise ToolError("a proof of equivalence needs ABC: pip install 'kria-llm[synthesis]'")
