"""What a streamed chat answer is read with: pieces for the caller, and who puts them together again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiorchd.providers.answer import ChatAnswer
from aiorchd.providers.errors import Complaint
from aiorchd.providers.sse import Event


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece for the caller; never empty."""

    text: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] | None = None


class ProviderComplaint(Exception):
    """The provider reported an error inside the stream."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(complaint.message)
        self.complaint = complaint


class Assembler(Protocol):
    """Takes the events of one stream in order. No I/O: events in, deltas out, and in the end the whole."""

    @property
    def done(self) -> bool:
        """Whether the stream said that nothing follows."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the answer may be believed to be whole."""
        ...

    @property
    def malformed(self) -> int:
        """How many events could not be read. They are survived: an answer that then ends as it should is worth more
        than none."""
        ...

    def take(self, event: Event) -> Delta | None:
        """Take one event; gives what of it is for the caller. Raises `ProviderComplaint`."""
        ...

    def answer(self) -> ChatAnswer:
        """Give the whole answer; raises `Unreadable`."""
        ...
