"""Where an attempt waits for its turn at its target, holds it while the provider works, and settles what it used.

What is learned from the answer goes back to the turnstile before the permit does: what its headers say of the limits, the
tokens really used, and a provider's "not now". In the other order the next one waiting would run into the same closed door.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio

from aiorch.errors import CallError
from aiorchd.calls.call import Attempt
from aiorchd.calls.outcome import Verdict, judge
from aiorchd.calls.ports import Passage, Service, Turnstile
from aiorchd.calls.reply import Reply

_WORTH_A_NOTE_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class GateStatistics:
    """Attempts that wait and that are at the provider now; how often the provider said not now since this was built."""

    waiting: int
    running: int
    throttled: int


class Gate:
    """Await ``turnstile``, then ask ``inner``. ``pause_s`` is how long the target is left alone when it is overloaded and
    did not say until when; a refusal because of a rate needs no pause, the pace itself makes one.

    Leaves ``queue_s`` and ``provider_s`` in the notes of the attempt, ``unsent`` when it never got its turn, and adds both
    times to the journal.
    """

    def __init__(self, inner: Service[Attempt], turnstile: Turnstile, *, pause_s: float = 0.5) -> None:
        self._inner = inner
        self._turnstile = turnstile
        self._pause_s = pause_s
        self._now = trio.lowlevel.current_clock().current_time
        self._waiting = 0
        self._running = 0
        self._throttled = 0

    async def __call__(self, attempt: Attempt) -> Reply:
        """Ask when it is the attempt's turn. Raises `Overloaded` when that will not be in time."""
        began_at = self._now()
        passage = self._turnstile.ask(attempt, began_at)
        notes = attempt.notes
        if passage.granted:
            notes["queue_s"] = 0.0
        else:
            began_at = await self._wait(attempt, passage, began_at)
        self._running += 1
        notes["limits_listener"] = passage.heard
        try:
            reply = await self._inner(attempt)
            usage = reply.usage
            if usage is None:
                passage.answered(None, 0)
            else:
                passage.answered(usage.input + usage.cache_read + usage.cache_write, usage.output + usage.reasoning)
            return reply
        except CallError as error:
            self._heed(error, passage)
            raise
        finally:
            now = self._now()
            passage.leave(now)
            self._running -= 1
            del notes["limits_listener"]
            provider_s = notes["provider_s"] = now - began_at
            attempt.call.journal.provider_s += provider_s

    def statistics(self) -> GateStatistics:
        """Tell who waits here and who is at the provider. The turnstile itself tells of all generations together."""
        return GateStatistics(waiting=self._waiting, running=self._running, throttled=self._throttled)

    def _heed(self, error: CallError, passage: Passage) -> None:
        """Pass a "not now" on, and leave the target alone for as long as the provider said."""
        seconds = error.retry_after_s
        if judge(error).verdict is Verdict.THROTTLED:
            self._throttled += 1
            if error.retryable:  # else it says that this one request, or this account, will never do
                overloaded = bool(error.details.get("overloaded"))
                passage.refused(about=error.details.get("limited_by"), overloaded=overloaded)
                if seconds is None and overloaded:
                    seconds = self._pause_s
        if seconds is not None:
            self._turnstile.cool_down(self._now(), seconds)

    async def _wait(self, attempt: Attempt, passage: Passage, asked_at: float) -> float:
        """Wait for the turn and write down how long that took, however it ended; gives when it came."""
        journal, notes, name = attempt.call.journal, attempt.notes, attempt.target.name
        self._waiting += 1
        notes["unsent"] = True
        try:
            await passage.wait()
            del notes["unsent"]
        finally:
            self._waiting -= 1
            now = self._now()
            queue_s = notes["queue_s"] = now - asked_at
            journal.queue_s += queue_s
            if "unsent" in notes:
                journal.note(now, "gate", f"waited {queue_s:.3g} s for a turn at {name}, in vain")
        if queue_s >= _WORTH_A_NOTE_S:
            waited = f"waited {queue_s:.3g} s for a turn at {name}"
            reasons = ", then ".join(passage.waited_for)
            journal.note(now, "gate", f"{waited}: {reasons}" if reasons else waited)
        return now
