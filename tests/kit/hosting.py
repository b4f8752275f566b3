"""A house with a real pipeline behind real sessions, and processes of the host at the other end, played by hand.

::

    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine")
        asked = await caller.ask("complete", prompt="hi", model="mine")
        question = await host.next_request()
        await host.answer(question, {"text": "ho"})
        assert (await caller.response(asked)).result["text"] == "ho"
"""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any, TypeVar

import trio
from harness import a_caller, a_reply

from aiorch.errors import CallError
from aiorch.protocol import Connection, Event, Limits, Notification, Request, Response
from aiorchd.calls.call import Attempt
from aiorchd.calls.reply import Reply
from aiorchd.config.schema import Config, Model, Provider, Retry, Routing
from aiorchd.doors.departure import Departure
from aiorchd.doors.intake import Intake
from aiorchd.doors.methods import method_table
from aiorchd.doors.questions import Questions
from aiorchd.doors.session import Session
from aiorchd.doors.session_limits import SessionLimits
from aiorchd.pipeline.generation import Pipeline
from aiorchd.pipeline.lasting import lasting_state
from aiorchd.pipeline.order import open_pipeline
from aiorchd.pipeline.plan import Plan
from aiorchd.providers.host import HostProvider
from aiorchd.runtime.host_models import HostModels
from aiorchd.runtime.starting import Starting

EventT = TypeVar("EventT", Request, Response, Notification)

CONFIG = Config(
    providers={
        "main": Provider(dialect="openai", base_url="http://127.0.0.1:1/v1"),
        "ours": Provider(dialect="host"),
    },
    models=(
        Model(name="small", provider="main", input_usd_per_1m=1.0, output_usd_per_1m=1.0),
        Model(name="large", provider="main"),
        Model(name="ours", provider="ours", id="ours-1", input_usd_per_1m=2.0, output_usd_per_1m=2.0),
    ),
    retry=Retry(max_attempts=3, backoff_s=(0.1,)),
)


class Configured:
    """The provider of the configured models: says who it is, or fails as told."""

    attempt_s = None

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing: CallError | None = None

    async def chat(self, attempt: Attempt) -> Reply:
        await trio.lowlevel.checkpoint()
        self.asked.append(attempt.target.name)
        if self.failing is not None:
            raise self.failing.again()
        return a_reply(f"configured {attempt.target.name}", model=attempt.target.name)


class Peer:
    """A process at the other end of one session."""

    def __init__(self, stream: trio.SocketStream, session: Session) -> None:
        self.stream = stream
        self.session = session
        self.wire = Connection(Limits(max_frame_bytes=1 << 30, max_elements=10_000_000))
        self.events: list[Event] = []

    async def ask(self, method: str, **arguments: Any) -> int:
        msgid, data = self.wire.pack_request(method, arguments)
        await self.stream.send_all(data)
        return msgid

    async def response(self, msgid: int) -> Response:
        return await self._find(lambda event: isinstance(event, Response) and event.msgid == msgid)

    async def call(self, method: str, **arguments: Any) -> Any:
        answer = await self.response(await self.ask(method, **arguments))
        assert answer.error is None, answer.error
        return answer.result

    async def error(self, method: str, **arguments: Any) -> str:
        answer = await self.response(await self.ask(method, **arguments))
        return str(answer.error[1])

    async def next_request(self) -> Request:
        return await self._find(lambda event: isinstance(event, Request))

    async def notified(self, method: str) -> Notification:
        return await self._find(lambda event: isinstance(event, Notification) and event.method == method)

    async def answer(self, request: Request, result: Any) -> None:
        await self.stream.send_all(Connection.pack_result(request.msgid, result))

    async def fail(self, request: Request, error: Any) -> None:
        await self.stream.send_all(Connection.pack_error(request.msgid, error))

    async def cancel(self, msgid: int) -> None:
        await self.stream.send_all(Connection.pack_notification("cancel", {"msgid": msgid}))

    async def serve(self, function: Callable[[dict[str, Any]], Any]) -> None:
        """Answer every question by a function, for ever."""
        while True:
            request = await self.next_request()
            await self.answer(request, function(request.params[-1]))

    async def closed(self) -> bool:
        """Wait until the other end has closed it."""
        with trio.fail_after(1000):
            while data := await self.stream.receive_some(65536):
                self.events.extend(self.wire.receive_data(data))
        return True

    async def _find(self, wanted: Callable[[Event], bool]) -> Any:
        with trio.fail_after(1000):
            while True:
                for event in self.events:
                    if wanted(event):
                        self.events.remove(event)
                        return event
                data = await self.stream.receive_some(65536)
                assert data, "the session closed the connection"
                self.events.extend(self.wire.receive_data(data))


class House:
    """One pipeline behind as many sessions as are wanted."""

    def __init__(self, pipeline: Pipeline, host_models: HostModels, provider: Configured, records: list[Any]) -> None:
        self.pipeline = pipeline
        self.host_models = host_models
        self.provider = provider
        self.records = records
        questions = Questions(self, host_models)
        self._recall = questions.recall
        self._methods = method_table(questions, self, host_models, lambda: pipeline)  # type: ignore[arg-type]
        self._departure = Departure()
        self._sessions: list[Session] = []

    def say_going_away(self) -> None:
        """To everybody, as the door does."""
        self._departure.expect(self._sessions)
        for session in self._sessions:
            session.say_going_away(5.0)

    @property
    def current(self) -> Pipeline:
        return self.pipeline

    @contextmanager
    def lease(self) -> Iterator[Pipeline]:
        yield self.pipeline

    def __getattr__(self, name: str) -> Any:  # the methods about the daemon, which nobody calls here
        raise AssertionError(name)

    async def cache_stats(self) -> Any: ...
    async def config_reload(self) -> Any: ...
    async def status(self) -> Any: ...

    async def models(self, uid: int) -> list[dict[str, Any]]:
        return [{"name": model.name, "connections": number} for model, number, _ in self.pipeline.own_models(uid)]

    @asynccontextmanager
    async def peer(self, uid: int = 1000, limits: SessionLimits | None = None) -> AsyncIterator[Peer]:
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        ours.setblocking(False)
        starting = Starting()
        log: Any = SimpleNamespace(info=_nothing, debug=_nothing, exception=_fail)
        session = Session(
            ours,
            a_caller(uid),
            self._methods,
            self._recall,
            limits or SessionLimits(Limits()),
            log,
            intake=Intake(lambda: 1 << 20),
            starting=starting,
            departure=self._departure,
        )
        self._sessions.append(session)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(starting.run)
            nursery.start_soon(session.run)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as stream:
                yield Peer(stream, session)
                nursery.cancel_scope.cancel()
        assert session.in_flight == 0
        assert session.callbacks.asked == 0

    def assert_idle(self) -> None:
        told = self.host_models.statistics()
        assert told.offered == 0
        assert all(own.idle for own in self.pipeline._lasting.own.values())
        for name, stage in self.pipeline.statistics().items():
            for field in ("inside", "busy", "flights", "passengers", "running", "waiting", "in_flight", "sleeping"):
                assert not getattr(stage, field, 0), (name, field)


def _nothing(*_: Any, **__: Any) -> None: ...


def _fail(event: str, **fields: Any) -> None:
    raise AssertionError((event, fields))


@asynccontextmanager
async def house(config: Config = CONFIG, *, fallback: tuple[str, ...] = ()) -> AsyncIterator[House]:
    """Open one; leaving it checks that nothing is held."""
    if fallback:
        from msgspec.structs import replace

        config = replace(config, routing=Routing(fallback=fallback))
    host_models, provider = HostModels(), Configured()
    disk: Any = SimpleNamespace(
        get=_no_answer,
        put=_nothing,
        absent=lambda _: False,
        likely=lambda _: False,
        look=lambda _: None,
        statistics=dict,
    )
    records: list[Any] = []
    sink: Any = SimpleNamespace(record=records.append, record_hit=_nothing)
    lasting = lasting_state(
        config,
        answers=disk,
        records=sink,
        wall_clock=lambda: 1_000_000.0,
        rng=random.Random(1),
        host_models=host_models,
    )
    host = HostProvider("host", host_models, attempt_s=config.timeouts.attempt_s)
    ours = HostProvider("ours", host_models, attempt_s=config.timeouts.attempt_s)
    main: Any = provider
    plan = Plan(
        config=config,
        providers={"main": main, "ours": ours},
        addresses={"main": "openai http://x", "ours": "host ours"},
        simulated=False,
        host=host,
    )
    async with open_pipeline(plan, lasting) as pipeline:
        it = House(pipeline, host_models, provider, records)
        yield it
    it.assert_idle()


async def _no_answer(_: bytes) -> None:
    await trio.lowlevel.checkpoint()
