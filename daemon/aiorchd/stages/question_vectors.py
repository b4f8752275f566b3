"""Vectors of questions from a model that the configuration names, for the semantic depth: asked in batches, waited for no
longer than a bound.

An embeddings request is a call of its own: it goes down the same way as one that a caller sends (bounds of the house, keys,
breaker, queue and quota, budgets) and is recorded, at the caller's own user. What comes while one is under way for a user
goes with the next, up to `MOST_TEXTS` at once; a batch holds the texts of one user only, who pays for it. Whoever waited
in vain goes on without a vector; when it comes after all it is in `Pending.vector`. Texts that were asked lately, or are
being asked, are not asked again. Requests end with their generation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, Protocol

import trio

from aiorch.errors import CallError, DeadlineExceeded
from aiorchd.calls.call import Call
from aiorchd.calls.journal import Journal
from aiorchd.calls.ports import Service, WallClock
from aiorchd.calls.reply import Reply

MOST_TEXTS: Final = 64
MOST_WAITING: Final = 1024
"""Of one user; who comes on top goes without."""
MOST_KNOWN: Final = 2048
TIMEOUT_S: Final = 10.0


class Log(Protocol):
    """As much of a log as this stage needs."""

    def exception(self, event: str, /, **fields: Any) -> Any:
        """Tell of a defect, with its traceback."""
        ...


class TellEnd(Protocol):
    """Records a call that no caller waits for."""

    def __call__(self, call: Call, reply: Reply | None, error: CallError | None, /, *, cancelled: bool = False) -> None:
        """Record how it ended."""
        ...


@dataclass(slots=True, eq=False)
class Pending:
    """A text whose vector was asked for. ``vector`` is as the model gave it, None until then, or when it gave none."""

    text: str
    call: Call
    vector: bytes | None = None
    done: trio.Event = field(default_factory=trio.Event)

    async def wait(self, limit_s: float) -> bytes | None:
        """Wait for the vector, not longer than so many seconds; None when it does not come."""
        if not self.done.is_set():
            with trio.move_on_after(limit_s):
                await self.done.wait()
        return self.vector


@dataclass(frozen=True, slots=True)
class QuestionVectorsStatistics:
    """Requests ``running`` and texts ``waiting`` for the next; and since this stage was built: ``texts`` and ``requests``
    that were sent, those that ``failed``, and texts ``turned_away`` since too many waited."""

    running: int
    waiting: int
    texts: int
    requests: int
    failed: int
    turned_away: int


class QuestionVectors:
    """Ask ``model`` for vectors; ``nursery`` outlives the calls, and `close` ends what runs."""

    def __init__(
        self,
        inner: Service[Call],
        nursery: trio.Nursery,
        *,
        model: str,
        new_id: Callable[[], str],
        wall_clock: WallClock,
        tell_end: TellEnd,
        log: Log,
    ) -> None:
        self._inner = inner
        self._nursery = nursery
        self._model = model
        self._new_id = new_id
        self._wall_clock = wall_clock
        self._tell_end = tell_end
        self._log = log
        # This is all the mutable state: who waits and what runs, by user; what was asked lately, by text; and counts.
        self._waiting: dict[int, list[Pending]] = {}
        self._running: dict[int, trio.CancelScope] = {}
        self._known: dict[bytes, Pending] = {}
        self._closed = False
        self._texts = self._requests = self._failed = self._turned_away = 0

    def begin(self, call: Call, text: str) -> Pending | None:
        """Ask for the vector of a text, at the expense of the call's user; None when that cannot be done now. Never waits."""
        uid = call.caller.uid
        place = blake2b(f"{uid} {text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._known.get(place)
        if known is not None and (known.vector is not None or not known.done.is_set()):
            return known
        if self._closed or len(self._waiting.get(uid, ())) >= MOST_WAITING:
            self._turned_away += 1
            return None
        pending = Pending(text, call)
        self._waiting.setdefault(uid, []).append(pending)
        self._known.pop(place, None)
        self._known[place] = pending
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        if uid not in self._running:
            self._running[uid] = trio.CancelScope()
            self._nursery.start_soon(self._serve, uid)
        return pending

    def close(self) -> None:
        """End what runs and begin nothing more."""
        self._closed = True
        for scope in self._running.values():
            scope.cancel()

    def statistics(self) -> QuestionVectorsStatistics:
        """Tell what runs."""
        return QuestionVectorsStatistics(
            running=len(self._running),
            waiting=sum(map(len, self._waiting.values())),
            texts=self._texts,
            requests=self._requests,
            failed=self._failed,
            turned_away=self._turned_away,
        )

    async def _serve(self, uid: int) -> None:
        """Ask for what waits, until nothing does."""
        try:
            with self._running[uid]:
                while waiting := self._waiting[uid]:
                    self._waiting[uid] = waiting[MOST_TEXTS:]
                    await self._ask(waiting[:MOST_TEXTS])
        finally:
            del self._running[uid]
            for pending in self._waiting.pop(uid):
                pending.done.set()

    async def _ask(self, batch: Sequence[Pending]) -> None:
        first, now = batch[0].call, trio.current_time()
        call = Call(
            id=self._new_id(),
            caller=first.caller,
            kind="embed",
            request={"input": [pending.text for pending in batch]},
            deadline=now + TIMEOUT_S,
            journal=Journal(started=now, at=self._wall_clock()),
            model=self._model,
            models=(self._model,),  # a fallback's vectors would be of another kind
            priority=first.priority,
            cache="bypass",
            partition=first.partition,
            operation=first.operation,
        )
        call.journal.note(now, "semantic", f"vectors of {len(batch)} questions, the call {first.id} being the first")
        self._requests += 1
        self._texts += len(batch)
        reply: Reply | None = None
        error: CallError | None = None
        defect = False
        try:
            with trio.CancelScope(deadline=call.deadline):
                reply = await self._inner(call)
                for pending, vector in zip(batch, reply.vectors or (), strict=False):
                    pending.vector = vector
        except CallError as raised:
            error = raised.again()
        except Exception:  # barrier: a request nobody waits for
            self._log.exception("question_vectors_failed", call=call.id)
            defect = True
        finally:
            if reply is None and error is None and not defect and trio.current_time() >= call.deadline:
                error = DeadlineExceeded("the vectors of questions did not come in time", stage="semantic")
            self._failed += error is not None or defect
            for pending in batch:
                pending.done.set()
            self._tell_end(call, reply, error, cancelled=reply is None and error is None and not defect)
