"""Renders one chat template in a process of its own with little memory and time.

A template comes with the model's file and is a program: the sandbox keeps it from Python's
insides, the limits keep it from filling memory or never ending. Run by ``host.text.chat``: JSON in
on standard input, JSON out on standard output.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

MEMORY_BYTES = 512 << 20
MAX_TEXT = 1 << 20
"""Longest rendered text, characters."""


def render(template: str, variables: dict[str, Any]) -> str:
    """The text that a Hugging Face chat template makes of ``variables``.

    Raises:
        TemplateError: the template is wrong, refuses its input or breaks a sandbox rule.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    pieces, length = [], 0
    for piece in environment.from_string(template).generate(**variables):
        length += len(piece)
        if length > MAX_TEXT:
            raise SecurityError(f"it writes more than {MAX_TEXT} characters")
        pieces.append(piece)
    return "".join(pieces)


def _to_json(value: Any, indent: int | None = None) -> str:
    """JSON as models are trained on it: not escaped for HTML, as Jinja's own filter does."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def main() -> None:
    """Answers {"text": ...} or {"error": ...} to {"template", "variables", "seconds"}."""
    request = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CPU, (request["seconds"], request["seconds"]))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    try:
        answer = {"text": render(request["template"], request["variables"])}
    except MemoryError:
        answer = {"error": f"it needs more than {MEMORY_BYTES >> 20} MB"}
    except RecursionError:
        answer = {"error": "it is nested too deeply"}
    except Exception as error:  # whatever a template raises is the template's fault
        answer = {"error": f"{type(error).__name__}: {error}"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
