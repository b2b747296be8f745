"""Counts a cross-built program's basic blocks under QEMU and times each with llvm-mca.

Cycles of a run = sum over its blocks of executions x the block's cycles in llvm-mca's model of the
A53's in-order pipeline, iterated until steady. Loads hit the first cache, branches are predicted:
memory is counted apart.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ITERATIONS = 100
"""Of a block in llvm-mca: what leads in and out is 1 % of it."""

CPU = "cortex-a53"

Block = tuple[int, int]
"""Address and number of instructions."""


@dataclass
class Cost:
    """What a kernel takes."""

    instructions: float
    cycles: float


@dataclass
class Program:
    """A static aarch64 program with a plugin to count its blocks.

    Args:
        path: the program.
        plugin: the compiled plugin.c.
    """

    path: Path
    plugin: Path
    _cycles: dict[Block, float] = field(default_factory=dict)

    def blocks(self, *arguments: object) -> Counter[Block]:
        """Executions of each block in one run."""
        out = self.path.parent / "blocks.txt"
        run = ["qemu-aarch64", "-cpu", CPU, "-plugin", f"{self.plugin},out={out}", str(self.path)]
        subprocess.run([*run, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
        found: Counter[Block] = Counter()
        for line in out.read_text().splitlines():
            address, instructions, executions = line.split()
            found[int(address, 16), int(instructions)] += int(executions)
        return found

    def cost(self, kernel: str, *numbers: int) -> Cost:
        """One call of a kernel: the difference of three calls and one, by two."""
        one, three = (self.blocks(kernel, repeats, *numbers) for repeats in (1, 3))
        spent = {block: (three[block] - one[block]) / 2 for block in three}
        spent = {block: count for block, count in spent.items() if count}
        self._time([block for block in spent if block not in self._cycles])
        return Cost(
            sum(count * block[1] for block, count in spent.items()),
            sum(count * self._cycles[block] for block, count in spent.items()),
        )

    def _time(self, blocks: list[Block]) -> None:
        """Fills ``_cycles`` for blocks."""
        if not blocks:
            return
        image = Image(self.path)
        regions = [
            f"# LLVM-MCA-BEGIN {index}\n{code}\n# LLVM-MCA-END"
            for index, code in enumerate(image.assembly(blocks))
        ]
        command = ["llvm-mca", "-mtriple=aarch64", f"-mcpu={CPU}", "-json"]
        command.append(f"-iterations={ITERATIONS}")
        text = "\n".join(regions) + "\n"
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        for region in json.loads(done.stdout)["CodeRegions"]:
            cycles = region["SummaryView"]["TotalCycles"] / ITERATIONS
            self._cycles[blocks[int(region["Name"])]] = cycles


class Image:
    """The code of a static program by address, as text that llvm-mca reads."""

    def __init__(self, path: Path) -> None:
        raw = subprocess.run(
            ["aarch64-linux-gnu-objdump", "-d", str(path)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        self._words = {
            int(found[1], 16): int(found[2], 16)
            for found in re.finditer(r"^\s*([0-9a-f]+):\s+([0-9a-f]{8})\s", raw, re.M)
        }

    def assembly(self, blocks: list[Block]) -> list[str]:
        """Each block in LLVM's own syntax."""
        words = [[self._words[at + 4 * i] for i in range(count)] for at, count in blocks]
        flat = [word for block in words for word in block]
        text = "\n".join(" ".join(f"0x{byte:02x}" for byte in word.to_bytes(4, "little"))
                         for word in flat)  # fmt: skip
        done = subprocess.run(
            ["llvm-mc", "-disassemble", "-triple=aarch64", f"-mcpu={CPU}"],
            input=text, capture_output=True, text=True, check=True,
        )  # fmt: skip
        lines = [line for line in done.stdout.splitlines() if line.startswith("\t")]
        lines = [line for line in lines if not line.startswith("\t.")]
        # llvm-mca takes 100 cycles for a call, whatever it calls; what is called is counted itself.
        lines = [re.sub(r"^\tbl(r?)\t", r"\tb\1\t", line) for line in lines]
        if len(lines) != len(flat):
            raise SystemExit(f"llvm-mc read {len(lines)} of {len(flat)} instructions")
        result, start = [], 0
        for block in words:
            result.append("\n".join(lines[start : start + len(block)]))
            start += len(block)
        return result
