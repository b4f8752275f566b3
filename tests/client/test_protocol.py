"""The sans-IO connection: whatever bytes come, it gives messages or `RemoteProtocolError`, within its limits."""

from __future__ import annotations

import enum
import itertools
import resource
import struct
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiorch.errors import LocalProtocolError, RemoteProtocolError
from aiorch.protocol import SMALL_FRAME_BYTES, Connection, Event, Limits, Notification, Request, Response, pack

unhurried = settings(deadline=None)  # how long an example takes is the machine's affair
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)
requests = st.tuples(st.just(0), st.integers(0, 2**63 - 1), texts, st.lists(plain, max_size=3))
messages = st.one_of(
    requests,
    st.tuples(st.just(1), st.integers(0, 2**63 - 1), plain, plain),
    st.tuples(st.just(2), texts, st.lists(plain, max_size=3)),
)


def as_event(message: tuple[Any, ...]) -> Event:
    return {0: Request, 1: Response, 2: Notification}[message[0]](*message[1:])


def bare(event: Event) -> Event:
    """Forget the packed form, which the chunks decide whether there is."""
    return Request(event.msgid, event.method, event.params) if isinstance(event, Request) else event


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def outcome(pieces: list[bytes], limits: Limits | None = None) -> tuple[list[Event], str | None]:
    """Give all that came whole, and the complaint about what came then."""
    connection = Connection(limits)
    events: list[Event] = []
    for piece in pieces:
        try:
            events += connection.receive_data(piece)
        except RemoteProtocolError as error:
            return [bare(event) for event in (*events, *error.events)], str(error)
    return [bare(event) for event in events], None


@unhurried
@given(st.lists(messages, max_size=8), st.lists(st.integers(0, 10**6), max_size=6))
def test_what_is_packed_comes_out_again_in_whatever_chunks(sent: list[tuple[Any, ...]], cuts: list[int]) -> None:
    wire = b"".join(pack(list(message)) for message in sent)
    expected = [as_event(message) for message in sent]
    assert outcome([wire]) == (expected, None)
    assert outcome(chunks(wire, cuts)) == (expected, None)
    assert outcome([wire[at : at + 1] for at in range(len(wire))]) == (expected, None)


@unhurried
@given(st.lists(requests, min_size=1, max_size=5), st.lists(st.integers(0, 9999), max_size=6))
def test_argument_bytes_are_the_packed_method_and_params(sent: list[tuple[Any, ...]], cuts: list[int]) -> None:
    wire = b"".join(pack(list(message)) for message in sent)
    connection = Connection()
    events = [event for piece in chunks(wire, cuts) for event in connection.receive_data(piece)]
    assert [event.argument_bytes for event in events if isinstance(event, Request)] == [
        msgpack.packb(message[2]) + msgpack.packb(message[3]) for message in sent
    ]


def test_equal_questions_have_equal_argument_bytes_whatever_their_ids() -> None:
    connection, peer = Connection(), Connection()
    seen = set()
    for _ in range(70_000):  # ids of one, two, three and five bytes
        _, data = connection.pack_request("complete", {"prompt": "hi"})
        (request,) = peer.receive_data(data)
        assert isinstance(request, Request)
        seen.add(request.argument_bytes)
    assert seen == {b"\xa8complete\x91\x81\xa6prompt\xa2hi"}


def test_an_id_in_a_signed_or_wide_spelling_is_understood() -> None:
    for spelling in (
        b"\x07",
        b"\xcc\x07",
        b"\xcd\x00\x07",
        b"\xce\x00\x00\x00\x07",
        b"\xd0\x07",
        b"\xd3" + b"\0" * 7 + b"\x07",
    ):
        (request,) = Connection().receive_data(b"\x94\x00" + spelling + b"\xa4ping\x90")
        assert request == Request(7, "ping", [], b"\xa4ping\x90")
    (odd,) = Connection().receive_data(b"\xdc\x00\x04\xcc\x00\x07\xa4ping\x90")  # a wide array head, a wide kind
    assert odd == Request(7, "ping", [], None)


@unhurried
@given(st.binary(max_size=300), st.lists(st.integers(0, 10**6), max_size=4))
@example(b"\xc1", [])
@example(b"\x94\x00\x01\xa1a\x91\x81\x01\x02", [])
@example(b"\x81\x90\x01", [])
@example(b"\x81\xd6\xff\x00\x00\x00\x00\x01", [])
def test_junk_gives_messages_or_the_one_error(junk: bytes, cuts: list[int]) -> None:
    whole = outcome([junk])
    pieces = outcome(chunks(junk, cuts))
    assert repr(pieces) == repr(whole)  # repr, because NaN is not itself


def valid_frames() -> list[bytes]:
    return [
        pack([0, 1, "complete", [{"prompt": "Grüße", "timeout_s": 1.5, "stop": ["a", "b"], "stream": True}]]),
        pack([0, 70_000, "embed", [{"input": ["a"] * 20, "dimensions": 300}]]),
        pack([1, 5, None, {"text": "x" * 40, "usage": {"input": 1, "output": -1}, "raw": b"\x00" * 20}]),
        pack([1, 6, {"code": "rate_limited", "retry_after_s": 2.5}, None]),
        pack([2, "delta", [{"call_id": "1", "index": 0, "text": "pièce"}]]),
    ]


def test_every_mutation_of_one_byte_gives_messages_or_the_one_error() -> None:
    after = pack([2, "after", []])
    for frame in valid_frames():
        for place in range(len(frame)):
            for value in range(256):
                mutant = frame[:place] + bytes((value,)) + frame[place + 1 :] + after
                whole = outcome([mutant])
                half = outcome([mutant[: place + 1], mutant[place + 1 :]])
                assert repr(half) == repr(whole), (frame, place, value)


def test_an_error_is_for_ever_and_hands_over_what_came_before_it() -> None:
    connection = Connection()
    with pytest.raises(RemoteProtocolError) as caught:
        connection.receive_data(pack([2, "fine", []]) + b"\xc1" + pack([2, "never", []]))
    assert list(caught.value.events) == [Notification("fine", [])]
    with pytest.raises(RemoteProtocolError, match="0xc1"):
        connection.receive_data(pack([2, "later", []]))


def test_names_may_come_as_binary_as_pynvim_sends_them() -> None:
    (asked, told) = Connection().receive_data(msgpack.packb([0, 1, b"ping", []]) + msgpack.packb([2, b"x\xff", [1]]))
    assert (asked.method, told.method) == ("ping", "x\udcff")


@pytest.mark.parametrize(
    "shape",
    [
        7, "text", None, {}, [], [0], [3, 1, "m", []], [0, 1, "m"], [0, 1, "m", [], 5], [0, -1, "m", []],
        [0, 2**63, "m", []], [0, True, "m", []], [0, 1.0, "m", []], [0, None, "m", []], [0, "1", "m", []],
        [0, 1, 5, []], [0, 1, None, []], [0, 1, "m", {}], [0, 1, "m", None], [0, 1, "m", "x"],
        [1, None, None, None], [1, "1", None, None], [1, 1, None], [2, "m"], [2, 5, []], [2, "m", {}], [True, 1, "m", []],
    ],
)  # fmt: skip
def test_other_shapes_are_refused(shape: Any) -> None:
    frame = msgpack.packb(shape)
    with pytest.raises(RemoteProtocolError, match="must be"):
        Connection().receive_data(frame)
    connection = Connection()
    with pytest.raises(RemoteProtocolError, match="must be"):
        for byte in frame:
            connection.receive_data(bytes((byte,)))


def test_peculiarities_of_other_clients_are_served() -> None:
    wild = b"\x94\x00\x01\xa8complete\x91\x81\xa6prompt\xa4\xff\xfe\x41\x80"  # bytes of a buffer, sent as str
    (request,) = Connection().receive_data(wild)
    assert isinstance(request, Request)
    assert request.params[0]["prompt"].encode(errors="surrogateescape") == b"\xff\xfeA\x80"
    (empty,) = Connection().receive_data(msgpack.packb([0, 2, "complete", [[]]]))
    assert empty == Request(2, "complete", [[]], b"\xa8complete\x91\x90")
    (whole,) = Connection().receive_data(msgpack.packb([1, 2**40, None, 2**64 - 1]))
    assert whole == Response(2**40, None, 2**64 - 1)


# bombs


def nested(depth: int, inner: bytes = b"\xc0") -> bytes:
    return b"\x91" * depth + inner


BOMBS: list[tuple[str, bytes, str]] = [
    ("array of 4 G items", b"\xdd\xff\xff\xff\xff", "elements|larger"),
    ("map of 4 G pairs", b"\xdf\xff\xff\xff\xff", "elements|larger"),
    ("text of 4 GiB", b"\x92\xdb\xff\xff\xff\xff", "larger"),
    ("bytes of 4 GiB", b"\x92\xc6\xff\xff\xff\xff", "larger"),
    ("five thousand array headers", b"\x93\x02\xa1m" + (b"\xdd" + struct.pack(">I", 100_000)) * 5000, "larger|elements"),
    ("extension of 4 GiB", b"\x92\xc9\xff\xff\xff\xff\x05", "extension"),
    ("extension", b"\x92\xc7\x01\x05\x00\x01", "extension"),
    ("timestamp", b"\x92\xd6\xff\x00\x00\x00\x00\x01", "extension"),
    ("whole frame with a timestamp", b"\x93\x02\xa1m\x91\xd6\xff\x00\x00\x00\x00", "extension"),
    ("fixext key", b"\x93\x02\xa1m\x91\x81\xd6\xff\x00\x00\x00\x00\x01", "map key|extension"),
    ("integer key", b"\x93\x02\xa1m\x91\x81\x01\x02", "map key"),
    ("bytes key", b"\x93\x02\xa1m\x91\x81\xc4\x01a\x02", "map key"),
    ("nil key", b"\x93\x02\xa1m\x91\x81\xc0\x02", "map key"),
    ("array key", b"\x93\x02\xa1m\x91\x81\x90\x02", "map key"),
    ("reserved byte", b"\xc1", "0xc1"),
    ("2 000 levels", b"\x93\x02\xa1m" + nested(2000), "deep"),
    ("a million empty arrays", b"\x93\x02\xa1m\xdd" + struct.pack(">I", 1_000_000) + b"\x90" * 1_000_000, "elements"),
    ("a million nils", b"\x93\x02\xa1m\xdd" + struct.pack(">I", 1_000_000) + b"\xc0" * 1_000_000, "elements"),
    (
        "a million empty arrays in small portions",
        b"\x93\x02\xa1m\xdd" + struct.pack(">I", 50_000) + (b"\x9f" + b"\x90" * 15) * 50_000,
        "elements",
    ),
    ("17 MiB of text", b"\x93\x02\xa1m\x91\xdb" + struct.pack(">I", 17 << 20), "larger"),
]  # fmt: skip


@pytest.mark.parametrize(("frame", "why"), [bomb[1:] for bomb in BOMBS], ids=[bomb[0] for bomb in BOMBS])
@pytest.mark.parametrize("size", [1, 7, 1000, 65_536, 10**9])
def test_bombs_are_refused_in_any_chunks(frame: bytes, why: str, size: int) -> None:
    connection = Connection()
    with pytest.raises(RemoteProtocolError, match=why):
        for start in range(0, len(frame), size):
            connection.receive_data(frame[start : start + size])
        if "map key" in why or why == "deep":
            pytest.fail("taken")


@pytest.mark.parametrize(
    "header", [b"\xdd" + struct.pack(">I", 100_000), b"\xdc\xff\xff", b"\x9f", b"\xde\xff\xff\xa0"]
)
def test_nested_headers_that_wait_for_their_items_hold_nothing(header: bytes) -> None:
    """Thirty peers each send five kilobytes of container headers and then wait; each used to hold 30 MB of lists."""
    frame = header * 1000
    connections = []
    tracemalloc.start()
    try:
        for _ in range(30):
            connection = Connection()
            try:
                connection.receive_data(frame)
            except RemoteProtocolError:
                pass  # refused at once is as good
            connections.append(connection)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 30 * 15_000


@pytest.mark.parametrize("bomb", [bomb[1] for bomb in BOMBS if len(bomb[1]) > 100_000])
def test_a_bomb_costs_little_more_than_its_bytes(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        connection = Connection()
        try:
            for start in range(0, len(bomb), 65_536):
                connection.receive_data(bomb[start : start + 65_536])
        except RemoteProtocolError:
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000, f"{peak} bytes for {len(bomb)}"


def test_an_idle_connection_keeps_no_large_buffer() -> None:
    frames = [pack([2, "m", ["x" * size]]) for size in (60_000, 10, 3_000_000, 500_000)]
    connection = Connection()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for frame in frames:
            for start in range(0, len(frame), 65_536):
                connection.receive_data(frame[start : start + 65_536])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 16_000


# large frames and their switch


@unhurried
@given(
    st.integers(-40, 40),
    st.sampled_from(["text", "bytes", "items", "pairs", "mixed"]),
    st.lists(st.integers(0, 10**6), max_size=8),
)
def test_frames_around_the_switch_come_out_in_any_chunks(off: int, kind: str, cuts: list[int]) -> None:
    size = SMALL_FRAME_BYTES + off
    body: Any = {
        "text": "x" * (size - 10),
        "bytes": b"x" * (size - 10),
        "items": ["abc"] * ((size - 10) // 4),
        "pairs": {str(at): at for at in range(9000)},
        "mixed": [{"n": [1, 2.5, None, "é" * 20]}] * 1700,
    }[kind]
    first, last = pack([2, "first", []]), pack([0, 9, "last", [{}]])
    wire = first + pack([0, 1, "m", [body]]) + last + pack([1, 3, None, body]) + last
    expected = [Notification("first", []), Request(1, "m", [body]), Request(9, "last", [{}]), Response(3, None, body), Request(9, "last", [{}])]  # fmt: skip
    assert outcome(chunks(wire, cuts)) == (expected, None)
    assert outcome([wire]) == (expected, None)


@pytest.mark.parametrize("size", [1, 2, 3, 4095, 4096, 65_535, 65_536, 65_537, 10**9])
def test_large_frames_come_out_in_chunks_of_any_size(size: int) -> None:
    body = {"a": ["y" * 1000] * 150, "b": b"z" * 70_000, "c": list(range(-300, 3000)), "d": {"k": [None, True, 0.5]}}
    wire = pack([1, 1, None, body]) * 2 + pack([2, "tail", []])
    pieces = [wire[start : start + size] for start in range(0, len(wire), size)]
    assert outcome(pieces) == ([Response(1, None, body)] * 2 + [Notification("tail", [])], None)


def frame_of(size: int) -> bytes:
    """A notification of exactly this many bytes."""
    for spare in (7, 8, 10):
        for more in ([], [0]):
            frame = pack([2, "m", [b"x" * (size - spare - len(more)), *more]])
            if len(frame) == size:
                return frame
    raise AssertionError(size)


@pytest.mark.parametrize("limit", [1000, 65_000, 65_536, 65_537, 200_000])
@pytest.mark.parametrize("size", [1, 999, 65_536, 10**9])
def test_the_frame_limit_is_exact_in_any_chunks(limit: int, size: int) -> None:
    limits = Limits(max_frame_bytes=limit)
    fits = frame_of(limit) * 3
    events, complaint = outcome([fits[start : start + size] for start in range(0, len(fits), size)], limits)
    assert (len(events), complaint) == (3, None)
    over = frame_of(limit + 1)
    events, complaint = outcome([over[start : start + size] for start in range(0, len(over), size)], limits)
    assert events == []
    assert complaint == f"a frame is larger than the limit of {limit} bytes"


@pytest.mark.parametrize("size", [1, 999, 60_000, 65_536, 10**9])
def test_the_element_limit_is_exact_in_any_chunks(size: int) -> None:
    def frame(elements: int) -> bytes:  # [2, "m", [[…], […]]]: six objects and the nils, two bytes of text a third
        return pack([2, "m", [["ab"] * ((elements - 6) // 2), ["cd"] * (elements - 6 - (elements - 6) // 2)]])

    limits = Limits(max_elements=70_000)
    fits, over = frame(70_000), frame(70_001)
    assert len(over) > SMALL_FRAME_BYTES
    events, complaint = outcome([fits[start : start + size] for start in range(0, len(fits), size)], limits)
    assert (len(events), complaint) == (1, None)
    events, complaint = outcome([over[start : start + size] for start in range(0, len(over), size)], limits)
    assert (events, complaint) == ([], "a frame holds more than the limit of 70000 elements")


def test_a_slow_sender_of_a_large_frame_costs_time_in_proportion() -> None:
    wire = pack([2, "m", [["word"] * 60_000]])
    connection = Connection()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    events = [event for start in range(0, len(wire), 10) for event in connection.receive_data(wire[start : start + 10])]
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    assert len(events) == 1
    assert spent < 2.0  # 30 000 chunks of a 300 kB frame; decoding from the start each time would take minutes


# sending


class Colour(enum.StrEnum):
    RED = "red"


class Huge(int):
    pass


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("\ud800", "prompt: holds a lone surrogate"),
        ({"a": ["ok", "x\udcff"]}, r"prompt\.a\[1\]: holds a lone surrogate"),
        ({"\udcff": 1}, "prompt: holds a lone surrogate"),
        ({1: 2}, r"prompt: a map key that is not a string \(int\)"),
        ([{b"k": 2}], r"prompt\[0\]: a map key that is not a string \(bytes\)"),
        (2**63, "prompt: an integer beyond 64 bits"),
        (-(2**63) - 1, "prompt: an integer beyond 64 bits"),
        (Huge(2**63), "prompt: an integer beyond 64 bits"),
        ({1, 2}, "prompt: set cannot be sent"),
        ([object()], r"prompt\[0\]: object cannot be sent"),
        (msgpack.ExtType(1, b"x"), "prompt: ExtType cannot be sent"),
        (msgpack.Timestamp(1), "prompt: Timestamp cannot be sent"),
        (1j, "prompt: complex cannot be sent"),
    ],
)
def test_what_the_wire_cannot_carry_is_refused_by_name(value: Any, names: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"^{names}"):
        Connection().pack_request("complete", {"prompt": value})


def test_endless_nesting_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(LocalProtocolError, match="nested deeper than 100 levels"):
        Connection().pack_request("complete", {"prompt": endless})


@unhurried
@given(st.recursive(plain | st.just(Colour.RED) | st.booleans(), lambda inner: st.tuples(inner, inner), max_leaves=5))
def test_what_is_sent_is_always_taken(value: Any) -> None:
    """Tuples, string enumerations and whatever else `pack` lets through arrive as plain data."""
    (event,) = Connection().receive_data(pack([1, 1, None, value]))
    assert isinstance(event, Response)
    assert pack([1, 1, None, event.result]) == pack([1, 1, None, value])


def test_two_connections_back_to_back() -> None:
    host, daemon = Connection(), Connection()
    msgid, question = host.pack_request("complete", {"prompt": "hi"})
    other, back = daemon.pack_request("host.tool", {"name": "t"})  # ids of the two directions are independent
    assert msgid == other == 1
    (asked,) = daemon.receive_data(question)
    (called,) = host.receive_data(back)
    assert (asked, called) == (
        Request(1, "complete", [{"prompt": "hi"}], b"\xa8complete\x91\x81\xa6prompt\xa2hi"),
        Request(1, "host.tool", [{"name": "t"}], b"\xa9host.tool\x91\x81\xa4name\xa1t"),
    )
    replies = daemon.pack_notification("delta", {"index": 0}) + daemon.pack_result(1, {"text": "ho"})
    assert host.receive_data(replies) == [Notification("delta", [{"index": 0}]), Response(1, None, {"text": "ho"})]
    assert daemon.receive_data(host.pack_error(1, [0, "unknown_method: no"])) == [
        Response(1, [0, "unknown_method: no"], None)
    ]
    assert daemon.receive_data(host.pack_notification("cancel", ["a", 1])) == [Notification("cancel", ["a", 1])]


def test_request_ids_stay_within_31_bits() -> None:
    connection = Connection()
    connection._next_msgid = 2**31 - 2
    assert [connection.pack_request("ping", {})[0] for _ in range(3)] == [2**31 - 1, 0, 1]
