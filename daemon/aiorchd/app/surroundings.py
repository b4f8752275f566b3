"""What only the daemon itself can see of the world around it, for ``aiorchctl doctor``: its clock, its limits, its
libraries, and whether its providers answer and take its keys.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio

from aiorch.version import __version__
from aiorchd.app.plain import plain
from aiorchd.app.supply import Supply
from aiorchd.calls.ports import WallClock
from aiorchd.config.schema import Config
from aiorchd.runtime.descriptors import descriptor_statistics

LIBRARIES: Final[Sequence[str]] = (
    "trio",
    "msgpack",
    "msgspec",
    "h11",
    "h2",
    "jsonschema",
    "watchfiles",
    "sqlite-utils",
)

_OWN_DESCRIPTORS: Final = 64
"""Databases and their logs, the event loop, the watch on the configuration, standard streams, and some to spare."""


def _since_boot() -> float:
    """Seconds on the clock that nobody can set and that goes on in sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class _Moment:
    wall_s: float
    boot_s: float


class Surroundings:
    """Looks around on demand. ``wall_clock`` is that of the house."""

    def __init__(self, supply: Supply, wall_clock: WallClock) -> None:
        self._supply = supply
        self._wall_clock = wall_clock
        self._began = self._now()

    async def look(self, config: Config, timeout_s: float) -> dict[str, Any]:
        """Tell everything as plain data; a provider may take ``timeout_s`` to connect and as long again to answer."""
        providers = await self._supply.check(config, timeout_s)
        software = await trio.to_thread.run_sync(_software)
        now = self._now()
        return {
            "identity": {"pid": os.getpid(), "uid": os.geteuid(), "gid": os.getegid()},
            "clock": {
                "wall_s": now.wall_s,
                "since_boot_s": now.boot_s,
                "uptime_s": now.boot_s - self._began.boot_s,
                # How far somebody, or a time service, set the wall clock forward (or, below 0, back) since the start.
                "stepped_s": (now.wall_s - self._began.wall_s) - (now.boot_s - self._began.boot_s),
            },
            "descriptors": {**plain(descriptor_statistics()), "needed": needed_descriptors(config)},
            "software": software,
            "providers": providers,
        }

    def _now(self) -> _Moment:
        return _Moment(self._wall_clock(), _since_boot())


def needed_descriptors(config: Config) -> int:
    """Tell how many descriptors the daemon takes when every bound of the configuration is reached."""
    pool = config.pool
    return config.daemon.max_connections + pool.max_connections + pool.max_keepalive + _OWN_DESCRIPTORS


def _software() -> dict[str, Any]:
    # Here and not above: the daemon starts sooner without them.
    import platform
    from importlib.metadata import PackageNotFoundError, version

    libraries: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = None
    return {
        "aiorch": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "libraries": libraries,
    }
