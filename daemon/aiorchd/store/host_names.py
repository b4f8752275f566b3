"""Which models processes of the host answer for, on the disk: so that the next daemon knows whom it may wait for.

Written when it changes, gathered for a moment, whole or not at all. It is a hint and no more: with one that is lost or out of
date, a call fails that could have waited, or waits for nobody. So nothing here raises.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeAlias

import trio

FILE_NAME: Final = "host-models.json"
_GATHER_S: Final = 0.25
_KEEP_S: Final = 1.0
_MOST_BYTES: Final = 16 * 1024 * 1024

Place: TypeAlias = tuple[int, str]
"""The user and the name of a model."""


class HostNames:
    """Keeps in the state directory what ``current`` tells."""

    def __init__(self, directory: Path, current: Callable[[], Iterable[Place]]) -> None:
        self._path = directory / FILE_NAME
        self._current = current
        # This is all the mutable state.
        self._changed = trio.Event()
        self._kept: list[Place] | None = None
        self._over = False

    async def read(self) -> list[Place]:
        """Tell what the last daemon left; nothing when that cannot be read."""
        try:
            self._kept = await trio.to_thread.run_sync(_read, self._path)
        except FileNotFoundError:
            self._kept = []
        except (OSError, ValueError, RecursionError) as error:
            _tell("what processes of the host answered for cannot be read", error)
        return list(self._kept or ())

    def changed(self) -> None:
        """What ``current`` tells has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Write what changes, until cancelled."""
        while True:
            await self._changed.wait()
            await trio.sleep(_GATHER_S)
            self._changed = trio.Event()
            await self._write()

    async def keep(self) -> None:
        """Write what holds now, and nothing any more: whoever goes from now on goes because the daemon does. Waits for no disk
        that is stuck."""
        with trio.move_on_after(_KEEP_S):
            await self._write()
        self._over = True

    async def _write(self) -> None:
        places = sorted(set(self._current()))
        if self._over or places == self._kept:
            return
        try:
            await trio.to_thread.run_sync(_write, self._path, places, abandon_on_cancel=True)
        except OSError as error:
            _tell("what processes of the host answer for cannot be kept", error)
        else:
            self._kept = places


def _read(path: Path) -> list[Place]:
    with path.open("rb") as file:
        told: Any = json.loads(file.read(_MOST_BYTES))
    if type(told) is not list or not all(
        type(one) is list and [type(part) for part in one] == [int, str] for one in told
    ):
        raise ValueError("it is no list of users and names")
    return sorted((uid, name) for uid, name in told)


def _write(path: Path, places: list[Place]) -> None:
    written = path.with_name(f"{path.name}.new")
    written.unlink(missing_ok=True)
    written.touch(mode=0o600)
    written.write_text(json.dumps(places), encoding="utf-8")
    written.replace(path)


def _tell(event: str, error: Exception) -> None:
    logging.getLogger("aiorchd.store").warning(event, extra={"aiorch_fields": {"error": str(error)}})
