"""``kria-llm quantize``: makes an AWQ checkpoint of an unquantised model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from host import checkpoint
from host.cli.options import INTERRUPTED, Json
from host.progress import Stages
from host.quantize import calibration
from host.quantize.run import Request, quantise


def quantize(
    model: Annotated[
        str,
        typer.Argument(
            help="An unquantised model: a Hugging Face directory or id, or a .gguf file."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Directory of the checkpoint; must be new.")
    ],
    group: Annotated[int, typer.Option(help="Weights per scale: 32, 64 or 128.")] = 64,
    head: Annotated[
        str, typer.Option(help="The LM head: fp16, int8 or int4.", metavar="fp16|int8|int4")
    ] = "int8",
    bits: Annotated[
        float,
        typer.Option(
            help="Average bits of the layers' weights, from 4.0 to 8.0: what is over 4 goes to the"
            " matrices that lose most, in int8. Scales and zero points are not counted."
        ),
    ] = 4.0,
    calibration_text: Annotated[
        Path | None,
        typer.Option(
            "--calibration", help="UTF-8 text like the model's own use; else the package's.",
            show_default=False,
        ),
    ] = None,
    sequences: Annotated[int, typer.Option(min=1, help="Calibration sequences.")] = 40,
    sequence: Annotated[int, typer.Option(help="Tokens of each.")] = 512,
    scales: Annotated[
        bool, typer.Option(help="Search activation-aware scales of the channels.")
    ] = True,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Makes an AWQ checkpoint of an unquantised model, on the CPU.

    Weights become int4 with a scale and a zero point per group, fitted to what the model really
    computes on a calibration text: scales of the channels are searched (AWQ), ranges are clipped,
    and each column's rounding error is taken up by those after it (GPTQ), layer by layer on the
    output of the layers already quantised. Other runtimes read the result as AutoAWQ (GEMM).

    An interrupted run goes on where it was, from OUTPUT.partial: repeat the command.

    Examples:

        kria-llm quantize ./Qwen2.5-0.5B-Instruct -o qwen-awq

        kria-llm quantize model.gguf -o model-awq --group 32 --head int4

        kria-llm quantize ./Qwen2.5-0.5B-Instruct -o qwen-awq-5 --bits 5.0 --calibration my.txt
    """
    console = Console(stderr=True)
    with Stages(console) as stages:
        stages.update("reading the model", 0, 0)
        name = "the text of the package" if calibration_text is None else str(calibration_text)
        text = (
            calibration.default_text()
            if calibration_text is None
            else calibration.read(calibration_text)
        )
        request = Request(group, head, bits, text, name, sequences, sequence, scales)
        try:
            report = quantise(checkpoint.find(model), request, output, stages.update)
        except KeyboardInterrupt:
            stages.stop()
            console.print(f"interrupted: repeat the command to go on from {output}.partial")
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
        return
    for table in (report.table(), report.trade()):
        if table is not None:
            Console().print(table)
    for line in [*report.lines(), f"written: {output}", f"report: {output}/quantisation.html"]:
        print(line)
