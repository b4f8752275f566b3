"""A provider's key, kept so that it cannot slip into a log line, an error or a pickle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn, Self


class Secret:
    """Holds one secret string; only `reveal` gives it away, and only the code that builds a header calls that.

    White space around the value is dropped: a key read from a file ends in a newline more often than not, and a newline
    cannot be sent in a header. Raises `ValueError` (which does not repeat the value) when nothing is left or when a
    character cannot stand in a header.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        value = value.strip()
        if not value:
            raise ValueError("the key is empty")
        if not (value.isascii() and value.isprintable()):
            raise ValueError("the key holds characters that cannot be sent in a header")
        self._value = value

    def reveal(self) -> str:
        """Give the value itself."""
        return self._value

    def redact(self, text: str) -> str:
        """Replace the value wherever it stands in ``text``."""
        return text.replace(self._value, "[key]")

    def __repr__(self) -> str:
        return "Secret(…)"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not serialised")


@dataclass(frozen=True, slots=True)
class MissingKey:
    """A key that the configuration names and that is not there; ``where`` says so: «the variable X is not set»."""

    where: str
