"""What a run cost, for people and as JSON; cycles are labelled simulated or modelled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.table import Table

from host.board.power import Energy
from host.device.counters import Counters, total
from host.forward.model import OPERATIONS
from host.generate import Generation, Pass
from host.guess.tally import GuessTally
from host.transports import BOARD_DEVICES
from spec.config import Config
from spec.digest import digest

SIMULATED = "simulated"
MODELLED = "modelled"
MEASURED = "measured"

CYCLE_ACCURATE = {"rtl": SIMULATED, **dict.fromkeys(BOARD_DEVICES, MEASURED)}
"""Devices whose cycle counters are the design's own; every other device's cycles are modelled."""

SCOPES = {
    SIMULATED: "linear layers and LM head, cycle by cycle in the generated RTL with its memory"
    " model; the processor's share (norms, attention, sampling, driver) is not included",
    MEASURED: "linear layers and LM head, by the cycle counter of the design on the board; the"
    " processor's share (norms, attention, sampling, driver) is not included",
    MODELLED: "linear layers and LM head at one beat per clock cycle, as the layout counts beats;"
    " memory stalls, the start of a command, the writing of results and the processor's share"
    " (norms, attention, sampling, driver) are not included",
}
"""What a speed covers, by its label."""


@dataclass(frozen=True)
class Head:
    """How the logits left the device."""

    top_k: int = 0
    """The largest ones of each token; 0: all of them."""
    full_passes: int = 0
    """Tokens for which those did not decide, so that all logits were computed as well."""
    two_step: bool = False
    """They were proposed by an int4 head and decided by the int8 one (host.forward.two_step)."""


@dataclass(frozen=True)
class Report:
    """A run with the device that it ran on."""

    generation: Generation
    device: str
    config: Config
    source: str
    """The model: path and packing."""
    head: Head = field(default_factory=Head)
    guess: str = "off"
    """How many guesses a pass could carry: ``auto``, ``off`` or a number."""
    energy: Energy = field(default_factory=Energy)
    """Of the whole board while the run lasted; no samples without a sensor."""
    ran: dict[tuple[str, str], int] = field(default_factory=dict)
    """Commands by (operation, ``fabric`` or ``cpu``): what the plan said, as it was done."""
    launches: dict[str, int] = field(default_factory=dict)
    """Commands by what started them: the ``compiled`` runner, or ``python``."""

    @property
    def label(self) -> str:
        """``simulated``, ``measured`` or ``modelled``."""
        return CYCLE_ACCURATE.get(self.device, MODELLED)

    def cycles(self, cost: Counters) -> int:
        """Cycles of a cost: counted by the RTL, or one per beat read."""
        if self.label != MODELLED:
            return cost.cycles
        return cost.bytes_read // self.config.beat_bytes

    def passes(self, phase: str | None = None) -> list[Pass]:
        """The passes of a phase, or all."""
        return [step for step in self.generation.passes if phase in (None, step.phase)]

    @property
    def guesses(self) -> GuessTally:
        """What guessing did in decode."""
        return GuessTally.of(self.guess, self.generation.passes)

    @property
    def computed_tokens(self) -> int:
        """Tokens of the prompt that went through the model: not those that the cache held."""
        return self.generation.prompt_tokens - self.generation.reused_tokens

    def tokens_per_second(self, phase: str) -> float | None:
        """At the configured clock; None when no token was handled in that phase."""
        steps = self.passes(phase)
        cycles = sum(self.cycles(total(step.operations.values())) for step in steps)
        if not cycles:
            return None
        tokens = _written(steps) if phase == "decode" else self.computed_tokens
        return tokens * self.config.clock_mhz * 1e6 / cycles

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        run, config = self.generation, self.config
        return {
            "text": run.text,
            "tokens": len(run.tokens),
            "token_ids": run.tokens,
            "prompt_tokens": run.prompt_tokens,
            "reused_tokens": run.reused_tokens,
            "stop_reason": run.stop_reason,
            "model": self.source,
            "device": self.device,
            "config": config.name,
            "digest": f"{digest(config):016x}",
            "ran": {f"{name} on {place}": count for (name, place), count in self.ran.items()},
            "launches": dict(self.launches),
            "head": {
                "top_k": self.head.top_k or None,
                "full_passes": self.head.full_passes,
                "two_step": self.head.two_step,
            },
            "totals": {
                **self._cost(_sum(self.passes())),
                "prefill": self._cost(_sum(self.passes("prefill"))),
                "decode": self._cost(_sum(self.passes("decode"))),
            },
            "guess": self.guesses.as_dict(),
            "per_pass": [self._pass(step) for step in self.passes()],
            "operations": self._operations(self.passes()),
            "speed": {
                "value": self.tokens_per_second("decode"),
                "prefill": self.tokens_per_second("prefill"),
                "unit": "tokens/s",
                "label": self.label,
                "clock_mhz": config.clock_mhz,
                "scope": SCOPES[self.label],
            },
            "seconds": sum(step.seconds for step in self.passes()),
            "energy": self._energy(),
        }

    def _energy(self) -> dict[str, Any] | None:
        """Measured at the board's INA260; None without one."""
        energy, tokens = self.energy, len(self.generation.tokens)
        if not energy.samples:
            return None
        return {
            "label": MEASURED,
            "joules": energy.joules,
            "watts": energy.watts,
            "joules_per_token": energy.per_token(tokens),
            "samples": energy.samples,
            "scope": "the whole board, prompt included",
        }

    def _cost(self, cost: Counters) -> dict[str, Any]:
        return {
            "cycles": self.cycles(cost),
            "label": self.label,
            "bytes_read": cost.bytes_read,
            "bytes_written": cost.bytes_written,
            "commands": cost.commands,
            "stalls": cost.stalls,
        }

    def _pass(self, step: Pass) -> dict[str, Any]:
        cost = total(step.operations.values())
        return {
            "tokens": step.tokens,
            "text": step.text,
            "phase": step.phase,
            "guessed": step.guessed,
            "accepted": step.accepted,
            "cycles": self.cycles(cost),
            "bytes_read": cost.bytes_read,
            "bytes_written": cost.bytes_written,
            "operations": {name: self.cycles(part) for name, part in step.operations.items()},
        }

    def _operations(self, steps: list[Pass]) -> dict[str, dict[str, Any]]:
        sums = by_operation(steps)
        everything = self.cycles(total(sums.values())) or 1
        return {
            name: {
                "cycles": self.cycles(cost),
                "share": self.cycles(cost) / everything,
                "bytes_read": cost.bytes_read,
                "bytes_written": cost.bytes_written,
            }
            for name, cost in sums.items()
        }


def by_operation(steps: list[Pass]) -> dict[str, Counters]:
    """Costs added over passes, in the order in which a token meets the operations."""
    sums: dict[str, Counters] = {}
    for name in OPERATIONS:
        parts = [step.operations[name] for step in steps if name in step.operations]
        if parts:
            sums[name] = total(parts)
    return sums


def _sum(steps: list[Pass]) -> Counters:
    return total(by_operation(steps).values())


def _written(steps: list[Pass]) -> int:
    """Tokens that passes wrote."""
    return sum(len(step.tokens) for step in steps)


def table(report: Report) -> Table:
    """The cost by operation, of one decoded token and in total. Fits 80 columns."""
    decode = report.passes("decode")
    result = Table(
        title=f"{report.device} device, configuration {report.config.name},"
        f" digest {digest(report.config):016x}",
        caption=_caption(report),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title_justify="left",
        caption_justify="left",
    )
    result.add_column("")
    for heading in ("cycles\n/token", "share\n", "MB in\n/token", "kB out\n/token"):
        result.add_column(heading, justify="right")
    for heading in ("cycles\nin all", "MB in\nin all", "MB out\nin all"):
        result.add_column(heading, justify="right")
    operations = by_operation(report.passes())
    each = by_operation(decode)
    whole, written = _sum(decode), _written(decode)
    for name, cost in operations.items():
        part = each.get(name, Counters())
        result.add_row(name, *_each(report, part, whole, written), *_all(report, cost))
    result.add_section()
    sums = (*_each(report, whole, whole, written), *_all(report, total(operations.values())))
    result.add_row("all", *sums)
    return result


def _each(report: Report, part: Counters, whole: Counters, tokens: int) -> list[str]:
    """Cost of one decoded token; a dash when there was none."""
    if not tokens:
        return ["-"] * 4
    return [
        f"{report.cycles(part) // tokens:,}",
        f"{report.cycles(part) / (report.cycles(whole) or 1):.1%}",
        f"{part.bytes_read / tokens / 1e6:.2f}",
        f"{part.bytes_written / tokens / 1e3:.1f}",
    ]


def _all(report: Report, cost: Counters) -> list[str]:
    """Cost in total, the prompt included."""
    megabytes = [cost.bytes_read / 1e6, cost.bytes_written / 1e6]
    return [f"{report.cycles(cost):,}", *(f"{value:,.1f}" for value in megabytes)]


def _caption(report: Report) -> str:
    run = report.generation
    speeds = [
        f"{name} {value:.1f} tokens/s"
        for name, value in (
            ("decode", report.tokens_per_second("decode")),
            ("prefill", report.tokens_per_second("prefill")),
        )
        if value is not None
    ]
    return (
        f"{run.prompt_tokens} prompt tokens, {len(run.tokens)} written, stopped by"
        f" {run.stop_reason}, {sum(step.seconds for step in run.passes):.1f} s on this machine."
        f" Cycles are {report.label}.{_head(report.head)}{_power(report)}\n"
        f"{_guesses(report.guesses)}"
        f"{report.label.capitalize()} speed at {report.config.clock_mhz:g} MHz:"
        f" {', '.join(speeds) or 'no token'}.\nIt covers {SCOPES[report.label]}."
    )


def _guesses(guesses: GuessTally) -> str:
    """A line of the caption, when there was guessing."""
    sentence = guesses.sentence()
    return sentence and sentence + "\n"


def _power(report: Report) -> str:
    """What the caption adds where the board's power was sampled."""
    energy, tokens = report.energy, len(report.generation.tokens)
    each = energy.per_token(tokens)
    if each is None:
        return ""
    return f"\nMeasured at the board's INA260: {energy.watts:.2f} W, {each:.2f} J/token."


def _head(head: Head) -> str:
    """What the caption adds when not all logits left the device."""
    if not head.top_k:
        return ""
    if head.two_step:
        return f"\nLM head in two steps: int4 proposes {head.top_k}, int8 decides."
    return f"\nLM head by top-{head.top_k}; all logits for {head.full_passes} tokens."
