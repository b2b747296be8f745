"""Injects faults into the simulated device and sees that each is told or harmless, never silent.

``python -m benches.faults [COUNT]`` prints a JSON line per kind of fault: how many were injected,
told by the driver, harmless (the results were right), silent (wrong results without an error) and
hung, and whether the next command list was right. Everything is drawn from the fault's number.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator

import numpy as np

from sim import cases, device
from spec import commands, registers
from spec.config import TINY, Config
from spec.errors import DeviceError, exit_with_sentence
from tests.sim.rtl_bench import Bench, Job

COUNT = 1200
WATCHDOG = 2000
"""Cycles; the list in use takes about as many again without faults."""

WIDE = dataclasses.replace(
    TINY, name="wide", ports=2, port_bits=64, tokens=3, group=64, burst_beats=8, outstanding=4
)
FOUR = dataclasses.replace(
    TINY, name="four", ports=4, port_bits=32, tokens=1, tile_rows=32, burst_beats=16, outstanding=4
)
CONFIGS = (TINY, WIDE, FOUR)

SHAPE = (
    "opcode", "weights8", "group", "result_format", "tokens", "top_k", "chunks", "tiles",
    "last_rows", "activation_beats", "weight_beats", "result_beats",
)  # fmt: skip
"""Fields of a descriptor whose damage must be seen; a wrong address is another valid command."""


@dataclasses.dataclass
class Tally:
    """What became of the faults of one kind."""

    injected: int = 0
    told: int = 0
    harmless: int = 0
    silent: int = 0
    hung: int = 0
    recovered: int = 0
    bad: list[str] = dataclasses.field(default_factory=list)
    """The faults that were silent, hung, or not recovered from, as what repeats them."""


class Target:
    """One device with a list of three matmuls, whose right results are known."""

    def __init__(self, config: Config, stall_seed: int | None) -> None:
        tokens = config.tokens
        jobs = [
            Job(cases.draw(20, 256, 4, 64, tokens, 1)),
            Job(cases.draw(40, 128, 8, 64, tokens, 2), "bf16"),
            Job(cases.draw(5, 384, 4, 128, 1, 3)),
        ]
        self.bench = Bench(config, jobs, stall_seed=stall_seed)
        self.name = f"{config.name}, stall seed {stall_seed}"
        self.wanted = [self.bench.wanted(index)[0] for index in range(len(jobs))]
        self.good = self.bench.prepared.buffer.array.copy()
        self.set_up()
        before = self.bench.device.memory_statistics
        start = self.bench.device.simulated_cycles
        self.bench.ring()
        after = self.bench.device.memory_statistics
        self.cycles = self.bench.device.simulated_cycles - start
        self.read_bursts = after.read_bursts[0] - before.read_bursts[0]
        self.write_bursts = after.write_bursts - before.write_bursts

    def set_up(self) -> None:
        """What a reset of the whole device forgets."""
        self.bench.driver.write("watchdog", WATCHDOG)

    def right(self) -> bool:
        """Whether all results are golden's."""
        return all(
            np.array_equal(self.bench.found(index), wanted)
            for index, wanted in enumerate(self.wanted)
        )

    def run_by_hand(self) -> None:
        """Runs the list as it is in memory, unchecked; raises what the device holds."""
        self.bench.start()
        self.finish()

    def finish(self) -> None:
        """Waits for the end of a list that was started by hand; raises what the device holds."""
        driver = self.bench.driver
        driver.transport.wait(driver.timeout)
        if registers.decode("status", driver.read("status"))["error"]:
            raise driver.held_error()

    def recover(self) -> bool:
        """Whether the next list is right, once the memory is."""
        self.bench.device.clear_injections()
        self.bench.prepared.buffer.array[:] = self.good
        try:
            self.bench.ring()
        except DeviceError:
            return False
        return self.right()


Fault = Callable[[Target, np.random.Generator], None]


def _memory_fault(wrong: str, writes: bool, amount: Callable[[np.random.Generator], int]) -> Fault:
    def inject(target: Target, chance: np.random.Generator) -> None:
        config = target.bench.config
        bursts = target.write_bursts if writes else target.read_bursts
        port = device.WRITES if writes else int(chance.integers(config.ports))
        beat = 0 if writes or wrong == "address" else int(chance.integers(config.burst_beats))
        if wrong == "early last":
            beat = int(chance.integers(max(1, config.burst_beats - 1)))
        target.bench.device.clear_injections()  # bursts are counted from here
        target.bench.device.inject(port, wrong, int(chance.integers(bursts)), beat, amount(chance))
        target.bench.ring()

    return inject


def _short(chance: np.random.Generator) -> int:
    return int(chance.integers(1, WATCHDOG // 2))


def _long(chance: np.random.Generator) -> int:
    return int(chance.integers(WATCHDOG + 100, 3 * WATCHDOG))


def _never(chance: np.random.Generator) -> int:
    return device.NEVER


def _few(chance: np.random.Generator) -> int:
    return int(chance.integers(1, 20))


def _soft_reset(target: Target, chance: np.random.Generator) -> None:
    """The engine is reset by its register; the list is over, which is told by its absence."""
    target.bench.start()
    target.bench.device.step(int(chance.integers(target.cycles)))
    target.bench.driver.reset()
    raise DeviceError("the host reset the engine")


def _hard_reset(target: Target, chance: np.random.Generator) -> None:
    """``aresetn`` falls."""
    target.bench.start()
    target.bench.device.step(int(chance.integers(target.cycles)))
    target.bench.device.reset()
    target.set_up()
    target.bench.driver.reset()
    raise DeviceError("the host reset the device")


def _doorbell(target: Target, chance: np.random.Generator) -> None:
    target.bench.start()
    target.bench.device.step(int(chance.integers(target.cycles // 2)))
    target.bench.driver.write("doorbell", int(chance.integers(1, 4)))
    target.finish()


def _registers(target: Target, chance: np.random.Generator) -> None:
    """Every register is read and every writable one written while the list runs."""
    target.bench.start()
    driver = target.bench.driver
    for index in chance.permutation(len(registers.REGISTERS)):
        register = registers.REGISTERS[index]
        target.bench.device.step(int(chance.integers(40)))
        driver.read(register.name)
        if register.name == "control":
            driver.write("control", registers.encode("control", clear=1, irq_enable=1))
        elif register.name == "watchdog":
            driver.write("watchdog", 2 * WATCHDOG)
        elif register.name != "doorbell":
            driver.write(register.name, int(chance.integers(1 << 32)))
    target.finish()


def _descriptor_bit(target: Target, chance: np.random.Generator) -> None:
    array = target.bench.prepared.buffer.array
    array[int(chance.integers(len(array)))] ^= 1 << int(chance.integers(8))
    target.run_by_hand()


def _descriptor_field(target: Target, chance: np.random.Generator) -> None:
    """A bit of a field, with a sum that is right again."""
    bench = target.bench
    index = int(chance.integers(len(bench.jobs)))
    name = SHAPE[int(chance.integers(len(SHAPE)))]
    bit = int(chance.integers(commands.BY_NAME[name].width))
    value = bench.fields(bench.prepared, index)[name] ^ 1 << bit
    bench.set_fields(bench.prepared, index, **{name: value})
    target.run_by_hand()


def _descriptor_noise(target: Target, chance: np.random.Generator) -> None:
    """Random fields, with magic and sum right."""
    values = {
        field.name: int(chance.integers(1 << field.width, dtype=np.uint64))
        for field in commands.FIELDS if field.name not in ("magic", "check")
    }  # fmt: skip
    values["opcode"] = commands.OPCODES["matmul"]
    index = int(chance.integers(len(target.bench.jobs)))
    image = np.frombuffer(commands.pack(values), np.uint8)
    target.bench.descriptor(target.bench.prepared, index)[:] = image
    target.run_by_hand()


def _weight_bit(target: Target, chance: np.random.Generator) -> None:
    """A bit of the packed weights: ``Accelerator.verify`` must find it."""
    handles = target.bench.handles
    handle = handles[int(chance.integers(len(handles)))]
    array = handle.weights.array
    where, bit = int(chance.integers(len(array))), 1 << int(chance.integers(8))
    array[where] ^= bit
    try:
        target.bench.driver.verify(handle)
        array[where] ^= bit
        raise AssertionError("the flipped bit was not found")
    except DeviceError:
        array[where] ^= bit
        raise


KINDS: dict[str, Fault] = {
    "read SLVERR": _memory_fault("response", False, lambda _: device.RESPONSES["SLVERR"]),
    "read DECERR": _memory_fault("response", False, lambda _: device.RESPONSES["DECERR"]),
    "RLAST early": _memory_fault("early last", False, lambda _: 0),
    "RLAST early, burst cut": _memory_fault("short", False, lambda _: 0),
    "RLAST missing": _memory_fault("no last", False, lambda _: 0),
    "RLAST late, beats too many": _memory_fault("long", False, _few),
    "read data without end": _memory_fault("endless", False, lambda _: 0),
    "read data late": _memory_fault("late", False, _short),
    "read data later than the watchdog": _memory_fault("late", False, _long),
    "read data never": _memory_fault("late", False, _never),
    "read request taken late": _memory_fault("address", False, _short),
    "read request never taken": _memory_fault("address", False, _never),
    "write SLVERR": _memory_fault("response", True, lambda _: device.RESPONSES["SLVERR"]),
    "write DECERR": _memory_fault("response", True, lambda _: device.RESPONSES["DECERR"]),
    "write response late": _memory_fault("late", True, _short),
    "write response later than the watchdog": _memory_fault("late", True, _long),
    "write response never": _memory_fault("late", True, _never),
    "write responses too many": _memory_fault("twice", True, _few),
    "write request taken late": _memory_fault("address", True, _short),
    "write request never taken": _memory_fault("address", True, _never),
    "write data taken late": _memory_fault("data", True, _short),
    "write data never taken": _memory_fault("data", True, _never),
    "reset by register": _soft_reset,
    "reset by pin": _hard_reset,
    "doorbell while busy": _doorbell,
    "registers used while busy": _registers,
    "descriptor bit flipped": _descriptor_bit,
    "descriptor field wrong": _descriptor_field,
    "descriptor of noise": _descriptor_noise,
    "weight bit flipped": _weight_bit,
}


def targets(configs: tuple[Config, ...]) -> Iterator[Target]:
    """Each configuration without and with pauses on every channel."""
    for config in configs:
        for stall_seed in (None, 11):
            yield Target(config, stall_seed)


def run(count: int, configs: tuple[Config, ...] = CONFIGS, seed: int = 0) -> dict[str, Tally]:
    """Injects ``count`` faults, all kinds on all targets in turn."""
    found = {kind: Tally() for kind in KINDS}
    opened = list(targets(configs))
    kinds = list(KINDS)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        place = number // len(kinds) % len(opened)
        one = f"{kind!r} number {number} of seed {seed} on {opened[place].name}"
        if not inject(opened[place], kind, np.random.default_rng([seed, number]), found[kind], one):
            config = opened[place].bench.config
            stalls = 11 if opened[place].bench.device.stalling else None
            opened[place] = Target(config, stalls)
    for target in opened:
        target.bench.close()
    return found


def inject(target: Target, kind: str, chance: np.random.Generator, tally: Tally, name: str) -> bool:
    """One fault and what came of it; whether the target is in order afterwards."""
    tally.injected += 1
    target.bench.spoil()
    try:
        KINDS[kind](target, chance)
        if target.right():
            tally.harmless += 1
        else:
            tally.silent += 1
            tally.bad.append(f"silent: {name}")
    except DeviceError as error:
        if "hangs" in str(error) or "broke the AXI protocol" in str(error):
            tally.hung += 1
            tally.bad.append(f"hung: {name}: {error}")
        else:
            tally.told += 1
    recovered = target.recover()
    tally.recovered += recovered
    if not recovered:
        tally.bad.append(f"the next list was wrong: {name}")
    return recovered


def total(found: dict[str, Tally]) -> collections.Counter[str]:
    """The sums over all kinds."""
    names = ("injected", "told", "harmless", "silent", "hung", "recovered")
    return collections.Counter(
        {name: sum(getattr(tally, name) for tally in found.values()) for name in names}
    )


def main() -> None:
    """Prints the tally of each kind, then the sums."""
    found = run(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)
    for kind, tally in found.items():
        print(json.dumps({"bench": "faults", "kind": kind, **dataclasses.asdict(tally)}))
    print(json.dumps({"bench": "faults", "label": "simulated", "kind": "all", **total(found)}))


if __name__ == "__main__":
    exit_with_sentence(main)
