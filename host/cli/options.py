"""What the commands of ``kria-llm`` share."""

from __future__ import annotations

from typing import Annotated

import typer

from host.plan.planner import PREFILL, Dimensions, plan
from host.weights import Integers, Model
from spec.config import Config
from spec.errors import ToolError, UserError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells count."""

DEFAULT_DEVICE = "cpu"
"""The fastest one that needs no tool; which device ran is in every report."""


class OptionError(UserError):
    """An option that makes no sense."""


HEADS = ("int8", "int4", "two-step")
"""Kinds of LM head: on the device in 8 or 4 bits, or proposed in 4 and decided in 8 bits."""

AUTO = "auto"
"""The head that the plan finds faster, of those with int8's choice (``planned_head``)."""

DEFAULT_CONFIG = "kv260"

ModelArgument = Annotated[
    str | None, typer.Argument(help="As for `kria-llm generate --model`.", show_default=False)
]
Device = Annotated[
    str,
    typer.Option(
        help="What runs the accelerator; `kria-llm devices` lists them. No other one is ever taken"
        " instead."
    ),
]
ConfigName = Annotated[
    str, typer.Option(help="The accelerator: a preset or a TOML file, as for `hwgen`.")
]
Group = Annotated[
    int, typer.Option(help="Weights per scale (32, 64, 128) when this command rounds them.")
]
Head = Annotated[
    str,
    typer.Option(
        help="The LM head: int8; int4, faster and worse; two-step, int4's speed and int8's choice"
        " among its 64 candidates: greedy, or with --top-k up to 64."
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout instead of text and tables.")
]


def head_kind(text: str) -> str:
    """One of ``HEADS``. Raises OptionError."""
    if text not in HEADS:
        raise OptionError(f"--head must be {', '.join(HEADS[:-1])} or {HEADS[-1]}, got {text!r}")
    return text


def planned_head(shape: Dimensions, config: Config) -> str:
    """int8 or two-step, whichever decodes faster by the plan; int8 where nothing is modelled."""
    try:
        speeds = {
            head: plan("", shape, config, PREFILL, head=head).decode_tokens_per_second
            for head in ("two-step", "int8")
        }
    except ToolError:
        return "int8"
    return max(speeds, key=speeds.__getitem__)


def usual_head(model: Model, config: Config) -> str:
    """A model's own head where it is not int8, else ``planned_head``."""
    if model.fine is not None:
        return "two-step"
    bits = model.head.bits if isinstance(model.head, Integers) else 0
    return planned_head(model.shape, config) if bits == 8 else "int4"


def overrides(listed: list[str]) -> dict[str, str]:
    """``--override`` by what it names. Raises OptionError."""
    found = {}
    for text in listed:
        what, sign, place = text.partition("=")
        if not sign:
            raise OptionError(f"--override must be OPERATION=cpu or OPERATION=fabric, got {text!r}")
        found[what] = place
    return found
