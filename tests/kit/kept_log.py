"""A log for tests: keeps what it was told."""

from __future__ import annotations

from typing import Any


class KeptLog:
    """Satisfies the stages' and doors' ``Log``."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def exception(self, event: str, /, **fields: Any) -> None:
        """Keep a line."""
        self.lines.append((event, fields))

    error = warning = info = debug = exception
