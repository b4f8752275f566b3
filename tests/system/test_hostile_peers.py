"""Bad clients and bad providers against a real daemon: a clear error to whom it concerns, nothing to anybody else.

One daemon serves all tests of this file. During each a witness asks and must be answered rightly and soon; after each
``status`` shows every stage at rest, and descriptors and memory are what they were before the first.
"""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgpack
import pytest
import trio
from malformed import PECULIAR, Thrown, ask_peculiarly, kinds, throw
from processes import DaemonProcess, daemon
from sums import sum_of

from aiorch import AsyncClient
from aiorch.errors import CallError, IncompleteStream, ProviderError
from aiorch.protocol import Connection, Event, Notification, Response
from aiorchsim.process import Simulator, start_simulator

MAX_CONNECTIONS = 40
MAX_IN_FLIGHT = 8
PROVIDER_FAULTS = ("hang", "refuse", "reset", "cut_stream", "nonsense", "error_500", "stream_error", "auth")
PROFILE = """
[[models]]
name = "*"
latency_s = 0.005

[[models]]
name = "slow"
latency_s = 30.0
""" + "".join(f'\n[[models]]\nname = "{fault}"\nlatency_s = 0.0\nfault = "{fault}"\n' for fault in PROVIDER_FAULTS)
MODELS = ("small", "slow", *PROVIDER_FAULTS)
AT_REST = frozenset(
    ("inside", "running", "busy", "flights", "passengers", "in_flight", "waiting", "sleeping", "in_use")
)
MOST_GROWTH_BYTES = 24_000_000
"""What the daemon may weigh more in the end: answers kept for the witness (3 MB), rows of hits that waited for the disk once
(8 MB), and what the allocator keeps. A client that never reads would make it hundreds if its answers were kept for it."""


def configuration(base_url: str, closed_port: int) -> str:
    return (
        f"""
[daemon]
max_connections = {MAX_CONNECTIONS}
max_frame_bytes = 262144
max_elements = 2000
max_in_flight_per_connection = {MAX_IN_FLIGHT}
max_pending_write_bytes = 65536
write_stall_s = 0.5

[providers.main]
dialect = "openai"
base_url = "{base_url}"

[providers.gone]
dialect = "openai"
base_url = "http://127.0.0.1:{closed_port}/v1"

[pool]
max_keepalive = 0

[concurrency]
initial = 10

[retry]
max_attempts = 2
backoff_s = [0.01]

[timeouts]
first_byte_s = 0.5
"""
        + "".join(f'\n[[models]]\nname = "{model}"\nprovider = "main"\n' for model in MODELS)
        + '\n[[models]]\nname = "nobody"\nprovider = "gone"\n'
    )


@dataclass
class House:
    """The daemon under siege, its provider, and what it weighed before."""

    running: DaemonProcess
    simulator: Simulator
    descriptors: int = 0
    rss_bytes: int = 0
    next_sum: int = 0

    def weigh(self) -> tuple[int, int]:
        pid = self.running.pid
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        return len(os.listdir(f"/proc/{pid}/fd")), resident

    async def rest(self) -> dict[str, Any]:
        """Wait until everything has come to rest; fails when it does not."""
        async with AsyncClient(self.running.socket) as client:
            with trio.move_on_after(5):
                while (restless := unrest(await client.status())) or self.weigh()[0] > self.descriptors + 1:
                    await trio.sleep(0.01)
                return await client.status()
        raise AssertionError(f"still at work: {restless}; {self.weigh()[0]} descriptors, at first {self.descriptors}")

    @asynccontextmanager
    async def witnessed(self) -> AsyncIterator[AsyncClient]:
        """While the block does harm, a witness is served; afterwards all is as before."""
        asked = 0
        slowest_s = 0.0
        async with AsyncClient(self.running.socket, timeout_s=10.0) as client, trio.open_nursery() as nursery:

            async def witness() -> None:
                nonlocal asked, slowest_s
                while True:
                    self.next_sum += asked % 2  # every other question has been asked before
                    wanted = sum_of(self.next_sum)
                    began = trio.current_time()
                    assert (await client.complete(wanted.prompt)).text == wanted.answer
                    slowest_s = max(slowest_s, trio.current_time() - began)
                    asked += 1

            nursery.start_soon(witness)
            yield client
            enough = asked + 4  # it is still served after all that
            while asked < enough:
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
        assert slowest_s < 3.0, f"the witness once waited {slowest_s:.2f} s"
        await self.rest()
        with trio.move_on_after(5):
            while self.weigh()[0] > self.descriptors:  # the connection that asked about the rest is being closed
                await trio.sleep(0.01)
        descriptors, resident = self.weigh()
        assert descriptors <= self.descriptors
        assert resident < self.rss_bytes + MOST_GROWTH_BYTES, f"{self.rss_bytes} bytes of memory became {resident}"


def unrest(status: Mapping[str, Any]) -> list[str]:
    """Name what is not at rest; the connection and the request that asked are not meant."""
    found = [
        f"door.{name} {status['door'][name]}" for name in ("connections", "in_flight") if status["door"][name] != 1
    ]
    parts = {**status["stages"], "transport": status["transport"], "generations": status["generations"]}
    parts |= {f"model {model['name']}": model["live"] for model in status["models"]}
    found += [f"{part}.{name} {of[name]}" for part, of in parts.items() for name in AT_REST & of.keys() if of[name]]
    found += [f"generations.{name}" for name in ("leases", "retiring") if status["generations"][name]]
    found += ["admit.inside_by_caller"] if status["stages"]["admit"]["inside_by_caller"] else []
    found += ["door.pending_write_bytes"] if status["door"]["pending_write_bytes"] else []
    return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        closed_port = closed.getsockname()[1]
    folder = tmp_path_factory.mktemp("siege")
    with (
        start_simulator(PROFILE) as simulator,
        daemon(folder, configuration(simulator.base_url, closed_port)) as running,
    ):
        at = House(running, simulator)
        trio.run(warm_up, at)
        yield at
        errors = trio.run(errors_told, at)
        assert errors
        assert "internal" not in errors, f"{errors}\n{running.said()}"
        assert running.stop() == 0, running.said()
        assert "Traceback" not in running.said(), running.said()


async def warm_up(at: House) -> None:
    """Use everything once, so that what is loaded when first needed is there, and weigh the daemon."""
    at.descriptors = 10_000
    async with AsyncClient(at.running.socket) as client, trio.open_nursery() as nursery:
        for number in range(100, 130):
            nursery.start_soon(client.complete, sum_of(number).prompt)
        for fault in PROVIDER_FAULTS:
            nursery.start_soon(failing, client, fault)
    await at.rest()
    at.descriptors, at.rss_bytes = at.weigh()


async def errors_told(at: House) -> Mapping[str, int]:
    """All errors that calls ended with, by code."""
    async with AsyncClient(at.running.socket) as client:
        errors: Mapping[str, int] = (await client.stats())["errors"]
        return errors


async def failing(client: AsyncClient, model: str) -> None:
    with pytest.raises(CallError):
        await client.complete("What is 1 + 1?", model=model, cache="bypass")


class Peer:
    """A raw connection that says what it likes."""

    def __init__(self, at: House) -> None:
        self.path = str(at.running.socket)
        self.wire = Connection()

    async def __aenter__(self) -> Self:
        self.stream = await trio.open_unix_socket(self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stream.aclose()

    async def say(self, data: bytes) -> None:
        """Send what the daemon takes of it; it may hang up before the end."""
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    async def heard(self) -> list[Event]:
        """All that is said until the daemon hangs up."""
        events: list[Event] = []
        with trio.fail_after(10):
            while True:
                try:
                    data = await self.stream.receive_some(65536)
                except trio.BrokenResourceError:
                    return events
                if not data:
                    return events
                events += self.wire.receive_data(data)

    async def call(self, method: Any, params: Any) -> Response:
        """Send a request, with anything for method and params; give its answer."""
        await self.say(msgpack.packb([0, 7, method, params], unicode_errors="surrogateescape"))
        with trio.fail_after(10):
            while True:
                data = await self.stream.receive_some(65536)
                assert data, "the daemon hung up"
                for event in self.wire.receive_data(data):
                    assert isinstance(event, Response), event
                    return event


def only_goodbye(events: list[Event]) -> str:
    """The text of the one notification that says why a connection is closed."""
    (event,) = events
    assert isinstance(event, Notification), event
    assert event.method == "error"
    assert event.params[0]["code"] == "invalid_request", event
    text: str = event.params[0]["message"]
    return text


# ---------------------------------------------------------------------------------------------------- bad clients

GARBAGE = {
    "a web browser": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "JSON": b'{"method": "complete", "params": {}}\n',
    "a byte that begins nothing": b"\xc1",
    "negative numbers": b"\xff" * 4096,
    "zeros": bytes(4096),
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "an empty array": b"\x90",
    "an unknown kind of message": msgpack.packb([9, 1, "ping", []]),
    "a request without params": msgpack.packb([0, 1, "ping"]),
    "a request with text for params": msgpack.packb([0, 1, "complete", "prompt"]),
    "a msgid of text": msgpack.packb([0, "1", "ping", []]),
    "a negative msgid": msgpack.packb([0, -1, "ping", []]),
    "an extension type": msgpack.packb([0, 1, "complete", [{"prompt": msgpack.ExtType(4, b"x")}]]),
    "keys that are numbers": msgpack.packb([0, 1, "complete", [{1: "x"}]]),
}

BOMBS = {
    "five kilobytes of nested giants": b"\xdd\xff\xff\xff\xff" * 1000,
    "a hundred thousand levels": b"\x91" * 100_000,
    "an array of four thousand million": b"\x94\x00\x01\xa8complete\xdd\xff\xff\xff\xff" + b"\x90" * 3000,
    "a map of four thousand million": b"\x94\x00\x01\xa8complete\x91\xdf\xff\xff\xff\xff\xa1x\xc0",
    "two hundred thousand empty arrays": b"\x94\x00\x01\xa8complete\xdd\x00\x03\x0d\x40" + b"\x90" * 200_000,
    "a text of a gigabyte": b"\x94\x00\x01\xa8complete\x91\x81\xa6prompt\xdb\x40\x00\x00\x00" + b"x" * 300_000,
    "a frame that never ends": b"\x94\x00\x01\xa8complete\x91\x81\xa6prompt\xdb\x00\x03\xff\xf0" + b"x" * 262_144,
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_is_told_and_hung_up_on(house: House, what: str) -> None:
    async with house.witnessed():
        async with Peer(house) as peer:
            await peer.say(GARBAGE[what])
            assert only_goodbye(await peer.heard())


@pytest.mark.parametrize("what", BOMBS)
async def test_bombs_are_refused_before_they_unfold(house: House, what: str) -> None:
    async with house.witnessed():
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(throw_bomb, house, BOMBS[what])


async def throw_bomb(at: House, bomb: bytes) -> None:
    async with Peer(at) as peer, trio.open_nursery() as nursery:
        nursery.start_soon(peer.say, bomb)
        told = only_goodbye(await peer.heard())
        assert any(word in told for word in ("too many", "larger", "deep", "limit", "at most")), told
        nursery.cancel_scope.cancel()


async def test_every_kind_of_malformed_frame_from_many_at_once(house: House) -> None:
    # For longer and with the limits as they come: benchmarks/malformed_frames.py.
    thrown = Thrown()
    bad = kinds(max_frame_bytes=262144, max_elements=2000)
    assert len(bad) >= 40

    async def thrower(seed: int) -> None:
        for name in random.Random(seed).sample(list(bad), len(bad)):
            # Generous: all of them share a machine with other tests.
            await throw(house.running.socket, name, bad[name](), thrown, within_s=5.0)

    async with house.witnessed():
        async with trio.open_nursery() as nursery:
            for seed in range(5):
                nursery.start_soon(thrower, seed)
    assert thrown.wrong == []
    assert thrown.errors + thrown.told + thrown.closed == 5 * len(bad)
    assert thrown.told > 4 * len(bad) * 0.8


@pytest.mark.parametrize("what", PECULIAR)
async def test_what_only_looks_malformed_is_served(house: House, what: str) -> None:
    wrong: list[str] = []
    async with house.witnessed():
        await ask_peculiarly(house.running.socket, what, PECULIAR[what], wrong)
    assert wrong == []


async def test_random_bytes_harm_nobody(house: House) -> None:
    chance = random.Random(3)

    async def babble(seed: bytes) -> None:
        async with Peer(house) as peer:
            await peer.say(seed)
            await peer.stream.send_eof()
            for event in await peer.heard():  # whatever it is, it is well-formed
                assert isinstance(event, (Notification, Response))

    async with house.witnessed():
        for _ in range(20):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(babble, chance.randbytes(chance.randint(1, 3000)))


async def test_good_frames_spoiled_by_one_byte_harm_nobody(house: House) -> None:
    chance = random.Random(4)
    good = msgpack.packb([0, 1, "complete", [{"prompt": "What is 2 + 2?", "tags": ["a", "b"], "temperature": 0}]])

    async def spoil(at: int, byte: int) -> None:
        async with Peer(house) as peer:
            await peer.say(good[:at] + bytes([byte]) + good[at + 1 :])
            await peer.stream.send_eof()
            await peer.heard()

    async with house.witnessed():
        for start in range(0, len(good), 16):
            async with trio.open_nursery() as nursery:
                for at in range(start, min(start + 16, len(good))):
                    nursery.start_soon(spoil, at, chance.randrange(256))


WRONG = {
    "complete": [
        {},
        {"prompt": ""},
        {"prompt": 5},
        {"prompt": None},
        {"prompt": ["x"]},
        {"prompt": "x", "messages": []},
        {"messages": "x"},
        {"messages": [{"role": 5, "content": "x"}]},
        {"messages": [3]},
        {"promt": "x"},
        {"prompt": "x", "temperature": "hot"},
        {"prompt": "x", "temperature": float("nan")},
        {"prompt": "x", "max_tokens": -1},
        {"prompt": "x", "timeout_s": 0},
        {"prompt": "x", "timeout_s": float("inf")},
        {"prompt": "x", "cache": "maybe"},
        {"prompt": "x", "tags": ["t"] * 100},
        {"prompt": "x", "stream": True},
        {"prompt": "x", "tools": "hammer"},
        {"prompt": "x", "output_schema": 7},
        {"prompt": "x", "extra": {"a": float("inf")}},
        {"prompt": "x", "extra": {"a": b"bytes"}},
        {"prompt": "x", "model": 9},
        {"prompt": "x", "model": "m" * 5000},
    ],
    "embed": [{}, {"input": []}, {"input": 5}, {"input": [5]}, {"input": ["x"], "dimensions": "many"}],
    "explain": [{}, {"request_id": 5}],
    "stats": [{"since_s": "yesterday"}, {"by": "colour"}],
    "config.get": [{"key": 5}],
    "cache.forget": [{}, {"tag": 5}],
}


async def test_wrong_arguments_are_refused_by_name_and_the_connection_lives(house: House) -> None:
    async with house.witnessed():
        async with Peer(house) as peer:
            for method, calls in WRONG.items():
                for arguments in calls:
                    answer = await peer.call(method, [arguments])
                    assert answer.error is not None, (method, arguments, answer.result)
                    code, text = answer.error
                    assert code == 0
                    assert text.startswith(("invalid_request: ", "unknown_model: ")), (method, arguments, text)
            for params in ([1], ["x"], [{}, {}], [None, {}], [[[]]]):
                answer = await peer.call("complete", params)
                assert answer.error[1].startswith("invalid_request: "), (params, answer)
            for method in ("nope", "", "m" * 10_000, "__init__", "complete\x00", "host.complete"):
                answer = await peer.call(method, [{}])
                assert answer.error[1].startswith("unknown_method: "), answer
                assert len(answer.error[1]) < 1000
            assert (await peer.call("ping", [])).result == "pong"


async def test_text_that_is_no_utf8_is_answered_all_the_same(house: House) -> None:
    async with house.witnessed():
        async with Peer(house) as peer:
            for prompt in ("caf\udce9", "\udcff\udcfe", "half a pair: \udced\udca0\udcbd", "What is 1 + 1?\udc80"):
                answer = await peer.call("complete", [{"prompt": prompt}])
                assert answer.error is None, answer
                assert answer.result["finish_reason"] == "stop"


async def test_connections_beyond_the_limit_are_turned_away_politely(house: House) -> None:
    async with house.witnessed():
        inside: list[Peer] = []
        turned_away = 0
        for _ in range(MAX_CONNECTIONS + 10):
            peer = Peer(house)
            await peer.__aenter__()
            await peer.say(msgpack.packb([0, 1, "ping", []]))
            with trio.fail_after(10):
                try:
                    data = await peer.stream.receive_some(65536)
                except trio.BrokenResourceError:
                    data = b""  # it was turned away while its ping was on the way
            event = peer.wire.receive_data(data)[0] if data else None
            if isinstance(event, Response):
                assert event.result == "pong"
                inside.append(peer)
                continue
            turned_away += 1
            if isinstance(event, Notification):
                assert event.method == "error"
                assert event.params[0]["code"] == "overloaded"
                assert event.params[0]["retry_after_s"] > 0
                assert str(MAX_CONNECTIONS) in event.params[0]["message"]
            await peer.__aexit__()
        assert len(inside) == MAX_CONNECTIONS - 1  # and the witness
        assert turned_away == 11
        for peer in inside:
            assert (await peer.call("ping", [])).result == "pong"
            await peer.__aexit__()


async def test_a_client_that_never_reads_costs_its_buffer_and_is_cut(house: House) -> None:
    prompt = sum_of(100).prompt  # kept since the warm-up
    many = msgpack.packb([0, 1, "complete", [{"prompt": prompt}]]) * 100

    async def deaf() -> None:
        async with Peer(house) as peer:
            with trio.fail_after(15):
                while True:  # until the daemon takes no more, and then hangs up
                    try:
                        await peer.stream.send_all(many)
                    except trio.BrokenResourceError:
                        return

    async with house.witnessed():
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(deaf)
    assert "took nothing for 0.5 s" in house.running.said()


async def test_a_client_that_asks_too_much_at_once_waits_and_is_answered(house: House) -> None:
    count = 10 * MAX_IN_FLIGHT
    async with house.witnessed():
        async with Peer(house) as peer:
            asked = [sum_of(5000 + number) for number in range(count)]
            await peer.say(
                b"".join(msgpack.packb([0, n, "complete", [{"prompt": a.prompt}]]) for n, a in enumerate(asked))
            )
            answers: dict[int, Any] = {}
            with trio.fail_after(20):
                while len(answers) < count:
                    for event in peer.wire.receive_data(await peer.stream.receive_some(65536)):
                        assert isinstance(event, Response)
                        assert event.msgid not in answers
                        answers[event.msgid] = event.result
            assert [answers[number]["text"] for number in range(count)] == [each.answer for each in asked]


async def test_a_msgid_used_twice_at_once_is_refused(house: House) -> None:
    async with house.witnessed():
        async with Peer(house) as peer:
            await peer.say(msgpack.packb([0, 5, "complete", [{"prompt": "a", "model": "slow", "timeout_s": 0.3}]]))
            await peer.say(msgpack.packb([0, 5, "ping", []]))
            codes = []
            with trio.fail_after(10):
                while len(codes) < 2:
                    for event in peer.wire.receive_data(await peer.stream.receive_some(65536)):
                        assert isinstance(event, Response)
                        codes.append(event.error[1].partition(":")[0])
            assert codes == ["invalid_request", "deadline_exceeded"]


async def test_a_client_that_dies_mid_call_leaves_nothing_behind(house: House) -> None:
    before = house.simulator.stats()["calls"]["abandoned"]
    async with house.witnessed():
        peers = []
        for number in range(6):
            peer = Peer(house)
            peers.append(await peer.__aenter__())
            for msgid in range(3):
                arguments = {"prompt": f"{number} {msgid}", "model": "slow", "stream": msgid == 0, "call_id": msgid}
                await peer.say(msgpack.packb([0, msgid, "complete", [arguments]]))
        # 10 of the 18 have a permit and are with the provider; the others wait for one.
        await trio.to_thread.run_sync(
            lambda: house.simulator.wait_until(lambda stats: stats["calls"]["in_flight"] >= 10)
        )
        for peer in peers:
            # As a killed process leaves it: with a reset where the socket has unread bytes.
            peer.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await peer.__aexit__()
        await trio.to_thread.run_sync(
            lambda: house.simulator.wait_until(lambda stats: stats["calls"]["abandoned"] >= before + 10)
        )


async def test_a_client_that_leaves_at_any_moment_is_no_defect(house: House) -> None:
    # Also while the provider is connected to, and while it is sent a request of more than a socket takes at once. The daemon
    # has no connections to keep here, so every call makes one; that no call ends as `internal` is looked at in the end.
    async def leave(number: int) -> None:
        async with Peer(house) as peer:
            prompt = f"leave {number} " + "x" * (number % 2 * 200_000)
            await peer.say(msgpack.packb([0, 1, "complete", [{"prompt": prompt, "model": "slow", "cache": "bypass"}]]))
            await trio.sleep(0.0005 * number)

    async with house.witnessed(), trio.open_nursery() as nursery:
        for number in range(24):
            nursery.start_soon(leave, number)


async def test_a_client_that_changes_its_mind_frees_what_it_held(house: House) -> None:
    async with house.witnessed() as client, trio.open_nursery() as nursery:
        for number in range(15):
            nursery.start_soon(quickly_bored, client, f"bored {number}")


async def quickly_bored(client: AsyncClient, prompt: str) -> None:
    with trio.move_on_after(0.2) as boredom:
        await client.complete(prompt, model="slow")
    assert boredom.cancelled_caught


# -------------------------------------------------------------------------------------------------- bad providers


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("hang", "provider_error", "did not begin to answer within 0.5 s"),
        ("refuse", "provider_error", "closed the connection without answering"),
        ("reset", "provider_error", "reset the connection before answering"),
        ("cut_stream", "provider_error", "closed the connection in the middle of its answer"),
        ("nonsense", "provider_error", "JSON that is broken"),
        ("error_500", "provider_error", "main failed (500)"),
        ("auth", "provider_auth", "main refused the key (401"),
        ("nobody", "provider_error", "nothing listens at"),
    ],
)
async def test_a_bad_provider_is_told_to_its_caller_alone(house: House, model: str, code: str, words: str) -> None:
    async with house.witnessed() as client, trio.open_nursery() as nursery:

        async def ask(number: int) -> None:
            with pytest.raises(CallError) as raised:
                await client.complete(f"bad luck {number}", model=model, timeout_s=8.0)
            assert raised.value.code == code, raised.value
            assert words in str(raised.value)
            assert "Traceback" not in str(raised.value)

        for number in range(5):
            nursery.start_soon(ask, number)


async def test_a_provider_that_hangs_meets_the_callers_deadline(house: House) -> None:
    async with house.witnessed() as client:
        began = trio.current_time()
        with pytest.raises(CallError) as raised:
            await client.complete("hurry", model="slow", timeout_s=0.2)
        assert raised.value.code == "deadline_exceeded"
        assert trio.current_time() - began < 1.0


@pytest.mark.parametrize("model", ["cut_stream", "stream_error", "nonsense"])
async def test_a_stream_that_breaks_is_told_after_what_came(house: House, model: str) -> None:
    async with house.witnessed() as client:
        pieces: list[str] = []
        with pytest.raises((IncompleteStream, ProviderError)) as raised:
            async for piece in client.stream("Say: one two three four five six seven eight nine ten", model=model):
                pieces.append(piece)
        if model == "nonsense":
            assert not pieces
        else:
            assert isinstance(raised.value, IncompleteStream), raised.value
            assert pieces
