"""After an error: what it means, what to do, and how the device is made ready for the next list."""

from __future__ import annotations

from collections.abc import Callable

from spec import registers
from spec.errors import DeviceError

RESPONSES = ("OKAY", "EXOKAY", "SLVERR", "DECERR")
"""AXI response codes (AMBA AXI, IHI 0022, table A3-4)."""

POLLS = 1000
"""Looks at the status register before answers are given up, and again before all is: each takes a
hundred nanoseconds or more, an answer of the memory a few hundred."""


class Control:
    """The control port as named registers.

    Args:
        read, write: a transport's access to a register by its byte offset.
    """

    def __init__(self, read: Callable[[int], int], write: Callable[[int, int], None]) -> None:
        self._read, self._write = read, write
        self.ready = True
        """The engine may start: no transfer of an abandoned list is left."""

    def read(self, name: str) -> int:
        """A register by name."""
        return self._read(registers.OFFSETS[name])

    def status(self, bit: str) -> int:
        """A bit of the status register."""
        return registers.decode("status", self.read("status"))[bit]

    def order(self, bit: str) -> None:
        """Sets a bit of the control register that acts; what the others hold stays."""
        value = self.read("control") | registers.encode("control", **{bit: 1})
        self._write(registers.OFFSETS["control"], value)

    def drain(self) -> None:
        """Waits until an abandoned list's transfers have ended, at last without their answers;
        ``ready`` says whether they have."""
        for given_up in (False, True):
            if given_up:
                self.order("give_up")
            for _ in range(POLLS):
                self.ready = not self.status("draining")
                if self.ready:
                    return

    def reset(self, name: str) -> None:
        """Abandons whatever runs, ends its transfers and forgets held errors.

        Raises:
            DeviceError: the memory does not take what the engine offers.
        """
        self.order("reset")
        self.settle(name)

    def settle(self, name: str) -> None:
        """The end of a reset that was begun before. A second reset would not do: it brings back the
        ID of answers that may still be late.

        Raises:
            DeviceError: as ``reset``.
        """
        self.drain()
        waits = waiting(self.read("waits"))
        self.order("clear")
        if not self.ready:
            raise DeviceError(
                f"device {name} cannot be reset while {waits}: restart its memory's side by loading"
                " the bitstream again"
            )

    def take_error(self, name: str) -> DeviceError:
        """The held error as an exception; it is cleared and the device made ready."""
        error = registers.decode("error", self.read("error"))
        address = self.read("error_address_high") << 32 | self.read("error_address_low")
        sentence = describe(error, address, self.read("waits"))
        self.drain()
        self.order("clear")
        if not self.ready:
            sentence += (
                "; its transfers cannot be ended, so restart the memory's side by loading the"
                " bitstream again"
            )
        return DeviceError(f"device {name}: {sentence}")


def describe(error: dict[str, int], address: int, waits: int) -> str:
    """What the error register says, for a person: one sentence with the remedy."""
    place = f"port {error['port']} at {address:#x}"
    if error["answer"] or error["acknowledgement"]:
        what = (
            "read data that nobody asked for, or RLAST on a wrong beat,"
            if error["answer"]
            else "a write response without a burst"
        )
        return (
            f"the memory gave {what} to {place}: the list was abandoned, its results mean nothing;"
            " check the interconnect between port and memory"
        )
    if error["watchdog"]:
        return (
            f"nothing moved for as long as the watchdog allows while {waiting(waits)}: the list was"
            " abandoned; check that the memory answers, or raise the register watchdog"
        )
    if error["read"] or error["write"]:
        action = "read" if error["read"] else "write"
        return (
            f"the memory answered {RESPONSES[error['response']]} to a {action} of {place}: check"
            " that the address lies in memory that the port reaches"
        )
    if error["descriptor"]:
        return (
            "it refused a command descriptor whose check sum, opcode or shape was wrong: check"
            " what else writes to the command list's memory"
        )
    if error["doorbell"]:
        return (
            "its doorbell rang while a list was running: see that no other process uses the device"
        )
    return (
        "a result left the range of fp32, so a token's exponent in the activations is out of"
        " bounds: check what wrote them"
    )


def waiting(waits: int) -> str:
    """What the register ``waits`` says, as the middle of a sentence."""
    docs = {bits.name: bits.doc for bits in registers.BY_NAME["waits"].bits}
    found = [docs[name] for name, bit in registers.decode("waits", waits).items() if bit]
    return " and ".join(found) or "nothing waited"
