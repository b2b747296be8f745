"""``python -m sim.sweep``: the command of a source tree that is not installed (hwgen compare)."""

import typer

from sim.sweep.command import sweep
from spec.errors import exit_with_sentence

if __name__ == "__main__":
    exit_with_sentence(lambda: typer.run(sweep))
