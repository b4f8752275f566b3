"""Races 64 callers for a budget of 1.00, with faults, retries, fallbacks and re-asks on, and asks the provider what it billed.

    python benchmarks/budget.py [--save] [--quick]

The simulator knows the prices and counts tokens itself. Half of its answers break the schema that is asked for or suffer a fault,
so most calls take several attempts, and hedges join in. Variants: the daemon is killed without
warning in the middle and a successor takes over; the same load without a budget tells what a budget costs a call.
"""

import contextlib
import random
import tempfile
import time
from pathlib import Path

import trio
from rig.figures import Figure, options, publish
from rig.meters import LOAD, UNDER_TEST, Disturbance, cpu_s, median, pinned
from rig.scene import DaemonProcess, start_simulator

import aiorch

BUDGET_USD = 1.0
CALLERS = 64
IN_USD, OUT_USD = 60.0, 240.0  # for a million tokens: an attempt holds about two cents, and most cost less than one
SCHEMA = {
    "type": "object",
    "properties": {"tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["tags"],
}

SIMULATOR = """
[[models]]
name = "main"
latency_s = 0.02
latency_jitter_s = 0.015
quality = 0.7
input_usd_per_1m = {IN_USD}
output_usd_per_1m = {OUT_USD}
fault = "{fault}"
fault_rate = 0.25
[[models]]
name = "spare"
latency_s = 0.02
input_usd_per_1m = {IN_USD}
output_usd_per_1m = {OUT_USD}
"""

CONFIG = """
[providers.sim]
base_url = "{url}"
[[models]]
name = "main"
provider = "sim"
input_usd_per_1m = {IN_USD}
output_usd_per_1m = {OUT_USD}
[[models]]
name = "spare"
provider = "sim"
input_usd_per_1m = {IN_USD}
output_usd_per_1m = {OUT_USD}
[routing]
fallback = ["spare"]
cost_limit_usd = 100
[retry]
backoff_s = [0.01, 0.02]
[validation]
max_reasks = 2
[breaker]
enabled = false
[hedge]
enabled = true
quantile = 0.6
min_samples = 5
max_share = 0.5
[concurrency]
max = 64
[cache]
strategy = "off"
{budget}
"""


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    seeds = range(1, 3 if chosen.quick else 6)
    runs, killed = [], []
    watch = Disturbance([])  # the races do not measure time; what disturbed the last part counts
    for seed in seeds:
        for kill in (False, True):
            with race(seed) as it:
                (killed if kill else runs).append(it.run(seed, kill=kill))
    disturbed = watch.share()
    with_budget, without = overhead(0.5 if chosen.quick else 4.0)
    first, last = told_of(runs), told_of(killed)
    figures = [
        Figure("a budget of 1.00, 64 callers racing, with faults, retries, fallbacks, hedges and re-asks: billed, at worst",
               max(run["billed"] for run in runs), "US dollars", BUDGET_USD, beside=first, details={"runs": runs}),
        Figure("the same, the daemon killed (kill -9) in the middle",
               max(run["billed"] for run in killed), "US dollars", BUDGET_USD, beside=last, details={"runs": killed}),
        Figure("what a budget adds to a call, p50", (with_budget["p50"] - without["p50"]) * 1e3, "ms",
               beside=f"one caller: {with_budget['p50'] * 1e3:.2f} ms with, {without['p50'] * 1e3:.2f} ms without; "
               f"p99 {with_budget['p99'] * 1e3:.1f} and {without['p99'] * 1e3:.1f} ms"),
        Figure("daemon CPU a call with a budget, 64 callers", with_budget["cpu"] * 1e3, "ms",
               beside=f"{without['cpu'] * 1e3:.2f} ms without; {with_budget['rate']:.0f} calls a second with, "
               f"{without['rate']:.0f} without"),
    ]  # fmt: skip
    publish("budget", figures, disturbed=[disturbed], save=chosen.save)


def told_of(runs: list[dict]) -> str:
    """What stands beside: how much happened, and what the ledger believes."""
    counted, estimated = ([run[name] for run in runs] for name in ("counted", "estimated"))
    attempts, hedges, answered = (sum(run[name] for run in runs) for name in ("attempts", "hedges", "answered"))
    return (
        f"{len(runs)} seeds, {attempts:,} attempts ({hedges} of them hedges), {answered:,} calls answered; the ledger counted "
        f"{min(counted):.3f} to {max(counted):.3f}, of it at most {max(estimated):.3f} by estimate (callers who left, hedges)"
    )


class Race:
    """One simulator and the daemons that ask it."""

    def __init__(self, folder: Path, simulator) -> None:
        self.folder = folder
        self.simulator = simulator
        budget = f"[budget]\nper_day_usd = {BUDGET_USD}\n"
        text = CONFIG.format(url=simulator.base_url, budget=budget, IN_USD=IN_USD, OUT_USD=OUT_USD)
        self.daemon = DaemonProcess(folder, text, (), {})

    def run(self, seed: int, *, kill: bool) -> dict:
        """Race until nothing is left; gives what both sides counted."""
        self.daemon.start()
        tally = {"answered": 0, "failed": 0, "refused": 0, "cut": 0}
        trio.run(self._crowd, seed, tally, 0.6 if kill else None)
        with aiorch.Client(str(self.daemon.socket)) as client:
            limits = client.status()["budgets"]["limits"][0]
            stages = client.status()["stages"]
            hedges = sum(stage["started"] for name, stage in stages.items() if name.startswith("hedge "))
        assert self.daemon.stop() == 0, self.daemon.said()
        stats = self.simulator.stats()
        return {
            "seed": seed,
            "billed": stats["cost_usd"],
            "counted": limits["spent_usd"],
            "estimated": limits["estimated_usd"],
            "held": limits["held_usd"],
            "attempts": stats["calls"]["received"],
            "hedges": hedges,
            **tally,
        }

    async def _crowd(self, seed: int, tally: dict, kill_after_s: float | None) -> None:
        until = trio.current_time() + 20
        with trio.move_on_at(until):
            async with trio.open_nursery() as nursery:
                for number in range(CALLERS):
                    nursery.start_soon(self._caller, random.Random(seed * 1000 + number), number, tally)
                if kill_after_s is not None:
                    await trio.sleep(kill_after_s)
                    self.daemon.process.kill()
                    self.daemon.process.wait()
                    await trio.to_thread.run_sync(self.daemon.start)

    async def _caller(self, chance: random.Random, number: int, tally: dict) -> None:
        async with aiorch.AsyncClient(str(self.daemon.socket)) as client:
            turn = 0
            while True:
                turn += 1
                prompt = f"Give three tags for page {number}-{turn}: " + "lorem ipsum " * chance.randrange(1, 8)
                ask = {"max_tokens": chance.choice((20, 30, 40))}
                if chance.random() < 0.5:
                    ask["output_schema"] = SCHEMA
                try:
                    with trio.move_on_after(chance.choice((0.03, 5.0, 5.0))):  # some leave in the middle
                        await client.complete(prompt, timeout_s=10, **ask)
                        tally["answered"] += 1
                except aiorch.BudgetExceeded as error:
                    tally["refused"] += 1
                    if not error.retryable:
                        return
                except (aiorch.Unreachable, aiorch.GoingAway, OSError):
                    tally["cut"] += 1
                    await trio.sleep(0.05)
                except aiorch.AiorchError:
                    tally["failed"] += 1


@contextlib.contextmanager
def race(seed: int):
    """Both, in a folder that goes away."""
    fault = ("error_500", "cut_stream", "rate_limited", "nonsense", "refuse")[seed % 5]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        profile = SIMULATOR.format(fault=fault, IN_USD=IN_USD, OUT_USD=OUT_USD)
        simulator = stack.enter_context(start_simulator(profile, seed=seed))
        it = Race(folder, simulator)
        stack.callback(
            lambda: it.daemon.process is not None and it.daemon.process.poll() is None and it.daemon.process.kill()
        )
        yield it


def overhead(seconds: float) -> tuple[dict, dict]:
    """The same calls with a budget that is never used up, and without: two daemons that take turns, round by round."""
    rounds = 2 if seconds < 1 else 6
    sides: list[dict] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        profile = '[[models]]\nname = "main"\nlatency_s = 0.0\n[[models]]\nname = "spare"\n'
        with pinned(LOAD):
            simulator = stack.enter_context(start_simulator(profile))
        for name, budget in (("with", "[budget]\nper_day_usd = 1000000\n"), ("without", "")):
            (folder / name).mkdir()
            text = CONFIG.format(url=simulator.base_url, budget=budget, IN_USD=IN_USD, OUT_USD=OUT_USD)
            daemon = DaemonProcess(folder / name, text, (), {})
            with pinned(UNDER_TEST):
                daemon.start()
            stack.callback(lambda daemon=daemon: daemon.process.poll() is None and daemon.process.kill())
            sides.append({"daemon": daemon, "p50": [], "p99": [], "cpu": [], "rate": []})
        for _ in range(rounds):
            for side in sides:
                daemon = side["daemon"]
                with pinned(LOAD):
                    alone = sorted(trio.run(_ask_for, daemon, seconds / 2, 1))
                    cpu = cpu_s(daemon.pid)
                    crowd = trio.run(_ask_for, daemon, seconds / 2, CALLERS)
                    cpu = cpu_s(daemon.pid) - cpu
                side["p50"].append(median(alone))
                side["p99"].append(alone[int(len(alone) * 0.99)])
                side["cpu"].append(cpu / len(crowd))
                side["rate"].append(len(crowd) / (seconds / 2))
        for side in sides:
            assert side["daemon"].stop() == 0, side["daemon"].said()
    with_budget, without = ({name: median(side[name]) for name in ("p50", "p99", "cpu", "rate")} for side in sides)
    return with_budget, without


async def _ask_for(daemon: DaemonProcess, seconds: float, callers: int) -> list[float]:
    took: list[float] = []

    async def caller(number: int) -> None:
        async with aiorch.AsyncClient(str(daemon.socket)) as client:
            turn = 0
            while True:
                turn += 1
                began = time.perf_counter()
                await client.complete(f"What is {number} + {turn}?", max_tokens=20)
                took.append(time.perf_counter() - began)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(callers):
                nursery.start_soon(caller, number)
    return took


if __name__ == "__main__":
    main()
