"""Notices that a file was changed, however that was done: in place and in pieces, by rename, by swapping a link on the
way to it, by deleting it and making it anew.

The kernel's events, by watchfiles, end the wait early; what counts is a look at the file and at all links that lead to
it (`runtime/sight`), which is also taken every half second, so that file systems without events and directories that
were themselves replaced are covered. A change is told once the file has kept still for a moment and nobody has it open
for writing: an interrupted write may well be valid TOML.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from aiorchd.runtime.sight import Sight, is_being_written, look

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds.

    ``still`` is how long a finished file must not have changed, ``unsure`` the same where the kernel does not say
    whether anybody is writing. ``restless`` bounds both when it never keeps still, ``writer`` bounds the wait for
    somebody who has it open, and ``absent`` is how long it must be gone, or empty, for that to be meant. ``look`` is the
    time between two looks without an event, ``look_alone`` the same when there are no events at all, and ``events_again``
    when those are tried anew.
    """

    still: float = 0.1
    unsure: float = 0.2
    restless: float = 0.4
    writer: float = 5.0
    absent: float = 0.5
    look: float = 0.5
    look_alone: float = 0.25
    events_again: float = 60.0


@dataclass(frozen=True, slots=True)
class Change:
    """The file is another than before. ``present`` is False when it is gone, and then there is nothing to read."""

    path: Path
    present: bool


@dataclass(frozen=True, slots=True)
class WatchStatistics:
    """How a file is watched: by ``events`` or by ``looks`` alone (``why`` says what failed), in which directories, and how
    many changes were told.
    """

    path: str
    by: str
    why: str
    directories: tuple[str, ...]
    changes: int


_TICK_S: Final = 0.01
_STEP_MS: Final = 100
"""How often the thread that waits for events looks whether there were any: ten short wake-ups a second while idle."""


class FileWatch:
    """Watches one file from the moment this is made; every later change is told by `changed`.

    The file, and the directories on the way, need not exist.
    """

    def __init__(self, path: Path, patience: Patience | None = None) -> None:
        if not path.is_absolute():
            raise ValueError(f"{path} is not an absolute path")
        self._path = path
        self._patience = Patience() if patience is None else patience
        self._known = look(path)
        self._untold: Change | None = None
        self._changes = 0
        self._one_at_a_time = trio.CapacityLimiter(1)
        # Used in the thread, which runs only while somebody waits in `changed`.
        self._stop = threading.Event()
        self._events: RustNotify | None = None
        self._watched: tuple[tuple[str, int], ...] = ()
        self._events_again_at = 0.0
        self._why = "nobody has waited for a change yet"

    async def changed(self) -> Change:
        """Wait for the next change. Cancelled, it loses none: the next call tells it."""
        while self._untold is None:
            self._stop.clear()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_when_cancelled)
                # Not abandoned when cancelled: the thread ends within a tenth of a second, and nothing of it is left
                # when this returns.
                await trio.to_thread.run_sync(self._wait, limiter=self._one_at_a_time)
                nursery.cancel_scope.cancel()
        change, self._untold = self._untold, None
        self._changes += 1
        return change

    def statistics(self) -> WatchStatistics:
        """Tell how the file is watched."""
        return WatchStatistics(
            path=str(self._path),
            by="looks" if self._events is None else "events",
            why=self._why,
            directories=tuple(directory for directory, _ in self._known.directories),
            changes=self._changes,
        )

    def close(self) -> None:
        """Give the kernel's watches back. Nobody may be waiting in `changed`."""
        if self._events is not None:
            self._events.close()
            self._events = None

    async def _stop_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._stop.set()

    # --- in the thread ---------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Leave the next change in ``_untold``, or nothing when stopped."""
        while not self._stop.is_set():
            seen = look(self._path)
            if not seen.same_file(self._known) and self._settle(seen):
                return
            if seen.directories != self._watched and self._watch(seen.directories):
                continue  # look again: something may have happened before the kernel was asked
            self._await_hint()

    def _settle(self, seen: Sight) -> bool:
        """Wait until what is seen is finished, then keep it as known; False when stopped or when nothing changed after
        all.
        """
        began = still_since = time.monotonic()
        while not self._stop.wait(_TICK_S):
            found = look(self._path)
            now = time.monotonic()
            if not found.same_file(seen):
                seen, still_since = found, now
            if not self._is_finished(seen, now - still_since, now - began):
                continue
            if seen.same_file(self._known):
                return False
            self._known = seen
            self._untold = Change(self._path, present=seen.file is not None)
            return True
        return False

    def _is_finished(self, seen: Sight, still_s: float, waited_s: float) -> bool:
        patience = self._patience
        if seen.file is None or (seen.regular and seen.size == 0):
            return still_s >= patience.absent
        if not seen.regular:
            return still_s >= patience.still
        written = is_being_written(self._path)
        if written:
            return waited_s >= patience.writer
        return still_s >= (patience.unsure if written is None else patience.still) or waited_s >= patience.restless

    def _watch(self, directories: tuple[tuple[str, int], ...]) -> bool:
        """Ask the kernel to tell of events in these directories; False when it will not, and why is kept."""
        if self._events is None and time.monotonic() < self._events_again_at:
            return False
        # Here and not above: it is imported in the thread while the daemon already serves.
        from watchfiles._rust_notify import RustNotify

        self.close()
        try:
            self._events = RustNotify([name for name, inode in directories if inode], False, False, 0, False, True)
        except (RuntimeError, OSError) as error:
            self._why = f"the kernel tells of no events: {error}"
            self._events_again_at = time.monotonic() + self._patience.events_again
            self._watched = ()
            return False
        self._why = ""
        self._watched = directories
        return True

    def _await_hint(self) -> None:
        """Return when it is time to look: at an event, and now and then without one."""
        if self._events is None:
            self._stop.wait(self._patience.look_alone)
            return
        try:
            # 1 ms: tell at the first step; `_settle` judges better than a pause between events when it is finished.
            self._events.watch(1, _STEP_MS, int(self._patience.look * 1000), self._stop)
        except (RuntimeError, OSError) as error:
            self.close()
            self._why = f"the kernel stopped telling of events: {error}"
            self._events_again_at = time.monotonic() + self._patience.events_again
            self._watched = ()
