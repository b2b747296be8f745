"""The generator: Amaranth modules that compose into the accelerator. Imports spec."""
