"""Shapes of published models."""

from __future__ import annotations

import pytest

from spec.shapes import SHAPES, ShapeError, find


def test_qwen_matrices_by_hand() -> None:
    shape = find("qwen2.5-0.5b")
    assert shape.linears == {
        "qkv": (1152, 896),
        "o": (896, 896),
        "gate_up": (9728, 896),
        "down": (896, 4864),
    }
    assert shape.head == (151_936, 896)
    assert round(shape.linear_weights / 1e6, 1) == 357.8


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("qwen2.5-0.5b", 494),
        ("qwen2.5-1.5b", 1544),
        ("smollm2-135m", 135),
        ("smollm2-360m", 362),
        ("smollm2-1.7b", 1711),
        ("tinyllama-1.1b", 1100),
        ("llama-3.2-1b", 1236),
    ],
)
def test_parameters_are_the_published_number(name: str, millions: int) -> None:
    """Norms and biases are left out: less than half a percent."""
    shape = find(name)
    rows, columns = shape.head
    untied = name == "tinyllama-1.1b"
    parameters = shape.linear_weights + rows * columns * (2 if untied else 1)
    assert parameters / 1e6 == pytest.approx(millions, rel=0.005)
    assert set(SHAPES) >= {name}


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ShapeError, match=r"'qwen2\.5-0\.6b'; did you mean qwen2\.5-0\.5b\?"):
        find("qwen2.5-0.6b")
    with pytest.raises(ShapeError, match="known: qwen"):
        find("zzz")
