"""Live means live: every key that says so takes effect in a running daemon, and no call is dropped by it.

Each test names the keys it changes; the last one holds the names against the schema, so that a key which enters it as
live enters here, too.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import trio
from processes import ROOT, DaemonProcess, daemon

import aiorch
from aiorchd.config.key import fields_of
from aiorchd.config.schema import CallerTable, Config, Model, Operation, Provider, sections, top_keys
from aiorchsim.process import Simulator, start_simulator

PROFILE = """
[[models]]
name = "*"
latency_s = 0.02
[[models]]
name = "slow"
latency_s = 0.4
[[models]]
name = "slower"
latency_s = 3.0
[[models]]
name = "broken"
latency_s = 0.0
error_rate = 1.0
[[models]]
name = "overloaded"
latency_s = 0.0
fault = "error_529"
"""
SHOWN_ELSEWHERE = {
    # Given to each new connection together with daemon.max_frame_bytes; what they do: tests/system/test_hostile_peers.py.
    "daemon.max_pending_write_bytes",
    "daemon.write_stall_s",
    # Given to each generation's providers and stages together with their neighbours here; what they do is shown at these.
    "timeouts.connect_s",
    "timeouts.first_token_s",
    # One section, given to the one memory as a whole and read there at each use; that it is given is shown at its switch.
    "cache.semantic.shadow_share",
    "cache.semantic.min_checks",
    "cache.semantic.min_likeness",
    "cache.semantic.max_entries",
    "cache.semantic.max_characters",
    # Read with each generation: tests/aiorchd/test_semantic_scope.py.
    "operations.semantic",
    # One section, given to what is known of batches and read there at each use: tests/aiorchd/stages/test_batch.py.
    "batch.check_share",
    "batch.target_agreement",
    # tests/system/test_keys.py
    "providers.api_keys_env",
    "providers.api_keys_credential",
    "timeouts.idle_s",
    "retry.jitter",
    "validation.max_reasks",
    "providers.dialect",
    "providers.headers",
    "providers.http2",
    # What each makes of a request: tests/aiorchd/app/test_supply.py.
    "providers.authorisation",
    "providers.api_version",
    "providers.structured_output",
    "providers.prompt_cache",
    "providers.max_tokens_field",
    "providers.embedding_encoding",
    "models.cache_read_usd_per_1m",
    "models.cache_write_usd_per_1m",
    "models.cache_write_1h_usd_per_1m",
    "models.tier_above_tokens",
    "models.tier_cache_read_usd_per_1m",
    "models.tier_cache_write_usd_per_1m",
    "models.tier_input_usd_per_1m",
    "models.tier_output_usd_per_1m",
    # Given to the purse together with its neighbours; what days it makes: tests/aiorchd/core and tests/aiorchd/runtime.
    "budget.timezone",
    # Handed to the store together with cache.disk_max_entries.
    "cache.disk_max_bytes",
}
covered: set[str] = set()


def changes(*keys: str) -> Callable[[Any], Any]:
    """Say which keys a test changes in a running daemon."""
    covered.update(keys)
    return lambda test: test


class Host:
    """A daemon with its file, a simulated provider, and a client; the file is edited as tables."""

    def __init__(self, running: DaemonProcess, simulator: Simulator, client: aiorch.AsyncClient) -> None:
        self.running = running
        self.simulator = simulator
        self.client = client
        self.tables = copy.deepcopy(self.beginning(simulator))

    @staticmethod
    def beginning(simulator: Simulator) -> dict[str, Any]:
        return {
            "cache": {"strategy": "memory"},
            "retry": {"backoff_s": [0.0], "max_attempts": 1},
            "providers": {"main": {"base_url": simulator.base_url}},
            "models": [{"name": name, "provider": "main"} for name in ("fast", "slow", "broken")],
        }

    async def edit(self, section: str | None = None, /, **keys: Any) -> dict[str, Any]:
        """Change keys of a section (None: only write what ``tables`` says by now) and have the file read."""
        if section is not None:
            self.tables.setdefault(section, {}).update(keys)
        self.running.config.write_text(tomli_w.dumps(self.tables))
        verdict: dict[str, Any] = await self.client.config_reload()
        assert verdict["result"] in ("accepted", "unchanged"), verdict  # the watch may have been faster
        assert verdict["restart_needed"] == []
        return verdict

    async def edit_model(self, which: str, /, **keys: Any) -> None:
        [model] = [model for model in self.tables["models"] if model["name"] == which]
        model.update(keys)
        await self.edit()

    async def ask(self, number: int, model: str = "fast", **options: Any) -> aiorch.Reply:
        reply = await self.client.complete(f"What is {number} + {number}?", model=model, **options)
        assert reply.text == str(2 * number)
        return reply

    async def wait_for(self, count: Callable[[dict[str, int]], bool]) -> None:
        """Wait until the provider's counts are so."""
        await trio.to_thread.run_sync(lambda: self.simulator.wait_until(lambda stats: count(stats["calls"])))

    async def received(self) -> int:
        return await self._counted("received")

    async def abandoned(self) -> int:
        return await self._counted("abandoned")

    async def _counted(self, what: str) -> int:
        stats = await trio.to_thread.run_sync(self.simulator.stats)
        return int(stats["calls"][what])

    async def live(self, model: str) -> dict[str, Any]:
        listed = await self.client.models_list()
        found: dict[str, Any] = next(one["live"] for one in listed if one["name"] == model)
        return found

    async def wait_for_waiting(self, model: str, number: int) -> None:
        """Wait until so many calls wait for a model."""
        while (await self.live(model))["waiting"] < number:
            await trio.sleep(0.01)

    async def limits(self, model: str) -> dict[str, Any]:
        told = await self.client.call("limits")
        found: dict[str, Any] = next(one for one in told["targets"] if one["model"] == model)
        return found


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start_simulator(PROFILE) as running:
        yield running


@asynccontextmanager
async def a_host(folder: Path, simulator: Simulator, **environment: str) -> AsyncIterator[Host]:
    simulator.reset()
    config = tomli_w.dumps(Host.beginning(simulator))
    with daemon(folder, config, environment=environment) as running:
        async with aiorch.AsyncClient(running.socket, timeout_s=20.0) as client:
            with trio.fail_after(40):
                yield Host(running, simulator, client)


@changes("concurrency.max", "models.max_concurrency")
async def test_permits(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        await host.edit("concurrency", max=1, initial=10)
        async with trio.open_nursery() as nursery:
            for number in range(9):
                nursery.start_soon(host.ask, number, "slow")
            await host.wait_for(lambda calls: calls["in_flight"] == 1)
            await host.wait_for_waiting("slow", 6)
            assert (await trio.to_thread.run_sync(simulator.stats))["calls"]["most_in_flight"] == 1
            await host.edit("concurrency", max=4)
            await host.wait_for(lambda calls: calls["in_flight"] == 4)
            await host.edit_model("slow", max_concurrency=2)
            await host.wait_for(lambda calls: calls["answered"] >= 4)
            assert (await host.live("slow"))["in_use"] <= 2, "what ran over the new bound ended, and no more was begun"
            await host.edit_model("slow", max_concurrency=9)
        assert await host.received() == 9


@changes("concurrency.initial", "concurrency.min", "concurrency.algorithm")
async def test_how_permits_move(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        host.tables["models"] += [{"name": name, "provider": "main"} for name in ("slower", "overloaded")]
        await host.edit("breaker", enabled=False)

        async def permits_after_a_refusal(number: int) -> int:
            with pytest.raises(aiorch.RateLimited):
                await host.ask(number, "overloaded")
            return int((await host.limits("overloaded"))["permits"]["limit"])

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(host.ask, number, "slower")
            await host.wait_for(lambda calls: calls["in_flight"] == 3)
            await host.wait_for_waiting("slower", 5)
            await host.edit("concurrency", initial=6)
            await host.wait_for(lambda calls: calls["in_flight"] == 6)
            assert (await host.limits("slower"))["permits"]["changed_by"] == "configured"
            await host.edit("concurrency", max=8, algorithm="fixed")
            await host.wait_for(lambda calls: calls["in_flight"] == 8)
            assert await permits_after_a_refusal(20) == 8
            await host.edit("concurrency", algorithm="aimd")
            assert [await permits_after_a_refusal(30 + number) for number in range(6)] == [5, 3, 2, 1, 1, 1]
            await host.edit("concurrency", min=4)
            assert (await host.limits("overloaded"))["permits"]["limit"] == 4
            assert await permits_after_a_refusal(40) == 4
            nursery.cancel_scope.cancel()


RATES = ("requests_per_minute", "tokens_per_minute")


@changes("models.requests_per_minute", "models.tokens_per_minute")
@changes("providers.requests_per_minute", "providers.tokens_per_minute")
async def test_rates(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        places = (host.tables["models"][0], host.tables["providers"]["main"])
        for first, (place, key) in enumerate((place, key) for place in places for key in RATES):
            place[key] = 1
            await host.edit()
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(partial(host.ask, 10 * first + number, timeout_s=3000.0))
                await host.wait_for_waiting("fast", 2)
                began = trio.current_time()
                place[key] = 10_000_000
                await host.edit()
            assert trio.current_time() - began < 30, "at one a minute it would have been two minutes"
            del place[key]


ONE_QUOTA = """
[[models]]
name = "small"
latency_s = 0.0
requests_per_minute = 240
burst_s = 2.5
rate_limit_headers = "none"
"""


@changes("providers.account")
async def test_two_providers_with_one_account_keep_within_its_one_quota(tmp_path: Path) -> None:
    with start_simulator(ONE_QUOTA) as simulator:
        async with a_host(tmp_path, simulator) as host:
            both = {"main": {"base_url": simulator.base_url}, "second": {"base_url": simulator.base_url}}
            host.tables["models"] = [
                {"name": "one", "provider": "main", "id": "small", "requests_per_minute": 240},
                {"name": "two", "provider": "second", "id": "small"},
            ]
            host.tables["limits"] = {"burst_s": 2.0}
            await host.edit("providers", **both)

            async def ask(number: int) -> None:
                with contextlib.suppress(aiorch.RateLimited):
                    await host.ask(number, "one" if number % 2 else "two")

            async def refused(first: int) -> int:
                before = (await trio.to_thread.run_sync(simulator.stats))["calls"]
                async with trio.open_nursery() as nursery:
                    for number in range(first, first + 24):
                        nursery.start_soon(ask, number)
                after = (await trio.to_thread.run_sync(simulator.stats))["calls"]
                assert after["received"] - before["received"] == 24
                return int(after["rate_limited"] - before["rate_limited"])

            assert await refused(0) > 0, "nobody has said that they share a quota"
            for one in both.values():
                one["account"] = "ours"
            await host.edit("providers", **both)
            for model in ("one", "two"):
                owners = [account["owner"] for account in (await host.limits(model))["accounts"]]
                assert owners == ["model small of account ours"]
            await trio.sleep(2.5)  # what the simulator allows at once has come back
            assert await refused(1000) == 0
            both["second"]["requests_per_minute"] = 120
            await host.edit("providers", **both)
            for model in ("one", "two"):
                accounts = {one["owner"]: one["quotas"] for one in (await host.limits(model))["accounts"]}
                assert [quota["limit"] for quota in accounts["account ours"]] == [108.0]


@changes("models.requests_per_day", "models.tokens_per_day", "providers.requests_per_day", "providers.tokens_per_day")
@changes("limits.safety_margin")
async def test_days_and_the_margin(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        async def is_refused(number: int) -> bool:
            try:
                await host.ask(number)
            except aiorch.Overloaded as error:
                assert error.retry_after_s is not None
                assert error.retry_after_s > 3600
                return True
            return False

        places = (host.tables["models"][0], host.tables["providers"]["main"])
        keys = ("requests_per_day", "tokens_per_day")
        for first, (place, key) in enumerate((place, key) for place in places for key in keys):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(host.ask, 1000 + first, "slow")
                await host.wait_for(lambda calls: calls["in_flight"] == 1)
                place[key] = 1
                await host.edit()
            assert [await is_refused(10 * first + number) for number in range(3)] == [False, True, True]
            place[key] = 10_000_000
            await host.edit()
            assert not await is_refused(10 * first + 1)
            del place[key]
        await host.edit("limits", safety_margin=0.1)
        await host.edit_model("fast", requests_per_day=10)
        assert [await is_refused(100 + number) for number in range(3)] == [False, True, True]
        await host.edit("limits", safety_margin=0.2)
        assert [await is_refused(101 + number) for number in range(3)] == [False, True, True]


@changes("limits.burst_s")
async def test_how_much_may_go_at_once(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        async def level() -> float:
            account = (await host.limits("fast"))["accounts"][0]
            return float(account["quotas"][0]["level"])

        await host.edit("limits", burst_s=60.0, safety_margin=1.0)
        await host.edit_model("fast", requests_per_minute=10)
        for number in range(4):
            await host.ask(number)
        assert 6.0 <= await level() < 10.0
        assert host.running.said().count("429") == 0
        await host.edit("limits", burst_s=0.1)
        assert await level() == 1.0
        async with trio.open_nursery() as nursery:
            for number in range(10, 13):
                nursery.start_soon(partial(host.ask, number, timeout_s=3000.0))
            await host.wait_for_waiting("fast", 2)
            assert await host.received() <= 5, "one more may go, and then one every six seconds"
            await host.edit_model("fast", requests_per_minute=6000)
        assert await level() <= 10.0
        await host.edit("limits", burst_s=60.0)
        while await level() < 20.0:
            await trio.sleep(0.02)


@changes("queue.calls_per_second")
async def test_the_throttle_over_all_models(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        await host.edit("queue", calls_per_second=0.01)
        await host.ask(1)
        async with trio.open_nursery() as nursery:
            for number, model in enumerate(("fast", "slow")):
                nursery.start_soon(partial(host.ask, 2 + number, model, timeout_s=3000.0))
                await host.wait_for_waiting(model, 1)
            assert await host.received() == 1
            began = trio.current_time()
            del host.tables["queue"]["calls_per_second"]
            await host.edit()
        assert trio.current_time() - began < 30, "one after another it would have been more than three minutes"
        await host.ask(4)


async def order_of(
    host: Host, plug: int, waiting: int, begin: Callable[[trio.Nursery], None], **queue: Any
) -> list[str]:
    """Let so many calls wait for the model "fast", change keys of the queue, and tell in which order they were answered,
    each by its ``task``."""
    await host.edit_model("fast", requests_per_minute=1, max_concurrency=1)
    await host.edit("daemon", log_calls=True)
    await host.ask(plug)  # all that may go within a minute
    before = len(host.running.said())
    async with trio.open_nursery() as nursery:
        begin(nursery)
        await host.wait_for_waiting("fast", waiting)
        del host.tables["models"][0]["requests_per_minute"]
        await host.edit("queue", **queue)
    return re.findall(r"calls: answered .* task=(\S+)", host.running.said()[before:])


@changes("queue.low_priority_share")
async def test_what_low_priorities_get(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        def begin(first: int, nursery: trio.Nursery) -> None:
            for number, priority in enumerate(6 * ["interactive"] + 2 * ["bulk"]):
                options = {"priority": priority, "task": priority, "timeout_s": 3000.0}
                nursery.start_soon(partial(host.ask, first + number, **options))

        order = await order_of(host, 1, 8, partial(begin, 10), low_priority_share=0.001)
        assert order == 6 * ["interactive"] + 2 * ["bulk"]
        order = await order_of(host, 2, 8, partial(begin, 20), low_priority_share=0.5)
        assert order == 2 * ["interactive", "interactive", "bulk"] + 2 * ["interactive"]


@changes("callers.weight")
async def test_weights_of_callers(simulator: Simulator) -> None:
    if os.geteuid() != 0:
        return  # only root can be somebody else as well
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # the folders of tests are for their owner alone
        async with a_host(folder, simulator) as host:

            async def others(first: int) -> None:
                assert await trio.to_thread.run_sync(partial(_ask_as_somebody_else, host.running.socket, first)) == "8"

            def begin(first: int, nursery: trio.Nursery) -> None:
                nursery.start_soon(others, first)
                for number in range(8):
                    nursery.start_soon(partial(host.ask, first + number, task="ours", timeout_s=3000.0))

            order = await order_of(host, 1, 16, partial(begin, 10))
            assert order[:8].count("theirs") == 4
            host.tables["callers"] = {"12345": {"weight": 3.0}}
            order = await order_of(host, 2, 16, partial(begin, 20))
            assert order[:8].count("theirs") == 6
            host.tables["callers"] = {"12345": {"weight": 0.34}}
            order = await order_of(host, 3, 16, partial(begin, 30))
            assert order[:8].count("theirs") == 2


@changes("queue.max_inside", "queue.max_inside_per_caller", "queue.max_waiting")
async def test_queue_bounds(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        host.tables["models"].append({"name": "slower", "provider": "main"})
        await host.edit()
        for number, (bound, rest) in enumerate(
            (("max_inside", {}), ("max_inside_per_caller", {}), ("max_waiting", {"concurrency": {"max": 1}}))
        ):
            host.tables |= rest
            async with trio.open_nursery() as nursery:
                nursery.start_soon(host.ask, 100 + number, "slower")
                await host.wait_for(lambda calls: calls["in_flight"] == 1)
                await host.edit("queue", **{bound: 1 if bound != "max_waiting" else 0})
                with pytest.raises(aiorch.Overloaded):
                    await host.ask(200 + number, "slower")
                await host.edit("queue", **{bound: 100})
                if rest:
                    nursery.start_soon(host.ask, 300 + number, "slower")
                    await host.wait_for_waiting("slower", 1)
                else:
                    await host.ask(300 + number)
                nursery.cancel_scope.cancel()
            await host.wait_for(lambda calls: calls["in_flight"] == 0)


@changes("queue.max_start_wait_share", "queue.max_start_wait_s")
async def test_how_long_calls_may_wait_to_begin(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        host.tables["concurrency"] = {"max": 64, "initial": 64}
        numbers = itertools.count(1000)

        async def turned_away() -> int:
            refused = 0

            async def ask() -> None:
                nonlocal refused
                try:
                    await host.ask(next(numbers))
                except aiorch.Overloaded as error:
                    assert error.stage == "door"
                    assert error.retry_after_s
                    refused += 1

            async with trio.open_nursery() as nursery:
                for _ in range(200):
                    nursery.start_soon(ask)
            return refused

        assert await turned_away() == 0
        await host.edit("queue", max_start_wait_s=0.01)
        assert await turned_away() > 0
        await host.edit("queue", max_start_wait_s=100.0)
        assert await turned_away() == 0
        await host.edit("queue", max_start_wait_share=0.001)
        assert await turned_away() > 0


@changes("cache.max_entries", "cache.ttl_s")
async def test_cache_bounds_and_lifetimes(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        for number in range(6):
            await host.ask(number)
        await host.edit("cache", max_entries=2)
        assert (await host.client.cache_stats())["memory"]["entries"] == 2
        assert [(await host.ask(number, cache="use")).cache for number in (5, 4)] == ["exact", "exact"]
        assert (await host.ask(0)).cache == "miss"
        await host.edit("cache", max_entries=100, ttl_s=0.3)
        assert (await host.ask(0)).cache == "exact", "it was kept for as long as was said then"
        assert (await host.ask(50)).cache == "miss"
        assert (await host.ask(50)).cache == "exact"
        await trio.sleep(0.4)
        assert (await host.ask(50)).cache == "miss"
        assert (await host.ask(0)).cache == "exact"


@changes("cache.stale_s")
async def test_stale_answers(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        await host.edit("cache", ttl_s=0.2)
        await host.ask(1)
        await trio.sleep(0.3)
        assert (await host.ask(1)).cache == "miss"
        await host.edit("cache", stale_s=100)
        assert (await host.ask(2)).cache == "miss"
        await trio.sleep(0.3)
        assert (await host.ask(2)).cache == "stale"
        await host.edit("cache", stale_s=0)
        await trio.sleep(0.3)
        assert (await host.ask(2)).cache == "miss"


@changes("operations.cache_stale_s", "operations.cache_samples")
async def test_stale_answers_and_samples_of_an_operation(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        async def found(operation: str, given: str) -> str:
            return (await host.client.complete(operation=operation, input=given)).cache

        host.tables["cache"]["strategy"] = "hybrid"
        host.tables["operations"] = {
            "old": {"cache_ttl_s": 0.2},
            "other": {"cache_ttl_s": 0.2},
            "many": {"temperature": 0.7},
        }
        await host.edit()
        assert await found("old", "a") == "miss"
        await trio.sleep(0.3)
        assert await found("old", "a") == "miss"
        host.tables["operations"]["old"]["cache_stale_s"] = 100
        await host.edit()
        assert [await found("old", "b"), await found("other", "d")] == ["miss", "miss"]
        await trio.sleep(0.3)
        assert [await found("old", "b"), await found("other", "d")] == ["stale", "miss"]
        host.tables["operations"]["old"]["cache_stale_s"] = 0
        await host.edit()
        await trio.sleep(0.3)
        assert await found("old", "b") == "miss"

        assert [await found("many", "c") for _ in range(3)] == ["miss"] * 3
        host.tables["operations"]["many"]["cache_samples"] = 2
        await host.edit()
        assert [await found("many", "c") for _ in range(4)] == ["miss", "miss", "exact", "exact"]
        assert (await host.client.complete(operation="many", input="c", cache_samples=0)).cache == "miss", (
            "its own wins"
        )
        host.tables["operations"]["many"]["cache_samples"] = 0
        await host.edit()
        assert await found("many", "c") == "miss"


@changes("cache.semantic.enabled", "cache.semantic.target_error_rate")
async def test_nearly_equal_questions(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        async def told() -> dict[str, Any]:
            semantic: dict[str, Any] = (await host.client.status())["semantic"]
            return semantic

        assert not (await told())["enabled"]
        await host.edit("cache", semantic={"enabled": True, "target_error_rate": 0.03})
        now = await told()
        assert (now["enabled"], now["target_error_rate"]) == (True, 0.03)
        assert now["why"], "nothing is proved yet, or the embedder is not installed"
        await host.edit("cache", semantic={"enabled": False})
        assert not (await told())["enabled"]


@changes("cache.semantic.embedding_model", "cache.semantic.embedding_wait_s")
async def test_vectors_from_a_model(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        async def semantic() -> tuple[str | None, int, int]:
            status = await host.client.status()
            skipped = status["stages"]["semantic"]["skipped"]
            return status["semantic"]["embedder"], status["semantic"]["lookups"], skipped

        async def changed(**keys: Any) -> None:
            await host.edit("cache", semantic={"enabled": True, "embedding_wait_s": 5.0, **keys})
            while (await host.client.status())["semantic"]["why"] == "still loading":
                await trio.sleep(0.02)

        await host.edit_model("slow", input_usd_per_1m=1000.0)
        await changed(embedding_model="slow")
        before = await host.received()
        assert (await host.ask(1)).cache == "miss"
        assert await host.received() == before + 2
        assert await semantic() == ("slow", 1, 0)
        told = await host.client.stats(by="model")
        (row,) = [row for row in told["groups"] if row["name"] == "slow"]
        assert row["spent_usd"] > 0, "what the vectors cost is in the statistics"
        await changed(embedding_model="slow", embedding_wait_s=0.01)
        began = trio.current_time()
        await host.ask(2)
        assert trio.current_time() - began < 0.4, "nobody waits longer than was said"
        assert await semantic() == ("slow", 1, 1)
        await changed(embedding_model="")
        assert (await semantic())[0] is None
        before = await host.received()
        await host.ask(3)
        assert await host.received() == before + 1


@changes("cache.strategy", "cache.disk_max_entries")
async def test_cache_strategies(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        async def found(number: int) -> str:
            return (await host.ask(number)).cache

        assert [await found(1), await found(1)] == ["miss", "exact"]
        await host.edit("cache", strategy="disk")
        assert await found(1) == "miss", "it was in memory alone"
        assert await found(1) == "exact"
        await host.edit("cache", strategy="off")
        assert [await found(1), await found(1)] == ["miss", "miss"]
        await host.edit("cache", strategy="hybrid")
        assert [await found(1), await found(2), await found(2)] == ["exact", "miss", "exact"]
        await host.edit("cache", strategy="memory")
        assert [await found(2), await found(3)] == ["exact", "miss"]
        await host.edit("cache", strategy="disk")
        assert [await found(2), await found(3)] == ["exact", "miss"]
        await host.edit("cache", disk_max_entries=1)
        while (await host.client.cache_stats())["disk"]["entries"] > 1:
            await trio.sleep(0.02)


@changes("retry.max_attempts", "retry.backoff_s", "routing.fallback")
async def test_retries_and_fallbacks(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        async def attempts(number: int) -> int:
            before = await host.received()
            with pytest.raises(aiorch.ProviderError):
                await host.ask(number, "broken")
            return await host.received() - before

        assert await attempts(1) == 1
        await host.edit("retry", max_attempts=4)
        assert await attempts(2) == 4
        # A call that sleeps before its second attempt goes on as it began; a new one sees the new waits.
        await host.edit("retry", max_attempts=2, backoff_s=[1.0], jitter=0)
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            before = await host.received()

            async def fails() -> None:
                with pytest.raises(aiorch.ProviderError):
                    await host.ask(3, "broken")

            nursery.start_soon(fails)
            await host.wait_for(lambda calls: calls["received"] == before + 1)
            await host.edit("retry", backoff_s=[0.0])
            assert await attempts(4) == 2
            assert trio.current_time() - began < 1.0
        assert trio.current_time() - began >= 1.0
        await host.edit("routing", fallback=["fast"])
        assert (await host.ask(5, "broken")).model == "fast"
        await host.edit("routing", fallback=[])
        assert await attempts(6) == 2


@changes("routing.context_window_fallback", "routing.content_filter_fallback", "models.fallback")
@changes("models.context_window_fallback", "models.content_filter_fallback")
async def test_fallbacks_by_what_went_wrong(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        await host.edit_model("broken", context_tokens=10)
        await host.edit("retry", max_attempts=2, budget_retries=0, budget_share=0)

        async def answers(prompt: str) -> str:
            return str((await host.client.complete(prompt, model="broken")).model)

        long = "What is 1 + 1? " + "word " * 100
        with pytest.raises(aiorch.ContextExceeded):
            await answers(long)
        await host.edit("routing", context_window_fallback=["fast"], content_filter_fallback=["fast"])
        assert await answers(long) == "fast"
        await host.edit_model("broken", context_window_fallback=["slow"], content_filter_fallback=["slow"])
        assert await answers(long + "again") == "slow"
        with pytest.raises(aiorch.ProviderError):
            await answers("What is 2 + 2?")
        await host.edit_model("broken", fallback=["slow"])
        assert await answers("What is 2 + 2?") == "slow"
        kinds = (await host.client.status())["stages"]["route"]["fallbacks_by_kind"]
        assert kinds["failure"] == 1


@changes("breaker.enabled", "breaker.failure_rate", "breaker.min_calls", "breaker.window_s", "breaker.open_s")
@changes("breaker.max_open_s", "breaker.recovery_s")
async def test_the_breaker(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        await host.edit("routing", fallback=["fast"])
        await host.edit("retry", max_attempts=2)
        await host.edit("breaker", min_calls=3, open_s=100.0, max_open_s=100.0)

        async def state() -> dict[str, Any]:
            stages = (await host.client.status())["stages"]
            return dict(stages["breaker broken"]["breaker"])

        for number in range(3):
            assert (await host.ask(number, "broken")).attempts == 2
        assert (await state())["state"] == "open"
        before = await host.received()
        assert (await host.ask(3, "broken")).attempts == 1, "it is left alone"
        assert await host.received() == before + 1
        await host.edit("concurrency", max=3)  # any edit: a new generation, the same breaker
        assert (await state())["state"] == "open"
        await host.edit("breaker", max_open_s=0.01, open_s=0.01)
        await trio.sleep(0.02)
        assert (await host.ask(4, "broken")).attempts == 2, "one call finds out"
        assert (await state())["probes"] == 1
        await host.edit("breaker", enabled=False)
        assert (await state())["state"] == "closed"
        for number in range(5, 15):
            assert (await host.ask(number, "broken")).attempts == 2


@changes("hedge.enabled", "hedge.quantile", "hedge.min_samples", "hedge.max_share", "hedge.target")
async def test_second_tries(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        await host.edit("routing", fallback=["fast"])
        await host.edit("retry", max_attempts=3)

        async def stage() -> dict[str, Any]:
            return dict((await host.client.status())["stages"].get("hedge turning", {}))

        host.tables["models"].append({"name": "turning", "provider": "main", "id": "fast"})
        await host.edit("hedge", enabled=True, min_samples=2, quantile=0.5, max_share=1.0)
        for number in range(4):
            await host.ask(number, "turning")
        assert (await stage())["patience_s"] < 1.5
        await host.wait_for(lambda calls: calls["in_flight"] == 0)
        abandoned = await host.abandoned()  # where this host was slow, one of those four was tried again, too
        await host.edit_model("turning", id="slower")
        reply = await host.ask(10, "turning")
        assert (reply.model, reply.attempts) == ("fast", 2)
        story = (await host.client.explain(reply.id))["story"]
        assert [attempt["model"] for attempt in story["attempts"] if attempt.get("hedge")] == ["fast"]
        assert any(stage == "hedge" and "asking fast as well" in what for _, stage, what in story["notes"])
        await host.wait_for(lambda calls: calls["in_flight"] == 0 and calls["abandoned"] == abandoned + 1)
        await host.edit("hedge", target="same")
        before = await host.received()
        assert (await host.ask(11, "turning")).model == "turning"
        assert await host.received() == before + 2
        await host.edit("hedge", min_samples=200)
        assert (await stage())["patience_s"] is None
        await host.edit("hedge", enabled=False)
        before = await host.received()
        assert (await host.ask(12, "turning")).attempts == 1
        assert (await stage(), await host.received()) == ({}, before + 1)


@changes("retry.budget_share", "retry.budget_retries")
async def test_the_retry_budget(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        await host.edit("retry", max_attempts=20, backoff_s=[0.0], budget_share=0, budget_retries=2)
        await host.edit("breaker", enabled=False)

        async def attempts(number: int) -> int:
            before = await host.received()
            with pytest.raises(aiorch.ProviderError):
                await host.ask(number, "broken")
            return await host.received() - before

        assert await attempts(1) == 3
        assert await attempts(2) == 1
        await host.edit("retry", budget_share=1.0)
        assert await attempts(3) == 2
        assert await attempts(4) == 2


@changes("timeouts.first_byte_s", "timeouts.attempt_s", "timeouts.total_s", "timeouts.max_total_s")
async def test_timeouts(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        for number, (key, value) in enumerate(
            (("first_byte_s", 0.1), ("attempt_s", 0.1), ("total_s", 0.1), ("max_total_s", 0.1))
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(host.ask, 10 * number, "slow")  # it began with the old ones, and keeps them
                await host.wait_for(lambda calls: calls["in_flight"] == 1)
                host.tables["timeouts"] = {key: value} | ({"total_s": value} if key == "max_total_s" else {})
                await host.edit()
                with pytest.raises((aiorch.DeadlineExceeded, aiorch.ProviderError)):
                    options = {"timeout_s": 15.0} if key == "max_total_s" else {"timeout_s": None}
                    await host.client.call("complete", prompt=f"What is {number} + 77?", model="slow", **options)
            host.tables["timeouts"] = {}
            await host.edit()
            await host.ask(10 * number + 1, "slow")


@changes("models.name", "models.provider", "models.enabled", "models.input_usd_per_1m", "models.output_usd_per_1m")
async def test_models_come_and_go_and_change_their_price(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        assert (await host.ask(1)).cost_usd is None
        await host.edit("routing", cost_limit_usd=1e6)
        await host.edit_model("fast", input_usd_per_1m=1e6, output_usd_per_1m=0.0)
        reply = await host.ask(2)
        assert reply.usage is not None
        assert reply.cost_usd == reply.usage.input
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.ask, 3, "slow")
            await host.wait_for(lambda calls: calls["in_flight"] == 1)
            await host.edit_model("slow", name="new")
            with pytest.raises(aiorch.UnknownModel):
                await host.ask(4, "slow")
            assert (await host.ask(5, "new")).model == "new"
        await host.edit_model("fast", enabled=False)
        with pytest.raises(aiorch.CallError):
            await host.ask(6)
        reply = await host.client.complete("What is 7 + 7?")
        assert reply.model == "new", "the first enabled one serves calls that name none"
        await host.edit_model("fast", enabled=True)
        assert (await host.client.complete("What is 8 + 8?")).model == "fast"


@changes(
    "routing.cost_limit_usd",
    "models.max_output_tokens",
    "budget.per_day_usd",
    "budget.per_month_usd",
    "budget.on_exhausted",
    "budget.assumed_usd_per_1m",
)
async def test_budgets_and_what_one_call_may_cost(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        async def is_refused(number: int, model: str = "fast") -> bool:
            try:
                await host.ask(number, model)
            except aiorch.BudgetExceeded:
                return True
            return False

        await host.edit_model("fast", input_usd_per_1m=0.0, output_usd_per_1m=1000.0, max_output_tokens=500)
        await host.edit_model("slow", input_usd_per_1m=0.0, output_usd_per_1m=0.0)
        assert not await is_refused(1)  # reserves half a dollar
        await host.edit("routing", cost_limit_usd=0.05)
        assert await is_refused(2)
        await host.edit_model("fast", max_output_tokens=10)
        assert not await is_refused(2)
        for number, budget in ((10, "per_day_usd"), (20, "per_month_usd")):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(host.ask, number, "slow")
                await host.wait_for(lambda calls: calls["in_flight"] == 1)
                await host.edit("budget", **{budget: 0.005})
                assert await is_refused(number + 1)
                assert not await is_refused(2), "what is kept costs nothing"
                assert not await is_refused(number + 2, "slow"), "nor does this one"
            await host.edit("budget", on_exhausted="cache_only")
            assert await is_refused(number + 3)
            assert await is_refused(number + 3, "slow"), "from then on nothing is sent"
            await host.edit("routing", fallback=["slow"])
            await host.edit("budget", on_exhausted="cheapest")
            assert (await host.ask(number + 4)).model == "slow"
            await host.edit("routing", fallback=[])
            host.tables["budget"] = {}
            await host.edit()
            assert not await is_refused(number + 4)
        # One of unknown price, for which a price is assumed.
        host.tables["budget"] = {"per_day_usd": 0.02}
        for name in ("input_usd_per_1m", "output_usd_per_1m"):
            del host.tables["models"][0][name]
        await host.edit()
        assert not await is_refused(30)
        await host.edit("budget", assumed_usd_per_1m=5000.0)
        assert await is_refused(31)


@changes("callers.per_day_usd", "callers.per_month_usd")
async def test_budgets_of_callers(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        await host.edit_model("fast", input_usd_per_1m=0.0, output_usd_per_1m=1000.0, max_output_tokens=10)
        await host.ask(1)
        for number, key in ((10, "per_day_usd"), (20, "per_month_usd")):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(host.ask, number, "slow")
                await host.wait_for(lambda calls: calls["in_flight"] == 1)
                host.tables["callers"] = {str(os.getuid()): {key: 0.005}}
                await host.edit()
                with pytest.raises(aiorch.BudgetExceeded):
                    await host.ask(number + 1)
            host.tables["callers"] = {str(os.getuid()): {key: 50.0}, "54321": {key: 0.005}}
            await host.edit()
            await host.ask(number + 1)


@changes("providers.base_url", "models.provider")
async def test_a_provider_moves(tmp_path: Path, simulator: Simulator) -> None:
    with start_simulator(PROFILE) as other:
        async with a_host(tmp_path, simulator) as host:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(host.ask, 1, "slow")
                await host.wait_for(lambda calls: calls["in_flight"] == 1)
                await host.edit("providers", main={"base_url": other.base_url})
                assert (await host.ask(2)).cache == "miss"
                assert other.stats()["calls"]["received"] == 1
            assert await host.received() == 1, "what was under way was answered where it was asked"
            assert (await host.ask(1, "slow")).cache == "miss", "another address has other answers"
            host.tables["providers"]["second"] = {"base_url": simulator.base_url}
            await host.edit_model("fast", provider="second")
            await host.ask(3)
            assert await host.received() == 2


@changes("providers.api_key_env", "providers.api_key_credential")
async def test_keys(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "third").write_text("right")
    with start_simulator('[sim]\napi_keys = ["right"]\n[[models]]\nlatency_s = 0.3\n') as simulator:
        async with a_host(
            tmp_path, simulator, FIRST="right", SECOND="wrong", CREDENTIALS_DIRECTORY=str(credentials)
        ) as host:
            await host.edit("providers", main={"base_url": simulator.base_url, "api_key_env": "FIRST"})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(host.ask, 1)
                await host.wait_for(lambda calls: calls["in_flight"] == 1)
                await host.edit("providers", main={"base_url": simulator.base_url, "api_key_env": "SECOND"})
                with pytest.raises(aiorch.ProviderAuth):
                    await host.ask(2)
            await host.edit("providers", main={"base_url": simulator.base_url, "api_key_credential": "third"})
            await host.ask(3)


@changes(
    "concurrency.initial", "concurrency.min", "concurrency.algorithm", "limits.safety_margin", "limits.burst_s",
    "models.requests_per_day", "models.tokens_per_day", "providers.requests_per_minute", "providers.tokens_per_minute",
    "providers.requests_per_day", "providers.tokens_per_day", "queue.calls_per_second", "queue.low_priority_share",
)  # fmt: skip
async def test_what_paces_is_shown_as_edited(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        async def target() -> dict[str, Any]:
            told = await host.client.call("limits")
            return next(each for each in told["targets"] if each["model"] == "slow")

        async def quotas() -> dict[tuple[str, str, float], tuple[float, float]]:
            return {
                (account["owner"].split()[0], quota["kind"], quota["window_s"]): (quota["limit"], quota["level"])
                for account in (await target())["accounts"]
                for quota in account["quotas"]
            }

        await host.edit("concurrency", initial=5, min=2)
        permits = (await target())["permits"]
        assert (permits["limit"], permits["min"], permits["algorithm"]) == (5, 2, "aimd")
        await host.edit("concurrency", algorithm="fixed")
        assert (await target())["permits"]["limit"] == 10
        await host.edit_model("slow", requests_per_day=100, tokens_per_day=1000)
        assert (await quotas())["model", "requests", 86_400.0] == (90.0, 90.0)
        assert (await quotas())["model", "tokens", 86_400.0][0] == 900.0
        name = next(iter(host.tables["providers"]))
        limits = {
            "requests_per_minute": 600,
            "tokens_per_minute": 6000,
            "requests_per_day": 7000,
            "tokens_per_day": 80_000,
        }
        await host.edit("providers", **{name: {**host.tables["providers"][name], **limits}})
        assert (await quotas())["key", "requests", 60.0] == (540.0, 54.0)
        assert (await quotas())["key", "tokens", 60.0][0] == 5400.0
        assert (await quotas())["key", "requests", 86_400.0][0] == 6300.0
        assert (await quotas())["key", "tokens", 86_400.0][0] == 72_000.0
        await host.edit("limits", safety_margin=0.5, burst_s=1.0)
        assert (await quotas())["key", "requests", 60.0] == (300.0, 5.0)
        await host.edit("queue", calls_per_second=2.0, low_priority_share=0.25)
        assert (await target())["low_priority_share"] == 0.25
        assert (await quotas())["all", "requests", 60.0][0] == 120.0


@changes("pool.max_connections", "pool.max_keepalive", "pool.idle_s")
async def test_the_pool(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        async def idle() -> int:
            return int((await host.client.status())["transport"]["idle"])

        await host.edit("concurrency", max=20, initial=20)
        await host.edit("pool", max_connections=1, max_keepalive=1)
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(host.ask, number, "slow")
            while (await host.client.status())["transport"]["waiting"] < 8:
                await trio.sleep(0.01)
            assert (await trio.to_thread.run_sync(simulator.stats))["calls"]["most_in_flight"] == 1
            await host.edit("pool", max_connections=5, max_keepalive=5)
            await host.wait_for(lambda calls: calls["most_in_flight"] == 5)
        assert (await trio.to_thread.run_sync(simulator.stats))["calls"]["most_in_flight"] == 5
        assert await idle() == 5
        await host.edit("pool", max_keepalive=2)
        assert await idle() == 2
        await host.edit("pool", idle_s=0.05)
        while await idle():
            await trio.sleep(0.01)


@changes("daemon.max_connections")
async def test_connections(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        def can_come() -> bool:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(10)
                peer.connect(str(host.running.socket))
                try:
                    peer.sendall(b"\x94\x00\x01\xa4ping\x90")
                    return b"pong" in peer.recv(500)
                except OSError:
                    return False  # it was turned away while its ping was on the way

        assert can_come()
        await host.edit("daemon", max_connections=1)
        assert not can_come()
        await host.ask(1)  # who is inside stays
        await host.edit("daemon", max_connections=10)
        assert can_come()


@changes("daemon.max_frame_bytes", "daemon.max_elements", "daemon.max_in_flight_per_connection")
async def test_what_one_connection_may_ask(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        await host.edit("daemon", max_frame_bytes=65536, max_elements=1000, max_in_flight_per_connection=1)
        async with aiorch.AsyncClient(host.running.socket, timeout_s=20.0) as new:
            for too_much in ({"tags": ["x"] * 2000}, {"x": "y" * 70_000}):
                await host.client.call("ping")  # who is inside keeps what they had
                with pytest.raises(aiorch.AiorchError):
                    await new.call("complete", prompt="What is 1 + 1?", extra=too_much)
                with pytest.raises(aiorch.InvalidRequest if "x" in too_much else aiorch.AiorchError):
                    await host.client.call("complete", prompt="", extra=too_much)
        async with aiorch.AsyncClient(host.running.socket, timeout_s=20.0) as new, trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(partial(new.complete, f"What is {number} + 5?", model="slow"))
            await host.wait_for(lambda calls: calls["in_flight"] == 1)
            await trio.sleep(0.2)
            assert host.simulator.stats()["calls"]["in_flight"] == 1


@changes("daemon.frame_timeout_s", "daemon.max_incoming_bytes")
async def test_what_comes_in_part(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        async def held() -> int:
            bytes_held: int = (await host.client.status())["door"]["incoming_bytes"]
            return bytes_held

        async def halves(count: int) -> list[trio.SocketStream]:
            """Connections that begin a message of a mebibyte and send 200 kB of it, as far as the daemon takes them."""
            streams = [await trio.open_unix_socket(str(host.running.socket)) for _ in range(count)]
            for stream in streams:
                with trio.move_on_after(0.2):
                    await stream.send_all(b"\x94\x00\x01\xdb\x00\x10\x00\x00" + b"x" * 200_000)
            return streams

        old = await halves(5)
        while await held() < 5 * 200_000:
            await trio.sleep(0.01)
        for stream in old:
            await stream.aclose()
        await host.edit("daemon", max_incoming_bytes=300_000, frame_timeout_s=0.5)
        while await held():
            await trio.sleep(0.01)
        new = await halves(5)
        assert await held() < 700_000  # those who wait their turn hold what they had sent at once
        for stream in new:  # each is told, one after the other
            assert b"did not come whole within 0.5 s" in await stream.receive_some(500)
            await stream.aclose()
        while await held():
            await trio.sleep(0.01)


@changes("daemon.allow_users", "daemon.allow_groups", "daemon.admin_users", "daemon.admin_groups")
async def test_who_may(simulator: Simulator) -> None:
    if os.geteuid() != 0:
        return  # only root can be somebody else as well
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # the folders of tests are for their owner alone
        async with a_host(folder, simulator) as host:

            async def who() -> str:
                return await trio.to_thread.run_sync(partial(_as_somebody_else, host.running.socket))

            assert await who() == "12345 admin=False"
            await host.edit("daemon", allow_users=[54321])
            assert "Forbidden" in await who()
            await host.edit("daemon", allow_groups=[0])
            assert await who() == "12345 admin=False"
            await host.edit("daemon", allow_groups=[], allow_users=[12345], admin_users=[12345])
            assert await who() == "12345 admin=True"
            await host.edit("daemon", admin_users=[], admin_groups=[0])
            assert await who() == "12345 admin=True"
            await host.edit("daemon", admin_groups=[])
            assert await who() == "12345 admin=False"


def _as_somebody_else(path: Path) -> str:
    """Say hello as another user, of the group that the socket is for."""
    return _run_as_somebody_else(
        """
try:
    with client:
        server = client.hello()
        print(server.uid, f"admin={server.admin}")
except aiorch.AiorchError as error:
    print(type(error).__name__)
""",
        path,
    )


def _ask_as_somebody_else(path: Path, first: int) -> str:
    """Ask eight questions at once as another user; gives how many were answered rightly."""
    return _run_as_somebody_else(
        """
def ask(number):
    reply = client.complete(f"What is {number} + {number}?", model="fast", task="theirs", timeout_s=3000.0)
    return reply.text == str(2 * number)
with client, ThreadPoolExecutor(8) as threads:
    first = int(sys.argv[2])
    print(sum(threads.map(ask, range(first, first + 8))))
""",
        path,
        str(first),
    )


def _run_as_somebody_else(program: str, path: Path, *arguments: str) -> str:
    begin = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import aiorch
client = aiorch.Client(sys.argv[1])  # everything is loaded: this Python may lie where only root can look
os.setgroups([])
os.setuid(12345)
"""
    ran = subprocess.run(
        [sys.executable, "-c", begin + program, str(path), *arguments],
        env={"PYTHONPATH": str(ROOT / "client")},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.strip() or ran.stderr


@changes("daemon.log_calls", "daemon.log_levels")
async def test_lines_of_calls_and_levels_of_areas(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        await host.ask(1)
        assert "calls: answered" not in host.running.said()
        await host.edit("daemon", log_calls=True)
        await host.ask(2)
        assert host.running.said().count("calls: answered") == 1
        await host.edit("daemon", log_levels={"calls": "error"})
        await host.ask(3)
        assert host.running.said().count("calls: answered") == 1


@changes("models.id", "models.context_tokens", "models.extra", "cache.max_bytes")
async def test_what_a_model_is_sent(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        await host.ask(1)
        assert (await host.ask(1)).cache == "exact"
        await host.edit_model("fast", extra={"top_p": 0.5})
        assert (await host.ask(1)).cache == "miss", "what is sent with it is part of the question"
        await host.edit_model("fast", context_tokens=10)
        with pytest.raises(aiorch.ContextExceeded):
            await host.client.complete("word " * 1000, model="fast")
        await host.edit_model("fast", context_tokens=100_000, id="broken")
        with pytest.raises(aiorch.ProviderError):
            await host.ask(2)
        await host.edit("cache", max_bytes=2_000_000)
        assert (await host.client.cache_stats())["memory"]["max_bytes"] == 2_000_000


@changes("daemon.max_host_models_per_connection", "daemon.max_host_calls_per_connection")
async def test_what_a_connection_answers_for(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        socket = str(host.running.socket)
        async with aiorch.AsyncClient(socket) as client:
            await client.register_model(["a", "b"], call=lambda *_: "x")
        await host.edit("daemon", max_host_models_per_connection=1, max_host_calls_per_connection=1)
        asked, may_answer = trio.Event(), trio.Event()

        async def answer(model: str, request: Any) -> str:
            asked.set()
            await may_answer.wait()
            return "x"

        async with aiorch.AsyncClient(socket) as client, trio.open_nursery() as nursery:
            with pytest.raises(aiorch.TooLarge):
                await client.register_model(["a", "b"], call=answer)
            await client.register_model("a", call=answer, fallback=[])
            nursery.start_soon(partial(client.complete, "1", model="a"))
            await asked.wait()
            with pytest.raises(aiorch.Overloaded):
                await client.complete("2", model="a")
            may_answer.set()


@changes("daemon.host_return_s")
async def test_who_had_registered_before_a_restart(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        socket, kept = host.running.socket, host.running.state / "host-models.json"
        async with aiorch.AsyncClient(socket) as client:
            await client.register_model("mine", call=lambda *_: "back")
            while not (kept.exists() and "mine" in kept.read_text()):
                await trio.sleep(0.01)
            await trio.to_thread.run_sync(host.running.stop)
        await trio.to_thread.run_sync(host.running.start)
        await host.edit("daemon", host_return_s=0.0)
        with pytest.raises(aiorch.UnknownModel):
            await host.client.complete("too early", model="mine")
        await host.edit("daemon", host_return_s=600.0)
        async with aiorch.AsyncClient(socket) as client, trio.open_nursery() as nursery:

            async def ask() -> None:
                assert (await host.client.complete("early", model="mine")).text == "back"

            nursery.start_soon(ask)
            while (await host.client.status())["door"]["in_flight"] < 2:
                await trio.sleep(0.01)
            await client.register_model("mine", call=lambda *_: "back")


@changes("daemon.log_level")
async def test_the_log(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        await host.edit("daemon", log_level="error")
        quiet = host.running.said()
        host.tables["retry"]["max_attempts"] = 3
        await host.edit()
        assert host.running.said() == quiet, "a reload is told at info"
        await host.edit("daemon", log_level="info")
        assert "configuration in force" in host.running.said()[len(quiet) :]


@changes("metrics.keep_calls", "metrics.keep_days")
async def test_records(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        replies = [await host.ask(number) for number in range(5)]
        assert (await host.client.explain(replies[0].id))["id"] == replies[0].id
        await host.edit("metrics", keep_calls=2)
        with pytest.raises(aiorch.NotFound):
            while True:
                await host.client.explain(replies[0].id)
                await trio.sleep(0.02)
        assert (await host.client.explain(replies[4].id))["id"] == replies[4].id
        assert (await host.client.stats())["calls"] == 5, "sums are kept apart"
        await host.edit("metrics", keep_days=0)
        with pytest.raises(aiorch.NotFound):
            while True:
                await host.client.explain(replies[4].id)
                await trio.sleep(0.02)


@changes("daemon.drain_timeout_s")
async def test_the_drain(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        await host.edit("daemon", drain_timeout_s=0.1)
        async with trio.open_nursery() as nursery:

            async def cut() -> None:
                with pytest.raises(aiorch.AiorchError):
                    await host.client.complete("What is 1 + 1?", model="slow", timeout_s=5)

            nursery.start_soon(cut)
            await host.wait_for(lambda calls: calls["in_flight"] == 1)
            began = time.monotonic()
            await trio.to_thread.run_sync(lambda: host.running.stop(signal.SIGTERM))
            assert time.monotonic() - began < 3.0
            assert "calls cut" in host.running.said()


@changes("operations.template", "operations.system", "operations.task", "operations.models", "operations.temperature")
@changes("operations.max_tokens", "operations.timeout_s", "operations.max_input_bytes", "operations.output_schema")
@changes("operations.per_day_usd", "operations.per_month_usd", "operations.tools")
async def test_what_an_operation_asks(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        async def operation(**keys: Any) -> None:
            host.tables["operations"] = {"work": {"template": "What is {{ input.n }} + 1?", **keys}}
            await host.edit()

        async def work(number: int, **options: Any) -> aiorch.Reply:
            return await host.client.complete(operation="work", input={"n": number}, **options)

        await operation()
        plain = await work(4)
        assert (plain.text, plain.model, plain.data) == ("5", "fast", None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.ask, 1, "slow")
            await host.wait_for(lambda calls: calls["in_flight"] == 1)
            await operation(template="What is {{ input.n }} + 2?")
            assert (await work(4)).text == "6"
        await operation(system="You add numbers up, whatever it takes.")
        told = await work(4)
        assert told.usage is not None
        assert plain.usage is not None
        assert told.usage.input > plain.usage.input
        parameters = {"type": "object", "properties": {"sum": {"type": "integer"}}}
        await operation(tools=[{"type": "function", "function": {"name": "tell", "parameters": parameters}}])
        [called] = (await work(4, tool_choice="required")).tool_calls
        assert called["function"]["name"] == "tell"
        await operation(task="adding")
        assert (await host.client.explain((await work(5)).id))["task"] == "adding"
        await operation(models=["slow"])
        assert (await work(5)).model == "slow"
        await operation(models=["slow"], timeout_s=0.1)
        with pytest.raises(aiorch.DeadlineExceeded):
            await host.client.call("complete", operation="work", input={"n": 6}, timeout_s=None)
        await operation(temperature=1.0)
        assert [(await work(7)).cache for _ in range(2)] == ["miss", "miss"]
        await operation(max_tokens=1, template="Tell me all about number {{ input.n }}, at some length.")
        assert (await work(7)).finish_reason == "length"
        await operation(max_input_bytes=5)
        with pytest.raises(aiorch.TooLarge):
            await work(7)
        await operation(output_schema={"type": "integer"})
        typed = await work(7)
        assert type(typed.data) is int
        assert typed.data == int(typed.text)
        await host.edit_model("fast", input_usd_per_1m=0.0, output_usd_per_1m=1000.0, max_output_tokens=10)
        for number, key in enumerate(("per_day_usd", "per_month_usd")):
            await operation(**{key: 0.005})
            with pytest.raises(aiorch.BudgetExceeded):
                await work(10 + number)
            await operation(**{key: 50.0})
            await work(10 + number)


@changes("operations.batch_size", "batch.max_size", "batch.max_wait_s")
async def test_questions_are_asked_together(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        numbers = itertools.count(1)

        async def batched(pause_s: float = 0.0, **options: Any) -> int:
            """Ask eight questions, and count those whose answers are out of batches."""
            replies = []

            async def one(number: int) -> None:
                replies.append(
                    await host.client.complete(
                        operation="tag", input=f"page{number} about cats", model="slow", cache="bypass", **options
                    )
                )
                assert f"page{number}" in replies[-1].text, "its own answer"

            async with trio.open_nursery() as nursery:
                for number in itertools.islice(numbers, 8):
                    nursery.start_soon(one, number)
                    await trio.sleep(pause_s)
            return sum(reply.batched for reply in replies)

        async def set_operation(**keys: Any) -> None:
            host.tables["operations"] = {"tag": {"template": "Give three tags for this page:\n{{ input }}", **keys}}
            await host.edit()

        await set_operation()
        assert await batched() == 0
        await set_operation(batch_size=8)
        assert await batched() >= 4
        assert await batched(batch=False) == 0
        [told] = (await host.client.call("stats"))["batching"]
        assert told["max_size"] == 8
        assert told["calls_saved"] >= 3
        await host.edit("batch", max_size=1)
        assert await batched() == 0
        await host.edit("batch", max_size=2, max_wait_s=5)
        for _ in range(4):
            await batched(0.05)
        assert await batched(0.05) >= 4, "they come at a pace that is worth waiting for"
        await host.edit("batch", max_wait_s=0.001)
        assert await batched(0.05) == 0


@changes("operations.cache", "operations.cache_ttl_s", "operations.cache_ignore", "operations.cache_unordered")
@changes(
    "operations.cache_ignore_parameters", "operations.noise", "operations.document_id", "operations.document_version"
)
@changes("operations.shared")
async def test_what_an_operation_takes_for_the_same_question(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:

        async def found(key: str, value: Any, *inputs: Any) -> list[str]:
            """How the last of the inputs was answered, before and after a key is set."""
            seen = []
            for keys in ({}, {key: value}):
                host.tables["operations"] = {"work": keys}
                await host.edit()
                for each in inputs:
                    reply = await host.client.complete(operation="work", input={"for": [key, len(keys)], **each})
                seen.append(reply.cache)
            return seen

        same = {"n": 1}
        assert await found("cache", "off", same, same) == ["exact", "miss"]
        assert await found("cache_ttl_s", 0, same, same) == ["exact", "miss"]
        assert await found("cache_ignore", ["input.at"], {"at": "here"}, {"at": "there"}) == ["miss", "normalised"]
        names = ({"names": ["a", "b"]}, {"names": ["b", "a"]})
        assert await found("cache_unordered", ["input.names"], *names) == ["miss", "normalised"]
        pages = [{"page": f"https://example.org/a?from={number}"} for number in range(2)]
        assert await found("cache_ignore_parameters", ["from"], *pages) == ["miss", "normalised"]
        marked = [{"text": f"it is 0b0e7bd0-96f1-4b6c-9d59-2a41dc5b1e0{number}"} for number in range(2)]
        assert await found("noise", ["uuids"], *marked) == ["miss", "normalised"]
        for key in ("document_id", "document_version"):
            host.tables["operations"] = {"work": {"document_id": "input.id", key: "input.of"}}
            await host.edit()
            with pytest.raises(aiorch.InvalidRequest, match="of"):
                await host.client.complete(operation="work", input={"id": 1})
        for shared in (False, True):  # a shared answer is kept in another place than one of a single user
            host.tables["operations"] = {"work": {"shared": shared}}
            await host.edit()
            kept = [(await host.client.complete(operation="work", input={"n": 9})).cache for _ in range(2)]
            assert kept == ["miss", "exact"]


@changes("profile")
async def test_a_profile(tmp_path: Path, simulator: Simulator) -> None:
    async with a_host(tmp_path, simulator) as host:
        host.tables = {"profile": "basic"} | host.tables
        await host.edit()
        assert (await host.live("slow"))["permits"] == 1
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(host.ask, number, "slow")
            await host.wait_for(lambda calls: calls["in_flight"] == 1)
            host.tables["profile"] = "aggressive"
            await host.edit()
            await host.wait_for(lambda calls: calls["in_flight"] >= 2)
        assert (await host.limits("slow"))["permits"]["max"] == 100
        host.tables["concurrency"] = {"initial": 100}
        await host.edit()
        assert (await host.live("slow"))["permits"] == 100
        host.tables["profile"] = "basic"
        await host.edit()
        assert (await host.live("slow"))["permits"] == 1


def test_every_live_key_is_shown_to_be_live() -> None:
    tables = {"providers": Provider, "callers": CallerTable, "operations": Operation, "models": Model}
    kinds = {**sections(), **tables}
    named = [name for name in Config.__struct_fields__ if name not in top_keys()]
    named += [name for name in kinds if "." in name]  # a table within a table
    assert sorted(named) == sorted(kinds), "a table that is missing here is not looked through"
    live = {name for name, field in top_keys().items() if field.about.live}
    live |= {
        f"{section}.{name}"
        for section, kind in kinds.items()
        for name, field in fields_of(kind).items()
        if field.about.live
    }
    assert covered <= live
    assert live - covered >= SHOWN_ELSEWHERE
    assert live - covered - SHOWN_ELSEWHERE == set(), "say in this file how these take effect in a running daemon"
