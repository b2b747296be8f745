"""The compiled kernels; everything else about the package is in pyproject.toml."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        # Opened by ctypes: needs a C compiler, but neither Python's headers nor its ABI.
        Extension(
            "host.kernels._kernels",
            sources=["host/kernels/kernels.c", "host/kernels/rescore.c"],
            extra_compile_args=["-std=gnu11", "-O3", "-Wall", "-Wextra", "-Werror=vla"],
            extra_link_args=["-pthread"],
        )
    ]
)
