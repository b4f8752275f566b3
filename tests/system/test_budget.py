"""A budget with real processes: many callers, faults, a kill in the middle; the provider's own count is the witness."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from processes import DaemonProcess

import aiorch
from aiorchsim.process import start_simulator

BUDGET_USD = 0.3
PROFILE = """
[[models]]
name = "main"
latency_s = 0.01
input_usd_per_1m = 60.0
output_usd_per_1m = 240.0
fault = "cut_stream"
fault_rate = 0.2
[[models]]
name = "spare"
input_usd_per_1m = 60.0
output_usd_per_1m = 240.0
"""
CONFIG = """
[providers.sim]
base_url = "{url}"
[[models]]
name = "main"
provider = "sim"
input_usd_per_1m = 60.0
output_usd_per_1m = 240.0
[[models]]
name = "spare"
provider = "sim"
input_usd_per_1m = 60.0
output_usd_per_1m = 240.0
[routing]
fallback = ["spare"]
[retry]
backoff_s = [0.01]
[concurrency]
max = 32
[budget]
per_day_usd = {budget}
"""
pytestmark = pytest.mark.slow


async def crowd(process: DaemonProcess, *, kill_after: int | None = None) -> tuple[int, aiorch.BudgetExceeded | None]:
    """Ask until the budget is used up; gives how often it was answered, and what was said in the end."""
    answered, said = 0, None
    enough = trio.Event()

    async def caller(number: int) -> None:
        nonlocal answered, said
        async with aiorch.AsyncClient(str(process.socket)) as client:
            turn = 0
            while True:
                turn += 1
                try:
                    await client.complete(f"What is {number} + {turn}?", max_tokens=20, timeout_s=20)
                    answered += 1
                    if answered == kill_after:
                        enough.set()
                except aiorch.BudgetExceeded as error:
                    if not error.retryable:
                        said = error
                        return
                except aiorch.AiorchError:
                    await trio.sleep(0.01)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(32):
                nursery.start_soon(caller, number)
            if kill_after is not None:
                await enough.wait()
                assert process.process is not None
                process.process.kill()
                process.process.wait()
                await trio.to_thread.run_sync(process.start)
    return answered, said


@pytest.mark.parametrize("kill_after", [None, 10])
async def test_the_provider_never_bills_more_than_the_budget(tmp_path: Path, kill_after: int | None) -> None:
    with start_simulator(PROFILE, seed=3) as simulator:
        process = DaemonProcess(tmp_path, CONFIG.format(url=simulator.base_url, budget=BUDGET_USD), (), {})
        process.start()
        try:
            answered, said = await crowd(process, kill_after=kill_after)
            assert answered > 5
            assert said is not None
            assert said.details["budget"] == "all"
            assert 0 < (said.retry_after_s or 0) <= 86_400
            billed = simulator.stats()["cost_usd"]
            assert 0 < billed <= BUDGET_USD
            with aiorch.Client(str(process.socket)) as client:
                [budget] = client.call("stats", own=True)["budgets"]
                assert billed <= budget["spent_usd"] + 1e-9 <= BUDGET_USD + 1e-9
                assert budget["held_usd"] == 0
                status = client.status()
                assert status["budgets"]["on_exhausted"] == "refuse"
                purse = status["stages"]["purse"]
                assert (purse["open"], purse["waiting"], purse["committing"]) == (0, 0, 0)
                # More money, live.
                client.config_override("budget.per_day_usd", BUDGET_USD * 3)
                reply = client.complete("What is 6 * 7?", model="spare", max_tokens=20)
                story = client.explain(reply.id)["story"]["attempts"][-1]
                assert 0 < story["settled_usd"] <= story["reserved_usd"]
                assert story["price_source"] == "configuration"
        finally:
            assert process.stop() == 0


LISTED = """
[providers.openai]
base_url = "https://api.openai.com/v1"
[providers.mine]
base_url = "http://localhost:9/v1"
[[models]]
name = "listed"
provider = "openai"
id = "gpt-4o-mini"
[[models]]
name = "own"
provider = "openai"
id = "gpt-4o-mini"
input_usd_per_1m = 0.1
[[models]]
name = "unknown"
provider = "mine"
id = "gpt-4o-mini"
[budget]
per_day_usd = 5.0
"""


def test_where_a_price_is_from_and_what_is_said_of_unknown_ones(tmp_path: Path) -> None:
    process = DaemonProcess(tmp_path, LISTED, (), {})
    process.start()
    try:
        with aiorch.Client(str(process.socket)) as client:
            listed, own, unknown = client.models_list()
        assert (listed["input_usd_per_1m"], listed["output_usd_per_1m"]) == (0.15, 0.6)
        assert listed["cache_read_usd_per_1m"] == 0.075
        assert listed["context_tokens"] == 128_000
        assert listed["price_source"].startswith("genai-prices")
        # One price of its own, and the table is not asked for the others.
        assert (own["input_usd_per_1m"], own["output_usd_per_1m"], own["price_source"]) == (0.1, None, "configuration")
        assert (unknown["input_usd_per_1m"], unknown["price_source"]) == (None, None)
        [said] = [line for line in process.said().splitlines() if "unknown price" in line]
        assert "own, unknown" in said
    finally:
        assert process.stop() == 0


CHAIN = """
[providers.sim]
base_url = "{url}"
[[models]]
name = "large"
provider = "sim"
id = "main"
input_usd_per_1m = 60.0
output_usd_per_1m = 240.0
[[models]]
name = "small"
provider = "sim"
id = "spare"
input_usd_per_1m = 0.1
output_usd_per_1m = 0.4
[routing]
fallback = ["small"]
cost_limit_usd = 10
[budget]
per_day_usd = 0.2
on_exhausted = "cheapest"
"""


def test_a_cheaper_model_answers_what_the_dear_one_cannot_be_paid_for(tmp_path: Path) -> None:
    with start_simulator('[[models]]\nname = "main"\n[[models]]\nname = "spare"\n') as simulator:
        process = DaemonProcess(tmp_path, CHAIN.format(url=simulator.base_url), (), {})
        process.start()
        try:
            with aiorch.Client(str(process.socket)) as client:
                # The limit of a call goes along the chain, whatever the budget says.
                reply = client.complete("What is 1 + 1?", model="large", max_tokens=500, cost_limit=0.01)
                assert reply.model == "small"
                with pytest.raises(aiorch.BudgetExceeded) as caught:
                    client.complete("What is 1 + 2?", model="large", max_tokens=500, cost_limit=0.000001)
                assert caught.value.details["budget"] == "cost_limit"
                # 1000 tokens of the dear one are more than the budget has.
                reply = client.complete("What is 2 + 2?", model="large", max_tokens=1000)
                assert reply.model == "small"
                client.config_override("budget.on_exhausted", "refuse")
                with pytest.raises(aiorch.BudgetExceeded) as caught:
                    client.complete("What is 2 + 3?", model="large", max_tokens=1000)
                assert caught.value.details["on_exhausted"] == "refuse"
                assert client.complete("What is 2 + 4?", model="small", max_tokens=1000).model == "small"
                client.config_override("budget.on_exhausted", "cache_only")
                with pytest.raises(aiorch.BudgetExceeded):
                    client.complete("What is 2 + 5?", model="large", max_tokens=1000)
                with pytest.raises(aiorch.BudgetExceeded):  # nothing more is sent
                    client.complete("What is 2 + 6?", model="small", max_tokens=10)
                assert client.complete("What is 2 + 4?", model="small", max_tokens=1000).cache == "exact"
            by_model = simulator.stats()["by_model"]
            assert by_model.get("main", {"received": 0})["received"] == 0
            assert by_model["spare"]["received"] == 3
        finally:
            assert process.stop() == 0
