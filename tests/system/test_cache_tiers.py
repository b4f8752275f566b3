"""What the cache does for host processes, through a daemon: stale answers, samples, streams from the cache and shared ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from processes import daemon

import aiorch
from aiorchsim.process import Simulator, start_simulator

LONG = "Repeat this: " + "a few words that come in pieces, " * 12


@asynccontextmanager
async def a_host(
    folder: Path, cache: str, *, latency_s: float = 0.0
) -> AsyncIterator[tuple[aiorch.AsyncClient, Simulator]]:
    with start_simulator(f"[[models]]\nlatency_s = {latency_s}\n") as simulator:
        text = f"""
            [providers.main]
            dialect = "openai"
            base_url = "{simulator.base_url}"
            [[models]]
            name = "small"
            provider = "main"
            [cache]
            {cache}
        """
        with daemon(folder, text) as running:
            async with aiorch.AsyncClient(running.socket) as client:
                yield client, simulator
            assert running.stop() == 0, running.said()


def asked(simulator: Simulator) -> int:
    return int(simulator.stats()["calls"]["answered"])


async def test_a_stale_answer_is_given_at_once_and_refreshed_behind_it(tmp_path: Path) -> None:
    async with a_host(tmp_path, "ttl_s = 0.3\nstale_s = 60", latency_s=0.2) as (client, simulator):
        first = await client.complete("What is 1+1?")
        await trio.sleep(0.35)
        stale = await client.complete("What is 1+1?")
        assert (stale.text, stale.cache, stale.cost_usd) == (first.text, "stale", 0.0)
        assert stale.timing.total_s < 0.15
        story = await client.explain(stale.id)
        assert story["source"]["id"] == first.id
        assert "out of date" in str(story["story"]["notes"])
        with trio.fail_after(5):
            while asked(simulator) < 2:
                await trio.sleep(0.02)
            while (fresh := await client.complete("What is 1+1?", cache="only")).cache != "exact":
                await trio.sleep(0.02)
        assert (await client.explain(fresh.id))["source"]["id"] not in (first.id, stale.id)
        rows = await client.stats()
        assert rows["saved_calls"]["stale"] >= 1


async def test_samples_are_drawn_and_then_given(tmp_path: Path) -> None:
    async with a_host(tmp_path, "") as (client, simulator):
        replies = [await client.complete("What is 1+1?", temperature=0.8, cache_samples=3) for _ in range(12)]
        assert [reply.cache for reply in replies] == ["miss"] * 3 + ["exact"] * 9
        assert asked(simulator) == 3
        assert (await client.complete("What is 1+1?", temperature=0.8)).cache == "miss"


async def test_a_stream_and_a_plain_call_share_an_answer_and_a_hit_is_a_stream(tmp_path: Path) -> None:
    async with a_host(tmp_path, "") as (client, simulator):
        stream = client.stream(LONG)
        whole = "".join([piece async for piece in stream])
        plain = await client.complete(LONG)
        again = client.stream(LONG)
        pieces = [piece async for piece in again]
        assert "".join(pieces) == whole == plain.text
        assert len(pieces) > 3
        assert (plain.cache, again.reply.cache) == ("exact", "exact")
        assert again.reply.raw["usage"] == stream.reply.raw["usage"] is not None
        assert asked(simulator) == 1


async def test_hundreds_of_equal_streams_and_calls_at_once_are_one_provider_call(tmp_path: Path) -> None:
    texts: list[str] = []
    async with a_host(tmp_path, "", latency_s=0.5) as (client, simulator):

        async def stream() -> None:
            texts.append("".join([piece async for piece in client.stream(LONG)]))

        async def plain() -> None:
            texts.append((await client.complete(LONG)).text)

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(stream if number % 2 else plain)
        assert len(texts) == 200
        assert len(set(texts)) == 1
        assert asked(simulator) == 1


async def test_one_method_forgets_by_call_tag_and_operation_at_every_depth(tmp_path: Path) -> None:
    more = '\n[cache.semantic]\nenabled = true\n[operations.greet]\nsystem = "Greet."\nsemantic = true\n'
    async with a_host(tmp_path, more) as (client, simulator):
        with trio.fail_after(30):
            while (await client.status())["semantic"]["why"] == "still loading":
                await trio.sleep(0.02)

        async def kept() -> int:
            return int((await client.status())["semantic"]["entries"])

        first = await client.complete("tell me my balance")
        await client.complete("how is the weather", tags=("t",))
        await client.complete(operation="greet", input="good morning to you")
        assert await kept() == 3
        hit = await client.complete("tell me my balance")
        assert hit.cache == "exact"
        assert await client.cache_forget(request_id=hit.id) == 1, "by a hit, too"
        assert await client.cache_forget(request_id=first.id) == 0
        assert await kept() == 2
        assert await client.cache_forget(tag="t") == 1
        assert await kept() == 1
        assert await client.cache_forget(operation="greet") == 1
        assert await kept() == 0
        again = [
            await client.complete("tell me my balance"),
            await client.complete("how is the weather"),
            await client.complete(operation="greet", input="good morning to you"),
        ]
        assert [reply.cache for reply in again] == ["miss"] * 3
        assert asked(simulator) == 6
