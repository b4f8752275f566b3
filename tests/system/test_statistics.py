"""The daemon's account beside that of the provider: every call, token, dollar, refusal and fallback, under load with
hits, 429s, 500s and refused keys, over a restart and over a kill.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from processes import ROOT, DaemonProcess, daemon
from sums import sum_of

from aiorch import AsyncClient
from aiorch.errors import CallError
from aiorchd.doors.identity import unit_of
from aiorchd.insight.stats import GROUPS
from aiorchsim.process import Simulator, start_simulator

PROFILE = """
[[models]]
name = "small-1"
latency_s = 0.01
error_rate = 0.15
input_usd_per_1m = 150.0
output_usd_per_1m = 600.0

[[models]]
name = "busy-1"
latency_s = 0.005
requests_per_minute = 60
burst_s = 1.0
rate_limit_headers = "none"
input_usd_per_1m = 10.0
output_usd_per_1m = 20.0

[[models]]
name = "large-1"
latency_s = 0.01
error_rate = 0.2
context_tokens = 2000
input_usd_per_1m = 2500.0
output_usd_per_1m = 10000.0

[[models]]
name = "broken-1"
fault = "error_500"

[[models]]
name = "locked-1"
fault = "auth"
"""
CONFIG = """
[providers.main]
base_url = "{}"
[routing]
fallback = ["large"]
cost_limit_usd = 1000.0
[retry]
max_attempts = 4
backoff_s = [0.002]
[concurrency]
max = 12
"""
MODELS = {  # our name: dollars in, dollars out
    "small": (150.0, 600.0),
    "busy": (10.0, 20.0),
    "large": (2500.0, 10000.0),
    "broken": (1.0, 1.0),
    "locked": (1.0, 1.0),
}


@dataclass
class Account:
    """What the callers saw."""

    asked: int = 0
    how: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    elsewhere: int = 0
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    unknown: int = 0
    """Answers of which not all that they cost is known."""
    took_s: list[tuple[float, float]] = field(default_factory=list)
    """Of each call how long it took at least (as its answer says; unknown of an error: 0) and at most (as it seemed)."""


def configuration(simulator: Simulator) -> str:
    text = CONFIG.format(simulator.base_url)
    for name, (dollars_in, dollars_out) in MODELS.items():
        text += f'[[models]]\nname = "{name}"\nid = "{name}-1"\nprovider = "main"\n'
        text += f"input_usd_per_1m = {dollars_in}\noutput_usd_per_1m = {dollars_out}\n"
    return text


async def ask_all(socket: Path, account: Account, *, calls: int, seed: int) -> None:
    """Ask a mixture of everything, twenty at a time, many questions more than once."""
    chance = random.Random(seed)
    limit = trio.CapacityLimiter(20)
    asked = 0

    async def ask(client: AsyncClient) -> None:
        nonlocal asked
        model = chance.choices(tuple(MODELS), (60, 10, 5, 5, 5))[0]
        options: dict[str, Any] = {"model": model}
        wanted = sum_of(seed * 10_000 + chance.randrange(calls // 3))
        asked += 1
        if asked <= 20:  # all at the same moment
            wanted, options["model"] = sum_of(seed * 10_000 + 5_000), "small"
        elif chance.random() < 0.1:
            options["cache"] = chance.choice(("bypass", "refresh", "only"))
        streams = chance.random() < 0.2
        account.asked += 1
        began = trio.current_time()
        try:
            if streams:
                stream = client.stream(wanted.prompt, **options)
                text = "".join([piece async for piece in stream])
                reply = stream.reply
            else:
                reply = await client.complete(wanted.prompt, **options)
                text = reply.text
        except CallError as error:
            account.errors[error.code] += 1
            account.took_s.append((0.0, trio.current_time() - began))
            return
        account.took_s.append((reply.timing.total_s, trio.current_time() - began))
        assert text == wanted.answer
        account.how[reply.cache] += 1
        account.elsewhere += reply.cache == "miss" and reply.model != options["model"]
        assert reply.cost_known_usd is not None
        account.cost_usd += reply.cost_known_usd
        account.unknown += reply.cost_usd is None
        account.saved_usd += reply.saved_usd if reply.cache != "miss" else 0.0

    async def in_turn(client: AsyncClient) -> None:
        async with limit:
            await ask(client)

    async with AsyncClient(socket, timeout_s=30.0) as client, trio.open_nursery() as nursery:
        for _ in range(calls):
            nursery.start_soon(in_turn, client)
        for refused, options in (("context_exceeded", {"model": "large"}), ("not_found", {"cache": "only"})):
            account.asked += 1
            account.errors[refused] += 1
            began = trio.current_time()
            with pytest.raises(CallError) as raised:
                await client.complete(f"{seed} too long " * 2000, **options)
            assert raised.value.code == refused
            account.took_s.append((0.0, trio.current_time() - began))


async def figures(running: DaemonProcess, **arguments: Any) -> dict[str, Any]:
    async with AsyncClient(running.socket) as client:
        return await client.call("stats", **arguments)


def compare(told: dict[str, Any], account: Account, provider: dict[str, Any]) -> None:
    """The three accounts of the same calls."""
    saved = {how: count for how, count in account.how.items() if how != "miss"}
    assert told["calls"] == account.asked
    assert told["answered"] == sum(account.how.values())
    assert told["errors"] == account.errors
    assert told["saved_calls"] == saved
    assert told["hit_rates"] == {
        "all": pytest.approx(sum(saved.values()) / account.asked),
        **{how: pytest.approx(count / account.asked) for how, count in saved.items()},
    }
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        least, most = (quantile(sorted(each), share) for each in zip(*account.took_s, strict=True))
        assert least * 0.94 <= told["total_s"][name] <= most * 1.06, (name, least, most)  # within five per cent
        assert 0 < told["overhead_s"][name] <= told["total_s"][name]
    assert told["saved_usd"] == pytest.approx(account.saved_usd)
    assert told["saving_unknown_calls"] == 0
    # What a provider takes for a call that it failed it does not say (this one: nothing); who shared one paid nothing.
    failed = account.errors["provider_error"] + account.errors["context_exceeded"]
    assert account.unknown <= told["cost_unknown_calls"] <= account.unknown + failed
    assert told["cost_unknown_attempts"] >= told["cost_unknown_calls"]
    assert (told["cost_estimate_usd"] > 0) == (told["cost_unknown_attempts"] > 0)
    assert sum(told["failed_attempts"].values()) == calls_failed(provider)

    calls = provider["calls"]
    assert calls["in_flight"] == calls["abandoned"] == 0
    assert told["provider_calls"] == calls["received"]
    assert told["throttled"] == calls["rate_limited"]
    assert told["tokens"]["input"] == provider["tokens"]["prompt"]
    assert told["tokens"]["output"] == provider["tokens"]["completion"]
    assert told["spent_usd"] == pytest.approx(provider["cost_usd"])
    assert told["spent_usd"] == pytest.approx(account.cost_usd)


def calls_failed(provider: dict[str, Any]) -> int:
    """How many the provider did not answer."""
    calls: dict[str, int] = provider["calls"]
    return calls["received"] - calls["answered"]


def quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def compare_groups(told: dict[str, Any], groups: set[str], perhaps: frozenset[str] = frozenset()) -> None:
    """Every group is there, and together they are everything."""
    assert groups <= {group["name"] for group in told["groups"]} <= groups | perhaps
    for name in (
        "calls",
        "answered",
        "provider_calls",
        "throttled",
        "fallbacks",
        "spent_usd",
        "saved_usd",
        "cost_estimate_usd",
    ):
        assert sum(group[name] or 0 for group in told["groups"]) == pytest.approx(told[name]), name
    for name in ("errors", "saved_calls", "failed_attempts"):
        together: Counter[str] = Counter()
        for group in told["groups"]:
            together.update(group[name])
        assert together == told[name]
    for group in told["groups"]:
        if group["calls"]:
            assert group["hit_rates"]["all"] == pytest.approx(sum(group["saved_calls"].values()) / group["calls"])


async def all_figures(running: DaemonProcess) -> dict[str, dict[str, Any]]:
    """By everything, over all time and over the last hour, the latter by one as the command line tells them."""
    found = {}
    for by in GROUPS:
        found[by] = without_time(await figures(running, by=by))
        found[f"{by}, the last hour"] = without_time(await figures(running, by=by, since=3600))
    done = await trio.run_process(
        [
            sys.executable,
            "-m",
            "aiorchctl",
            "--socket",
            str(running.socket),
            "stats",
            "--json",
            "--by=unit",
            "--since=1h",
        ],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'client'}:{ROOT / 'daemon'}"},
        capture_stdout=True,
    )
    found["the command line"] = without_time(json.loads(done.stdout))
    return found


def without_time(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name not in ("since", "until")}


def without_groups(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in without_time(told).items() if name not in ("by", "groups")}


async def test_figures_are_those_of_the_provider_over_a_restart_and_a_kill(tmp_path: Path) -> None:
    account = Account()
    with start_simulator(PROFILE) as simulator, daemon(tmp_path, configuration(simulator)) as running:
        await ask_all(running.socket, account, calls=300, seed=1)
        # The scene has everything in it that should be counted.
        provider = simulator.stats()
        assert provider["calls"]["rate_limited"] > 0, provider["calls"]
        assert provider["calls"]["errors"] > 20, provider["calls"]
        assert account.how["exact"] > 50, account
        assert account.how["coalesced"] > 3, account
        assert account.elsewhere > 5, account
        told = await figures(running, by="model")
        compare(told, account, provider)
        # A call that was answered elsewhere is one fallback; one that failed elsewhere too is another.
        assert told["fallbacks"] >= account.elsewhere
        before = await all_figures(running)
        for figures_by in before.values():
            assert without_groups(figures_by) == without_groups(told), "all of it was within the hour"
        assert before["the command line"] == before["unit"]
        assert set(GROUPS) == {"model", "provider", "operation", "caller", "unit"}
        # A call counts for who was asked last: those that never answer are seldom that.
        compare_groups(before["model"], {"small", "large", ""}, frozenset(MODELS))
        for group in before["model"]["groups"]:  # each at the model that was asked, by the provider's own count
            theirs = provider["by_model"].get(f"{group['name']}-1", {"received": 0})
            too_long = group["failed_attempts"].get("context_exceeded", 0)  # which the provider counts at no model
            assert group["provider_calls"] - too_long == theirs["received"], group["name"]
        compare_groups(before["provider"], {"main", ""})
        compare_groups(before["operation"], {""})
        compare_groups(before["caller"], {str(os.getuid())})
        compare_groups(before["unit"], {unit_of(os.getpid())})

        assert await trio.to_thread.run_sync(running.stop) == 0
        await trio.to_thread.run_sync(running.start)
        assert await all_figures(running) == before

        await ask_all(running.socket, account, calls=120, seed=2)
        told = await figures(running, by="model")
        compare(told, account, simulator.stats())

        async with AsyncClient(running.socket) as client:
            while True:
                store = (await client.status())["store"]["records"]
                if not store["queued"] and not store["tallies"]:
                    break
                await trio.sleep(0.02)
        await trio.to_thread.run_sync(running.stop, 9)
        await trio.to_thread.run_sync(running.start)
        assert without_time(await figures(running, by="model")) == without_time(told)
        assert without_time(await figures(running, by="caller"))["calls"] == account.asked
