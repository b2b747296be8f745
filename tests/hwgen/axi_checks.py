"""AXI rules that a master must keep, watched in a cocotb simulation on its real pins.

Source: ARM IHI 0022, AMBA AXI protocol: A3.2 (stable while waiting), A3.4.1 (no burst crosses 4 KB,
at most 256 beats). One ID: answers come in order.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

PAGE = 4096
FIELDS = {
    "ar": ("addr", "len", "size", "burst"), "aw": ("addr", "len", "size", "burst"),
    "w": ("data", "strb", "last"),
}  # fmt: skip
"""What a master must keep as it is while it waits."""


class MasterChecks:
    """Watches one AXI4 master from now on; a broken rule fails the cocotb test at once.

    Args:
        prefix: of the port's signals, up to the channel's name.
        beat_bytes, burst_beats: what the master may ask for at most.
        outstanding: most read bursts in flight.
        writes: whether it has write channels.
    """

    WRITES_OUTSTANDING = 8

    def __init__(
        self, dut: Any, clock: Any, prefix: str, *, beat_bytes: int, burst_beats: int,
        outstanding: int, writes: bool,
    ) -> None:  # fmt: skip
        self.dut, self.prefix = dut, prefix
        self.beat_bytes, self.burst_beats, self.outstanding = beat_bytes, burst_beats, outstanding
        self.bursts: dict[str, list[tuple[int, int]]] = {"ar": [], "aw": []}
        self.most_in_flight = 0
        self._waiting: dict[str, dict[str, int]] = {}
        self._reads: deque[int] = deque()  # beats still to come of each burst
        self._writes: deque[int] = deque()  # beats still to give of each burst
        self._unanswered = 0
        channels = ["ar", *(["aw", "w"] if writes else [])]
        self.task = cocotb.start_soon(self._run(clock, channels, writes))

    async def _run(self, clock: Any, channels: list[str], writes: bool) -> None:
        while True:
            await RisingEdge(clock)
            for channel in channels:
                self._stable(channel)
            self._read()
            if writes:
                self._write()

    def _pin(self, name: str) -> int:
        return int(getattr(self.dut, f"{self.prefix}_{name}").value)

    def _passed(self, channel: str) -> bool:
        return bool(self._pin(f"{channel}valid") and self._pin(f"{channel}ready"))

    def _stable(self, channel: str) -> None:
        """A3.2.1: what was offered stays until it is taken."""
        before = self._waiting.pop(channel, None)
        if not self._pin(f"{channel}valid"):
            assert before is None, f"{self.prefix} {channel}: valid fell before ready"
            return
        now = {name: self._pin(channel + name) for name in FIELDS[channel]}
        assert before in (None, now), f"{self.prefix} {channel}: changed while it waited"
        if not self._pin(f"{channel}ready"):
            self._waiting[channel] = now

    def _request(self, channel: str) -> int:
        """The beats of a request that passes, once it keeps the rules."""
        address, length = self._pin(f"{channel}addr"), self._pin(f"{channel}len") + 1
        assert self._pin(f"{channel}burst") == 1, "only INCR bursts"
        assert 1 << self._pin(f"{channel}size") == self.beat_bytes, "only whole beats"
        assert address % self.beat_bytes == 0, f"{address:#x} is not on a beat"
        assert length <= self.burst_beats, f"{length} beats, at most {self.burst_beats}"
        last = address + length * self.beat_bytes - 1
        assert address // PAGE == last // PAGE, f"{address:#x}..{last:#x} crosses 4 KB"
        self.bursts[channel].append((address, length))
        return length

    def _read(self) -> None:
        if self._passed("r"):
            assert self._reads, "an answer that nobody asked for"
            self._reads[0] -= 1
            assert self._pin("rlast") == (self._reads[0] == 0), "RLAST not on the last beat"
            if self._reads[0] == 0:
                self._reads.popleft()
        if self._passed("ar"):
            self._reads.append(self._request("ar"))
            self.most_in_flight = max(self.most_in_flight, len(self._reads))
            assert len(self._reads) <= self.outstanding, "more bursts in flight than configured"

    def _write(self) -> None:
        if self._passed("b"):
            self._unanswered -= 1
            assert self._unanswered >= 0, "more acknowledgements than bursts"
        if self._passed("aw"):
            self._writes.append(self._request("aw"))
            self._unanswered += 1
            assert self._unanswered <= self.WRITES_OUTSTANDING
        if self._passed("w"):
            assert self._writes, "a beat after the last one of every burst"
            assert self._pin("wstrb") == (1 << self.beat_bytes) - 1
            self._writes[0] -= 1
            assert self._pin("wlast") == (self._writes[0] == 0), "WLAST not on the last beat"
            if self._writes[0] == 0:
                self._writes.popleft()

    def assert_empty(self) -> None:
        """At the end nothing is under way."""
        assert not self._reads and not self._writes and not self._unanswered
        assert not self._waiting
