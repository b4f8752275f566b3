"""Pacing on the fake clock against real buckets: what `benchmarks/pacing.py` measures over HTTP, over more rates and bursts."""

from __future__ import annotations

import math
import random

import pytest
from limited_provider import LimitedProvider, a_scene, refused_share, used_share, want

SETTLED, END = 60, 150


async def paced(provider, *, most=10, demand=3.0, tokens=None, end=END):
    scene = a_scene(provider, most=most)
    per_s = provider.requests_per_minute / 60 if tokens is None else tokens[1]
    await want(scene, per_s * demand, end, tokens=None if tokens is None else tokens[0])
    statistics = scene.turnstile.statistics()
    assert (statistics.in_use, statistics.waiting) == (0, 0)
    return scene


@pytest.mark.parametrize(
    ("telling", "least_used", "most_refused"), [("full", 0.97, 0.005), ("retry_after", 0.95, 0.02), ("none", 0.9, 0.05)]
)
@pytest.mark.parametrize(("burst_s", "latency_s", "most"), [(10.0, 0.2, 10), (1.0, 0.05, 10), (60.0, 2.0, 60)])
async def test_nearly_all_is_used_and_hardly_any_refused(
    autojump_clock, telling, least_used, most_refused, burst_s, latency_s, most
):
    provider = LimitedProvider(600, None, burst_s, latency_s, telling)
    await paced(provider, most=most)
    assert used_share(provider, SETTLED, END, per_minute=600) >= least_used
    assert refused_share(provider, SETTLED, END) <= most_refused


@pytest.mark.parametrize("per_minute", [60, 2400])
async def test_slow_and_fast_ones(autojump_clock, per_minute):
    provider = LimitedProvider(per_minute, None, 10.0, 0.2, "full", late_headers=per_minute == 2400)
    await paced(provider, most=40, end=120)
    assert used_share(provider, SETTLED, 120, per_minute=per_minute) >= 0.97
    assert refused_share(provider, 0, 120) <= 0.005


@pytest.mark.parametrize(("telling", "within_s"), [("full", 30), ("none", 90)])
async def test_the_limit_halves_and_later_doubles_back(autojump_clock, telling, within_s):
    import trio

    provider = LimitedProvider(600, None, 10.0, 0.2, telling)
    scene = a_scene(provider, most=15)
    async with trio.open_nursery() as nursery:

        async def changes():
            await trio.sleep(60)
            provider.change(300)
            await trio.sleep(115)
            provider.change(600)

        nursery.start_soon(changes)
        await want(scene, 30.0, 290)
    assert used_share(provider, 60 + within_s, 175, per_minute=300) >= 0.9
    assert used_share(provider, 175 + within_s, 290, per_minute=600) >= 0.9
    assert refused_share(provider, 0, 290) <= 0.03


@pytest.mark.parametrize("bias", [0.8, 1.3])
async def test_tokens(autojump_clock, bias):
    rng = random.Random(3)
    per_minute, answer = 300_000, 200

    def tokens():
        prompt = int(math.exp(rng.uniform(math.log(50), math.log(8000))))
        return (
            prompt,
            int(rng.expovariate(1 / answer)) + 1,
            max(1, int(prompt * bias * rng.uniform(0.85, 1.15))),
            answer,
        )

    provider = LimitedProvider(None, per_minute, 10.0, 0.5, "full", rng=rng)
    await paced(provider, most=40, tokens=(tokens, per_minute / 60 / 1750))
    assert used_share(provider, SETTLED, END, per_minute=per_minute) >= 0.95
    # The bar is 1 %; some 270 calls are few to measure that on.
    assert refused_share(provider, SETTLED, END) <= 0.03


async def test_a_burst_after_a_pause_goes_at_once_as_far_as_the_provider_lets_it(autojump_clock):
    import trio

    provider = LimitedProvider(600, None, 10.0, 0.2, "full")
    scene = a_scene(provider, most=200, initial=200)
    await want(scene, 5.0, 5.0)
    await trio.sleep(30)
    await want(scene, 1000.0, 0.5, most_waiting=90)
    assert sum(provider.throttled.values()) == 0
    assert provider.answered[int(trio.current_time())] + provider.answered[int(trio.current_time()) - 1] >= 80
