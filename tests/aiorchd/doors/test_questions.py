"""From a request to a packed reply: where a stored answer is looked for, and what the reply holds."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest
import trio
from harness import a_call, a_caller, a_reply

from aiorch.errors import LocalProtocolError
from aiorchd.calls.answer import fixed_fields, own_fields, packed_for, to_body
from aiorchd.calls.leash import Leash
from aiorchd.calls.question import Prepared, Question
from aiorchd.calls.reply import Reply
from aiorchd.doors.method import Asked, Packed
from aiorchd.doors.questions import Questions
from aiorchd.doors.recall import LATER
from aiorchd.runtime.host_models import HostModels


class House:
    """The pipeline in force, played by hand. ``on_disk`` is what is there, ``at_once`` whether it may be read at once."""

    def __init__(self, on_disk: bytes | None = None, *, at_once: bool = True) -> None:
        self.on_disk = on_disk
        self.at_once = at_once
        self.told: list[str] = []
        self.questions = Questions(SimpleNamespace(current=self, lease=lambda: nullcontext(self)), HostModels())  # type: ignore[arg-type]

    def prepare(self, _: Any, question: Question) -> Prepared:
        self.told.append("prepare")
        return Prepared(question=question, key=b"key", owner=self, quick=True)

    def may_fetch(self, _: Prepared) -> bool:
        self.told.append("may_fetch")
        return self.on_disk is not None

    def read_hit(self, *_: Any) -> bytes | None:
        return self.on_disk if self.at_once else None

    async def fetch_hit(self, *_: Any) -> bytes | None:
        self.told.append("fetch_hit")
        return self.on_disk

    def open_call(self, *_: Any) -> Any:
        return a_call(id="c1")

    async def answer(self, _: Any) -> Reply:
        self.told.append("answer")
        return a_reply()

    def prepared(self) -> Prepared:
        return Prepared(question=Question(kind="chat", request={"messages": []}), key=b"key", owner=self, quick=True)

    async def ask(self, prepared: object, *, stored: bool) -> Any:
        session: Any = SimpleNamespace(caller=a_caller())
        asked = Asked(session, 1, [{"prompt": "hi"}], trio.current_time(), prepared, Leash(), stored)
        packed = await self.questions.complete(asked)
        assert type(packed) is Packed
        return msgpack.unpackb(packed.body)


def test_what_is_on_disk_is_given_at_once_or_later_or_is_not_looked_for() -> None:
    for house, found in (
        (House(b"found"), b"found"),
        (House(b"found", at_once=False), LATER),
        (House(), None),
    ):
        assert house.questions.recall_stored(a_caller(), house.prepared(), 0.0) == found
    of_another = House().prepared()
    assert House(b"found").questions.recall_stored(a_caller(), of_another, 0.0) is None
    assert House(b"found").questions.recall_stored(a_caller(), None, 0.0) is None


async def test_the_disk_is_asked_once() -> None:
    house = House(msgpack.packb("found"), at_once=False)
    assert await house.ask(house.prepared(), stored=True) == "found"
    assert house.told == ["fetch_hit"]
    house = House()
    assert (await house.ask(house.prepared(), stored=False))["text"] == "Eight."
    assert house.told == ["answer"]


async def test_for_what_was_prepared_by_nobody_or_by_an_earlier_generation_it_is_asked_anew() -> None:
    for prepared in (None, House().prepared()):
        house = House(msgpack.packb("found"))
        assert await house.ask(prepared, stored=False) == "found"
        assert house.told == ["prepare", "may_fetch", "fetch_hit"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"data": {"n": 1}, "validation": {"valid": True}},
        {"extra": {"n": [None, 2**63 - 1]}, "tool_calls": ({"id": "x"},), "cost_usd": None},
        {"cache": "exact", "usage": None, "model": ""},
    ],
)
def test_a_reply_is_packed_with_all_that_it_says(fields: Any) -> None:
    reply = a_reply(queue_s=0.25, provider_s=0.5, **fields)
    timing = {"queue_s": 0.25, "provider_s": 0.5, "overhead_s": 0.25, "total_s": 1.0}
    expected = {**fixed_fields(reply), **own_fields(reply), "id": "c1", "timing": timing}
    assert msgpack.unpackb(packed_for(reply, "c1", 1.0)) == expected


@pytest.mark.parametrize(
    "odd", [{"data": {"n": 2**64}}, {"data": ["\ud800"]}, {"text": "\ud800"}, {"extra": {"n": 2**64}}]
)
def test_what_no_wire_carries_is_said_to_be_so(odd: Any) -> None:
    with pytest.raises(LocalProtocolError, match=next(iter(odd))):
        packed_for(a_reply(**odd), "c1", 1.0)


def test_a_body_keeps_halves_of_characters() -> None:
    _, fields = msgpack.unpackb(to_body(a_reply(text="a\ud800")), unicode_errors="surrogatepass")
    assert fields["text"] == "a\ud800"
