"""The runtime as a wheel: ``spec`` and ``host`` alone, kernels compiled for the board.

The kernels are opened by ctypes and know nothing of Python, so one build (``abi3``) serves every
version; the generator, the simulator and their commands are left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from spec.errors import ToolError

ROOT = Path(__file__).resolve().parent.parent

NAME = "kria-llm-runtime"
"""Not the name of the whole distribution: both may not be in one environment."""

COMPILER = "aarch64-linux-gnu-gcc"
PLATFORM = "linux-aarch64"

LEFT_OUT = ("sim.", "hwgen.")
"""Entry points into packages that the board does not have."""


def build(output: Path, compiler: str = COMPILER) -> Path:
    """Builds the wheel.

    Args:
        output: directory for it.
        compiler: C compiler for the board.

    Raises:
        ToolError: no compiler, or the build failed.
    """
    if shutil.which(compiler) is None:
        raise ToolError(f"{compiler} is missing: apt-get install gcc-aarch64-linux-gnu")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kria-wheel-") as name:
        source = Path(name)
        for part in ("spec", "host"):
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(ROOT / part, source / part, ignore=ignored)
        for part in ("setup.py", "README.md", "LICENSE"):
            shutil.copy(ROOT / part, source)
        (source / "pyproject.toml").write_text(
            runtime_project((ROOT / "pyproject.toml").read_text())
        )
        environment = {
            **os.environ,
            "CC": compiler,
            "LDSHARED": f"{compiler} -shared",
            "_PYTHON_HOST_PLATFORM": PLATFORM,
            "SETUPTOOLS_EXT_SUFFIX": ".abi3.so",
            "PYTHONPATH": "",
        }
        command = [
            sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", "dist",
            "--plat-name", PLATFORM.replace("-", "_"), "--py-limited-api", "cp310",
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=source, env=environment, capture_output=True, text=True, check=False
        )
        wheels = list((source / "dist").glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise ToolError(f"the runtime wheel was not built: {' '.join(last)[:300]}")
        return Path(shutil.copy(wheels[0], output))


def runtime_project(text: str) -> str:
    """The board's ``pyproject.toml`` out of the whole one."""
    whole = tomllib.loads(text)
    project = whole["project"]
    kept = {
        key: project[key]
        for key in ("version", "description", "readme", "license", "license-files",
                    "requires-python", "dependencies")
    }  # fmt: skip
    devices = {
        name: target
        for name, target in project["entry-points"]["kria_llm.devices"].items()
        if not target.startswith(LEFT_OUT)
    }
    data = whole["tool"]["setuptools"]["package-data"]
    lines = [
        "[build-system]",
        f"requires = {json.dumps(whole['build-system']['requires'])}",
        'build-backend = "setuptools.build_meta"',
        "[project]",
        f'name = "{NAME}"',
        *(f"{key} = {json.dumps(value)}" for key, value in kept.items()),
        "[project.optional-dependencies]",
        f"board = {json.dumps(project['optional-dependencies']['board'])}",
        "[project.scripts]",
        f'kria-llm = "{project["scripts"]["kria-llm"]}"',
        '[project.entry-points."kria_llm.devices"]',
        *(f'{name} = "{target}"' for name, target in devices.items()),
        "[tool.setuptools.packages.find]",
        'include = ["spec", "spec.*", "host", "host.*"]',
        "namespaces = false",
        "[tool.setuptools.package-data]",
        *(f"{name} = {json.dumps(files)}" for name, files in data.items() if name == "host"),
    ]
    return "\n".join(lines) + "\n"
