"""Callers who leave, wherever their call is: how soon the provider's connection is closed and everything let go.

One daemon, one simulated provider with a model for each situation. A `Leaver` brings a call into a situation, lets its caller
leave, and tells after how many seconds the provider had no call in flight any more and no stage of the daemon held anything;
the provider's own counts and the daemon's ``status`` are the witnesses. Both are asked again and again, so what is told is a
little more than it took.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import trio
from processes import DaemonProcess, daemon

import aiorch
from aiorchsim.process import Simulator, start_simulator

PROFILE: Final = """
[sim]
api_keys = ["sk-good-0123456789"]
[[models]]
name = "quick"
latency_s = 0.0
[[models]]
name = "slow"
latency_s = 60.0
[[models]]
name = "broken"
latency_s = 0.0
error_rate = 1.0
"""
CONFIG: Final = """
[cache]
strategy = "off"
[retry]
backoff_s = [60.0]
jitter = 0
budget_retries = 1000
[breaker]
enabled = false
[hedge]
enabled = true
min_samples = 2
max_share = 1.0
target = "same"
[validation]
max_reasks = 1
[providers.main]
base_url = "{base_url}"
api_key_env = "GOOD"
[providers.two]
base_url = "{base_url}"
api_keys_env = ["BAD", "GOOD"]
{models}
"""
MODELS: Final[Mapping[str, str]] = {
    "slow": 'id = "slow"',
    "hanging": 'id = "quick+hang"',
    "thinking": 'id = "quick+slow_first_token=60"',
    "stalling": 'id = "quick+stall"',
    "one": 'id = "slow"\nmax_concurrency = 1',
    "broken": 'id = "broken"',
    "falling": 'id = "broken"\nfallback = ["slow"]',
    "hedged": 'id = "quick"',
    "keyed": 'id = "slow"',
}
HELD: Final = frozenset(
    "inside busy flights passengers running waiting in_flight sleeping racing in_use reserved open held".split()
)
"""Counts in `statistics()` that are 0 when nothing goes on."""


class Leaver:
    """Calls that are left. ``paths`` are the situations, each a coroutine that gives the seconds."""

    def __init__(self, running: DaemonProcess, simulator: Simulator, client: aiorch.AsyncClient) -> None:
        self.running = running
        self.simulator = simulator
        self.client = client
        self._number = 0
        self.paths: dict[str, Callable[[], Awaitable[float]]] = {
            "waiting for a whole answer": lambda: self.of_one("slow"),
            "the provider took the call and says nothing": lambda: self.of_one("hanging"),
            "streamed, before the first token": lambda: self.of_one("thinking", streamed=True),
            "in the middle of a stream": self.mid_stream,
            "waiting for a turn": self.queued,
            "between two attempts": self.backing_off,
            "at a fallback": lambda: self.of_one("falling", received=2),
            "with a second try under way": self.hedged,
            "with another key after a refused one": self.keyed,
            "the last of three who share a call": self.shared,
        }

    async def of_one(self, model: str, *, streamed: bool = False, received: int = 1) -> float:
        """One call, in flight at the provider."""
        await self._reset()
        async with trio.open_nursery() as nursery:
            leave = await nursery.start(self._caller, model, streamed)
            await self.until(lambda calls: calls["in_flight"] == 1 and calls["received"] >= received)
            return await self._left(leave)

    async def mid_stream(self) -> float:
        """A streamed call of which some pieces have come."""
        await self._reset()
        async with trio.open_nursery() as nursery:
            came = trio.Event()
            leave = await nursery.start(self._caller, "stalling", True, came)
            await came.wait()
            return await self._left(leave)

    async def queued(self) -> float:
        """A call that waits for the only permit of its model, which another one has; that other one stays."""
        await self._reset()
        async with trio.open_nursery() as nursery:
            other = await nursery.start(self._caller, "one")
            await self.until(lambda calls: calls["in_flight"] == 1)
            leave = await nursery.start(self._caller, "one")
            while not (await self._waiting("one")):
                await trio.sleep(0.001)
            began = time.perf_counter()
            leave()
            while await self._waiting("one"):
                await trio.sleep(0.001)
            took_s = time.perf_counter() - began
            assert (await self._stats())["calls"]["received"] == 1, "it was never sent"
            await self._left(other)
            return took_s

    async def backing_off(self) -> float:
        """A call that sleeps between two attempts: nothing is at the provider, and nothing comes afterwards."""
        await self._reset()
        async with trio.open_nursery() as nursery:
            leave = await nursery.start(self._caller, "broken")
            while not (await self._stage("retry broken"))["sleeping"]:
                await trio.sleep(0.001)
            took_s = await self._left(leave)
            assert (await self._stats())["calls"]["received"] == 1
            return took_s

    async def hedged(self) -> float:
        """A late call and its second try: two connections."""
        await self._reset()
        for _ in range(3):
            await self.client.complete(self._prompt(), model="hedged")
        await self.client.call("config.override", key="models.hedged.id", value="slow")
        try:
            async with trio.open_nursery() as nursery:
                leave = await nursery.start(self._caller, "hedged")
                await self.until(lambda calls: calls["in_flight"] == 2)
                return await self._left(leave)
        finally:
            await self.client.call("config.reset", key="models.hedged.id")

    async def keyed(self) -> float:
        """A call whose first key was refused, at the provider with the second."""
        await self._reset()
        # Any change of the key's place would give it a new chance; a restart of the simulator's counts does not.
        async with trio.open_nursery() as nursery:
            leave = await nursery.start(self._caller, "keyed")
            await self.until(lambda calls: calls["in_flight"] == 1)
            return await self._left(leave)

    async def shared(self) -> float:
        """Three callers of one shared call; the first two leave without any effect."""
        await self._reset()
        prompt = self._prompt()
        async with trio.open_nursery() as nursery:
            leaving = [await nursery.start(self._caller, "slow", False, None, prompt) for _ in range(3)]
            await self.until(lambda calls: calls["in_flight"] == 1)
            while (await self._stage("coalesce"))["passengers"] != 3:
                await trio.sleep(0.001)
            for leave in leaving[:2]:
                leave()
            while (await self._stage("coalesce"))["passengers"] != 1:
                await trio.sleep(0.001)
            assert (await self._stats())["calls"]["in_flight"] == 1
            return await self._left(leaving[2])

    async def assert_idle(self) -> None:
        """No stage holds anything, and no permit is out."""
        status = await self.client.status()
        held = [f"{name}.{field} = {value}" for name, field, value in _held(status["stages"])]
        held += [
            f"{model['name']}: {field} = {model['live'][field]}"
            for model in status["models"]
            for field in ("in_use", "waiting")
            if model["live"][field]
        ]
        assert not held, held

    async def _caller(
        self,
        model: str,
        streamed: bool = False,
        came: trio.Event | None = None,
        prompt: str | None = None,
        task_status: trio.TaskStatus[Callable[[], None]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope.cancel)
            prompt = prompt or self._prompt()
            if not streamed:
                await self.client.complete(prompt, model=model, timeout_s=100)
                raise AssertionError(f"{model} answered")
            async with self.client.stream(prompt, model=model, timeout_s=100) as pieces:
                async for _ in pieces:
                    if came is not None:
                        came.set()
            raise AssertionError(f"{model} answered")

    async def _left(self, leave: Callable[[], None]) -> float:
        """Let the caller leave, and wait until nothing is left of its call anywhere."""
        began = time.perf_counter()
        leave()
        await self.until(lambda calls: calls["in_flight"] == 0)
        took_s = time.perf_counter() - began
        with trio.fail_after(5):
            while True:
                with suppress(AssertionError):
                    await self.assert_idle()
                    return took_s
                await trio.sleep(0.005)

    def _prompt(self) -> str:
        self._number += 1
        return f"What is {self._number} + {self._number}? Then write a long story."

    async def _reset(self) -> None:
        await trio.to_thread.run_sync(self.simulator.reset)

    async def _stats(self) -> dict[str, Any]:
        return await trio.to_thread.run_sync(self.simulator.stats)

    async def until(self, condition: Callable[[dict[str, int]], bool]) -> None:
        """Wait until the provider's counts are so."""
        with trio.fail_after(20):
            while not condition((await self._stats())["calls"]):
                await trio.sleep(0.001)

    async def _stage(self, name: str) -> dict[str, Any]:
        return dict((await self.client.status())["stages"][name])

    async def _waiting(self, model: str) -> int:
        [live] = [each["live"] for each in await self.client.models_list() if each["name"] == model]
        return int(live["waiting"])


def _held(stages: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    found = []
    for name, statistics in stages.items():
        for field, value in statistics.items():
            if field in HELD and isinstance(value, int | float) and value:
                found.append((name, field, value))
            elif field == "breaker" and value["in_flight"]:
                found.append((name, "breaker.in_flight", value["in_flight"]))
    return found


@asynccontextmanager
async def a_leaver(folder: Path) -> AsyncIterator[Leaver]:
    """The scene, for the length of the block."""
    models = "\n".join(
        f'[[models]]\nname = "{name}"\nprovider = "{"two" if name == "keyed" else "main"}"\n{rest}'
        for name, rest in MODELS.items()
    )
    with start_simulator(PROFILE) as simulator:
        config = CONFIG.format(base_url=simulator.base_url, models=models)
        environment = {"GOOD": "sk-good-0123456789", "BAD": "sk-bad-0123456789"}
        with daemon(folder, config, environment=environment) as running:
            async with aiorch.AsyncClient(running.socket, timeout_s=30) as client:
                yield Leaver(running, simulator, client)
