"""``kria-llm selftest``: does the device compute right?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from host.board import selftest as steps
from host.cli.options import DEFAULT_CONFIG, DEFAULT_DEVICE, ConfigName, Device, Json
from host.device.driver import Accelerator
from host.device.transport import open_device
from host.progress import Stages
from host.session import require_device
from spec import config as configuration
from spec.digest import digest


def selftest(
    device: Device = DEFAULT_DEVICE,
    config: ConfigName = DEFAULT_CONFIG,
    short: Annotated[
        bool, typer.Option("--short", help="Only what runs when a model is loaded.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tests a device: registers, scratch, loopback, one tile, one layer, one token.

    Each result is compared bit for bit with the compiled kernels, which are equal to the golden
    model. The first difference ends the test with exit code 5; registers that are another design's,
    with 4.

    Examples:

        kria-llm selftest --device uio

        kria-llm selftest --device rtl --config tiny --short
    """
    require_device(device)
    shape = configuration.load(config)
    with Stages(Console(stderr=True)) as stages:
        stages.update(f"opening device {device}", 0, 0)
        transport = open_device(device, shape, steps.memory(shape, short))
        chosen = steps.SHORT if short else steps.STEPS
        results = steps.run(Accelerator(transport), chosen, stages.update)
        transport.close()
    if as_json:
        told = {
            "device": device,
            "config": shape.name,
            "digest": f"{digest(transport.config):016x}",
            "passed": [asdict(result) for result in results],
        }
        print(json.dumps(told, indent=2))
        return
    for result in results:
        print(f"{result.step:<10} passed  {result.compared}, {result.seconds:.3f} s")
