"""The kit for testing one stage: the test plays the inner service by hand, on a fake clock, without mocks.

::

    service, inner = harness(Retry, RetryPolicy(...))
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, an_attempt())
        (await inner.next()).fail(ProviderError("broken"))
        (await inner.next()).reply(text="at last")
        assert (await asked.reply()).text == "at last"

After tower-test's ``mock::spawn_layer`` (the test answers by hand) and httpcore's ``test_cancellations`` (cancel
anywhere, then ask whether the thing is idle): see `cancel_at_every_checkpoint`.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import trio
import trio.testing

from aiorch.errors import CallError
from aiorchd.calls.call import Attempt, Call
from aiorchd.calls.caller import Caller
from aiorchd.calls.journal import Journal
from aiorchd.calls.reply import Reply, Usage
from aiorchd.calls.target import Target

RequestT = TypeVar("RequestT")
SubjectT = TypeVar("SubjectT")
ServiceT = TypeVar("ServiceT")

_numbers = itertools.count(1)


# --- building what travels ---------------------------------------------------------------------------------------


def _now() -> float:
    return trio.current_time() if trio.lowlevel.in_trio_run() else 0.0


def a_caller(uid: int = 1000, **fields: Any) -> Caller:
    """A host process of user ``uid``."""
    return Caller(**{"uid": uid, "gid": uid, "pid": 4242, **fields})


def a_target(name: str = "small", **fields: Any) -> Target:
    """A model as the configuration would describe it."""
    return Target(
        **{
            "name": name,
            "provider": "main",
            "dialect": "openai",
            "provider_model": f"{name}-1",
            "address": "openai https://api.example.com/v1",
            **fields,
        }
    )


def a_call(prompt: str = "How many moons?", *, timeout_s: float = 60.0, **fields: Any) -> Call:
    """A chat call with a deadline ``timeout_s`` from now; any field of `Call` may be given."""
    now = _now()
    return Call(
        **{
            "id": f"call-{next(_numbers)}",
            "caller": a_caller(),
            "kind": "chat",
            "request": {"messages": [{"role": "user", "content": prompt}]},
            "deadline": now + timeout_s,
            "journal": Journal(started=now, at=1_700_000_000.0),
            **fields,
        }
    )


def an_attempt(call: Call | None = None, target: Target | None = None, **fields: Any) -> Attempt:
    """A first try of ``call`` at ``target``."""
    return Attempt(call=call or a_call(), target=target or a_target(), **fields)


def a_usage(input: int = 10, output: int = 5, **fields: Any) -> Usage:  # noqa: A002  the wire's own name
    """Tokens of a small answer."""
    return Usage(**{"input": input, "cache_read": 0, "cache_write": 0, "output": output, "reasoning": 0, **fields})


def a_reply(text: str = "Eight.", **fields: Any) -> Reply:
    """A plain answer from the provider."""
    return Reply(
        **{
            "text": text,
            "finish_reason": "stop",
            "model": "small",
            "provider": "main",
            "usage": a_usage(),
            "cost_usd": 0.001,
            **fields,
        }
    )


@dataclass
class RecordedSink:
    """A `DeltaSink` that keeps what it is sent; ``room`` makes the sender wait, as a slow reader would."""

    pieces: list[Any] = field(default_factory=list)
    room: trio.Event | None = None

    @property
    def started(self) -> bool:
        return bool(self.pieces)

    @property
    def text(self) -> str:
        return "".join(piece for piece in self.pieces if isinstance(piece, str))

    async def send(self, *, text: str | None = None, tool_calls: Sequence[Mapping[str, Any]] | None = None) -> None:
        if self.room is not None:
            await self.room.wait()
        else:
            await trio.lowlevel.checkpoint()
        if text is not None:
            self.pieces.append(text)
        if tool_calls is not None:
            self.pieces.append(list(tool_calls))


# --- the inner service, played by hand -----------------------------------------------------------------------------


class Received(Generic[RequestT]):
    """One request that reached the inner service and waits for the test to say how it ends."""

    def __init__(self, request: RequestT) -> None:
        self.request = request
        self.arrived_at = trio.current_time()
        self.cancelled = False
        self._result: Reply | BaseException | None = None
        self._decided = trio.Event()
        self._gone = trio.Event()

    def reply(self, reply: Reply | None = None, /, **fields: Any) -> None:
        """Answer with ``reply``, or with `a_reply` of these fields."""
        self._decide(reply if reply is not None else a_reply(**fields))

    def fail(self, error: BaseException) -> None:
        """Raise ``error`` out of the inner service."""
        self._decide(error)

    async def gone(self) -> None:
        """Wait until the request has left the inner service; ``cancelled`` then tells whether by cancellation."""
        await self._gone.wait()

    @property
    def is_gone(self) -> bool:
        return self._gone.is_set()

    def _decide(self, result: Reply | BaseException) -> None:
        assert not self._decided.is_set(), "this request was answered already"
        assert not self._gone.is_set(), "this request is gone (cancelled); it cannot be answered any more"
        self._result = result
        self._decided.set()

    async def run(self) -> Reply:
        """The inner service's side: wait for the test's decision."""
        try:
            await self._decided.wait()
        except trio.Cancelled:
            self.cancelled = True
            raise
        finally:
            self._gone.set()
        if isinstance(self._result, BaseException):
            raise self._result
        assert self._result is not None
        return self._result


class InnerService(Generic[RequestT]):
    """What stands below the stage under test. By default each request waits for the test: ``await inner.next()``.

    ``inner.answer = function`` answers by itself from then on: the function is given the request and returns a
    `Reply`, or an exception to raise, or awaits first (``async def``).
    """

    def __init__(self) -> None:
        self.answer: Callable[[RequestT], Any] | None = None
        self.requests: list[RequestT] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._send, self._receive = trio.open_memory_channel[Received[RequestT]](math.inf)

    async def __call__(self, request: RequestT, /) -> Reply:
        self.requests.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.answer is None:
                received = Received(request)
                self._send.send_nowait(received)
                return await received.run()
            await trio.lowlevel.checkpoint()
            result = self.answer(request)
            if inspect.isawaitable(result):
                result = await result
            if isinstance(result, BaseException):
                try:
                    raise result
                finally:
                    del result  # no cycle through this frame: tests look for what the stages themselves keep
            assert isinstance(result, Reply)
            return result
        finally:
            self.in_flight -= 1

    @property
    def asked(self) -> int:
        """How many requests arrived in all."""
        return len(self.requests)

    async def next(self) -> Received[RequestT]:
        """Wait for the next request; fails after 1 000 (fake) seconds rather than hanging the suite."""
        with trio.fail_after(1000):
            return await self._receive.receive()

    async def assert_quiet(self) -> None:
        """Nothing more came, once every task has done what it can do now."""
        await trio.testing.wait_all_tasks_blocked()
        waiting = self._receive.statistics().current_buffer_used
        assert waiting == 0, f"{waiting} unexpected request(s) reached the inner service"


def harness(stage: Callable[..., ServiceT], /, *arguments: Any, **keywords: Any) -> tuple[ServiceT, InnerService[Any]]:
    """Build ``stage(inner, *arguments, **keywords)`` over an `InnerService`; give both."""
    inner: InnerService[Any] = InnerService()
    return stage(inner, *arguments, **keywords), inner


# --- asking ----------------------------------------------------------------------------------------------------------


class Asked:
    """A call in flight from the test's point of view; no error leaves its task, it is kept for whoever asks."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.finished_at: float | None = None
        self._result: Reply | BaseException | None = None
        self._done = trio.Event()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def cancel(self) -> None:
        """Let the caller go away."""
        self.scope.cancel()

    async def wait(self) -> Reply | BaseException | None:
        """Wait for the end; gives the reply, the error, or None when it was cancelled."""
        with trio.fail_after(100_000):
            await self._done.wait()
        return self._result

    async def reply(self) -> Reply:
        """Wait for the end; the reply, or its error raised."""
        result = await self.wait()
        if isinstance(result, BaseException):
            raise result
        assert result is not None, "the call was cancelled"
        return result

    async def error(self) -> CallError:
        """Wait for the end, which must be a `CallError`."""
        result = await self.wait()
        assert isinstance(result, CallError), f"expected an error, got {result!r}"
        return result

    async def run(self, service: Callable[[Any], Awaitable[Reply]], request: Any) -> None:
        try:
            with self.scope:
                self._result = await service(request)
        except Exception as error:
            self._result = error
        finally:
            self.finished_at = trio.current_time()
            self._done.set()


def ask(nursery: trio.Nursery, service: Callable[[Any], Awaitable[Reply]], request: Any) -> Asked:
    """Send ``request`` in a task of its own."""
    asked = Asked()
    nursery.start_soon(asked.run, service, request)
    return asked


# --- cancelling everywhere ------------------------------------------------------------------------------------------


class _CancelAtStep(trio.abc.Instrument):
    """Cancels ``scope`` right after the ``step``-th step of any task below ``nursery``.

    A task's step ends where it waits: at a checkpoint, with its abort function in place. So the cancellation is
    delivered at exactly that checkpoint, without a line of the code under test being changed.
    """

    def __init__(self, nursery: trio.Nursery, scope: trio.CancelScope, step: int) -> None:
        self._nursery = nursery
        self._scope = scope
        self._left = step
        self.fired = False

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.fired or not self._is_below(task):
            return
        self._left -= 1
        if self._left == 0:
            self.fired = True
            self._scope.cancel()

    def _is_below(self, task: trio.lowlevel.Task) -> bool:
        nursery = task.parent_nursery
        while nursery is not None:
            if nursery is self._nursery:
                return True
            nursery = nursery.parent_task.parent_nursery
        return False


async def cancel_at_every_checkpoint(
    make_scenario: Callable[[trio.Nursery], tuple[SubjectT, Callable[[], Awaitable[Any]]]],
    assert_idle: Callable[[SubjectT], Awaitable[None] | None],
    *,
    at_least: int = 1,
    at_most: int = 2000,
) -> int:
    """Run a scenario again and again, cancelled at its 1st, 2nd, 3rd … checkpoint, until it gets through unharmed.

    ``make_scenario(nursery)`` builds everything afresh and gives ``(subject, run)``; ``run()`` is what is cancelled.
    The nursery outlives it: background tasks (flights, timers, other callers) belong there; their steps are counted
    as well, and they are ended only after ``assert_idle(subject)`` has looked, when every task has come to rest.
    Anything but cancellation that leaves ``run`` fails the test. Gives the number of checkpoints; ``at_least`` guards
    against a scenario that never really began.
    """
    for step in range(1, at_most + 1):
        failure: BaseException | None = None
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            subject, run = make_scenario(nursery)
            ending = _Ending(scope)
            instrument = _CancelAtStep(nursery, scope, step)
            trio.lowlevel.add_instrument(instrument)
            try:
                nursery.start_soon(ending.run, run)
                await ending.event.wait()
            finally:
                trio.lowlevel.remove_instrument(instrument)
            where = f"cancelled at checkpoint {step}" if instrument.fired else "not cancelled"
            failure = ending.error
            await trio.testing.wait_all_tasks_blocked()
            if failure is None:
                try:
                    verdict = assert_idle(subject)
                    if verdict is not None:
                        await verdict
                except AssertionError as error:
                    failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:  # raised here, so that it does not leave the nursery as a group
            failure.add_note(f"the scenario was {where}")
            raise failure
        if not instrument.fired:
            assert step > at_least, f"the scenario has only {step - 1} checkpoint(s)"
            return step - 1
    raise AssertionError(f"the scenario did not end within {at_most} checkpoints")


class _Ending:
    """Runs the scenario in its scope and keeps how it ended."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self.event = trio.Event()
        self.error: BaseException | None = None
        self._scope = scope

    async def run(self, scenario: Callable[[], Awaitable[Any]]) -> None:
        try:
            with self._scope:
                await scenario()
        except Exception as error:
            self.error = error
        finally:
            self.event.set()
