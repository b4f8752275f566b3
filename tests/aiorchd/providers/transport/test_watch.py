"""What takes too long is given up in time, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock
from wire import Authority, Handler, Wire, http, raw_server

from aiorch.errors import ProviderError
from aiorchd.providers.transport import Endpoint, PoolLimits, Timeouts, open_transport
from aiorchd.providers.transport.watch import Watch


class One:
    """Remembers when it was given up."""

    def __init__(self) -> None:
        self.expired_at: list[float] = []

    def expire(self) -> None:
        self.expired_at.append(trio.current_time())


async def test_each_is_given_up_at_its_end_and_not_after_it(autojump_clock: MockClock) -> None:
    watch, ones = Watch(), [One() for _ in range(4)]
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        watch.begin(ones[0], 10.0)
        await trio.sleep(1)
        watch.begin(ones[1], 10.0)
        watch.begin(ones[2], 2.0)  # sooner than who came before
        watch.begin(ones[3], 10.0)
        await trio.sleep(4)
        watch.end(ones[1], 10.0)
        watch.end(ones[2], 2.0)  # long ago: nothing more happens
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert [[at - began for at in one.expired_at] for one in ones] == [
        [pytest.approx(10.0)],
        [],
        [pytest.approx(3.0)],
        [pytest.approx(11.0)],
    ]
    assert not watch._rows


async def test_one_that_begins_anew_gets_its_time_from_then(autojump_clock: MockClock) -> None:
    watch, one = Watch(), One()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        watch.begin(one, 5.0)
        for _ in range(3):
            await trio.sleep(4)
            watch.end(one, 5.0)
            watch.begin(one, 5.0)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert one.expired_at == [pytest.approx(began + 17.0)]


# --- requests on a connection that was kept: nothing but the watch ends them -----------------------------------------


def after_one(then: Handler) -> Handler:
    """Answer the first request of a connection, and do something else with the second."""

    async def handler(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(http())
        await wire.read_request()
        await then(wire)

    return handler


async def silent(wire: Wire) -> None:
    await wire.closed_by_client()


async def stuck(wire: Wire) -> None:
    await trio.sleep(5)
    await wire.send(http(b"x" * 100)[:-50])
    await wire.closed_by_client()


async def drip(wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await wire.send(b"1\r\nx\r\n")
        await trio.sleep(2)


@pytest.mark.parametrize(
    ("then", "timeouts", "after_s", "phase", "words"),
    [
        (silent, Timeouts(first_byte_s=7), 7, "waiting", "did not begin to answer within 7 s"),
        (silent, Timeouts(first_byte_s=7, attempt_s=6), 6, "waiting", "not complete after 6 s"),
        (stuck, Timeouts(idle_s=3), 8, "reading", "silent for 3 s"),
        (drip, Timeouts(idle_s=3, attempt_s=21), 21, "reading", "not complete after 21 s"),
    ],
)
async def test_who_takes_too_long_is_told_so(
    autojump_clock: MockClock, then: Handler, timeouts: Timeouts, after_s: float, phase: str, words: str
) -> None:
    async with raw_server(after_one(then)) as server, open_transport(PoolLimits(), {}) as transport:
        endpoint = Endpoint.parse(server.url())
        await transport.request("POST", endpoint, (), b"{}")
        began = trio.current_time()
        with pytest.raises(ProviderError, match=words) as caught:
            await transport.request("POST", endpoint, (), b"{}", timeouts)
        assert trio.current_time() - began == pytest.approx(after_s)
        assert (caught.value.details["phase"], caught.value.details["timed_out"]) == (phase, True)
        statistics = transport.statistics()
        assert (statistics.in_use, statistics.idle, statistics.reused) == (0, 0, 1)
        await trio.sleep(10)  # who drips finds out when it sends again
        assert server.alive == 0
        assert not any(transport._connections.watch._rows.values())


async def test_over_tls_too(tmp_path: Path) -> None:
    authority = Authority(str(tmp_path))
    async with (
        raw_server(after_one(silent), tls=authority.server_context("localhost")) as server,
        open_transport(PoolLimits(), {"SSL_CERT_FILE": authority.file}) as transport,
    ):
        endpoint = Endpoint.parse(server.url(host="localhost"))
        await transport.request("POST", endpoint, (), b"{}")
        with pytest.raises(ProviderError, match=r"did not begin to answer within 0\.1 s"):
            await transport.request("POST", endpoint, (), b"{}", Timeouts(first_byte_s=0.1))
        assert transport.statistics().idle == 0


async def test_one_that_is_cancelled_is_watched_no_more(autojump_clock: MockClock) -> None:
    async with raw_server(after_one(silent)) as server, open_transport(PoolLimits(), {}) as transport:
        endpoint = Endpoint.parse(server.url())
        await transport.request("POST", endpoint, (), b"{}")
        with trio.move_on_after(1) as patience:
            await transport.request("POST", endpoint, (), b"{}")
        assert patience.cancelled_caught
        assert transport.statistics().in_use == 0
        assert not any(transport._connections.watch._rows.values())
        await trio.testing.wait_all_tasks_blocked()
        assert server.alive == 0


class _Closes:
    """Looks whether a connection is open, and has it closed by the other end right after that."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def poll(self, _timeout: int) -> list[object]:
        self._wire.close()
        return []


async def test_connecting_anew_is_bounded_too(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept connection that has just gone, and a network that has gone with it."""
    wires: list[Wire] = []

    async def answer_one(wire: Wire) -> None:
        wires.append(wire)
        await wire.read_request()
        await wire.send(http())
        await trio.sleep_forever()

    async def no_answer(*_: object) -> None:
        await trio.sleep_forever()

    async with raw_server(answer_one) as server, open_transport(PoolLimits(), {}) as transport:
        endpoint = Endpoint.parse(server.url())
        for dies in (False, True):
            await transport.request("POST", endpoint, (), b"{}")
            [(_, connection)] = transport._connections.pool.site(endpoint.origin).idle
            connection._idle_poll = _Closes(wires[-1])  # type: ignore[assignment]
            if dies:
                monkeypatch.setattr("aiorchd.providers.transport.connections.dial", no_answer)
                began = trio.current_time()
                with pytest.raises(ProviderError, match="could not connect") as caught:
                    await transport.request("POST", endpoint, (), b"{}", Timeouts(connect_s=4))
                assert trio.current_time() - began == pytest.approx(4)
                assert caught.value.details["sent"] is False
        assert transport.statistics().resent == 2
        assert transport.statistics().in_use == 0
        assert not any(transport._connections.watch._rows.values())
