"""Cycles of the compiled kernels on a Cortex-A53, from cross-built code."""
