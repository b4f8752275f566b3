"""Nobody is given what belongs to somebody else, at no depth: whoever asks what, in which order, at once or one after the other."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest
import trio
from harness import RecordedSink, a_caller, a_reply
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from played_house import CONFIG, Disk, House, Played, Told

from aiorchd.calls.call import Attempt
from aiorchd.calls.ports import SemanticEntry
from aiorchd.calls.question import Question
from aiorchd.calls.reply import Reply
from aiorchd.config.operations import Material
from aiorchd.config.schema import Operation, SemanticCache
from aiorchd.core.semantic_model import FEATURES, Proof, SemanticModel, Weights
from aiorchd.likeness.arrays import open_arrays
from aiorchd.pipeline.lasting import lasting_state
from aiorchd.pipeline.order import open_pipeline
from aiorchd.pipeline.plan import Plan
from aiorchd.runtime.semantic_memory import STATE_VERSION

OPERATIONS = {
    "mine": Operation(system="Mine.", semantic=True),
    "all": Operation(system="All.", semantic=True, shared=True),
}
TEXTS = ("tell me my balance", "please tell me my balance", "tell me what my balance is")


class Echo(Played):
    """Says whose question it answers."""

    async def chat(self, attempt: Attempt) -> Reply:
        call = attempt.call
        await trio.sleep(0.001)
        if call.sink is not None:
            await call.sink.send(text="piece")
        return a_reply(f"{call.caller.uid}|{call.partition}|{call.operation}")


class SureArrays:
    """Takes every question for the same, and is always sure."""

    def vector(self, text: str) -> bytes:
        return array("f", [1.0, 0.0, 0.0, 0.0]).tobytes()

    def fit(self, rows: Any, labels: Any) -> Weights:
        return Weights((0.0,) * FEATURES, (1.0,) * FEATURES, (0.0,) * FEATURES, 20.0)

    def nearest(self, dimensions: int) -> Any:
        return open_arrays(False).nearest(dimensions)


class Proved:
    """A disk that says it was proved long ago."""

    async def load_state(self) -> bytes:
        model, proof = SemanticModel(0.05), Proof(0.05, needed=150)
        for _ in range(500):
            model.learn((0.0,) * FEATURES, right=True)
            proof.check(right=True)
        packed: bytes = msgpack.packb([STATE_VERSION, *model.state(), *proof.state(), ""])
        return packed

    async def load(self, after: int) -> tuple[Sequence[SemanticEntry], None]:
        return (), None

    def put(self, entry: SemanticEntry) -> None:
        pass

    def delete(self, keys: Sequence[bytes]) -> None:
        pass

    def recount(self, key: bytes, right: int, wrong: int) -> None:
        pass

    def keep_state(self, state: bytes) -> None:
        pass


steps = st.lists(
    st.tuples(
        st.sampled_from([1, 2]),
        st.sampled_from(["", "p"]),
        st.sampled_from([None, "mine", "all"]),
        st.sampled_from(TEXTS) | st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
        st.booleans(),
    ),
    min_size=4,
    max_size=24,
)
depths: Counter[str] = Counter()


async def ask_all(asked: Sequence[tuple[int, str, str | None, str, bool]], at_once: int) -> None:
    cache = replace(CONFIG.cache, semantic=SemanticCache(enabled=True, shadow_share=0.01, target_error_rate=0.05))
    config = replace(CONFIG, operations=OPERATIONS, cache=cache)
    disk, told = Disk(), Told()
    state = lasting_state(
        config,
        answers=disk,
        records=told,
        wall_clock=lambda: 1_000_000.0,
        rng=random.Random(1),
        semantic_store=Proved(),
        open_arrays=lambda bundled: SureArrays(),  # type: ignore[return-value,arg-type]
    )
    provider = Echo()
    plan = Plan(
        config=config,
        providers={"main": provider},
        addresses={"main": "openai http://x"},
        simulated=False,
        materials={name: Material() for name in OPERATIONS},
    )
    async with trio.open_nursery() as background:
        background.start_soon(state.semantic.run)
        with trio.fail_after(30):
            while not state.semantic.statistics().active:
                await trio.sleep(0.001)
        async with open_pipeline(plan, state) as pipeline:
            house = House(pipeline, provider, disk, told, state)

            async def one(uid: int, partition: str, operation: str | None, text: str, stream: bool) -> None:
                # With an operation the input is a map; what a time alone differs in is noise.
                given = {"text": "the same", "fetched_at": text} if "T" in text else text
                request = {"messages": [{"role": "user", "content": text}]} if operation is None else {}
                question = Question(
                    kind="chat",
                    request=request,
                    operation=operation,
                    input=None if operation is None else given,
                    partition=partition,
                    stream=stream,
                )
                caller = a_caller(uid)
                prepared = pipeline.prepare(caller, question)
                packed = pipeline.try_hit(caller, prepared, trio.current_time())
                if packed is None and len(text) % 2:
                    packed = pipeline.read_hit(caller, prepared, trio.current_time())
                elif packed is None:
                    packed = await pipeline.fetch_hit(caller, prepared, trio.current_time())
                if packed is None:
                    reply = await pipeline.answer(house.call(question, caller, RecordedSink() if stream else None))
                    found, said = reply.cache, reply.text
                else:
                    found, said = "exact", msgpack.unpackb(packed)["text"]
                depths[found] += 1
                whose, where, kind = said.split("|")
                assert (where, kind) == (partition, str(operation))
                assert operation == "all" or whose == str(uid)

            for start in range(0, len(asked), at_once):
                async with trio.open_nursery() as nursery:
                    for each in asked[start : start + at_once]:
                        nursery.start_soon(one, *each)
                if start % 3 == 0:
                    state.memory.clear()
        background.cancel_scope.cancel()


@example([(1, "", None, TEXTS[0], False)] * 4, 4)
@example([(1, "", "mine", f"2026-01-0{day}T00:00:00Z", False) for day in (1, 2)], 1)
@example([(1, "", None, TEXTS[0], False)] * 2, 1)
@example([(1, "", "mine", text, False) for text in TEXTS], 1)
@settings(max_examples=25, deadline=None)
@given(steps, st.integers(1, 6))
def test_no_partition_is_crossed_at_any_depth(
    asked: list[tuple[int, str, str | None, str, bool]], at_once: int
) -> None:
    trio.run(ask_all, asked, at_once)


def test_all_depths_were_met() -> None:
    if not depths:
        pytest.skip("the test before did not run")
    assert {"miss", "exact", "normalised", "semantic", "coalesced"} <= set(depths), depths
