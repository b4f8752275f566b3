"""Cancelled at any checkpoint, a request leaves nothing behind: no place, no connection, no stream, no descriptor."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
import trio
from harness import cancel_at_every_checkpoint
from wire import Authority, RawServer, Wire, connect_proxy, http, raw_server

from aiorchd.providers.transport import Endpoint, PoolLimits, Transport, open_transport

HEADERS = [(b"content-type", b"application/json")]
LARGE = 2_000_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(str(tmp_path_factory.mktemp("authority")))


async def in_pieces(wire: Wire) -> None:
    """Answers every request in five pieces, each after a pause."""
    while True:
        request = await wire.read_request()
        answer = http(b"%d" % len(request.body) * 20)
        for start in range(0, len(answer), 40):
            await wire.send(answer[start : start + 40])
            await trio.lowlevel.checkpoint()


async def whole(transport: Transport, endpoint: Endpoint) -> None:
    assert (await transport.request("POST", endpoint, HEADERS, b"{}")).status == 200


async def large(transport: Transport, endpoint: Endpoint) -> None:
    response = await transport.request("POST", endpoint, HEADERS, b"x" * LARGE)
    assert response.body == b"%d" % LARGE * 20


async def streamed(transport: Transport, endpoint: Endpoint) -> None:
    async with transport.stream("POST", endpoint, HEADERS, b"{}") as response:
        async for _ in response.chunks():
            await trio.lowlevel.checkpoint()


async def crowded(transport: Transport, endpoint: Endpoint) -> None:
    """Three at once where two find a place."""
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(whole, transport, endpoint)


def idle_now(server: RawServer | None) -> Callable[[Transport], Awaitable[None]]:
    async def check(transport: Transport) -> None:
        statistics = transport.statistics()
        assert (statistics.in_use, statistics.waiting, statistics.dialling) == (0, 0, 0)
        if server is not None:
            with trio.move_on_after(2):
                while server.alive != transport.statistics().idle:
                    await trio.sleep(0.001)
            assert server.alive == transport.statistics().idle, "a cancelled request keeps its connection"

    return check


@pytest.mark.parametrize("max_keepalive", [0, 5], ids=["dialled", "kept"])
@pytest.mark.parametrize("ask", [whole, large, streamed, crowded])
async def test_http_1(ask: Callable[[Transport, Endpoint], Awaitable[None]], max_keepalive: int) -> None:
    limits = PoolLimits(max_connections=2, max_keepalive=max_keepalive)
    async with raw_server(in_pieces) as server, open_transport(limits, {}) as transport:
        endpoint = Endpoint.parse(server.url())

        def scenario(nursery: trio.Nursery) -> tuple[Transport, Callable[[], Awaitable[Any]]]:
            return transport, lambda: ask(transport, endpoint)

        descriptors = len(os.listdir("/proc/self/fd"))
        await cancel_at_every_checkpoint(scenario, idle_now(server), at_least=3)
        await whole(transport, endpoint)
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 2 * 3


@pytest.mark.parametrize("ask", [whole, large, streamed])
async def test_through_tls_and_a_proxy(
    authority: Authority, ask: Callable[[Transport, Endpoint], Awaitable[None]]
) -> None:
    async with (
        raw_server(in_pieces, tls=authority.server_context("provider.test")) as server,
        connect_proxy({"provider.test": server.port}) as (proxy, _),
    ):
        environ = {"SSL_CERT_FILE": authority.file, "HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}
        async with open_transport(PoolLimits(max_connections=2, max_keepalive=0), environ) as transport:
            endpoint = Endpoint.parse("https://provider.test/")
            await whole(transport, endpoint)  # builds the TLS context, which takes a thread

            def scenario(nursery: trio.Nursery) -> tuple[Transport, Callable[[], Awaitable[Any]]]:
                return transport, lambda: ask(transport, endpoint)

            await cancel_at_every_checkpoint(scenario, idle_now(server), at_least=6)
            assert proxy.alive == 0


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("ask", [whole, large, streamed, crowded])
async def test_http_2(ask: Callable[[Transport, Endpoint], Awaitable[None]], fresh: bool) -> None:
    open_streams: dict[tuple[int, int], int] = {}

    async def answer(wire: Wire) -> None:
        number = wire.server.connections
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        state.initiate_connection()
        await wire.send(state.data_to_send())
        try:
            while data := await wire.stream.receive_some(65_536):
                for event in state.receive_data(bytes(data)):
                    if isinstance(event, h2.events.RequestReceived):
                        open_streams[number, event.stream_id] = 0
                    elif isinstance(event, h2.events.DataReceived):
                        open_streams[number, event.stream_id] += len(event.data)
                        state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, h2.events.StreamEnded):
                        size = open_streams.pop((number, event.stream_id))
                        with contextlib.suppress(h2.exceptions.ProtocolError):  # cancelled in the same bytes
                            state.send_headers(event.stream_id, [(":status", "200")])
                            for _ in range(4):
                                state.send_data(event.stream_id, b"%d" % size * 5)
                                await wire.send(state.data_to_send())
                            state.end_stream(event.stream_id)
                    elif isinstance(event, h2.events.StreamReset):
                        open_streams.pop((number, event.stream_id), None)
                await wire.send(state.data_to_send())
        finally:
            for key in [key for key in open_streams if key[0] == number]:
                del open_streams[key]

    async with raw_server(answer) as server, open_transport(PoolLimits(max_connections=2), {}) as transport:
        endpoint = Endpoint.parse(server.url(), http2=True)

        def scenario(nursery: trio.Nursery) -> tuple[Transport, Callable[[], Awaitable[Any]]]:
            if fresh:
                transport.close()
            return transport, lambda: ask(transport, endpoint)

        async def check(transport: Transport) -> None:
            await idle_now(None)(transport)
            with trio.move_on_after(2):
                while open_streams:
                    await trio.sleep(0.001)
            assert not open_streams, "the server was not told that nobody waits any more"

        await cancel_at_every_checkpoint(scenario, check, at_least=1)
        await whole(transport, endpoint)
        if not fresh:  # a cancelled request costs its stream, not the connection; a cancelled dial costs one
            assert server.connections <= 6


@pytest.mark.parametrize("stage", ["silent", "head", "body"])
async def test_the_provider_notices_at_once(stage: str) -> None:
    """The connection is closed while the server waits, not when it next writes."""

    async def waiting(wire: Wire) -> None:
        await wire.read_request()
        if stage != "silent":
            await wire.send(http(b"x" * 100)[: 20 if stage == "head" else -50])
        reached.set()
        await wire.closed_by_client()
        noticed.append(trio.current_time())

    reached, noticed = trio.Event(), []
    async with raw_server(waiting) as server, open_transport(PoolLimits(), {}) as transport:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.request, "POST", Endpoint.parse(server.url()), HEADERS, b"{}")
            await reached.wait()
            await trio.sleep(0.01)
            cancelled_at = trio.current_time()
            nursery.cancel_scope.cancel()
        with trio.fail_after(2):
            while not noticed:
                await trio.sleep(0.001)
        assert noticed[0] - cancelled_at < 0.5
        assert transport.statistics().in_use == 0


async def test_closing_the_transport_closes_everything() -> None:
    async def waiting(wire: Wire) -> None:
        if await wire.read_request():
            await wire.send(http())
        await wire.closed_by_client()

    async with raw_server(waiting) as server:
        async with open_transport(PoolLimits(), {}) as transport:
            await transport.request("POST", Endpoint.parse(server.url()), HEADERS)
            assert server.alive == 1
        with trio.fail_after(2):
            while server.alive:
                await trio.sleep(0.001)
