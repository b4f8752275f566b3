"""A provider with real limits on the fake clock: the simulator's own buckets, below a real gate and a real turnstile.

What takes minutes over HTTP takes a second here, so that pacing can be tried over many rates, bursts and latencies.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import trio
from harness import a_call, a_caller, an_attempt

from aiorch.errors import CallError, Overloaded, RateLimited
from aiorchd.calls.call import Attempt
from aiorchd.calls.rate_limits import LimitsTold, QuotaTold
from aiorchd.calls.reply import Reply, Usage
from aiorchd.core.concurrency import ConcurrencyBounds
from aiorchd.core.quota_account import Limits, QuotaAccount
from aiorchd.runtime.turnstile import TargetTurnstile
from aiorchd.stages.gate import Gate
from aiorchsim.buckets import RateLimits, TokenBucket

Telling = Literal["full", "retry_after", "none"]


@dataclass
class LimitedProvider:
    """An inner service that lets in what its buckets allow. ``jitter_s`` is how much later than sent a request arrives, at
    most; ``late_headers`` tell of the moment of the answer instead of that of the admission."""

    requests_per_minute: int | None = 600
    tokens_per_minute: int | None = None
    burst_s: float = 10.0
    latency_s: float = 0.2
    telling: Telling = "full"
    jitter_s: float = 0.004
    late_headers: bool = False
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    answered: Counter[int] = field(default_factory=Counter)
    """By whole seconds."""
    throttled: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)
    limits: RateLimits | None = None

    def change(self, requests_per_minute: int) -> None:
        """Allow another rate from now on, with what is left of the bucket."""
        self.requests_per_minute = requests_per_minute
        assert self.limits is not None
        before = self.limits._requests
        assert before is not None
        now = trio.current_time()
        rate = requests_per_minute / 60
        bucket = TokenBucket(rate, max(1.0, rate * self.burst_s), now)
        bucket.take(max(0.0, bucket.level(now) - before.level(now)), now)
        self.limits._requests, self.limits._requests_per_minute = bucket, requests_per_minute

    async def __call__(self, attempt: Attempt) -> Reply:
        if self.limits is None:
            self.limits = RateLimits(
                self.requests_per_minute, self.tokens_per_minute, self.burst_s, trio.current_time()
            )
        await trio.sleep(self.rng.random() * self.jitter_s)
        now = trio.current_time()
        prompt, answer = attempt.call.request.get("true_tokens", (10, 5))
        refused = self.limits.admit(prompt + answer, now)
        told = self._told(now)
        if refused is not None:
            self.throttled[int(now)] += 1
            attempt.heard(told)
            wait_s = refused.retry_after_s if self.telling != "none" else None
            raise RateLimited(
                "limits requests", retryable=True, retry_after_s=wait_s, details={"limited_by": refused.limited_by}
            )
        self.answered[int(now)] += 1
        self.tokens[int(now)] += prompt + answer
        latency_s = self.latency_s * self.rng.uniform(0.8, 1.2)
        await trio.sleep(latency_s)
        attempt.heard(self._told(trio.current_time()) if self.late_headers else told)
        return Reply(text="x", usage=Usage(prompt, 0, 0, answer, 0))

    def _told(self, now: float) -> LimitsTold | None:
        if self.telling != "full" or self.limits is None:
            return None
        quotas = []
        for kind, bucket, limit in (
            ("requests", self.limits._requests, self.requests_per_minute),
            ("tokens", self.limits._tokens, self.tokens_per_minute),
        ):
            if bucket is not None:
                left = max(0, math.floor(bucket.level(now) + 1e-9))
                quotas.append(QuotaTold(kind, limit, left, math.ceil(bucket.full_in_s(now) * 1000) / 1000))
        return LimitsTold(now, tuple(quotas))


@dataclass
class Scene:
    """A provider behind a gate."""

    provider: LimitedProvider
    turnstile: TargetTurnstile
    gate: Gate


def a_scene(provider: LimitedProvider, *, most: int = 10, limits: Limits | None = None, initial: int = 3) -> Scene:
    """Build it."""
    bounds = ConcurrencyBounds(initial=min(initial, most), most=most)
    turnstile = TargetTurnstile("small", bounds=bounds, accounts=[QuotaAccount("model small", limits)])
    return Scene(provider, turnstile, Gate(provider, turnstile))


async def want(
    scene: Scene,
    per_s: float,
    seconds: float,
    *,
    uid: int = 1000,
    most_waiting: int = 60,
    tokens: Callable[[], tuple[int, int, int, int]] | None = None,
    latencies: list[float] | None = None,
) -> None:
    """Send calls evenly for so long and see them through: after a 429 again, as Retry does. Not more than ``most_waiting`` at a
    time. ``tokens`` gives true prompt, true answer, expected prompt, expected answer."""
    inside = 0

    async def one() -> None:
        nonlocal inside
        inside += 1
        began = trio.current_time()
        try:
            fields = {}
            estimate = (15, 5)
            if tokens is not None:
                prompt, answer, expected_prompt, expected_answer = tokens()
                fields = {"request": {"messages": [], "true_tokens": (prompt, answer)}}
                estimate = (expected_prompt + expected_answer, expected_answer)
            call = a_call(timeout_s=300.0, caller=a_caller(uid), **fields)
            for failures in range(1, 5):
                try:
                    await scene.gate(
                        an_attempt(call, estimated_tokens=estimate[0], estimated_output_tokens=estimate[1])
                    )
                except Overloaded:
                    return
                except CallError as error:
                    backoff_s = 0.5 * 2 ** (failures - 1) * scene.provider.rng.uniform(0.75, 1.25)
                    await trio.sleep(max(backoff_s, error.retry_after_s or 0.0))
                else:
                    if latencies is not None:
                        latencies.append(trio.current_time() - began)
                    return
        finally:
            inside -= 1

    async with trio.open_nursery() as nursery:
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            if inside < most_waiting:
                nursery.start_soon(one)
            await trio.sleep(1.0 / per_s)
        nursery.cancel_scope.cancel()


def used_share(provider: LimitedProvider, start: int, end: int, *, per_minute: float) -> float:
    """Of what was allowed from second ``start`` on to ``end``, how much was used."""
    counts = provider.tokens if provider.tokens_per_minute is not None else provider.answered
    return sum(counts[second] for second in range(start, end)) / (per_minute / 60 * (end - start))


def refused_share(provider: LimitedProvider, start: int, end: int) -> float:
    """Of what was sent, how much was answered 429."""
    refused = sum(provider.throttled[second] for second in range(start, end))
    return refused / max(1, refused + sum(provider.answered[second] for second in range(start, end)))
