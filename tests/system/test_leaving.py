"""A caller who leaves: the provider sees its connection closed within 100 ms, wherever the call was; nothing is left behind."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from processes import DaemonProcess, daemon

from aiorch import AsyncClient
from aiorchsim.process import Simulator, start_simulator

DIALECTS = {"openai": "v1", "anthropic": "v1", "gemini": "v1beta"}
BOUND_S = 0.1
TRIES = 3
"""A busy machine may hold anybody up for as long as that; not each time."""
QUESTION = "Summarize in one sentence: A caller who leaves gives back all that was held for it. " * 4
FAULTS = {"hang": "waiting", "stall": "answering", "slow_first_token=60": None}
"""Where a call is when its caller leaves, and what the provider was doing; None: waiting when plain, else answering."""


def configuration(simulator: Simulator) -> str:
    text = "[retry]\nbackoff_s = [60.0]\n[concurrency]\nmax = 1\n"
    for dialect, version in DIALECTS.items():
        text += f'[providers.{dialect}]\ndialect = "{dialect}"\nbase_url = "{simulator.url}/{version}"\napi_key_env = "SIM_KEY"\n'
        for fault in (*FAULTS, "error_503"):
            text += f'[[models]]\nname = "{dialect}:{fault}"\nid = "{dialect}+{fault}"\nprovider = "{dialect}"\n'
    return text


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with start_simulator("[[models]]\nlatency_s = 0.0\nstream_chunk_tokens = 1\n") as simulator:
        folder = tmp_path_factory.mktemp("leaving")
        with daemon(folder, configuration(simulator), environment={"SIM_KEY": "sk-sim"}) as running:
            yield simulator, running


@pytest.fixture
async def client(house: tuple[Simulator, DaemonProcess]) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(house[1].socket) as opened:
        yield opened


async def ask(client: AsyncClient, model: str, streamed: bool, begun: trio.Event) -> None:
    options: dict[str, Any] = {"model": model, "cache": "bypass", "timeout_s": 120}
    if not streamed:
        await client.complete(QUESTION, **options)
        return
    async for _ in client.stream(QUESTION, **options):
        begun.set()


async def until(simulator: Simulator, condition: Any) -> dict[str, Any]:
    with trio.fail_after(10):
        while not condition(stats := await trio.to_thread.run_sync(simulator.stats)):
            await trio.sleep(0.005)
    return stats


async def idle(client: AsyncClient) -> bool:
    status = await client.status()
    return status["stages"]["observe"]["inside"] == 0 and all(
        model["live"]["in_use"] == model["live"]["waiting"] == 0 for model in status["models"]
    )


async def waiting(client: AsyncClient, count: int) -> None:
    with trio.fail_after(5):
        while sum(model["live"]["waiting"] for model in (await client.status())["models"]) != count:
            await trio.sleep(0.005)


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_providers_connection_is_closed_at_once(
    house: tuple[Simulator, DaemonProcess], client: AsyncClient, dialect: str, fault: str, streamed: bool
) -> None:
    simulator, _ = house
    took_s = []
    for _ in range(TRIES):
        await trio.to_thread.run_sync(simulator.reset)
        begun = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, client, f"{dialect}:{fault}", streamed, begun)
            await until(simulator, lambda stats: stats["calls"]["in_flight"] == 1)
            if streamed and fault == "stall":
                await begun.wait()
            left_at = time.monotonic()
            nursery.cancel_scope.cancel()
        stats = await until(simulator, lambda stats: stats["calls"]["in_flight"] == 0)
        (gone,) = stats["left"]
        assert gone["while"] == (FAULTS[fault] or ("answering" if streamed else "waiting"))
        took_s.append(gone["at_s"] - left_at)
        if took_s[-1] <= BOUND_S:
            break
    assert min(took_s) <= BOUND_S, took_s
    with trio.fail_after(5):
        while not await idle(client):
            await trio.sleep(0.005)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_who_leaves_while_waiting_is_asked_for_no_more(
    house: tuple[Simulator, DaemonProcess], client: AsyncClient, dialect: str
) -> None:
    simulator, _ = house
    await trio.to_thread.run_sync(simulator.reset)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, client, f"{dialect}:error_503", False, trio.Event())  # asleep between two attempts
        nursery.start_soon(ask, client, f"{dialect}:hang", False, trio.Event())
        await until(simulator, lambda stats: stats["calls"]["received"] == 2)
        async with trio.open_nursery() as queued:
            queued.start_soon(ask, client, f"{dialect}:hang", False, trio.Event())  # in the queue behind it
            await waiting(client, 1)
            queued.cancel_scope.cancel()
        await waiting(client, 0)
        nursery.cancel_scope.cancel()
    stats = await until(simulator, lambda stats: stats["calls"]["in_flight"] == 0)
    with trio.fail_after(5):
        while not await idle(client):
            await trio.sleep(0.005)
    assert stats["calls"]["received"] == 2
