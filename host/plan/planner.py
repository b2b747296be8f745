"""Decides for each operation whether the fabric or the processor runs it, by what each would cost.

A pass of decode has one token, a pass of prefill M. In decode costs add up: while the fabric works
the processor waits for it, and the other way round, since each operation needs the one before it.
Of a prompt two passes take turns as the runtime does it (``host.forward.schedule``): the fabric
works for one, the processor for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from host.forward.schedule import events
from host.plan import costs, fabric
from host.weights import Shape
from spec.commands import TOP_K_MAX
from spec.config import Config
from spec.errors import UserError
from spec.layout import Matrix
from spec.shapes import ModelShape

PLACES = ("cpu", "fabric")
PHASES = ("decode", "prefill")
MATMULS = ("qkv", "output", "gate_up", "down", "head")
TWO_TERMS = ("qkv", "head")
"""Matmuls whose activations go in as two terms on engines of two tokens or more."""

LAYER = (
    ("norm, qkv", "qkv"), ("attention", "output"), ("norm, gate_up", "gate_up"), ("swiglu", "down"),
)  # fmt: skip
"""A layer's kernels, each with the matmul behind it."""

PREFILL = 512
"""Prompt unless another length is given, tokens."""


class PlanError(UserError):
    """A plan that cannot be made."""


Dimensions = ModelShape | Shape
"""What a plan needs to know of a model: a published shape, or a checkpoint's."""


@dataclass(frozen=True)
class Operation:
    """One operation of a pass, all layers together."""

    name: str
    count: int
    """Times per pass."""
    place: str
    """``fabric`` or ``cpu``."""
    seconds: float
    """Of a pass."""
    arm_seconds: float
    """The processor's part of it: all of a CPU operation, the launch of a fabric one."""
    label: str
    """Where the larger part of the figure comes from."""
    why: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name, "count": self.count, "place": self.place,
            "cost": {"milliseconds": round(self.seconds * 1e3, 4),
                     "arm_milliseconds": round(self.arm_seconds * 1e3, 4)},
            "label": self.label, "why": self.why,
        }  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """One pass of prefill, or two that take turns."""

    passes: int
    seconds: float
    """From the first kernel to the last result."""
    fabric_seconds: float
    """Of them, those in which the fabric works."""
    arm_seconds: float
    """Those in which the processor does."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "passes": self.passes, "milliseconds": round(self.seconds * 1e3, 4),
            "fabric_milliseconds": round(self.fabric_seconds * 1e3, 4),
            "arm_milliseconds": round(self.arm_seconds * 1e3, 4),
        }  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Every operation's place and cost, for one context and one prompt."""

    model: str
    config: Config
    head: str
    context: int
    """Positions that are filled when a token is decoded."""
    prompt: int
    decode: tuple[Operation, ...]
    prefill: tuple[Operation, ...]
    """Of one pass of M tokens in the middle of the prompt."""
    pass_tokens: int
    """M."""
    turn: Turn
    """Of prefill: what the passes that are under way at a time take together."""
    overrides: Mapping[str, str] = field(default_factory=dict)

    def place(self, operation: str, tokens: int) -> str:
        """Where a matmul runs in a pass of so many tokens."""
        listed = self.decode if tokens == 1 else self.prefill
        found = [one.place for one in (*listed, *self.decode) if one.name == operation]
        return found[0]

    @property
    def decode_tokens_per_second(self) -> float:
        """One token after the other, no guessing."""
        return 1 / sum(one.seconds for one in self.decode)

    @property
    def prefill_tokens_per_second(self) -> float:
        """Of the whole prompt; its last token's head is left to the first decoded token."""
        return self.turn.passes * self.pass_tokens / self.turn.seconds

    @property
    def arm_ms_per_token(self) -> float:
        """The processor's share of a decoded token, launches included."""
        return sum(one.arm_seconds for one in self.decode) * 1e3

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.model, "config": self.config.name, "head": self.head,
            "context": self.context, "prompt": self.prompt,
            "decode_tokens_per_second": round(self.decode_tokens_per_second, 3),
            "prefill_tokens_per_second": round(self.prefill_tokens_per_second, 3),
            "arm_ms_per_token": round(self.arm_ms_per_token, 4),
            "label": "modelled",
            "operations": [one.as_dict() for one in self.decode],
            "prefill_operations": [one.as_dict() for one in self.prefill],
            "prefill_turn": self.turn.as_dict(),
            "overrides": dict(self.overrides),
        }  # fmt: skip


@dataclass(frozen=True)
class _Maker:
    """Costs of one model on one configuration."""

    shape: Dimensions
    config: Config
    head: str
    group: int
    overrides: Mapping[str, str]

    def matrix(self, name: str) -> Matrix:
        """A matmul's matrix."""
        shape = self.shape
        queries = shape.heads * shape.head_dim
        rows, columns = {
            "qkv": (queries + 2 * shape.kv_heads * shape.head_dim, shape.hidden),
            "output": (shape.hidden, queries),
            "gate_up": (2 * shape.intermediate, shape.hidden),
            "down": (shape.hidden, shape.intermediate),
            "head": (shape.vocabulary, shape.hidden),
        }[name]
        bits = 8 if name == "head" and self.head == "int8" else 4
        return Matrix(self.config, rows, columns, bits, max(self.group, self.config.group))

    def matmul(self, phase: str, name: str, count: int, tokens: int) -> Operation:
        """A matmul where it costs less, or where an override puts it."""
        matrix, most = self.matrix(name), self.config.tokens
        chosen = name == "head" and self.head == "two-step"
        vectors = tokens * (2 if name in TWO_TERMS and most > 1 and not chosen else 1)
        lists = [vectors] if vectors <= most else [vectors // 2] * 2  # commands of one doorbell
        top_k = min(TOP_K_MAX, matrix.rows // 2 * 2) if chosen else 0
        timed = [fabric.timed(matrix, part, top_k) for part in lists]
        written = sum(matrix.activation_beats(part) for part in lists) * self.config.beat_bytes
        read = 8 * top_k * tokens if top_k else 4 * vectors * matrix.rows
        launch = costs.launch_seconds(written, read)
        streaming = sum(part.cycles for part in timed) / (self.config.clock_mhz * 1e6)
        on_fabric = launch + streaming
        on_cpu = costs.STEP_SECONDS + sum(
            costs.seconds(f"matmul{matrix.bits}", matrix.rows, matrix.columns, part,
                          threads=costs.CORES, memory_bytes=matrix.beats * self.config.beat_bytes)
            for part in lists
        )  # fmt: skip
        asked = self.overrides.get(f"{phase}.{name}", self.overrides.get(name))
        figures = f"fabric {on_fabric * 1e6:.0f} us, cpu {on_cpu * 1e6:.0f} us"
        if chosen:
            place, why = "fabric", f"its {top_k} largest leave the fabric; {figures}"
        elif asked:
            place, why = asked, f"asked for; {figures}"
        else:
            place = "fabric" if on_fabric <= on_cpu else "cpu"
            why = f"less time: {figures}"
        if place == "cpu":
            return Operation(name, count, place, count * on_cpu, count * on_cpu, "modelled", why)
        label = timed[0].label
        return Operation(name, count, place, count * on_fabric, count * launch, label, why)

    def kernel(self, name: str, count: int, seconds: float) -> Operation:
        """What only the processor can do."""
        spent = count * (seconds + costs.STEP_SECONDS)
        return Operation(name, count, "cpu", spent, spent, "modelled", "only the processor does it")

    def python(self, name: str, seconds: float) -> Operation:
        """What the runtime does in Python."""
        return Operation(name, 1, "cpu", seconds, seconds, "assumed", "around the compiled runner")

    def attention(self, past: float, tokens: int) -> float:
        """Seconds of one layer's attention, on all cores.

        The loop over the cache asks for each line a block before it needs it (``prfm``), at a lower
        rate than the cores have been measured to read: so memory and products overlap, and the
        slower one counts. Nobody has measured that of this code.
        """
        shape = self.shape
        numbers = (shape.heads, shape.kv_heads, shape.head_dim)
        spent = costs.parts("attend", *numbers, past, tokens)
        panels = (spent["product"] + spent["entry"]) / costs.CLOCK_HZ
        rest = sum(spent.values()) / costs.CLOCK_HZ - panels
        cache = 2 * 2 * (past + tokens) * shape.kv_heads * shape.head_dim
        waits = costs.WAKE_SECONDS + costs.ATTENTION_PHASES * costs.PHASE_SECONDS
        return rest + max(panels, cache / costs.MEMORY_BYTES_PER_SECOND) + waits

    def swiglu(self, tokens: int) -> float:
        """Seconds of one layer's, on all cores."""
        spent = costs.seconds("swiglu", self.shape.intermediate, tokens)
        return spent + costs.WAKE_SECONDS + costs.PHASE_SECONDS

    def norm(self, tokens: int, terms: int) -> float:
        """Seconds of one norm; several tokens are shared between the cores."""
        spent = costs.seconds("norm", self.shape.hidden, tokens, terms)
        return spent + (costs.WAKE_SECONDS if tokens > 1 else 0)

    def a_pass(self, phase: str, past: float, tokens: int) -> list[Operation]:
        """All operations of a pass, in the order in which a token meets them."""
        shape, layers = self.shape, self.shape.layers
        terms = 2 if self.config.tokens > 1 else 1
        listed = [
            self.python("pass", costs.PASS_SECONDS),
            self.kernel("embedding", 1, costs.seconds("gather", shape.hidden, tokens)),
            self.kernel("norm, qkv", layers, self.norm(tokens, terms)),
            self.matmul(phase, "qkv", layers, tokens),
            self.kernel("attention", layers, self.attention(past, tokens)),
            self.matmul(phase, "output", layers, tokens),
            self.kernel("norm, gate_up", layers, self.norm(tokens, 1)),
            self.matmul(phase, "gate_up", layers, tokens),
            self.kernel("swiglu", layers, self.swiglu(tokens)),
            self.matmul(phase, "down", layers, tokens),
        ]
        if phase == "prefill":
            return listed
        chosen = self.head == "two-step"  # whose proposals take one term
        listed.append(self.kernel("norm, head", 1, self.norm(tokens, 1 if chosen else terms)))
        listed.append(self.matmul(phase, "head", 1, tokens))
        if chosen:
            rows = min(TOP_K_MAX, shape.vocabulary)
            spent = costs.seconds("rescore", shape.hidden, tokens, rows)
            listed.append(self.kernel("rescoring", 1, spent))
            spent = costs.seconds("largest", rows)
        else:
            spent = costs.seconds("results", shape.vocabulary, tokens)
            listed.append(self.kernel("logits", 1, spent))
            spent = costs.seconds("largest", shape.vocabulary, memory_bytes=4 * shape.vocabulary)
        listed.append(self.kernel("choice", tokens, spent))
        listed.append(self.python("token", tokens * costs.TOKEN_SECONDS))
        return listed

    def turn(self, operations: list[Operation], passes: int) -> Turn:
        """Time of one pass of prefill, or of two that take turns, each of these operations.

        The order is the runtime's. A list costs the processor half of its launch before and half
        after the fabric works on it.
        """
        each = {one.name: one for one in operations}
        alone = passes * each["embedding"].seconds + each["pass"].seconds
        now, fabric = 0.0, 0.0
        ends: dict[tuple[int, int], float] = {}
        for what, lane, matmul in events(len(LAYER) * self.shape.layers, passes):
            kernel, name = LAYER[matmul % len(LAYER)]
            one = each[kernel] if what == "kernel" else each[name]
            arm, whole = one.arm_seconds / one.count, one.seconds / one.count
            if what == "kernel" or (what == "start" and one.place == "cpu"):
                now += whole
            elif one.place == "fabric":
                now = max(now, ends.get((lane, matmul), 0.0)) + arm / 2
                if what == "start":
                    ends[lane, matmul] = now + whole - arm
                    fabric += whole - arm
        processor = passes * sum(one.arm_seconds for one in operations)
        processor -= (passes - 1) * each["pass"].seconds
        return Turn(passes, alone + now, fabric, processor)


def plan(
    name: str, shape: Dimensions, config: Config, context: int, prompt: int = PREFILL,
    head: str = "two-step", group: int = 64, overrides: Mapping[str, str] | None = None,
    depth: int = 0,
) -> Plan:  # fmt: skip
    """The plan of a model on a configuration.

    Args:
        context: positions filled before the decoded token.
        overrides: by operation (``qkv``) or phase and operation (``decode.qkv``): ``cpu`` or
            ``fabric``.
        depth: positions filled before the prompt.

    Raises:
        PlanError: a context or prompt below one, or an override that makes no sense.
        LayoutError: the configuration cannot hold a matrix.
        ToolError: cycles that are neither stored nor can be modelled here.
    """
    overrides = dict(overrides or {})
    check_overrides(overrides, head)
    if context < 1 or prompt < 1:
        raise PlanError(f"context and prompt must be 1 or more, got {context} and {prompt}")
    maker = _Maker(shape, config, head, group, overrides)
    tokens = min(config.tokens, prompt)
    prefill = maker.a_pass("prefill", depth + max(0.0, (prompt - tokens) / 2), tokens)
    return Plan(
        name, config, head, context, prompt, tuple(maker.a_pass("decode", context, 1)),
        tuple(prefill), tokens, maker.turn(prefill, 2 if prompt > tokens else 1), overrides,
    )  # fmt: skip


def pass_cost(
    shape: Dimensions, config: Config, head: str = "two-step", group: int = 64
) -> Callable[[int, int], float]:
    """What a pass of decode costs: (tokens in it, positions before it) -> seconds, as modelled.

    Every token of the pass gets its logits: so much does it cost to verify guesses.
    """
    maker = _Maker(shape, config, head, group, {})
    return lambda tokens, past: sum(one.seconds for one in maker.a_pass("decode", past, tokens))


def check_overrides(overrides: Mapping[str, str], head: str) -> None:
    """Raises PlanError for an override of nothing, to nowhere, or that the head cannot follow."""
    for what, place in overrides.items():
        phase, _, operation = what.rpartition(".")
        if operation not in MATMULS or (phase and phase not in PHASES):
            raise PlanError(
                f"an override names one of {', '.join(MATMULS)}, maybe after decode. or prefill.,"
                f" got {what!r}"
            )
        if place not in PLACES:
            raise PlanError(f"{what} runs on cpu or fabric, got {place!r}")
        if operation == "head" and place == "cpu" and head == "two-step":
            raise PlanError(
                "a head in two steps is proposed by the fabric, got head=cpu: use --head int8"
            )
