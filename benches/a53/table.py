"""``python -m benches.a53.table``: writes host/plan/a53.json, the kernels' cost on a Cortex-A53.

Needs aarch64-linux-gnu-gcc, qemu-aarch64, llvm-mca and llvm-mc (Debian: gcc-aarch64-linux-gnu,
qemu-user, llvm). Each kernel is run on several shapes; its instructions and cycles are fitted by
products of the shape (``FEATURES``), relative errors squared at their least. Kernels that share
their work between threads are counted on the busiest of four cores.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benches.a53.count import CPU, Program
from host.plan.costs import FEATURES, PATH, kernel_sources, sources_digest
from spec.files import write_whole

HERE = Path(__file__).parent

FLAGS = [
    "-static", "-std=gnu11", "-O3", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno",
    f"-mtune={CPU}", "-pthread",
]  # fmt: skip
"""Those of setup.py."""

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "norm": [(576, 1, 1), (896, 1, 1), (896, 1, 2), (2048, 1, 1), (896, 8, 1), (2048, 2, 2)],
    "swiglu": [(1536, 1), (4864, 1), (8192, 1), (4864, 4), (4864, 8)],
    "attend": [
        (14, 2, 64, 16, 1), (14, 2, 64, 256, 1), (14, 2, 64, 512, 1), (14, 2, 64, 1024, 1),
        (9, 3, 64, 512, 1), (14, 2, 64, 64, 8), (14, 2, 64, 256, 8), (32, 8, 64, 512, 2),
        (12, 2, 128, 512, 1), (12, 2, 128, 128, 4),
    ],
    "gather": [(576, 1), (896, 1), (896, 8), (2048, 2)],
    "activations": [(576, 1), (896, 1), (896, 8), (2048, 2)],
    "results": [(1024, 1), (8192, 1), (1024, 8)],
    "largest": [(64,), (4096,), (32768,)],
    "rescore": [(576, 1, 64), (896, 1, 64), (896, 4, 64), (2048, 1, 32)],
    "matmul4": [(64, 896, 1), (128, 896, 1), (64, 896, 2), (64, 896, 8), (64, 2048, 4)],
    "matmul8": [(64, 896, 1), (128, 896, 1), (64, 896, 2), (64, 896, 8), (64, 2048, 4)],
}  # fmt: skip
"""Runs of each kernel; the numbers are those of ``FEATURES``."""


def arguments(kernel: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """What harness.c calls it: kernel and numbers."""
    if kernel == "norm":
        columns, tokens, terms = shape
        return "norm", (columns, tokens, 1, terms)
    if kernel == "attend":  # an fp16 cache, activations of qkv in two terms
        return "attend", (*shape, 1, 2)
    if kernel == "gather":
        return "gather", (*shape, 2)
    if kernel in ("activations", "results"):
        return kernel, (*shape, 1)
    if kernel.startswith("matmul"):
        return "matmul", (*shape, int(kernel[-1]), 64)
    return kernel, shape


def fit(kernel: str, program: Program) -> dict:
    """Coefficients of one kernel's features, for instructions and cycles."""
    rows, costs = [], []
    for shape in SHAPES[kernel]:
        name, numbers = arguments(kernel, shape)
        rows.append([float(value) for value in FEATURES[kernel](*shape).values()])
        costs.append(program.cost(name, *numbers))
    names = list(FEATURES[kernel](*SHAPES[kernel][0]))
    result: dict = {"label": "simulated instructions, modelled cycles", "features": names}
    for what in ("instructions", "cycles"):
        seen = np.array([getattr(cost, what) for cost in costs])
        matrix = np.array(rows) / seen[:, None]
        scale = np.abs(matrix).max(axis=0)
        found = np.linalg.lstsq(matrix / scale, np.ones(len(seen)), rcond=None)[0] / scale
        result[what] = [round(float(value), 5) for value in found]
        result[f"{what}_error"] = round(float(np.abs(np.array(rows) @ found / seen - 1).max()), 4)
    return result


def build(folder: Path) -> Program:
    """The harness with the kernels, and the plugin."""
    sources = [str(path) for path in kernel_sources() if path.suffix == ".c"]
    sources.append(str(HERE / "pool.c"))
    program, plugin = folder / "harness", folder / "plugin.so"
    headers = f"-I{Path(sources[0]).parent}"
    run = ["aarch64-linux-gnu-gcc", *FLAGS, headers, "-o", str(program), str(HERE / "harness.c")]
    subprocess.run([*run, *sources, "-lm"], check=True)
    command = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(plugin), str(HERE / "plugin.c")]
    subprocess.run(command, check=True)
    return Program(program, plugin)


def version(*command: str) -> str:
    """The line of a tool's answer that has its version."""
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return next(line.strip() for line in text.splitlines() if any(c.isdigit() for c in line))


def main() -> None:
    """Writes the table."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        kernels = {}
        for kernel in SHAPES:
            print(kernel, file=sys.stderr)
            kernels[kernel] = fit(kernel, program)
    table = {
        "cpu": CPU,
        "made_by": "python -m benches.a53.table",
        "date": datetime.date.today().isoformat(),
        "sources_digest": sources_digest(),
        "flags": " ".join(FLAGS),
        "tools": {
            "compiler": version("aarch64-linux-gnu-gcc", "--version"),
            "emulator": version("qemu-aarch64", "--version"),
            "model": version("llvm-mca", "--version"),
        },
        "method": "executions of each basic block under QEMU (simulated) times its cycles in"
        " llvm-mca's in-order model (modelled); loads hit the first cache; of norm, swiglu and"
        " attend the busiest of four cores",
        "kernels": kernels,
    }
    write_whole(PATH, (json.dumps(table, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
