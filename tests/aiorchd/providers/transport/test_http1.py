"""HTTP/1.1 from servers that break it in every way: always the whole answer, or a clear `ProviderError`."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import Wire, answering, http, raw_server

from aiorch.errors import ProviderError
from aiorchd.providers.transport import Endpoint, Origin, PoolLimits, open_transport
from aiorchd.providers.transport.channel import Question
from aiorchd.providers.transport.dial import Line
from aiorchd.providers.transport.failures import FOREIGN, PeerClosed
from aiorchd.providers.transport.http1 import Http1Connection
from aiorchd.providers.transport.tcp_stream import TcpStream

BODY = b'{"answer": "eight"}'
PLAIN = http(BODY, X_Request_Id="r1")
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    b"7\r\n"
    + BODY[:7]
    + b"\r\n5;name=value\r\n"
    + BODY[7:12]
    + b"\r\n7\r\n"
    + BODY[12:]
    + b"\r\n0\r\nx-trailer: 1\r\n\r\n"
)
EARLY = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + PLAIN
QUESTION = Question(b"POST", b"/", b"127.0.0.1", [(b"content-type", b"application/json")], b"{}")


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED, EARLY], ids=["plain", "chunked", "early"])
async def test_cut_at_every_byte(answer: bytes) -> None:
    """The connection ends after n bytes, in order or by a reset: an error for every n but the last."""

    async def cut(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(answer[:length])
        if hard:
            wire.reset()

    length, hard = 0, False
    async with raw_server(cut) as server, open_transport(PoolLimits(), {}) as transport:
        endpoint = Endpoint.parse(server.url())
        for hard in (False, True):  # noqa: B007  the server reads both
            for length in range(len(answer)):  # noqa: B007
                with pytest.raises(ProviderError) as caught:
                    await transport.request("POST", endpoint, (), b"{}")
                error = caught.value
                assert error.retryable
                assert error.details["phase"] in ("waiting", "reading")
                assert any(word in error.message for word in ("closed the connection", "reset the connection"))
        hard, length = False, len(answer)
        assert (await transport.request("POST", endpoint, (), b"{}")).body == BODY
        assert transport.statistics().in_use == 0
        assert len(server.requests) == 2 * len(answer) + 1


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED, EARLY], ids=["plain", "chunked", "early"])
async def test_one_byte_at_a_time(answer: bytes) -> None:
    async def drip(wire: Wire) -> None:
        while True:
            await wire.read_request()
            for byte in answer:
                await wire.send(bytes([byte]))
                await trio.testing.wait_all_tasks_blocked()

    async with raw_server(drip) as server, open_transport(PoolLimits(), {}) as transport:
        for _ in range(2):
            assert (await transport.request("POST", Endpoint.parse(server.url()), (), b"{}")).body == BODY
        assert server.connections == 1


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    async with (
        raw_server(_once(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)) as server,
        open_transport(PoolLimits(), {}) as transport,
    ):
        assert (await transport.request("POST", Endpoint.parse(server.url()), ())).body == BODY
        assert transport.statistics().idle == 0


NONSENSE = {
    "empty lines": b"\r\n\r\n\r\n",
    "words": b"hello, I am not HTTP\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
    "zeros": b"\0" * 5000,
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "nameless header": b"HTTP/1.1 200 OK\r\n: value\r\n\r\n",
    "header with zero": b"HTTP/1.1 200 OK\r\nname: a\0b\r\n\r\n",
    "header with a space in its name": b"HTTP/1.1 200 OK\r\nna me: x\r\ncontent-length: 0\r\n\r\n",
    "length that is no number": b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n12345",
    "unknown transfer encoding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
    "chunk size that is no number": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "chunk size of a hundred digits": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"f" * 100 + b"\r\n",
    "chunk longer than said": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabcdef\r\n0\r\n\r\n",
    "a header of a megabyte": b"HTTP/1.1 200 OK\r\nx: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "a megabyte of headers": b"HTTP/1.1 200 OK\r\n" + b"x: aaaaaaaa\r\n" * 80_000 + b"\r\n",
    "an endless status line": b"HTTP/1.1 200 " + b"a" * 1_000_000,
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense(name: str) -> None:
    async with raw_server(_once(NONSENSE[name])) as server, open_transport(PoolLimits(), {}) as transport:
        with pytest.raises(ProviderError) as caught, trio.fail_after(5):
            await transport.request("POST", Endpoint.parse(server.url()), (), b"{}")
        assert caught.value.details["phase"] in ("waiting", "reading")
        assert len(caught.value.message) < 300
        assert transport.statistics().in_use == 0
        assert transport.statistics().idle == 0


@settings(max_examples=60, deadline=None)
@given(junk=st.binary(max_size=400), begin=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", PLAIN[:-5], CHUNKED[:-20]]))
def test_whatever_comes_is_an_answer_or_a_provider_error(junk: bytes, begin: bytes) -> None:
    async def main() -> None:
        async with raw_server(_once(begin + junk)) as server, open_transport(PoolLimits(), {}) as transport:
            try:
                response = await transport.request("POST", Endpoint.parse(server.url()), (), b"{}")
                assert isinstance(response.body, bytes)
            except ProviderError as error:
                assert error.details["phase"] in ("waiting", "reading")
            assert transport.statistics().in_use == 0

    trio.run(main)


@pytest.mark.parametrize("size", [2, 10_000_000])
@pytest.mark.parametrize("hard", [False, True])
async def test_closed_instead_of_read(size: int, hard: bool) -> None:
    async def deaf(wire: Wire) -> None:
        await wire.stream.receive_some(1)
        if hard:
            wire.reset()

    async with raw_server(deaf) as server, open_transport(PoolLimits(), {}) as transport:
        with pytest.raises(ProviderError) as caught:
            await transport.request("POST", Endpoint.parse(server.url()), (), b"x" * size)
        assert caught.value.retryable
        assert caught.value.details["sent"]


async def test_nothing_listens() -> None:
    async with raw_server(_once(b"")) as server:
        pass
    async with open_transport(PoolLimits(), {}) as transport:
        with pytest.raises(ProviderError) as caught:
            await transport.request("POST", Endpoint.parse(server.url()), ())
        assert caught.value.message == f"nothing listens at 127.0.0.1:{server.port} (connection refused)"
        assert caught.value.details == {"phase": "connecting", "host": f"127.0.0.1:{server.port}", "sent": False}


async def test_an_unknown_name() -> None:
    async with open_transport(PoolLimits(), {}) as transport:
        with pytest.raises(ProviderError, match=r"the name no-such-host\.invalid cannot be resolved") as caught:
            await transport.request("POST", Endpoint.parse("http://no-such-host.invalid/"), ())
        assert caught.value.details["phase"] == "connecting"


async def test_a_header_that_cannot_be_sent_is_not_repeated() -> None:
    async with raw_server(answering(PLAIN)) as server, open_transport(PoolLimits(), {}) as transport:
        for value in (b"hunter2\r\nx: y", b"hunter2\0"):
            with pytest.raises(ProviderError) as caught:
                await transport.request("POST", Endpoint.parse(server.url()), [(b"authorization", value)], b"{}")
            assert "hunter2" not in repr(caught.value.to_wire())
            assert caught.value.__cause__ is not None
            assert "hunter2" not in repr(caught.value.__cause__)
            assert not caught.value.retryable
        assert not server.requests


# --- whether the other end did something with a request ------------------------------------------------------------


async def _pair() -> tuple[Http1Connection, trio.SocketStream]:
    """A connection that carried one request already, and the server's end of it."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    ours = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
    theirs = await listener.accept()
    await listener.aclose()
    tcp = TcpStream(ours)
    connection = Http1Connection(Origin("http", "127.0.0.1", 80), Line(tcp, tcp, ours), 65_536)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.ask, QUESTION)
        await theirs.receive_some(65_536)
        await theirs.send_all(http())
    while await connection.receive():
        pass
    assert connection.release()
    return connection, theirs


async def test_a_request_to_a_connection_already_closed_was_not_processed() -> None:
    connection, theirs = await _pair()
    theirs.socket.close()
    with pytest.raises(PeerClosed) as caught:
        await connection.ask(QUESTION)
    assert connection.unprocessed(caught.value)
    connection.abandon()


@pytest.mark.parametrize("read", [0, 1, 65_536])
async def test_a_request_that_arrived_may_have_been_processed(read: int) -> None:
    connection, theirs = await _pair()

    async def leave() -> None:
        await trio.testing.wait_all_tasks_blocked()
        if read:
            await theirs.receive_some(read)
        theirs.socket.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        with pytest.raises(FOREIGN) as caught:
            await connection.ask(QUESTION)
    assert not connection.unprocessed(caught.value)
    connection.abandon()


async def test_a_reset_proves_nothing() -> None:
    connection, theirs = await _pair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.socket.close()
    with pytest.raises(FOREIGN) as caught:
        await connection.ask(QUESTION)
    assert isinstance(caught.value, trio.BrokenResourceError)
    # It could not even be sent, so for once it is clear.
    assert connection.unprocessed(caught.value)
    connection.abandon()


async def test_half_a_request_was_not_processed() -> None:
    connection, theirs = await _pair()

    async def leave() -> None:
        await trio.testing.wait_all_tasks_blocked()
        await theirs.receive_some(1000)
        theirs.socket.close()

    large = Question(QUESTION.method, QUESTION.target, QUESTION.authority, QUESTION.headers, b"x" * 20_000_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        with pytest.raises(FOREIGN) as caught:
            await connection.ask(large)
    assert connection.unprocessed(caught.value)
    connection.abandon()


async def test_half_an_answer_was_processed() -> None:
    connection, theirs = await _pair()
    await theirs.send_all(b"HTTP/1.1 2")
    theirs.socket.close()
    with pytest.raises(FOREIGN) as caught:
        await connection.ask(QUESTION)
    assert not connection.unprocessed(caught.value)
    connection.abandon()


async def test_what_was_not_processed_is_sent_again_once() -> None:
    """The server closes its end at the very moment at which the request leaves: no error, no waiting, one answer."""

    async def closing(wire: Wire) -> None:
        await wire.read_request()
        servers_ends.append(wire)
        await wire.send(http(b"1"))
        await trio.sleep_forever()

    servers_ends: list[Wire] = []
    async with raw_server(closing) as server, open_transport(PoolLimits(), {}) as transport:
        endpoint = Endpoint.parse(server.url())
        await transport.request("POST", endpoint, (), b"{}")

        site = transport._connections.pool.site(endpoint.origin)
        [(_, connection)] = site.idle
        # The look and the sending are not separated by a checkpoint, so the closing is put between them here.
        site.idle[0] = (0.0, _ClosingAfterTheLook(connection, servers_ends[0]))  # type: ignore[assignment]
        response = await transport.request("POST", endpoint, (), b"{}")
        assert response.body == b"1"
        assert len(server.requests) == 2
        assert transport.statistics().resent == 1


class _ClosingAfterTheLook:
    """A connection whose other end is closed right after it was found to be open."""

    def __init__(self, connection: Http1Connection, wire: Wire) -> None:
        self._connection = connection
        self._wire = wire

    def is_stale(self) -> bool:
        stale = self._connection.is_stale()
        self._wire.close()
        return stale

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


def _once(answer: bytes):
    async def handler(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(answer)

    return handler
