"""Who asks: a host process as the kernel vouches for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

UNMAPPED_UID: Final = 65534
"""What the kernel says of a peer whose user has no number here; nothing of such a caller is cached."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A process at the other end of a connection.

    ``uid``, ``gid``, ``pid`` and ``groups`` come from the socket's peer credentials and carry authority; ``unit``, the
    systemd unit that owns the pid or ``"user"``, serves accounting only. ``connection`` numbers the connection, so that
    what a caller registered can go when it goes.
    """

    uid: int
    gid: int
    pid: int
    groups: frozenset[int] = frozenset()
    unit: str = "user"
    connection: int = 0
    admin: bool = False
    """May administer: root, the daemon's own user, or named by the configuration."""
