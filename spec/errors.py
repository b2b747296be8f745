"""Errors that are told to a person: one sentence with the offending value and the remedy.

Commands print ``error: <sentence>`` on stderr and end with the class's exit code; anything else
that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input: a file, a value, a shape. Exit code 2 (as for a wrong command line)."""

    exit_code = 2


class ToolError(UserError):
    """A tool, package or device that is asked for is missing or does not work. Exit code 3."""

    exit_code = 3


class DeviceError(UserError):
    """The accelerator reported an error or is not the one expected. Exit code 4."""

    exit_code = 4


class MismatchError(UserError):
    """A comparison that must be equal is not. Exit code 5."""

    exit_code = 5


def exit_with_sentence(main: Callable[[], object]) -> None:
    """Runs a command; turns an error that a person can act on into one sentence and an exit code.

    Both command lines go through here. A ``UserError`` ends with its class's code; an error of the
    operating system (a full disk, a directory that may not be written) with 2. The sentence goes
    to stderr on one line, so that scripts can read it.
    """
    try:
        main()
    except UserError as error:
        sentence, code = str(error), error.exit_code
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sentence, code = f"{place}{error.strerror or error}", UserError.exit_code
    else:
        return
    print("error: " + " ".join(sentence.split()), file=sys.stderr)
    raise SystemExit(code)
