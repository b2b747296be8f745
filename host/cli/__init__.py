"""``kria-llm``: language models whose linear layers run on the accelerator.

Each command is a function in a module of its name.
"""

from __future__ import annotations

import typer

from host.cli.bench import bench
from host.cli.devices import devices
from host.cli.doctor import doctor
from host.cli.eval import evaluate
from host.cli.firmware import app as firmware
from host.cli.generate import generate
from host.cli.pack import pack
from host.cli.plan import plan
from host.cli.quantize import quantize
from host.cli.selftest import selftest
from spec.errors import exit_with_sentence

app = typer.Typer(
    help="Runs Qwen2 and Llama models; the accelerator computes every linear layer and the LM head."
    "\n\nStart with `kria-llm generate --help`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for command in (generate, quantize, pack, plan, bench, devices, doctor, selftest):
    app.command()(command)
app.command("eval")(evaluate)
app.add_typer(firmware)


def main() -> None:
    """The command ``kria-llm``."""
    exit_with_sentence(app)
