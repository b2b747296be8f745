"""Delays: the only glue between fixed-latency cores."""

from amaranth import Cat, Module, Signal, Value


def delay(m: Module, value, cycles: int, *, name: str = "delayed", reset: bool = False) -> Value:
    """``value`` as it was ``cycles`` ago, without reset unless asked for.

    A value with reset (a valid flag) starts at zero.
    """
    value = Value.cast(value)
    if len(value) == 1 and cycles > 1:  # one shift register rather than many single bits
        line = Signal(cycles, name=name, reset_less=not reset)
        m.d.sync += line.eq(Cat(value, line))
        return line[-1]
    for cycle in range(cycles):
        late = Signal(len(value), name=f"{name}_{cycle + 1}", reset_less=not reset)
        m.d.sync += late.eq(value)
        value = late
    return value
