"""Options that several commands of the simulator share, so that each says the same of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sim import memory as memories
from spec.shapes import SHAPES


class Weights(StrEnum):
    """Weight formats."""

    INT4 = "int4"
    INT8 = "int8"


class Format(StrEnum):
    """Result formats."""

    FP32 = "fp32"
    BF16 = "bf16"


ConfigOption = Annotated[
    str, typer.Option("--config", "-c", help="A preset (tiny, kv260) or a TOML file.")
]
ModelOption = Annotated[str, typer.Option(help="A known shape.", metavar="|".join(SHAPES))]
TokensOption = Annotated[int, typer.Option(help="Activation vectors of the pass.")]
HeadOption = Annotated[Weights, typer.Option(help="Weights of the LM head.")]
MemoryOption = Annotated[str, typer.Option(help="The memory's timing.", metavar=memories.CHOICES)]
