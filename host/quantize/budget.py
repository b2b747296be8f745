"""Mixed precision: where a budget of bits is spent.

A matrix holds int4 or int8 as a whole. Int8 is close to unquantised, so it saves nearly all of the
divergence that int4 costs a matrix, and the matrices that save most per byte get it first. What
int4 costs is less than what plain rounding costs, by a part that differs by matrix (``LEFT``).

The budget counts the bits of the weights themselves: 4.0 is all int4, 8.0 all int8. Scales and zero
points come on top (20 bits a group in int4, 16 in int8) and are in every report of bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from host.quantize.dense import QuantiseError
from host.quantize.sensitivity import Cost

LEFT = {"qkv": 0.3, "output": 0.4, "gate_up": 0.6, "down": 0.7}
"""What compensated rounding leaves of plain rounding's squared error on text that is not in the
calibration, by matrix. Measured on two layers of SmolLM2-135M, 35,000 calibration tokens: 0.21 and
0.40, 0.28 and 0.55, 0.48 and 0.70, 0.64 and 0.80."""


@dataclass(frozen=True)
class Step:
    """One point of the trade: the average bits and the divergence that is left."""

    bits: float
    loss: float


@dataclass(frozen=True)
class Plan:
    """Bits of every matrix."""

    bits: dict[tuple[int, str], int]
    """4 or 8 by layer and matrix."""
    average: float
    """Of the layers' weights, scales and zero points not counted."""
    trade: list[Step]
    """From all int4 to all int8, one matrix after the other."""


def compensated(costs: Sequence[Cost]) -> list[Cost]:
    """Costs of plain rounding as those of compensated rounding, by ``LEFT``."""
    return [replace(cost, loss=cost.loss * LEFT[cost.matrix]) for cost in costs]


def check(budget: float) -> float:
    """The budget itself.

    Raises:
        QuantiseError: outside 4..8.
    """
    if not 4 <= budget <= 8:
        raise QuantiseError(f"--bits is a budget from 4.0 (all int4) to 8.0, got {budget:g}")
    return budget


def plan(costs: Sequence[Cost], budget: float) -> Plan:
    """Spends ``budget`` average bits where int4 costs most per weight."""
    total = sum(cost.weights for cost in costs)
    left = (check(budget) - 4) / 4 * total
    bits = {(cost.layer, cost.matrix): 4 for cost in costs}
    loss, fine = sum(cost.loss for cost in costs), 0
    trade = [Step(4.0, loss)]
    for cost in sorted(costs, key=lambda cost: cost.loss / cost.weights, reverse=True):
        if cost.weights <= left:
            bits[cost.layer, cost.matrix] = 8
            left -= cost.weights
        loss, fine = loss - cost.loss, fine + cost.weights
        trade.append(Step(4 + 4 * fine / total, max(loss, 0.0)))
    spent = sum(cost.weights for cost in costs if bits[cost.layer, cost.matrix] == 8)
    return Plan(bits, 4 + 4 * spent / total, trade)
