"""The compiled kernels; everything else about the package is in pyproject.toml."""

import sysconfig
from pathlib import Path

from setuptools import Extension, setup

KERNELS = Path("host/kernels")

# The board's cores; code for them runs on every aarch64.
TUNING = ["-mtune=cortex-a53"] if "aarch64" in sysconfig.get_platform() else []

setup(
    ext_modules=[
        # Opened by ctypes: needs a C compiler, but neither Python's headers nor its ABI.
        Extension(
            "host.kernels._kernels",
            sources=sorted(str(path) for path in KERNELS.glob("*.c")),
            depends=sorted(str(path) for path in KERNELS.glob("*.h")),
            # No contraction: a multiply-add is fused where the source says so, on every machine.
            extra_compile_args=[
                "-std=gnu11",
                "-O3",
                "-ffp-contract=off",
                "-fno-trapping-math",
                "-fno-math-errno",
                "-Wall",
                "-Wextra",
                "-Werror=vla",
                "-pthread",
                *TUNING,
            ],
            extra_link_args=["-pthread", "-lm"],
        )
    ]
)
