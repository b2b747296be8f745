"""Constraints: comparisons and arithmetic over names, read from a file, so never ``eval``.

``lanes >= 64``, ``lut <= 0.7 * 117120``, ``memory == 'ddr4-2133' or clock_mhz < 300``.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sim.sweep.names import SweepError, known

LENGTH_MAX = 300
"""Characters: no person writes more, and nesting stays shallow."""

BINARY: dict[type, Callable] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
COMPARE: dict[type, Callable] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
GRAMMAR = "names, numbers, texts, + - * / // %, comparisons, and, or, not"


@dataclass(frozen=True)
class Constraint:
    """A condition that a point must meet."""

    text: str
    names: frozenset[str]
    """What it speaks of."""

    def met(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds; ``values`` has all of its names.

        Raises:
            SweepError: it cannot be computed: a division by zero, a text plus a number.
        """
        try:
            return bool(_value(_parsed(self.text), values))
        except (ArithmeticError, TypeError) as problem:
            raise SweepError(f"constraint {self.text!r} cannot be computed: {problem}") from None


def constraint(text: Any, allowed: tuple[str, ...]) -> Constraint:
    """A constraint over some of the ``allowed`` names.

    Raises:
        SweepError: not a text of the grammar, or an unknown name (with the nearest).
    """
    if not isinstance(text, str) or len(text) > LENGTH_MAX:
        raise SweepError(
            f"a constraint must be a text of at most {LENGTH_MAX} characters, got {str(text)[:80]}"
        )
    tree = _parsed(text)
    names = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    for name in sorted(names):
        known(f"name in constraint {text!r}:", name, allowed)
    _check(tree, text)
    if not isinstance(tree, ast.Compare | ast.BoolOp | ast.UnaryOp):
        raise SweepError(f"constraint {text!r} compares nothing: write for example lanes >= 64")
    return Constraint(text, names)


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise SweepError(f"constraint {text!r} cannot be read: it may have {GRAMMAR}") from None


def _check(node: ast.expr, text: str) -> None:
    """Refuses what ``_value`` does not compute."""
    parts: list[ast.expr]
    if isinstance(node, ast.BoolOp):
        parts = node.values
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        parts = [node.operand]
    elif isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        parts = [node.left, node.right]
    elif isinstance(node, ast.Compare) and all(type(one) in COMPARE for one in node.ops):
        parts = [node.left, *node.comparators]
    elif isinstance(node, ast.Name) or (
        isinstance(node, ast.Constant) and isinstance(node.value, int | float | str)
    ):
        parts = []
    else:
        raise SweepError(f"constraint {text!r} cannot be read: it may have {GRAMMAR}")
    for part in parts:
        _check(part, text)


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.BoolOp):
        found = (_value(one, values) for one in node.values)
        return all(found) if isinstance(node.op, ast.And) else any(found)
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand, values)
        return not value if isinstance(node.op, ast.Not) else -value
    if isinstance(node, ast.BinOp):
        return BINARY[type(node.op)](_value(node.left, values), _value(node.right, values))
    assert isinstance(node, ast.Compare)
    left = _value(node.left, values)
    for comparison, part in zip(node.ops, node.comparators, strict=True):
        right = _value(part, values)
        if not COMPARE[type(comparison)](left, right):
            return False
        left = right
    return True
