"""Who counts as one caller in the queues, and with which weight: a user, or a unit that `[callers.NAME]` names."""

from __future__ import annotations

import pwd
from collections.abc import Hashable

from aiorchd.calls.caller import Caller
from aiorchd.config.schema import Config


class CallerShares:
    """Gives each caller's flow and weight; asked for every call that waits, so it only looks up.

    Callers are told apart by uid. A unit with a weight of its own is a flow of its own beside its user's other processes: units
    are no authority, but a share of the queue is not one either.
    """

    def __init__(self, config: Config) -> None:
        # This is all the mutable state.
        self._by_uid: dict[int, float] = {}
        self._by_unit: dict[str, float] = {}
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """Follow a configuration; what waits already keeps its place."""
        by_uid: dict[int, float] = {}
        by_unit: dict[str, float] = {}
        for name, caller in config.callers.items():
            if caller.weight is None:
                continue
            uid = _user(name)
            if uid is None:
                by_unit[name] = caller.weight
            else:
                by_uid[uid] = caller.weight
        self._by_uid, self._by_unit = by_uid, by_unit

    def share_of(self, caller: Caller) -> tuple[Hashable, float]:
        """Give flow and weight."""
        if caller.unit in self._by_unit:
            return caller.unit, self._by_unit[caller.unit]
        return caller.uid, self._by_uid.get(caller.uid, 1.0)


def _user(name: str) -> int | None:
    """Find a user by number or by name; None when it is none of this host, but a unit."""
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None
