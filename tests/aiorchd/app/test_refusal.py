"""A daemon that cannot start tells those who wait why, and ends when there is reason to try again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from aiorch import AsyncClient
from aiorch.errors import NoModels
from aiorch.protocol import Connection, Notification
from aiorchd.app.refusal import STAY_S, stay
from aiorchd.runtime.watch import FileWatch

REASON = NoModels("the daemon cannot start: api_key = 'sk-abcdefgh12345' is no key")


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        made.listen(100)
        made.setblocking(False)
        yield made


async def test_it_ends_after_a_while(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    assert not await stay(REASON, None, None)
    assert trio.current_time() - began == pytest.approx(STAY_S)


async def test_it_ends_when_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "aiorch.toml"
    file.write_text("= =")
    watch = FileWatch(file)
    file.write_text("[retry]\n")
    with trio.fail_after(STAY_S / 2):
        assert await stay(REASON, None, watch)
    watch.close()


async def test_the_librarys_client_raises_the_reason(listening: socket.socket) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stay, REASON, listening, None)
        with trio.fail_after(STAY_S / 2):
            for _ in range(3):
                async with AsyncClient(listening.getsockname()) as client:
                    with pytest.raises(NoModels, match="cannot start") as told:
                        await client.ping()
                    assert "sk-" not in str(told.value)
        nursery.cancel_scope.cancel()


async def test_those_who_ask_nothing_are_told_too_and_those_who_left_harm_nobody(
    listening: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as gone:
            gone.connect(listening.getsockname())
    silent = await trio.open_unix_socket(listening.getsockname())
    async with silent, trio.open_nursery() as nursery:
        nursery.start_soon(stay, REASON, listening, None)
        data = b""
        while more := await silent.receive_some(1000):
            data += more
        (event,) = Connection().receive_data(data)
        assert isinstance(event, Notification)
        assert (event.method, event.params[0]["code"]) == ("error", "no_models")
        nursery.cancel_scope.cancel()
