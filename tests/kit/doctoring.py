"""What `aiorchctl doctor --json` said, and configurations for daemons to be looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

KEYED = """
[providers.main]
base_url = "{base_url}"
api_key_env = "MAIN_KEY"
[[models]]
name = "small"
provider = "main"
input_usd_per_1m = 0.15
output_usd_per_1m = 0.60
"""
SIMULATED = """
[providers.sim]
dialect = "simulated"
[[models]]
name = "small"
provider = "sim"
input_usd_per_1m = 0.15
output_usd_per_1m = 0.60
"""


@dataclass
class Looked:
    """What the doctor said."""

    code: int
    result: str
    checks: list[dict[str, Any]]

    def of(self, check: str, subject: str | None = None) -> dict[str, Any]:
        """The one finding about something."""
        [found] = self.all_of(check, subject)
        return found

    def all_of(self, check: str, subject: str | None = None) -> list[dict[str, Any]]:
        return [one for one in self.checks if (one["check"], one["subject"]) == (check, subject)]

    @property
    def troubles(self) -> list[tuple[str, str | None, str]]:
        return [
            (one["check"], one["subject"], one["result"])
            for one in self.checks
            if one["result"] in ("warning", "failed")
        ]


Doctor = Callable[..., Looked]
