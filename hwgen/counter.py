"""A counter that goes up, down, or neither, with one short carry chain."""

from amaranth import Cat, Value


def stepped(counter, up, down) -> Value:
    """``counter + up - down`` for single bits, as one sum (a LUT and its carry per bit)."""
    fall = Value.cast(down) & ~Value.cast(up)
    change = Cat(up ^ down, fall.replicate(len(counter) - 1))
    return (counter + change)[: len(counter)]
