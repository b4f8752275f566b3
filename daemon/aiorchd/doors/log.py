"""As much of a structured logger as the doors need."""

from __future__ import annotations

from typing import Any, Protocol


class Log(Protocol):
    """Tells of what happens, by an event and its fields."""

    def exception(self, event: str, /, **fields: Any) -> Any:
        """Tell of a defect, with its traceback."""
        ...

    def info(self, event: str, /, **fields: Any) -> Any:
        """Tell of something."""
        ...

    def debug(self, event: str, /, **fields: Any) -> Any:
        """Tell of a detail."""
        ...
