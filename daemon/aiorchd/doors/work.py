"""What runs for one connection: requests that were begun, side by side, each to its answer or its error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from aiorch.errors import (
    CallError,
    Cancelled,
    Forbidden,
    InternalError,
    LocalProtocolError,
    TooLarge,
    UnknownMethod,
)
from aiorch.protocol import Connection
from aiorchd.calls.caller import Caller
from aiorchd.calls.leash import Leash
from aiorchd.doors.answers import MAX_ANSWER_BYTES, packed_error, result_head
from aiorchd.doors.log import Log
from aiorchd.doors.method import Asked, Handler, Method, Packed
from aiorchd.doors.outbox import Outbox
from aiorchd.runtime.crew import Crew

_STAY_SMOOTHING: Final = 0.05
_MOST_RESTING: Final = 8
"""So many tasks of one connection wait for further requests, 2 kB each."""


class Work:
    """Belongs to one session. ``done`` is called whenever a request is over; one that was not ``admitted`` is refused all."""

    def __init__(
        self,
        caller: Caller,
        methods: Mapping[str, Method],
        outbox: Outbox,
        log: Log,
        *,
        admitted: bool,
        done: Callable[[], None],
    ) -> None:
        self._caller = caller
        self._methods = methods
        self._outbox = outbox
        self._log = log
        self._admitted = admitted
        self._done = done
        self._clock = trio.lowlevel.current_clock().current_time
        # This is all the mutable state: what runs, by msgid and by the call_id its caller chose.
        self.running: dict[int, Leash] = {}
        """For looking at only."""
        self._call_ids: dict[str | int, int] = {}
        self._crew: Crew | None = None
        """Who carries requests out; None before `open`."""
        self.calls = 0
        """Of what runs, how many stood in line."""
        self.mean_stay_s = 0.0
        """How long those take."""
        self.errors_as_map = False
        """The form of errors that the peer wished for."""

    def open(self, nursery: trio.Nursery) -> None:
        """Say where requests run, before the first begins."""
        self._crew = Crew(nursery, most_resting=_MOST_RESTING)

    def begin(self, asked: Asked, method: str, *, in_line: bool) -> None:
        """Carry a request out in a task of its own."""
        if method == "hello":
            self._agree_on_errors(asked.params)
        self.running[asked.msgid] = asked.leash
        self.calls += in_line
        assert self._crew is not None
        asked.leash.scope = self._crew.begin(math.inf, self._answer, asked, method, in_line)

    def name(self, call_id: str | int, msgid: int) -> None:
        """Let a request be found by the name its caller gave it, for as long as it runs."""
        self._call_ids[call_id] = msgid

    def named(self, fields: Mapping[str, Any]) -> int | None:
        """Find the msgid of what a ``cancel`` is about; None when it names nothing."""
        msgid, call_id = fields.get("msgid"), fields.get("call_id")
        if isinstance(call_id, (str, int)):
            msgid = self._call_ids.get(call_id, msgid)
        return msgid if type(msgid) is int else None

    def cancel(self, msgid: int) -> bool:
        """End a request as its caller wishes; tells whether it runs."""
        leash = self.running.get(msgid)
        if leash is None:
            return False
        leash.cancel()
        return True

    def refuse(self, msgid: int, error: CallError) -> None:
        """Answer a request by an error, whether it runs or not."""
        self._outbox.write(packed_error(msgid, error, as_map=self.errors_as_map))

    def _agree_on_errors(self, params: list[Any]) -> None:
        """Take the wished form of errors as it is read: tasks run in any order, and what follows may be refused first."""
        named = params[0] if params and type(params[0]) is dict else {}
        form = named.get("errors")
        if form in (None, "map", "text"):
            self.errors_as_map = form == "map"

    async def _answer(self, asked: Asked, method: str, in_line: bool) -> None:
        msgid = asked.msgid
        began_at = self._clock()
        try:
            if in_line:
                await self._try_to_answer(asked, method)
            else:
                with trio.CancelScope() as scope:
                    asked.leash.hold(scope.cancel)
                    await self._try_to_answer(asked, method)
                if scope.cancelled_caught:
                    self.refuse(msgid, Cancelled("cancelled by the caller"))
        finally:
            del self.running[msgid]
            if self._call_ids:
                for call_id in [known for known, owner in self._call_ids.items() if owner == msgid]:
                    del self._call_ids[call_id]
            if in_line:
                self.calls -= 1
                self.mean_stay_s += _STAY_SMOOTHING * (self._clock() - began_at - self.mean_stay_s)
            self._done()

    async def _try_to_answer(self, asked: Asked, method: str) -> None:
        msgid = asked.msgid
        try:
            result = await self._handler(method)(asked)
            packed = (
                result_head(msgid) + result.body if type(result) is Packed else Connection.pack_result(msgid, result)
            )
            if len(packed) > MAX_ANSWER_BYTES:
                raise TooLarge(
                    f"the answer has {len(packed)} bytes, and no more than {MAX_ANSWER_BYTES} are sent at once; "
                    'ask for less (of vectors: encoding "bytes")'
                )
            self._outbox.write(packed)
        except CallError as error:
            self.refuse(msgid, error)
        except LocalProtocolError as error:
            self.refuse(msgid, InternalError(f"the answer cannot be sent ({error})"))
        except Exception:  # barrier: one request at a door
            self._log.exception("request_failed", method=method[:60], uid=self._caller.uid)
            self.refuse(msgid, InternalError("a defect in the daemon; its log has the details (journalctl -u aiorchd)"))

    def _handler(self, name: str) -> Handler:
        if not self._admitted:
            raise Forbidden(
                f"user {self._caller.uid} may not use this daemon; its administrator can add you to [daemon] allow_users "
                "or allow_groups"
            )
        method = self._methods.get(name)
        if method is None:
            raise UnknownMethod(f"there is no method {name[:60]!r}; known are {', '.join(sorted(self._methods))}")
        if method.admin_only and not self._caller.admin:
            raise Forbidden(
                f"{name} is for administrators: root, the daemon's own user, or [daemon] admin_users / admin_groups; "
                f"you are user {self._caller.uid}"
            )
        return method.handler
