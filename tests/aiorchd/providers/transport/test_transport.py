"""The transport over real sockets: what it sends, what it keeps, how long it waits, what it does not do."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from wire import Wire, answering, http, raw_server

from aiorch.errors import Overloaded, ProviderError
from aiorchd.providers.transport import Endpoint, PoolLimits, Timeouts, Transport, open_transport

HEADERS = [(b"content-type", b"application/json"), (b"authorization", b"Bearer sk-hunter2")]


@asynccontextmanager
async def transport_with(**limits: float) -> AsyncIterator[Transport]:
    async with open_transport(PoolLimits(**limits), {}) as transport:
        yield transport
        assert transport.statistics().in_use == 0
        assert transport.statistics().waiting == 0
        assert transport.statistics().dialling == 0


def assert_error(error: ProviderError, phase: str, *words: str) -> None:
    assert error.details["phase"] == phase
    assert error.details["host"].startswith("127.0.0.1:")
    for word in words:
        assert word in error.message
    assert "hunter2" not in repr(error.to_wire())


# --- what is sent and kept -------------------------------------------------------------------------------------------


async def test_a_request_and_its_answer() -> None:
    async with (
        raw_server(answering(http(b'{"a": 1}', 201, X_Request_Id="r1"))) as server,
        transport_with() as transport,
    ):
        endpoint = Endpoint.parse(server.url("/v1/chat?x=1"))
        response = await transport.request("POST", endpoint, HEADERS, b'{"q": "\xc3\xbc"}')
        assert (response.status, response.body) == (201, b'{"a": 1}')
        assert response.headers["x-request-id"] == "r1"
        [request] = server.requests
        assert request.line == "POST /v1/chat?x=1 HTTP/1.1"
        assert request.headers == {
            "host": f"127.0.0.1:{server.port}",
            "content-type": "application/json",
            "authorization": "Bearer sk-hunter2",
            "content-length": "11",
        }
        assert request.body == b'{"q": "\xc3\xbc"}'


async def test_an_error_status_is_an_answer() -> None:
    async with raw_server(answering(http(b"{}", 503))) as server, transport_with() as transport:
        assert (await transport.request("POST", Endpoint.parse(server.url()), HEADERS)).status == 503
        assert server.requests[0].headers["content-length"] == "0"


async def test_a_get_has_no_length() -> None:
    async with raw_server(answering(http())) as server, transport_with() as transport:
        await transport.request("GET", Endpoint.parse(server.url()), HEADERS)
        assert "content-length" not in server.requests[0].headers


async def test_connections_are_used_again() -> None:
    async with raw_server(answering(http())) as server, transport_with() as transport:
        for _ in range(5):
            await transport.request("POST", Endpoint.parse(server.url()), HEADERS)
        assert server.connections == 1
        statistics = transport.statistics()
        assert (statistics.dialled, statistics.reused, statistics.idle) == (1, 4, 1)


@pytest.mark.parametrize("answer", [http(connection="close"), b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}"])
async def test_connections_that_end_are_not_kept(answer: bytes) -> None:
    async with raw_server(answering(answer)) as server, transport_with() as transport:
        for _ in range(2):
            assert (await transport.request("POST", Endpoint.parse(server.url()), HEADERS)).body == b"{}"
        assert server.connections == 2
        assert transport.statistics().idle == 0


async def test_many_at_once_and_few_kept() -> None:
    async with raw_server(answering(http())) as server, transport_with(max_keepalive=5) as transport:
        endpoint = Endpoint.parse(server.url())
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(transport.request, "POST", endpoint, HEADERS)
        assert transport.statistics().idle == 5
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert server.alive == 5


async def test_nothing_is_kept_when_so_configured() -> None:
    async with raw_server(answering(http())) as server, transport_with(max_keepalive=0) as transport:
        for _ in range(2):
            await transport.request("POST", Endpoint.parse(server.url()), HEADERS)
        assert server.connections == 2
        assert transport.statistics().idle == 0


async def test_idle_connections_are_closed(autojump_clock: trio.testing.MockClock) -> None:
    async with raw_server(answering(http())) as server, transport_with(idle_s=30) as transport:
        endpoint = Endpoint.parse(server.url())
        await transport.request("POST", endpoint, HEADERS)
        await trio.sleep(29)
        await transport.request("POST", endpoint, HEADERS)
        await trio.sleep(29)
        assert transport.statistics().idle == 1
        assert server.connections == 1
        await trio.sleep(2)
        assert transport.statistics().idle == 0
        assert transport.statistics().expired == 1
        assert server.alive == 0


async def test_few_connections_stay_in_use_and_the_others_end(autojump_clock: trio.testing.MockClock) -> None:
    async with raw_server(answering(http())) as server, transport_with(idle_s=10) as transport:
        endpoint = Endpoint.parse(server.url())
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(transport.request, "POST", endpoint, HEADERS)
        for _ in range(4):
            await trio.sleep(3)
            await transport.request("POST", endpoint, HEADERS)
        assert server.connections == 5
        assert transport.statistics().idle == 1


async def test_a_connection_closed_by_the_server_is_noticed_before_it_is_used() -> None:
    async def once(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(http())

    async with raw_server(once) as server, transport_with() as transport:
        for _ in range(3):
            await transport.request("POST", Endpoint.parse(server.url()), HEADERS)
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert server.connections == 3
        assert transport.statistics().stale == 2
        assert transport.statistics().resent == 0


async def test_unasked_bytes_never_answer_the_next_request() -> None:
    async def babbling(wire: Wire) -> None:
        while True:
            await wire.read_request()
            answer = http(b"%d" % len(wire.server.requests))
            await wire.send(answer + http(b"smuggled"))

    async with raw_server(babbling) as server, transport_with() as transport:
        for number in (1, 2, 3):
            assert (await transport.request("POST", Endpoint.parse(server.url()), HEADERS)).body == b"%d" % number
        assert server.connections == 3


async def test_late_unasked_bytes_neither() -> None:
    async def babbling(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(http(b"%d" % len(wire.server.requests)))
        await trio.testing.wait_all_tasks_blocked()
        await wire.send(http(b"smuggled"))
        await wire.closed_by_client()

    async with raw_server(babbling) as server, transport_with() as transport:
        for number in (1, 2):
            assert (await transport.request("POST", Endpoint.parse(server.url()), HEADERS)).body == b"%d" % number
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_an_answered_and_dropped_request_is_not_sent_again() -> None:
    """The server read the request and closed without a word: it may have been worked on, and that costs money."""

    async def forgetful(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(http())
        await wire.read_request()

    async with raw_server(forgetful) as server, transport_with() as transport:
        endpoint = Endpoint.parse(server.url())
        await transport.request("POST", endpoint, HEADERS)
        with pytest.raises(ProviderError) as caught:
            await transport.request("POST", endpoint, HEADERS)
        assert_error(caught.value, "waiting", "closed the connection without answering")
        assert caught.value.retryable
        assert len(server.requests) == 2
        assert transport.statistics().resent == 0


async def test_nothing_is_kept_of_an_origin_that_is_no_longer_used(autojump_clock: trio.testing.MockClock) -> None:
    async with raw_server(answering(http(connection="close"))) as server, transport_with() as transport:
        for name in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            endpoint = Endpoint.parse(f"http://{name}:{server.port}/")
            try:
                await transport.request("POST", endpoint, HEADERS)
            except ProviderError:
                assert name != "127.0.0.1"
        transport.reconfigure(PoolLimits())
        await trio.sleep(1)
        assert not transport._connections.pool.sites


# --- the limit of connections ----------------------------------------------------------------------------------------


async def test_further_requests_wait_in_order(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(wire: Wire) -> None:
        while True:
            await wire.read_request()
            await trio.sleep(1)
            await wire.send(http())

    async with raw_server(slow) as server, transport_with(max_connections=2) as transport:
        endpoint = Endpoint.parse(server.url())
        ended: list[tuple[int, float]] = []
        began = trio.current_time()

        async def ask(number: int) -> None:
            await transport.request("POST", endpoint, HEADERS)
            ended.append((number, trio.current_time() - began))

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(ask, number)
                await trio.testing.wait_all_tasks_blocked()
            assert transport.statistics().in_use == 2
            assert transport.statistics().waiting == 4
        assert [number for number, _ in sorted(ended, key=lambda one: (round(one[1]), one[0]))] == list(range(6))
        assert [round(at) for _, at in ended] == [1, 1, 2, 2, 3, 3]
        assert server.connections == 2


async def test_waiting_for_a_connection_ends(autojump_clock: trio.testing.MockClock) -> None:
    async def silent(wire: Wire) -> None:
        await wire.closed_by_client()

    async with (
        raw_server(silent) as server,
        raw_server(answering(http())) as other,
        transport_with(max_connections=1) as transport,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(transport.request, "POST", Endpoint.parse(server.url()), HEADERS)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded, match=r"no connection .* within 5 s") as caught:
            await transport.request("POST", Endpoint.parse(server.url()), HEADERS, b"", Timeouts(connect_s=5))
        assert caught.value.stage == "transport"
        # The limit is each origin's own.
        assert (await transport.request("POST", Endpoint.parse(other.url()), HEADERS)).status == 200
        nursery.cancel_scope.cancel()


async def test_limits_change_while_running(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(wire: Wire) -> None:
        while True:
            await wire.read_request()
            await trio.sleep(1)
            await wire.send(http())

    async with raw_server(slow) as server, transport_with(max_connections=1) as transport:
        endpoint = Endpoint.parse(server.url())
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(transport.request, "POST", endpoint, HEADERS)
            await trio.testing.wait_all_tasks_blocked()
            transport.reconfigure(PoolLimits(max_connections=3, max_keepalive=1, idle_s=5))
        assert trio.current_time() - began == pytest.approx(1)
        assert transport.statistics().idle == 1
        await trio.sleep(6)
        assert transport.statistics().idle == 0


async def test_shorter_bounds_for_idle_connections_hold_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async def answering(wire: Wire) -> None:
        while True:
            await wire.read_request()
            await trio.sleep(1)
            await wire.send(http())

    async with raw_server(answering) as server, transport_with(idle_s=600) as transport:
        endpoint = Endpoint.parse(server.url())
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(transport.request, "POST", endpoint, HEADERS)
        await trio.sleep(10)  # whoever closes what is idle sleeps until the 600 s are over
        assert transport.statistics().idle == 3
        transport.reconfigure(PoolLimits(max_keepalive=2, idle_s=600))
        assert transport.statistics().idle == 2
        transport.reconfigure(PoolLimits(max_keepalive=2, idle_s=15))
        await trio.sleep(4)
        assert transport.statistics().idle == 2
        await trio.sleep(2)
        assert transport.statistics().idle == 0


# --- deadlines -------------------------------------------------------------------------------------------------------


async def test_silence_before_the_answer(autojump_clock: trio.testing.MockClock) -> None:
    async def silent(wire: Wire) -> None:
        await wire.read_request()
        await wire.closed_by_client()

    async with raw_server(silent) as server, transport_with() as transport:
        began = trio.current_time()
        with pytest.raises(ProviderError) as caught:
            await transport.request("POST", Endpoint.parse(server.url()), HEADERS, b"", Timeouts(first_byte_s=7))
        assert trio.current_time() - began == pytest.approx(7)
        assert_error(caught.value, "waiting", "did not begin to answer within 7 s")
        assert caught.value.details["timed_out"]
        await trio.testing.wait_all_tasks_blocked()
        assert server.alive == 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_silence_in_the_middle(autojump_clock: trio.testing.MockClock, streamed: bool) -> None:
    async def stuck(wire: Wire) -> None:
        await wire.read_request()
        await trio.sleep(5)
        await wire.send(http(b"x" * 100)[:-50])
        await wire.closed_by_client()

    async with raw_server(stuck) as server, transport_with() as transport:
        began = trio.current_time()
        arguments = ("POST", Endpoint.parse(server.url()), HEADERS, b"", Timeouts(idle_s=3))
        with pytest.raises(ProviderError) as caught:
            if streamed:
                async with transport.stream(*arguments) as response:
                    async for chunk in response.chunks():
                        assert chunk == b"x" * 50
            else:
                await transport.request(*arguments)
        assert trio.current_time() - began == pytest.approx(8)
        assert_error(caught.value, "reading", "silent for 3 s")


async def test_a_drip_is_ended_by_the_total(autojump_clock: trio.testing.MockClock) -> None:
    async def drip(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await wire.send(b"x")
            await trio.sleep(2)

    async with raw_server(drip) as server, transport_with() as transport:
        began = trio.current_time()
        with pytest.raises(ProviderError) as caught:
            await transport.request(
                "POST", Endpoint.parse(server.url()), HEADERS, b"", Timeouts(idle_s=3, attempt_s=20)
            )
        assert trio.current_time() - began == pytest.approx(20)
        assert_error(caught.value, "reading", "not complete after 20 s")


async def test_the_consumer_s_own_time_counts_only_in_total(autojump_clock: trio.testing.MockClock) -> None:
    async def two_pieces(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(http(b"ab")[:-1])
        await wire.send(b"b")
        await wire.closed_by_client()

    async with raw_server(two_pieces) as server, transport_with() as transport:
        timeouts = Timeouts(idle_s=1, attempt_s=100)
        async with transport.stream("POST", Endpoint.parse(server.url()), HEADERS, b"", timeouts) as response:
            await trio.sleep(20)
            chunks = []
            async for chunk in response.chunks():
                chunks.append(chunk)
                await trio.sleep(20)
            # The answer is complete: what follows is nobody's fault any more.
            await trio.sleep(200)
        assert b"".join(chunks) == b"ab"
        with pytest.raises(ProviderError, match="not complete after 100 s"):
            async with transport.stream("POST", Endpoint.parse(server.url()), HEADERS, b"", timeouts):
                await trio.sleep(200)


async def test_a_proxy_or_server_that_says_nothing_while_connecting(autojump_clock: trio.testing.MockClock) -> None:
    async def silent(wire: Wire) -> None:
        await wire.closed_by_client()

    async with raw_server(silent) as server, transport_with() as transport:
        endpoint = Endpoint.parse(server.url(), http2=True)
        with pytest.raises(ProviderError) as caught:
            await transport.request("POST", endpoint, HEADERS, b"", Timeouts(connect_s=4))
        assert_error(caught.value, "connecting", "could not connect", "within 4 s")
        assert caught.value.details["sent"] is False
        await trio.testing.wait_all_tasks_blocked()
        assert server.alive == 0


async def test_a_request_that_nobody_reads_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async def deaf(wire: Wire) -> None:
        await trio.sleep(1000)

    async with raw_server(deaf) as server, transport_with() as transport:
        with pytest.raises(ProviderError) as caught:
            await transport.request(
                "POST", Endpoint.parse(server.url()), HEADERS, b"x" * 20_000_000, Timeouts(first_byte_s=9)
            )
        assert_error(caught.value, "sending", "within 9 s")


# --- streams ---------------------------------------------------------------------------------------------------------


async def test_pieces_come_as_they_are_sent() -> None:
    async def pieces(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(5):
            await wire.send(b"3\r\n%d..\r\n" % number)
            await told[number].wait()
        await wire.send(b"0\r\n\r\n")
        await wire.closed_by_client()

    told = [trio.Event() for _ in range(5)]
    async with (
        raw_server(pieces) as server,
        transport_with() as transport,
        transport.stream("POST", Endpoint.parse(server.url()), HEADERS) as response,
    ):
        assert response.status == 200
        number = 0
        async for chunk in response.chunks():
            assert chunk == b"%d.." % number
            told[number].set()
            number += 1
        assert number == 5
        assert transport.statistics().in_use == 0
        assert transport.statistics().idle == 1


async def test_leaving_a_stream_early_closes_its_connection() -> None:
    async def endless(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(b"HTTP/1.1 200 OK\r\n\r\nfirst")
        await wire.closed_by_client()

    async with raw_server(endless) as server, transport_with() as transport:
        with trio.fail_after(2):
            async with transport.stream("POST", Endpoint.parse(server.url()), HEADERS) as response:
                async for chunk in response.chunks():
                    assert chunk == b"first"
                    break
            while server.alive:
                await trio.sleep(0.001)
        assert transport.statistics().idle == 0


async def test_the_consumer_s_own_errors_stay_what_they_are() -> None:
    async with raw_server(answering(http())) as server, transport_with() as transport:
        for error in (trio.BrokenResourceError("mine"), OSError("mine"), KeyError("mine")):
            with pytest.raises(type(error)) as caught:
                async with transport.stream("POST", Endpoint.parse(server.url()), HEADERS):
                    raise error
            assert caught.value is error


async def test_reading_a_part() -> None:
    async with (
        raw_server(answering(http(b"x" * 100_000, 500))) as server,
        transport_with() as transport,
        transport.stream("POST", Endpoint.parse(server.url()), HEADERS) as response,
    ):
        assert await response.read(1000) == b"x" * 1000


# --- sizes -----------------------------------------------------------------------------------------------------------


async def test_compressed_answers() -> None:
    text = b"compressible " * 10_000
    answers = [
        http(gzip.compress(text), content_encoding="gzip"),
        http(zlib.compress(text), content_encoding="deflate"),
    ]
    async with raw_server(answering(*answers)) as server, transport_with() as transport:
        for _ in answers:
            assert (await transport.request("POST", Endpoint.parse(server.url()), HEADERS)).body == text
        assert server.connections == 1


async def test_an_answer_may_be_so_large_and_no_larger() -> None:
    bomb = http(gzip.compress(b"\0" * 50_000_000), content_encoding="gzip")
    cases = [http(b"x" * 1000), http(b"x" * 1001), bomb, http(b"{}", content_encoding="br")]
    async with raw_server(answering(*cases)) as server, transport_with(max_body_bytes=1000) as transport:
        endpoint = Endpoint.parse(server.url())
        assert len((await transport.request("POST", endpoint, HEADERS)).body) == 1000
        with pytest.raises(ProviderError, match="more than 1000 bytes") as caught:
            await transport.request("POST", endpoint, HEADERS)
        assert not caught.value.retryable
    async with raw_server(answering(*cases[2:])) as server, transport_with(max_body_bytes=1000) as transport:
        endpoint = Endpoint.parse(server.url())
        with pytest.raises(ProviderError, match="more than 1000 bytes"):
            await transport.request("POST", endpoint, HEADERS)
    async with raw_server(answering(cases[3])) as server, transport_with() as transport:
        with pytest.raises(ProviderError, match="not asked for"):
            await transport.request("POST", Endpoint.parse(server.url()), HEADERS)


@pytest.mark.parametrize(
    "answer", [gzip.compress(b"x" * 300_000), gzip.compress(b"x" * 300_000)[:-4], b"\x1f\x8bdamaged"]
)
async def test_an_answer_that_turns_out_bad_while_it_is_read(answer: bytes) -> None:
    """Each as a whole and in pieces: whichever piece shows it, it is an error of the provider."""
    encoded = http(answer, content_encoding="gzip")
    async with raw_server(answering(encoded)) as server, transport_with(max_body_bytes=250_000) as transport:
        arguments = ("POST", Endpoint.parse(server.url()), HEADERS)
        with pytest.raises(ProviderError) as caught:
            await transport.request(*arguments)
        assert_error(caught.value, "reading")
        with pytest.raises(ProviderError) as caught:
            async with transport.stream(*arguments) as response:
                async for _ in response.chunks():
                    pass
        assert_error(caught.value, "reading")


async def test_large_requests_and_answers_go_through() -> None:
    async def echo(wire: Wire) -> None:
        while True:
            request = await wire.read_request()
            await wire.send(http(request.body))

    async with raw_server(echo) as server, transport_with() as transport:
        for size in (65_535, 65_536, 65_537, 5_000_000):
            body = bytes(range(256)) * (size // 256 + 1)
            answer = await transport.request("POST", Endpoint.parse(server.url()), HEADERS, body[:size])
            assert answer.body == body[:size]
        assert server.connections == 1


@pytest.mark.parametrize("size", [1000, 20_000_000])
async def test_an_answer_before_the_request_was_read_is_taken(size: int) -> None:
    async def impatient(wire: Wire) -> None:
        await wire.read_until(b"\r\n\r\n")
        await wire.send(http(b'{"too": "large"}', 413))
        await trio.sleep(5)

    async with raw_server(impatient) as server, transport_with() as transport:
        with trio.fail_after(3):
            response = await transport.request("POST", Endpoint.parse(server.url()), HEADERS, b"x" * size)
        assert (response.status, response.body) == (413, b'{"too": "large"}')
        # Of the small one all was sent; the connection with half a request in it is of no use any more.
        assert transport.statistics().idle == (1 if size == 1000 else 0)


# --- redirections ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("http://169.254.169.254/latest/meta-data?token=hunter2", "169.254.169.254"),
        ("https://elsewhere.example/v1/chat?key=hunter2", "elsewhere.example"),
        ("https://user:hunter2@other.example/", "other.example"),
        ("file:///etc/hunter2", "elsewhere"),
        ("/v2/hunter2", "127.0.0.1"),
        ("//other.example/hunter2", "other.example"),
        ("http://[hunter2", "elsewhere"),
        ("", "127.0.0.1"),
        ("http://" + "a" * 300 + "/hunter2", "elsewhere"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
async def test_redirections_are_not_followed(location: str, named: str, status: int) -> None:
    async with raw_server(answering(http(b"", status, location=location))) as server, transport_with() as transport:
        with pytest.raises(ProviderError) as caught:
            await transport.request("POST", Endpoint.parse(server.url()), HEADERS, b"{}")
        assert f"redirects ({status}) to {named};" in caught.value.message
        assert not caught.value.retryable
        assert_error(caught.value, "reading")
        assert len(server.requests) == 1


async def test_a_redirection_to_a_listening_host_reaches_it_not() -> None:
    async with raw_server(answering(http())) as target:
        location = target.url("/v1")
        async with raw_server(answering(http(b"", 307, location=location))) as server, transport_with() as transport:
            with pytest.raises(ProviderError):
                await transport.request("POST", Endpoint.parse(server.url()), HEADERS, b"{}")
            with pytest.raises(ProviderError):
                async with transport.stream("GET", Endpoint.parse(server.url()), HEADERS):
                    raise AssertionError("not reached")
        assert target.connections == 0
