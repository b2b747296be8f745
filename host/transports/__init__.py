"""Transports to a real board: ``uio`` (plain Linux) and ``pynq``. Neither needs the generator."""
