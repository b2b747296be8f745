"""The device without a block design: the control bridge, the primitives' pins, and that it fits."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect

from hwgen.board.boards import BoardError
from hwgen.board.control_bridge import ControlBridge
from hwgen.board.platforms import KR260Platform, KV260Platform
from hwgen.board.system import Design, System
from hwgen.control import Control
from hwgen.synthesis import command, resources, yosys
from spec import registers
from spec.config import KV260, TINY, Config
from spec.device import XCK26
from tests.hwgen.bench import simulate

SCRATCH = registers.OFFSETS["scratch"]


class Chain(wiring.Component):
    """The bridge before the real control port."""

    def __init__(self):
        self.bridge = ControlBridge()
        self.control = Control(TINY)
        super().__init__({"unused": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.bridge, m.submodules.control = self.bridge, self.control
        connect(m, self.bridge.lite, self.control.bus)
        return m


class Processor:
    """An AXI4 master of 128 bits with random pauses."""

    def __init__(self, bridge: ControlBridge, seed: int, pause: float):
        self.bridge, self.pause = bridge, pause
        self.chance = random.Random(f"processor {seed}")

    async def _give(self, ctx, stream, payload) -> None:
        while self.chance.random() < self.pause:
            await ctx.tick()
        ctx.set(stream.payload, payload)
        ctx.set(stream.valid, 1)
        ready = 0
        while not ready:
            _, _, ready = await ctx.tick().sample(stream.ready)
        ctx.set(stream.valid, 0)

    async def _take(self, ctx, stream):
        while self.chance.random() < self.pause:
            await ctx.tick()
        ctx.set(stream.ready, 1)
        valid = 0
        while not valid:
            _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
        ctx.set(stream.ready, 0)
        return payload

    async def read(self, ctx, address: int, beats: int = 1, size: int = 2, tag: int = 0) -> list:
        """The beats of one burst; identifier and last flag are checked."""
        request = {"address": address, "id": tag, "length": beats - 1, "size": size}
        await self._give(ctx, self.bridge.ar, request)
        found = []
        for beat in range(beats):
            word = await self._take(ctx, self.bridge.r)
            assert (word.id, word.last, word.resp) == (tag, beat == beats - 1, 0)
            found.append(word.data)
        return found

    async def write(self, ctx, address: int, words: list[int], size: int = 2, tag: int = 0) -> None:
        """One burst, each word in the lane of its address."""
        request = {"address": address, "id": tag, "length": len(words) - 1, "size": size}
        await self._give(ctx, self.bridge.aw, request)
        for beat, word in enumerate(words):
            lane = (address + (beat << size)) // 4 % 4
            data = {"data": word << 32 * lane, "strobe": 15 << 4 * lane,
                    "last": beat == len(words) - 1}  # fmt: skip
            await self._give(ctx, self.bridge.w, data)
        answer = await self._take(ctx, self.bridge.b)
        assert (answer.id, answer.resp) == (tag, 0)


def lanes(word: int) -> int:
    """A word as it appears in all four lanes."""
    return sum(word << 32 * lane for lane in range(4))


@pytest.mark.parametrize(("seed", "pause"), [(1, 0.0), (2, 0.5), (3, 0.8)])
def test_registers_through_the_bridge(seed, pause):
    chain = Chain()
    processor = Processor(chain.bridge, seed, pause)

    async def bench(ctx) -> None:
        assert await processor.read(ctx, 0, tag=0x1234) == [lanes(registers.MAGIC)]
        for value in (0xA5A5_5A5A, 0, 0xFFFF_FFFF, 0x1234_5678):
            await processor.write(ctx, SCRATCH, [value], tag=77)
            assert await processor.read(ctx, SCRATCH, tag=78) == [lanes(value)]

    simulate(chain, bench)


def test_a_burst_is_taken_beat_by_beat():
    """A load of 64 bytes: four registers, each from its own address."""
    chain = Chain()
    processor = Processor(chain.bridge, 4, 0.3)

    async def bench(ctx) -> None:
        found = await processor.read(ctx, 0, beats=4, size=4)
        assert found[:2] == [lanes(registers.MAGIC), lanes(registers.VERSION)]
        await processor.write(ctx, SCRATCH - 16, [1, 2], size=4)
        assert await processor.read(ctx, SCRATCH) == [lanes(2)]
        # A narrow burst passes words between registers: they read zero and ignore writes.
        await processor.write(ctx, SCRATCH, [3, 4, 5, 6])
        assert await processor.read(ctx, SCRATCH, beats=2) == [lanes(3), 0]

    simulate(chain, bench)


def test_every_pin_of_the_primitives_exists(tmp_path):
    """Yosys's library knows PS8, MMCME4_ADV, BUFG_PS and BUFGCE by pin and width."""
    config = Config(ports=4, tokens=1, tile_rows=16, max_k=1024, fifo_beats=32, dsp="vendor")
    (tmp_path / "design.il").write_text(rtlil.convert(System(config), name="system"))
    script = (
        "read_rtlil design.il\nread_verilog -lib +/xilinx/cells_sim.v +/xilinx/cells_xtra.v\n"
        "hierarchy -check -top system\nselect -assert-count 1 t:PS8\n"
        "select -assert-count 1 t:MMCME4_ADV\nselect -assert-min 128 */t:DSP48E2\n"
    )
    script = script.replace("select -assert-count 1 ", "select -assert-count 1 system/")
    yosys.find().run(script, tmp_path)
    assert "Warning" not in (tmp_path / "yosys.log").read_text()


@pytest.mark.parametrize("platform", [KV260Platform, KR260Platform])
def test_amaranths_flow_takes_it(platform):
    plan = platform().build(Design(TINY), name="kria_llm", do_build=False)
    assert "-part xck26-sfvc784-2LV-c" in plan.files["kria_llm.tcl"]
    assert "A12" in plan.files["kria_llm.xdc"]
    assert "PS8" in plan.files["kria_llm.v"]


def test_narrow_ports_are_refused():
    with pytest.raises(BoardError, match="128 bits, got 64: use the block design"):
        System.of(Config(ports=4, port_bits=64))


@pytest.mark.slow
@pytest.mark.parametrize("config", [dataclasses.replace(TINY, dsp="vendor"), KV260],
                         ids=lambda config: config.name)  # fmt: skip
def test_with_ps_and_mmcm_it_fits(config):
    netlist = command.map_design(System(config))
    total = resources.count(netlist)[""]
    resources.check_fit(config.name, total, XCK26)
    cells = Counter(cell.type for cell in netlist.cells)
    assert cells["PS8"] == cells["MMCME4_ADV"] == cells["BUFG_PS"] == cells["BUFGCE"] == 1
    assert total["dsp"] >= config.lanes * config.token_pairs
