"""One row of the table of methods, a request on its way to it, and a result that is packed already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

from aiorchd.calls.leash import Leash

if TYPE_CHECKING:
    from aiorchd.doors.session import Session


Handler: TypeAlias = "Callable[[Asked], Awaitable[Any]]"
"""Carries a request out; returns plain data or, packed already, bytes in `Packed`."""


class Method(Protocol):
    """One row of the table of methods: who may call it, and what does it."""

    @property
    def admin_only(self) -> bool:
        """Whether only administrators may."""
        ...

    @property
    def handler(self) -> Handler:
        """Carries it out."""
        ...

    @property
    def in_line(self) -> bool:
        """Whether it is work that waits its turn and may be turned away; the others are begun at once. Such work heeds the leash
        of its request itself, and raises `Cancelled` when that is cut."""
        ...


class Packed(msgspec.Struct, frozen=True):
    """A result that is packed already."""

    body: bytes


class Asked(msgspec.Struct, frozen=True, eq=False):
    """A request on its way to its handler. ``prepared`` is what `Recall` made of it; ``received_at`` is monotonic. ``stored``
    says that an answer to that is probably on disk."""

    session: Session
    msgid: int
    params: list[Any]
    received_at: float
    prepared: object
    leash: Leash
    """By which the caller ends it."""
    stored: bool = False
