"""Errors that are told to a person: one sentence with the offending value and the remedy.

Commands print ``error: <sentence>`` on stderr and end with the class's exit code; anything else
that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations


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
