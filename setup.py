"""The compiled kernels; everything else about the package is in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup

KERNELS = Path("host/kernels")

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
            ],
            extra_link_args=["-pthread", "-lm"],
        )
    ]
)
