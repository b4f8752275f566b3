"""A model that a process of the host answers for, and what it takes to ask that process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiorchd.calls.target import Price

if TYPE_CHECKING:
    from aiorchd.calls.ports import HostPeer

HOST: Final = "host"
"""The dialect, and the name of the provider of models that are registered."""

COMPLETE: Final = "host.complete"
"""What a host process is asked, unless it names another method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostModel:
    """A model as the process that answers for it describes it. None: as the configuration has it for all models.

    ``fallback`` names who is asked after it. ``version`` is part of what its answers are kept under.
    """

    name: str
    price: Price = field(default_factory=Price)
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    max_concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    fallback: tuple[str, ...] | None = None
    version: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class HostOffer:
    """One connection that answers for a model. ``way`` is a method of its own by which it wants to be asked and the arguments
    that come before the question, or empty; ``fields`` is what every question says besides."""

    peer: HostPeer
    way: tuple[Any, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)

    async def ask(self, question: Mapping[str, Any]) -> Any:
        """Ask it; see `HostPeer`. Who names a method knows no cancelling, and takes its arguments as an array of one: an
        editor takes requests for functions of its own, and no notifications that it does not know."""
        asked = {**question, **self.fields}
        if not self.way:
            return await self.peer.ask(COMPLETE, [asked])
        method, *leading = self.way
        return await self.peer.ask(method, [*leading, [asked]], cancels=False)
