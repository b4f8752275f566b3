"""What the semantic cache knows: nothing before it loads, never across scopes, forgotten when told, and kept over a restart."""

from __future__ import annotations

import random
import threading
from array import array
from collections.abc import Sequence
from typing import Any

import pytest
import trio

from aiorchd.calls.ports import SemanticEntry
from aiorchd.config.schema import SemanticCache
from aiorchd.core.semantic_model import FEATURES, Weights
from aiorchd.likeness.arrays import open_arrays
from aiorchd.runtime.semantic_memory import SemanticMemory

SURE = Weights((0.0,) * FEATURES, (1.0,) * FEATURES, (0.0,) * FEATURES, 10.0)


class Rows:
    """The disk, as a dict."""

    def __init__(self) -> None:
        self.entries: dict[bytes, SemanticEntry] = {}
        self.state: bytes | None = None
        self.counts: dict[bytes, tuple[int, int]] = {}

    async def load_state(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self.state

    async def load(self, after: int) -> tuple[Sequence[SemanticEntry], int | None]:
        """Two at a time."""
        await trio.lowlevel.checkpoint()
        found = list(self.entries.values())[after : after + 2]
        return found, after + 2 if len(found) == 2 else None

    def put(self, entry: SemanticEntry) -> None:
        self.entries[entry.key] = entry

    def delete(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self.entries.pop(key, None)

    def recount(self, key: bytes, right: int, wrong: int) -> None:
        self.counts[key] = right, wrong

    def keep_state(self, state: bytes) -> None:
        self.state = state


class Told:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, event: str, /, **fields: Any) -> None:
        self.lines.append(event)

    info = warning


class SureArrays:
    """The real vectors, and a fit that is always sure."""

    def __init__(self, arrays: Any) -> None:
        self._arrays = arrays

    def __getattr__(self, name: str) -> Any:
        return getattr(self._arrays, name)

    def fit(self, rows: Any, labels: Any) -> Weights:
        return SURE


@pytest.fixture(scope="module")
def arrays() -> SureArrays:
    return SureArrays(open_arrays())


def memory_of(arrays: Any, rows: Rows | None = None, log: Told | None = None, **section: Any) -> SemanticMemory:
    return SemanticMemory(
        SemanticCache(**{"enabled": True, "min_checks": 20, "shadow_share": 0.05, **section}),
        open_arrays=lambda bundled: arrays,
        store=rows,
        chance=random.Random(1).random,
        log=log or Told(),
    )


async def loaded(nursery: trio.Nursery, memory: SemanticMemory) -> None:
    nursery.start_soon(memory.run)
    while not memory.ready:
        await trio.sleep(0.01)


async def think(memory: SemanticMemory, scope: bytes, text: str) -> Any:
    vector = memory.vector(text)
    return None if vector is None else await memory.think(scope, text, vector)


async def put(
    memory: SemanticMemory, text: str, *, key: bytes = b"k", scope: bytes = b"s", uid: int = 1, mark: bytes = b"m"
):
    thought = await think(memory, scope, text)
    assert thought is not None
    memory.keep(thought, key=key, mark=mark, source_id=f"call {key!r}", uid=uid)


async def prove(memory: SemanticMemory) -> None:
    """Let it learn from as many right pairs as it needs, and be sure."""
    await put(memory, "what is my account balance", key=b"first")
    for _ in range(200):
        thought = await think(memory, b"s", "please tell me what my account balance is")
        assert thought is not None and not thought.serve
        memory.learn(thought, right=True)
    for _ in range(50):
        thought = await think(memory, b"s", "please tell me what my account balance is")
        assert thought is not None
        if thought.would_hit and not thought.serve:
            memory.learn(thought, right=True)
        await trio.sleep(0.01)


async def test_it_is_off_until_it_has_proved_itself_then_gives_answers_in_its_scope_only(arrays) -> None:
    memory = memory_of(arrays)
    assert await think(memory, b"s", "what is my balance") is None  # nothing is loaded
    assert memory.statistics().why == "still loading"
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        assert "still learning" in memory.statistics().why
        await prove(memory)
        told = memory.statistics()
        assert told.active and told.error_rate == 0.0 and told.checked >= 20
        served = [await think(memory, b"s", "tell me my account balance") for _ in range(40)]
        assert sum(thought.serve for thought in served) > 30  # all but the shadow's share
        assert (await think(memory, b"other scope", "what is my account balance")).nearest is None
        vetoed = await think(memory, b"s", "what is not my account balance")
        assert vetoed.veto is not None and not vetoed.serve
        nursery.cancel_scope.cancel()


async def test_that_nothing_is_sure_enough_any_more_is_told(arrays) -> None:
    memory = memory_of(arrays)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        await prove(memory)
        memory._model.fitted(Weights(SURE.mean, SURE.scale, SURE.weights, -10.0))  # as if all had turned out wrong
        for number in range(500):
            assert memory.statistics().active, number
            assert not (await think(memory, b"s", "tell me my account balance")).would_hit
        told = memory.statistics()
        assert not told.active
        assert "nothing was sure enough in the last 500 looks" in told.why
        memory._model.fitted(SURE)
        assert (await think(memory, b"s", "tell me my account balance")).would_hit
        assert memory.statistics().active
        nursery.cancel_scope.cancel()


async def test_wrong_ones_are_deleted_and_shut_it_off(arrays) -> None:
    log = Told()
    memory = memory_of(arrays, log=log, target_error_rate=0.02)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        await prove(memory)
        gone = 0
        for number in range(60):
            await put(memory, "what is my account balance", key=b"again")
            thought = await think(memory, b"s", "tell me my account balance")
            if thought.serve:
                memory.served(f"c{number}", 1, thought, b"asked")
                assert not memory.judge(f"c{number}", 2, right=False)  # not his
                assert memory.judge(f"c{number}", 1, right=False)
                assert not memory.judge(f"c{number}", 1, right=False)  # once
                assert not memory.holds(thought.nearest)
                gone += 1
        told = memory.statistics()
        assert (told.active, told.shut_off, told.marked_wrong) == (False, 1, gone)
        assert any("wrong too often" in line for line in log.lines)
        nursery.cancel_scope.cancel()


async def test_who_got_a_wrong_answer_asks_for_himself_until_he_has_his_own(arrays) -> None:
    memory = memory_of(arrays, target_error_rate=0.2)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        await prove(memory)
        await put(memory, "what is my account balance today", key=b"another with the same answer")
        asked = "tell me my account balance"
        for call_id, right in (("praised", True), ("blamed", False)):
            thought = await think(memory, b"s", asked)
            memory.served(call_id, 1, thought, call_id.encode())
            assert not memory.misled(call_id.encode())
            assert memory.judge(call_id, 1, right=right)
            assert memory.misled(call_id.encode()) is not right
        near = await think(memory, b"s", asked)  # still there, and to be given to others
        assert near.would_hit
        memory.keep(near, key=b"blamed", mark=b"the right one", source_id="c", uid=1)
        assert not memory.misled(b"blamed")
        nursery.cancel_scope.cancel()


async def test_what_was_learned_is_on_disk_within_seconds_though_nothing_more_comes(
    arrays, autojump_clock: trio.testing.MockClock
) -> None:
    rows = Rows()
    memory = memory_of(arrays, rows)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        await put(memory, "what is my account balance", key=b"first")
        for _ in range(150):
            memory.learn(await think(memory, b"s", "please tell me what my account balance is"), right=True)
            await trio.sleep(0.01)
        await trio.sleep(16)
        reborn = memory_of(arrays, rows)  # as after a crash: the first one has not ended
        await loaded(nursery, reborn)
        assert reborn.statistics().labels == 150
        nursery.cancel_scope.cancel()


async def test_a_crash_does_not_bring_back_what_was_shut_off(arrays) -> None:
    rows = Rows()
    memory = memory_of(arrays, rows, target_error_rate=0.02)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        await prove(memory)
        while memory.statistics().active:
            await put(memory, "what is my account balance", key=b"again")
            thought = await think(memory, b"s", "tell me my account balance")
            if thought.serve:
                memory.served("c", 1, thought, b"asked")
                memory.judge("c", 1, right=False)
        await trio.sleep(0.05)
        reborn = memory_of(arrays, rows, target_error_rate=0.02)
        await loaded(nursery, reborn)
        told = reborn.statistics()
        assert not told.active and told.labels == memory.statistics().labels
        nursery.cancel_scope.cancel()


async def test_forgetting_is_by_user_and_source(arrays) -> None:
    rows = Rows()
    memory = memory_of(arrays, rows)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        await put(memory, "what is my balance", key=b"a", uid=1)
        await put(memory, "how is the weather", key=b"b", uid=2)
        assert await memory.forget(uid=2, source_id="call b'a'") == 0
        assert await memory.forget(uid=1, source_id="call b'a'") == 1
        assert list(rows.entries) == [b"b"]
        await put(memory, "how is my balance", key=b"c", uid=1)
        assert await memory.forget_answers([b"c", b"never there"]) == 1
        assert list(rows.entries) == [b"b"]
        assert await memory.forget(uid=None, source_id=None, everything=True) == 1
        assert memory.statistics().entries == memory.statistics().scopes == 0
        nursery.cancel_scope.cancel()


async def test_the_oldest_go_first(arrays) -> None:
    memory = memory_of(arrays, max_entries=3)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        for number, text in enumerate(("red apples", "green pears", "blue plums", "white grapes")):
            await put(memory, text, key=bytes([number]))
        assert memory.statistics().entries == 3
        assert (await think(memory, b"s", "red apples")).likeness < 0.99
        assert (await think(memory, b"s", "white grapes")).likeness > 0.99
        nursery.cancel_scope.cancel()


async def test_what_was_learned_survives_a_restart(arrays) -> None:
    rows = Rows()
    memory = memory_of(arrays, rows)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        await prove(memory)
        before = memory.statistics()
        nursery.cancel_scope.cancel()
    assert rows.state is not None
    again = memory_of(arrays, rows)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, again)
        with trio.fail_after(30):
            while not again.statistics().active:
                await trio.sleep(0.01)
        after = again.statistics()
        assert (after.entries, after.labels, after.checked) == (before.entries, before.labels, before.checked)
        nursery.cancel_scope.cancel()


async def test_rows_that_make_no_sense_are_passed_over(arrays) -> None:
    rows, log = Rows(), Told()
    rows.put(SemanticEntry(b"x", b"s", b"short", b"not a sketch", b"m", "c", 1))
    rows.state = b"\xc1 nonsense"
    memory = memory_of(arrays, rows, log)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        assert memory.statistics().entries == 0
        nursery.cancel_scope.cancel()


async def test_what_is_not_installed_is_told_and_hurts_nobody() -> None:
    def missing(bundled: bool) -> Any:
        raise LookupError("numpy is not installed; install the extra")

    log = Told()
    memory = SemanticMemory(SemanticCache(enabled=True), open_arrays=missing, store=None, chance=random.random, log=log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.run)
        with trio.fail_after(30):
            while "not installed" not in memory.statistics().why:
                await trio.sleep(0.01)
        assert not memory.ready
        assert len(log.lines) == 1
        nursery.cancel_scope.cancel()


async def test_what_was_opened_before_it_runs_is_not_opened_again(arrays) -> None:
    opened: list[bool] = []

    def opener(bundled: bool) -> Any:
        opened.append(bundled)
        return arrays

    memory = SemanticMemory(
        SemanticCache(enabled=True), open_arrays=opener, store=Rows(), chance=random.random, log=Told()
    )
    await memory.open()
    assert opened == [True]
    assert not memory.ready  # what was kept is not there yet
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        assert opened == [True]
        # Another embedder is opened for; what was opened and is not wanted any more is not used.
        memory.reconfigure(SemanticCache(enabled=True, embedding_model="e"))
        with trio.fail_after(30):
            while not memory.ready:
                await trio.sleep(0.01)
        assert opened == [True, False]
        nursery.cancel_scope.cancel()
    early = SemanticMemory(
        SemanticCache(enabled=True), open_arrays=opener, store=Rows(), chance=random.random, log=Told()
    )
    await early.open()
    early.reconfigure(SemanticCache(enabled=True, embedding_model="e"))
    async with trio.open_nursery() as nursery:
        await loaded(nursery, early)
        nursery.cancel_scope.cancel()
    assert opened == [True, False, True, False]


async def test_who_opens_and_who_runs_at_once_open_once(arrays) -> None:
    opened: list[bool] = []
    may_end = threading.Event()

    def opener(bundled: bool) -> Any:
        opened.append(bundled)
        may_end.wait()
        return arrays

    memory = SemanticMemory(
        SemanticCache(enabled=True), open_arrays=opener, store=Rows(), chance=random.random, log=Told()
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.run)
        nursery.start_soon(memory.open)
        await trio.testing.wait_all_tasks_blocked(0.01)
        may_end.set()
        with trio.fail_after(30):
            while not memory.ready:
                await trio.sleep(0.01)
        assert opened == [True]
        nursery.cancel_scope.cancel()


async def test_nothing_is_opened_while_it_is_off_and_what_is_missing_is_told_once() -> None:
    tried: list[bool] = []

    def missing(bundled: bool) -> Any:
        tried.append(bundled)
        raise LookupError("numpy is not installed; install the extra")

    log = Told()
    for enabled, attempts in ((False, 0), (True, 1)):
        memory = SemanticMemory(
            SemanticCache(enabled=enabled), open_arrays=missing, store=None, chance=random.random, log=log
        )
        await memory.open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(memory.run)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        assert len(tried) == len(log.lines) == attempts
        assert ("not installed" in memory.statistics().why) == enabled


async def test_switching_it_on_and_off_is_live(arrays) -> None:
    memory = memory_of(arrays, enabled=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.run)
        await trio.testing.wait_all_tasks_blocked()
        assert not memory.ready
        memory.reconfigure(SemanticCache(enabled=True))
        with trio.fail_after(30):
            while not memory.ready:
                await trio.sleep(0.01)
        memory.reconfigure(SemanticCache(enabled=False))
        assert not memory.ready
        assert await think(memory, b"s", "what is my balance") is None
        nursery.cancel_scope.cancel()


def unit_vector(dimensions: int, place: int) -> bytes:
    values = [0.0] * dimensions
    values[place] = 1.0
    return array("f", values).tobytes()


async def test_another_embedder_begins_anew(arrays) -> None:
    rows = Rows()
    memory = memory_of(arrays, rows)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        await prove(memory)
        memory.reconfigure(SemanticCache(enabled=True, embedding_model="maker"))
        with trio.fail_after(30):
            while not memory.ready:
                await trio.sleep(0.01)
        told = memory.statistics()
        assert (told.embedder, told.labels, told.checked, told.active) == ("maker", 0, 0, False)
        nursery.cancel_scope.cancel()
    # What was learned with one is not taken up by the other, after a restart either.
    again = memory_of(arrays, rows)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, again)
        assert again.statistics().labels == 0
        nursery.cancel_scope.cancel()


async def test_a_model_that_gives_other_lengths_begins_anew(arrays) -> None:
    memory = memory_of(arrays, embedding_model="maker")
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        for key, dimensions in ((b"a", 8), (b"b", 8), (b"c", 12)):
            thought = await memory.think(b"s", f"question {key.hex()}", unit_vector(dimensions, key[0] % 8))
            assert thought is not None and (thought.nearest is None)
            memory.keep(thought, key=key, mark=b"m", source_id="c", uid=1)
        assert memory.statistics().entries == 1
        found = await memory.think(b"s", "question 63", unit_vector(12, b"c"[0] % 8))
        assert found is not None and found.nearest is not None and found.nearest.key == b"c"
        nursery.cancel_scope.cancel()


async def test_a_smaller_bound_takes_the_oldest_in_slices(arrays) -> None:
    rows = Rows()
    memory = memory_of(arrays, rows)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        for number in range(260):
            await put(memory, f"question {number}", key=number.to_bytes(2))
        memory.reconfigure(SemanticCache(enabled=True, max_entries=10))
        with trio.fail_after(30):
            while memory.statistics().entries > 10:
                await trio.sleep(0.01)
        assert list(rows.entries) == [number.to_bytes(2) for number in range(250, 260)]
        assert await memory.forget(uid=None, source_id=None, everything=True) == 10
        nursery.cancel_scope.cancel()


async def test_another_embedder_while_rows_are_loaded_begins_again(arrays) -> None:
    rows = Rows()
    memory = memory_of(arrays, rows)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        for number in range(5):
            await put(memory, f"question of the letter {chr(97 + number)}", key=b"key %d" % number)
        nursery.cancel_scope.cancel()
    later = memory_of(arrays, rows)
    load = rows.load

    async def changed_meanwhile(after: int) -> tuple[Sequence[SemanticEntry], int | None]:
        found = await load(after)
        if after == 2 and later.statistics().embedder is None:
            later.reconfigure(SemanticCache(enabled=True, embedding_model="e"))
        return found

    rows.load = changed_meanwhile  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        with trio.fail_after(30):
            await loaded(nursery, later)
        assert later.statistics().embedder == "e"
        assert later.statistics().entries == 5
        nursery.cancel_scope.cancel()


async def test_what_another_embedder_needs_is_not_missed(arrays) -> None:
    may_end = threading.Event()
    opened: list[bool] = []

    def opener(bundled: bool) -> Any:
        opened.append(bundled)
        if bundled:
            may_end.wait()
            raise LookupError("the package wordllama is not installed")
        return arrays

    log = Told()
    memory = SemanticMemory(
        SemanticCache(enabled=True), open_arrays=opener, store=Rows(), chance=random.random, log=log
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.run)
        nursery.start_soon(memory.open)
        await trio.testing.wait_all_tasks_blocked(0.01)
        memory.reconfigure(SemanticCache(enabled=True, embedding_model="e"))
        may_end.set()
        with trio.fail_after(10):
            while not memory.ready:
                await trio.sleep(0.01)
        assert opened == [True, False]
        assert log.lines == ["the semantic cache is loaded"]
        nursery.cancel_scope.cancel()


async def test_a_fit_that_ends_after_another_embedder_was_wanted_is_not_used(arrays) -> None:
    fitting, may_end = threading.Event(), threading.Event()

    class Slow(SureArrays):
        def fit(self, rows: Any, labels: Any) -> Weights:
            fitting.set()
            may_end.wait()
            return SURE

    memory = memory_of(Slow(arrays))
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        await put(memory, "what is my account balance", key=b"first")
        thought = await think(memory, b"s", "please tell me what my account balance is")
        for _ in range(200):
            memory.learn(thought, right=True)
        with trio.fail_after(10):
            while not fitting.is_set():
                await trio.sleep(0.01)
            memory.reconfigure(SemanticCache(enabled=True, embedding_model="e"))
            may_end.set()
            while not memory.ready:
                await trio.sleep(0.01)
        assert "still learning: 0 of 200" in memory.statistics().why
        nursery.cancel_scope.cancel()


async def test_nothing_is_learned_from_what_was_looked_at_with_another_embedder(arrays) -> None:
    memory = memory_of(arrays)
    async with trio.open_nursery() as nursery:
        await loaded(nursery, memory)
        await prove(memory)
        thought = await think(memory, b"s", "please tell me what my account balance is")
        assert thought.would_hit
        memory.reconfigure(SemanticCache(enabled=True, embedding_model="maker"))
        memory.learn(thought, right=True)
        told = memory.statistics()
        assert (told.labels, told.checked) == (0, 0)
        nursery.cancel_scope.cancel()
