"""What the doctor finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

OK = "ok"
WARNING = "warning"
"""Works, but slower or less safely than it could."""
FAULT = "fault"
"""Does not work, or gives no right answers."""
UNKNOWN = "unknown"
"""Could not be looked at."""

ORDER = (FAULT, WARNING, UNKNOWN, OK)


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    state: str
    found: str
    remedy: str = ""
    """What to do; empty when there is nothing to do."""

    def as_dict(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self)


def worst(findings: Iterable[Finding]) -> str:
    """The state of the whole."""
    states = {finding.state for finding in findings}
    return next((state for state in ORDER if state in states), OK)
