"""The reference: what the accelerator computes, in exact integers.

Written from ``spec`` alone and composed like the hardware: ``weights_of`` (unpack), ``dot`` (mac),
``scale``, ``accumulate``, ``round_results`` (round), ``choose`` (top-k). ``execute`` performs a
whole command on the bytes of a memory image, so packers are tested by it too. Every comparison with
it is equality.
"""

from sim.golden.command import execute, matmul, write_results
from sim.golden.image import (
    Activations,
    Reader,
    Weights,
    Writer,
    chunk_order,
    joined_beats,
    nibbles,
    read_activations,
    read_weights,
    unit_lanes,
)
from sim.golden.stages import LIMBS, accumulate, choose, dot, round_results, scale, weights_of

__all__ = [
    "LIMBS",
    "Activations",
    "Reader",
    "Weights",
    "Writer",
    "accumulate",
    "choose",
    "chunk_order",
    "dot",
    "execute",
    "joined_beats",
    "matmul",
    "nibbles",
    "read_activations",
    "read_weights",
    "round_results",
    "scale",
    "unit_lanes",
    "weights_of",
    "write_results",
]
