"""Transports to a real board: ``uio`` (plain Linux) and ``pynq``. Neither needs the generator."""

BOARD_DEVICES = ("pynq", "uio")
"""Devices that are real hardware: tested in short form when a model is loaded."""
