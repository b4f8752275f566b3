"""Semantic: near answers are given and marked, everything else is asked, and each answer that comes is learned from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from harness import InnerService, RecordedSink, a_call, a_reply, ask, cancel_at_every_checkpoint

from aiorch.errors import ProviderError
from aiorchd.core.answer_likeness import answer_mark
from aiorchd.stages.semantic import Found, Semantic


@dataclass(eq=False)
class Entry:
    key: bytes = b"near"
    mark: bytes = field(default_factory=lambda: answer_mark("Eight.", None, ())[0])


@dataclass
class Thought:
    nearest: Entry | None = field(default_factory=Entry)
    row: Any = (0.0,)
    likeness: float = 0.95
    sureness: float | None = 0.99
    threshold: float = 0.98
    veto: str | None = None
    would_hit: bool = True
    serve: bool = True


class Memory:
    """What is known, played by hand."""

    def __init__(self, thought: Thought | None) -> None:
        self.thought = thought
        self.ready = True
        self.learned: list[bool] = []
        self.kept: list[bytes] = []
        self.given: list[str] = []
        self.dropped = 0
        self.may_serve: bool | None = None
        self.looked: list[bytes] = []
        self.misled_key = b""

    def vector(self, text: str) -> bytes | None:
        return b"vector"

    def unit(self, vector: bytes) -> bytes | None:
        return vector

    def blank(self, scope: bytes, text: str, vector: bytes) -> Thought:
        return Thought(nearest=None)

    async def think(self, scope: bytes, text: str, vector: bytes, *, may_serve: bool) -> Thought | None:
        self.looked.append(vector)
        self.may_serve = may_serve
        return self.thought

    def holds(self, entry: Any) -> bool:
        return not self.dropped

    def served(self, call_id: str, uid: int, thought: Any, key: bytes) -> None:
        self.given.append(call_id)

    def misled(self, key: bytes) -> bool:
        return key == self.misled_key

    def learn(self, thought: Any, *, right: bool) -> None:
        self.learned.append(right)

    def keep(self, thought: Any, *, key: bytes, mark: bytes, source_id: str, uid: int) -> None:
        self.kept.append(key)

    def drop(self, entry: Any) -> None:
        self.dropped += 1

    def likeness(self, one: bytes | None, other: bytes | None) -> float:
        return 0.99


def stage_of(inner: Any, memory: Memory, found: Found | None = None) -> Semantic:
    async def find(key: bytes) -> Found | None:
        await trio.lowlevel.checkpoint()
        return found

    return Semantic(inner, memory, scope_of=lambda call: (b"scope", "text"), find=find)


KEPT = Found(a_reply("Eight.", cache="exact", cost_usd=0.002), "source", 12.0)


async def test_a_near_answer_is_given_marked_and_explained() -> None:
    memory = Memory(Thought())
    call = a_call(key=b"k")
    reply = await stage_of(InnerService(), memory, KEPT)(call)
    assert (reply.text, reply.cache, reply.source_id, reply.saved_usd) == ("Eight.", "semantic", "source", 0.002)
    assert (reply.likeness, reply.confidence, reply.age_s) == (0.95, 0.99, 12.0)
    assert memory.given == [call.id]
    assert "source" in call.journal.notes[-1][2] and "0.950" in call.journal.notes[-1][2]


async def test_a_stream_is_replayed() -> None:
    sink = RecordedSink()
    reply = await stage_of(InnerService(), Memory(Thought()), KEPT)(a_call(key=b"k", sink=sink))
    assert sink.text == reply.text == "Eight."


@pytest.mark.parametrize(("answer", "right"), [("eight", True), ("Nine.", False)])
async def test_what_is_asked_all_the_same_is_compared_and_kept(answer: str, right: bool) -> None:
    memory, inner = Memory(Thought(serve=False)), InnerService()
    async with trio.open_nursery() as nursery:
        call = a_call(key=b"k")
        asked = ask(nursery, stage_of(inner, memory, KEPT), call)
        (await inner.next()).reply(text=answer)
        assert (await asked.reply()).cache == "miss"
    assert memory.learned == [right]
    assert call.journal.semantic_right is right
    assert memory.kept == [b"k"]


async def test_prose_is_compared_by_what_it_says() -> None:
    prose = "You can reset the password of your account on the settings page: open the menu, choose security, and press the button. A link arrives soon."
    memory, inner = Memory(Thought(serve=False)), InnerService()
    found = Found(a_reply(prose), "source", 1.0)
    async with trio.open_nursery() as nursery:
        call = a_call(key=b"k")
        asked = ask(nursery, stage_of(inner, memory, found), call)
        (await inner.next()).reply(text=prose.replace("press the button", "press that button"))
        await asked.reply()
    assert memory.learned == [True]
    assert call.journal.semantic_right is True


async def test_an_entry_whose_answer_is_gone_is_dropped_and_asked() -> None:
    memory, inner = Memory(Thought()), InnerService()
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, stage_of(inner, memory, None), a_call(key=b"k"))
        (await inner.next()).reply(text="Eight.")
        assert (await asked.reply()).cache == "miss"
    assert memory.dropped == 1


async def test_an_answer_that_is_older_than_the_call_allows_is_not_given() -> None:
    memory, inner = Memory(Thought()), InnerService()
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, stage_of(inner, memory, KEPT), a_call(key=b"k", cache_ttl_s=10.0))
        (await inner.next()).reply(text="Eight.")
        assert (await asked.reply()).cache == "miss"
    assert memory.given == []


@pytest.mark.parametrize("fields", [{"key": None}, {"key": b"k", "cache": "bypass"}, {"key": b"k", "samples": 3}])
async def test_what_is_not_looked_at(fields: dict[str, Any]) -> None:
    memory, inner = Memory(Thought()), InnerService()
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, stage_of(inner, memory, KEPT), a_call(**fields))
        (await inner.next()).reply(text="Nine.")
        assert (await asked.reply()).text == "Nine."
    assert (memory.learned, memory.kept, memory.may_serve) == ([], [], None)


async def test_a_refresh_learns_and_is_given_nothing() -> None:
    memory, inner = Memory(Thought(serve=False, would_hit=False)), InnerService()
    async with trio.open_nursery() as nursery:
        call = a_call(key=b"k", cache="refresh")
        asked = ask(nursery, stage_of(inner, memory, KEPT), call)
        (await inner.next()).reply(text="Eight.")
        await asked.reply()
    assert memory.may_serve is False
    assert memory.learned == [True]
    assert call.journal.semantic_right is None  # nothing would have been given


@pytest.mark.parametrize(("misled", "may_serve"), [(b"k", False), (b"another", True)])
async def test_a_question_that_was_answered_wrongly_asks_for_itself(misled: bytes, may_serve: bool) -> None:
    memory, inner = Memory(Thought(serve=False, would_hit=False)), InnerService()
    memory.misled_key = misled
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, stage_of(inner, memory, KEPT), a_call(key=b"k"))
        (await inner.next()).reply(text="Nine.")
        assert (await asked.reply()).text == "Nine."
    assert memory.may_serve is may_serve
    assert memory.kept == [b"k"]


@pytest.mark.parametrize(
    "fields",
    [
        {"finish_reason": "length"},
        {"finish_reason": "content_filter"},
        {"text": ""},
        {"cache": "coalesced"},
        {"validation": {"ok": False}},
    ],
)
async def test_answers_that_are_not_whole_or_not_paid_for_teach_nothing(fields: dict[str, Any]) -> None:
    memory, inner = Memory(Thought(serve=False)), InnerService()
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, stage_of(inner, memory, KEPT), a_call(key=b"k"))
        (await inner.next()).reply(**fields)
        await asked.reply()
    assert (memory.learned, memory.kept) == ([], [])


async def test_an_error_teaches_nothing() -> None:
    memory, inner = Memory(Thought(serve=False)), InnerService()
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, stage_of(inner, memory, KEPT), a_call(key=b"k"))
        (await inner.next()).fail(ProviderError("broken"))
        with pytest.raises(ProviderError):
            await asked.reply()
    assert (memory.learned, memory.kept) == ([], [])


# vectors from a model


@dataclass
class Asked:
    """Vectors that come after a while, if they come."""

    after_s: float = 0.0
    gives: bytes | None = b"from a model"
    texts: list[str] = field(default_factory=list)
    vector: bytes | None = None

    def begin(self, call: Any, text: str) -> Asked | None:
        self.texts.append(text)
        return self

    async def wait(self, limit_s: float) -> bytes | None:
        await trio.sleep(min(limit_s, self.after_s))
        if self.after_s <= limit_s:
            self.vector = self.gives
        return self.vector


def asking_stage(inner: Any, memory: Memory, asked: Any, nursery: trio.Nursery, found: Found | None = None) -> Semantic:
    async def find(key: bytes) -> Found | None:
        await trio.lowlevel.checkpoint()
        return found

    return Semantic(
        inner, memory, scope_of=lambda call: (b"scope", "text"), find=find, asked=asked, wait_s=0.3, nursery=nursery
    )


async def test_a_model_may_make_the_vector(autojump_clock: trio.testing.MockClock) -> None:
    memory, asked = Memory(Thought()), Asked(after_s=0.2)
    async with trio.open_nursery() as nursery:
        reply = await asking_stage(InnerService(), memory, asked, nursery, KEPT)(a_call(key=b"k"))
    assert (reply.cache, asked.texts, memory.looked) == ("semantic", ["text"], [b"from a model"])


@pytest.mark.parametrize("in_the_end", [True, False])
async def test_a_slow_model_holds_nobody_up_longer_than_the_bound(
    autojump_clock: trio.testing.MockClock, in_the_end: bool
) -> None:
    memory, asked, inner = Memory(Thought()), Asked(after_s=2.0), InnerService()
    async with trio.open_nursery() as nursery:
        stage = asking_stage(inner, memory, asked, nursery, KEPT)
        began = trio.current_time()
        call = a_call(key=b"k")
        waits = ask(nursery, stage, call)
        received = await inner.next()
        assert trio.current_time() - began == pytest.approx(0.3)
        asked.vector = b"late" if in_the_end else None
        received.reply(text="Eight.")
        assert (await waits.reply()).cache == "miss"
    assert stage.statistics().skipped == 1
    assert memory.looked == []
    assert memory.kept == ([b"k"] if in_the_end else [])
    assert "did not come in time" in call.journal.notes[-1][2]


async def test_who_is_turned_away_is_asked_plainly(autojump_clock: trio.testing.MockClock) -> None:
    class Full:
        def begin(self, call: Any, text: str) -> None:
            return None

    memory, inner = Memory(Thought()), InnerService()
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, asking_stage(inner, memory, Full(), nursery), a_call(key=b"k"))
        (await inner.next()).reply(text="Eight.")
        assert (await asked.reply()).cache == "miss"
    assert memory.kept == []


async def test_nobody_waits_for_what_a_model_says_of_two_answers(autojump_clock: trio.testing.MockClock) -> None:
    prose = "You can reset the password of your account on the settings page: open the menu, choose security, and press the button. A link arrives soon."
    memory, inner, asked = Memory(Thought(serve=False)), InnerService(), Asked(after_s=0.2)
    async with trio.open_nursery() as nursery:
        stage = asking_stage(inner, memory, asked, nursery, Found(a_reply(prose), "source", 1.0))
        waits = ask(nursery, stage, a_call(key=b"k"))
        (await inner.next()).reply(text=prose.replace("press the button", "press that button"))
        asked.after_s = 5.0
        before = trio.current_time()
        await waits.reply()
        assert trio.current_time() - before < 1.0
        assert memory.learned == []
    assert memory.learned == [True]
    assert len(asked.texts) == 3


async def test_cancelled_anywhere_it_holds_nothing() -> None:
    def scenario(nursery: trio.Nursery) -> tuple[Semantic, Any]:
        stage = stage_of(InnerService(), Memory(Thought()), KEPT)
        return stage, lambda: stage(a_call(key=b"k", sink=RecordedSink()))

    def idle(stage: Semantic) -> None:
        assert stage.statistics().busy == 0

    await cancel_at_every_checkpoint(scenario, idle, at_least=2)
