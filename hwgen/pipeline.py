"""Delays: the only glue between fixed-latency cores."""

from amaranth import Cat, Module, Signal, Value


def delay(m: Module, value, cycles: int, *, name: str = "delayed", reset: bool = False) -> Value:
    """``value`` as it was ``cycles`` ago: one shift register, without reset unless asked for.

    A value with reset (a valid flag) starts at zero.
    """
    value = Value.cast(value)
    if cycles == 0:
        return value
    line = Signal(len(value) * cycles, name=name, reset_less=not reset)
    m.d.sync += line.eq(Cat(value, line))
    return line[-len(value) :]
