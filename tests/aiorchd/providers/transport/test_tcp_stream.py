"""The short way over a TCP socket: real sockets, everything arrives, every end is told as Trio tells it."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from aiorchd.providers.transport.tcp_stream import TcpStream


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[TcpStream, trio.SocketStream, trio.SocketStream]]:
    """One end of a connection, what owns its socket, and the other end."""
    with trio.socket.socket() as listening:
        await listening.bind(("127.0.0.1", 0))
        listening.listen()
        base = await trio.open_tcp_stream(*listening.getsockname())
        accepted, _ = await listening.accept()
        async with base, trio.SocketStream(accepted) as other:
            yield TcpStream(base), base, other


async def test_what_is_sent_arrives_and_what_comes_is_given() -> None:
    async with connected() as (stream, _, other):
        await stream.send_all(b"question")
        assert await other.receive_some() == b"question"
        await other.send_all(b"an answer")
        assert await stream.receive_some(2) == b"an"
        assert await stream.receive_some() == b" answer"
        await other.send_eof()
        assert await stream.receive_some() == b""


async def test_more_than_the_socket_takes_at_once_arrives_in_order() -> None:
    sent = bytes(range(256)) * 40_000
    received = bytearray()
    async with connected() as (stream, _, other), trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, sent)
        while len(received) < len(sent):
            received += await other.receive_some()
    assert received == sent


async def test_a_reset_breaks_it() -> None:
    async with connected() as (stream, _, other):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await other.aclose()
        with pytest.raises(trio.BrokenResourceError) as broken:
            await stream.receive_some()
        assert isinstance(broken.value.__cause__, ConnectionResetError)
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"too late")


async def test_closing_wakes_who_waits_and_the_number_is_not_used_again() -> None:
    async with connected() as (stream, base, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(closed, stream)
            await trio.testing.wait_all_tasks_blocked()
            base.socket.close()
        async with connected() as (_, _, other):  # takes the number that has become free
            with pytest.raises(trio.ClosedResourceError):
                await stream.send_all(b"to whom?")
            await closed(stream)
            with trio.move_on_after(0.01) as nothing_came:
                await other.receive_some()
            assert nothing_came.cancelled_caught


async def closed(stream: TcpStream) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


async def test_cancelled_before_it_sends_nothing() -> None:
    async with connected() as (stream, _, other):
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.send_all(b"not this")
        await stream.send_all(b"this")
        assert await other.receive_some() == b"this"
