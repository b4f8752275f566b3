"""The door: who is let in, how many, and what one bad session costs the others."""

from __future__ import annotations

import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio

from aiorch.protocol import Connection, Limits, Notification, Response
from aiorchd.doors.identity import Access, group_numbers, unit_of, user_numbers
from aiorchd.doors.listener import bound_socket
from aiorchd.doors.method import Asked
from aiorchd.doors.methods import Row, _hello, _ping
from aiorchd.doors.session_limits import SessionLimits
from aiorchd.doors.unix import DoorPolicy, UnixDoor


class Quiet:
    def exception(self, event: str, **fields: Any) -> None:
        raise AssertionError(event)

    def info(self, event: str, **fields: Any) -> None: ...

    debug = info


async def _wait(asked: Asked) -> Any:
    await trio.sleep(asked.params[0]["s"])
    return "done"


@asynccontextmanager
async def door_at(path: Path, **policy: Any) -> AsyncIterator[UnixDoor]:
    made = DoorPolicy(
        access=policy.pop("access", Access(own_uid=os.getuid())), session=SessionLimits(Limits()), **policy
    )
    with bound_socket(path, mode=0o600) as listening:
        table = {"ping": Row(_ping), "hello": Row(_hello), "wait": Row(_wait)}
        door = UnixDoor(listening, table, lambda *_: None, lambda: made, Quiet())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.serve, nursery)
            yield door
            nursery.cancel_scope.cancel()
    assert door.statistics().connections == 0


async def ask(stream: trio.SocketStream, method: str, **arguments: Any) -> Any:
    wire = Connection()
    _, data = wire.pack_request(method, arguments)
    await stream.send_all(data)
    while True:
        for event in wire.receive_data(await stream.receive_some(65536)):
            if isinstance(event, Response):
                return event.error or event.result


async def test_the_kernel_says_who_calls(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with door_at(path), await trio.open_unix_socket(path) as stream:
        hello = await ask(stream, "hello")
        assert (hello["uid"], hello["gid"], hello["pid"]) == (os.getuid(), os.getgid(), os.getpid())
        assert hello["admin"] is True


async def test_connections_beyond_the_limit_are_refused_politely(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with door_at(path, max_connections=2) as door:
        first, second = await trio.open_unix_socket(path), await trio.open_unix_socket(path)
        await ask(first, "ping")
        await ask(second, "ping")
        async with await trio.open_unix_socket(path) as third:
            data = await third.receive_some(65536)
            (event,) = Connection().receive_data(data)
            assert isinstance(event, Notification)
            assert event.params[0]["code"] == "overloaded"
            assert "max_connections" in event.params[0]["message"]
            assert await third.receive_some(1) == b""
        await first.aclose()
        while door.statistics().connections == 2:
            await trio.lowlevel.checkpoint()
        async with await trio.open_unix_socket(path) as fourth:
            assert await ask(fourth, "ping") == "pong"
        await second.aclose()


async def test_access_lists(tmp_path: Path) -> None:
    path = tmp_path / "s"
    nobody_else = Access(restricted=True, users=frozenset((4_000_000,)), own_uid=4_000_001)
    admin = os.getuid() == 0
    async with door_at(path, access=nobody_else), await trio.open_unix_socket(path) as stream:
        answer = await ask(stream, "ping")
        assert answer == "pong" if admin else answer[1].startswith("forbidden")
    access = Access(
        restricted=True, users=frozenset((5,)), groups=frozenset((7,)), admin_groups=frozenset((9,)), own_uid=6
    )
    assert access.may_call(5, frozenset())
    assert access.may_call(1, frozenset((7,)))
    assert not access.may_call(1, frozenset((8,)))
    assert access.may_call(1, frozenset((9,)))
    assert not Access(restricted=True).may_call(5, frozenset())
    assert not Access(restricted=True, users=frozenset((65534,))).may_call(65534, frozenset())
    assert access.is_admin(6, frozenset())
    assert access.is_admin(0, frozenset())
    assert not access.is_admin(5, frozenset((7,)))


async def test_names_become_numbers() -> None:
    assert user_numbers(["root", 12, "13"]) == (frozenset((0, 12, 13)), [])
    assert group_numbers(["root", "no-such-group"]) == (frozenset((0,)), ["no-such-group"])


async def test_units_of_processes_outside_system_units_are_user() -> None:
    assert unit_of(-1) == "user"


async def test_one_broken_session_costs_the_others_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with door_at(path), await trio.open_unix_socket(path) as good:
        for junk in (b"\xc1" * 100, msgpack.packb([0, "x"]), b"\x94\x00\x01\xa4ping\x90" * 5):
            bad = await trio.open_unix_socket(path)
            await bad.send_all(junk)
            await bad.aclose()
            assert await ask(good, "ping") == "pong"


async def test_drain_finishes_what_runs(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    path = tmp_path / "s"
    async with door_at(path) as door, trio.open_nursery() as nursery:
        streams = [await trio.open_unix_socket(path) for _ in range(3)]
        answers: list[Any] = []

        async def one(stream: trio.SocketStream, seconds: float) -> None:
            answers.append(await ask(stream, "wait", s=seconds))

        for stream, seconds in zip(streams, (1, 2, 3), strict=True):
            nursery.start_soon(one, stream, seconds)
        while door.statistics().in_flight < 3:
            await trio.lowlevel.checkpoint()
        start = trio.current_time()
        await door.drain(30)
        assert trio.current_time() - start == pytest.approx(3, abs=0.5)
        while len(answers) < 3:
            await trio.lowlevel.checkpoint()
        assert answers == ["done"] * 3
        for stream in streams:
            await stream.aclose()


async def test_out_of_descriptors_pauses_and_recovers(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with door_at(path), await trio.open_unix_socket(path) as good:
        await ask(good, "ping")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        waiting = await trio.open_unix_socket(path)  # connected, perhaps not yet accepted
        held = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, hard))
        try:
            assert await ask(good, "ping") == "pong"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in held:
                os.close(descriptor)
        with trio.fail_after(5):
            assert await ask(waiting, "ping") == "pong"
        await waiting.aclose()
