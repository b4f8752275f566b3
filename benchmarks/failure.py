"""What failure costs: a caller who leaves, a primary that dies, one target of three that is slow or sick.

    python benchmarks/failure.py [--save] [--quick]

Leaving: ten situations of tests/kit/leaving.py, each twenty times: seconds until the provider has no call in flight any more,
asked of the provider itself. Dying: 40 calls a second, half of them of 200 ms and half streams of two seconds; the primary drops
all its connections and refuses new ones for 60 s (a provider of its own is the fallback), all keys at their defaults; probes are
counted at the breaker; back means that nine of ten calls of a second were answered by the primary. Three targets: 20 calls a
second at each, of 100 ms; turn by turn all are well, the first is slow (2 s), fails (500), takes calls and says nothing; the p99
of the other two over that of the turn before, in which all were well.
"""

import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import trio
from rig.figures import Figure, options, publish
from rig.meters import LOAD, UNDER_TEST, Disturbance, median, pinned, quantile
from rig.scene import daemon, start_simulator

from leaving import a_leaver  # isort: skip

import aiorch

RATE = 40.0
PRIMARY = """
[cache]
strategy = "off"
[routing]
fallback = ["backup"]
[providers.first]
base_url = "{first}"
[providers.second]
base_url = "{second}"
[[models]]
name = "primary"
provider = "first"
id = "m"
[[models]]
name = "backup"
provider = "second"
id = "m"
[concurrency]
max = 64
"""
THREE = """
[cache]
strategy = "off"
[concurrency]
max = 64
[providers.first]
base_url = "{base_url}"
"""


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    watch = Disturbance([])
    figures = [leaving(3 if chosen.quick else 20)]
    figures += dying(8.0 if chosen.quick else 60.0)
    figures += one_of_three(2.0 if chosen.quick else 10.0, 1 if chosen.quick else 3)
    publish("failure", figures, disturbed=[watch.share()], save=chosen.save)


# --- a caller who leaves ------------------------------------------------------------------------------------------------


def leaving(rounds: int) -> Figure:
    took: dict[str, list[float]] = {}

    async def run() -> None:
        with tempfile.TemporaryDirectory(prefix="aiorch-bench-") as folder:
            async with a_leaver(Path(folder)) as leaver:
                for _ in range(rounds):
                    for name, path in leaver.paths.items():
                        took.setdefault(name, []).append(await path())

    trio.run(run)
    every = sorted(seconds for each in took.values() for seconds in each)
    slowest = max(took, key=lambda name: max(took[name]))
    return Figure(
        "a caller who leaves: the provider's connection closed, at worst",
        every[-1] * 1e3,
        "ms",
        100.0,
        beside=f"median {median(every) * 1e3:.1f} ms, p99 {quantile(every, 0.99) * 1e3:.1f} ms of {len(every)}, on {len(took)} "
        f"paths; slowest: {slowest}",
        details={name: [round(seconds * 1e3, 2) for seconds in each] for name, each in took.items()},
    )


# --- a primary that dies ------------------------------------------------------------------------------------------------


class Story:
    """Every call: when it came, how long it took, who answered or what went wrong."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, float, str]] = []

    async def one(self, client: aiorch.AsyncClient, model: str, number: int, *, streamed: bool) -> None:
        began = time.perf_counter()
        prompt = f"Repeat: {number} {'word ' * 60}" if streamed else f"What is {number} + {number}?"
        try:
            if streamed:
                async with client.stream(prompt, model=model, timeout_s=60) as pieces:
                    text = "".join([piece async for piece in pieces])
                    reply = pieces.reply
                assert reply.text == text != ""
            else:
                reply = await client.complete(prompt, model=model, timeout_s=60)
                assert reply.text == str(2 * number), reply.text
            how = str(reply.model)
        except aiorch.CallError as error:
            how = f"error {error.code}"
        self.calls.append((began, time.perf_counter() - began, how))


def dying(dead_s: float) -> list[Figure]:
    story = Story()
    told: dict[str, Any] = {}
    with ExitStack() as stack:
        with pinned(LOAD):
            profile = "[[models]]\nlatency_s = 0.2\nfirst_token_s = 0.05\nlatency_per_output_token_s = 0.05\n"
            first, second = (stack.enter_context(start_simulator(profile)) for _ in range(2))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        with pinned(UNDER_TEST):
            config = PRIMARY.format(first=first.base_url, second=second.base_url)
            running = stack.enter_context(daemon(folder, config))

        async def run() -> None:
            async with aiorch.AsyncClient(running.socket) as client, trio.open_nursery() as nursery:
                number = 0

                async def load(seconds: float) -> None:
                    nonlocal number
                    until = time.perf_counter() + seconds
                    due = trio.current_time()
                    while time.perf_counter() < until:
                        number += 1
                        nursery.start_soon(lambda n=number: story.one(client, "primary", n, streamed=n % 2 == 0))
                        due += 1 / RATE
                        await trio.sleep_until(due)

                await load(8.0)
                before = (await client.status())["stages"]["breaker primary"]["breaker"]
                told["died"] = time.perf_counter()
                await trio.to_thread.run_sync(first.take_down, dead_s)
                await load(dead_s - 0.5)
                told["breaker"] = (await client.status())["stages"]["breaker primary"]["breaker"]
                told["probes"] = told["breaker"]["probes"] - before["probes"]
                await load(25.0)

        trio.run(run)
        code = running.stop()
        assert code == 0, running.said()
    return _told_of_dying(story, told, dead_s)


def _told_of_dying(story: Story, told: dict[str, Any], dead_s: float) -> list[Figure]:
    died, returned = told["died"], told["died"] + dead_s
    failed = Counter(how for _, _, how in story.calls if how.startswith("error"))
    broken_off = failed.pop("error incomplete_stream", 0)
    back_s = 999.0
    for second in range(40):
        answered = [how for began, _, how in story.calls if returned + second <= began < returned + second + 1]
        if answered and sum(how == "primary" for how in answered) >= 0.9 * len(answered):
            back_s = second + 1.0
            break
    dead = sorted(
        took for began, took, how in story.calls if died + 5 <= began < returned and how == "backup" and took < 2
    )
    well = sorted(took for began, took, how in story.calls if began < died and how == "primary" and took < 2)
    return [
        Figure(
            f"primary dies for {dead_s:g} s under load: failed answers but streams that had begun",
            sum(failed.values()),
            "",
            0.0,
            beside=f"of {len(story.calls):,} calls at {RATE:g} a second; {broken_off} streams that had begun broke off, each "
            f"told incomplete_stream; what is not streamed took {median(dead) * 1e3:.0f} ms meanwhile (p50; before "
            f"{median(well) * 1e3:.0f} ms), p99 {quantile(dead, 0.99) * 1e3:.0f} ms"
            + (f"; {dict(failed)}" if failed else ""),
        ),
        Figure("the same: back on it after its return", back_s, "s", 15.0, beside="nine of ten calls of a second"),
        Figure(
            "the same: probes meanwhile",
            told["probes"],
            "",
            5.0,
            beside=f"calls let through to see; {told['breaker']['refused']:,} went to the fallback without waiting",
        ),
    ]


# --- one of three -------------------------------------------------------------------------------------------------------


def one_of_three(seconds: float, rounds: int) -> list[Figure]:
    ills = {"slow": ("slow", None), "fails": ("ill", "error_500"), "silent": ("ill", "hang")}
    ratios: dict[str, list[float]] = {}
    absolute: dict[str, list[float]] = {}
    errors = 0
    with ExitStack() as stack:
        with pinned(LOAD):
            simulator = stack.enter_context(
                start_simulator('[[models]]\nname = "*"\nlatency_s = 0.1\n[[models]]\nname = "slow"\nlatency_s = 2.0\n')
            )
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        names = ("a", "slow", "ill", "b", "c")
        models = "".join(f'[[models]]\nname = "{name}"\nprovider = "first"\n' for name in names)
        with pinned(UNDER_TEST):
            running = stack.enter_context(daemon(folder, THREE.format(base_url=simulator.base_url) + models))

        async def turn(client: aiorch.AsyncClient, first: str, number: int) -> tuple[float, int, int]:
            story = Story()
            async with trio.open_nursery() as nursery:
                due = trio.current_time()
                until = due + seconds
                while due < until:
                    for name in (first, "b", "c"):
                        number += 1
                        nursery.start_soon(lambda m=name, n=number: story.one(client, m, n, streamed=False))
                    due += 1 / 20
                    await trio.sleep_until(due)
                await trio.sleep(1.0)
                nursery.cancel_scope.cancel()  # those that still wait for the sick one
            others = sorted(took for _, took, how in story.calls if how in ("b", "c"))
            wrong = 0 if first != "a" else sum(how.startswith("error") for _, _, how in story.calls)
            assert len(others) >= 2 * 20 * seconds * 0.99, f"{len(others)} of the other two were answered"
            return quantile(others, 0.99), number, wrong

        async def run() -> None:
            nonlocal errors
            number = 0
            async with aiorch.AsyncClient(running.socket) as client:
                _, number, _ = await turn(client, "a", number)
                for _ in range(rounds):
                    for ill, (model, fault) in ills.items():
                        well, number, wrong = await turn(client, "a", number)
                        errors += wrong
                        rules = [] if fault is None else [{"fault": fault, "model": "ill"}]
                        await trio.to_thread.run_sync(lambda rules=rules: simulator.set_faults(*rules))
                        sick, number, _ = await turn(client, model, number)
                        ratios.setdefault(ill, []).append(sick / well)
                        absolute.setdefault(ill, []).append(sick)
                        absolute.setdefault("well", []).append(well)

        trio.run(run)
        running.stop()
    worst = max(ratios, key=lambda ill: median(ratios[ill]))
    each = ", ".join(f"{ill} {median(found):.2f}" for ill, found in ratios.items())
    return [
        Figure(
            "one target of three slow or sick: p99 of calls to the other two, over when all are well",
            median(ratios[worst]),
            "times",
            1.2,
            beside=f"{each} (medians of {rounds} turns of {seconds:g} s); {median(absolute['well']) * 1e3:.0f} ms when all are "
            f"well, provider of 100 ms; {errors} errors of theirs",
            details={"ratios": ratios, "p99_s": absolute},
        )
    ]


if __name__ == "__main__":
    main()
