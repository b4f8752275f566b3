"""Ten minutes of everything at once, and whether the daemon is still what it was: `make soak`.

    python benchmarks/soak.py [--save] [--quick] [--minutes 10]

300 calls a second on average, coming at random: half asked for the first time (provider of 50 ms), half asked before; one
in ten is streamed, one in a hundred given up by its caller at once, one in a hundred comes on a connection of its own. Every
five seconds the file is changed, by turns in every way that files are written, and read again: permits, cache bounds and
strategy, pool, retry, prices, and a model that comes while another goes. Once a second memory, descriptors, threads and
tasks of the daemon are read. The slope is that of the straight line through the memory after the first minute (least
squares); descriptors, threads and tasks are compared between the second minute and the last one, by their medians.

Nothing is kept of a run of less than ten minutes.
"""

import contextlib
import itertools
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import trio
from rig.figures import Figure, options, publish
from rig.meters import Disturbance, come_first, cpu_s, descriptors, median, quantile, rss_bytes
from rig.questions import sum_of
from rig.scene import DaemonProcess, daemon, start_simulator
from rig.trials import WAYS, configuration

from aiorch import AsyncClient
from aiorch.errors import AiorchError

CALLS_PER_S = 300
RELOAD_EACH_S = 5.0
SETTLED_S = 60.0
CLIENTS = 8
WHOLE_MINUTES = 10.0


@dataclass
class Sample:
    """What the daemon is at one moment."""

    at_s: float
    rss: int
    descriptors: int
    threads: int
    tasks: int


@dataclass
class Soak:
    """What became of it all."""

    calls: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    took: list[tuple[float, float]] = field(default_factory=list)
    """When a new question was asked and how long its answer took."""
    samples: list[Sample] = field(default_factory=list)
    reloads: Counter[str] = field(default_factory=Counter)


def main() -> None:
    chosen = options(
        __doc__.splitlines()[0], lambda parser: parser.add_argument("--minutes", type=float, default=WHOLE_MINUTES)
    )
    seconds = 90.0 if chosen.quick else chosen.minutes * 60.0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        # Not pinned to CPUs, as everywhere else, and before others where that is allowed: on a busy machine the daemon would
        # be tried under overload, which is another trial.
        come_first()
        simulator = stack.enter_context(start_simulator("[[models]]\nlatency_s = 0.05\n"))
        running = stack.enter_context(daemon(folder, configuration(simulator.base_url)))
        cpu, watch = cpu_s(running.pid), Disturbance([running.pid, simulator.pid])
        soak = Soak()
        trio.run(carry_out, running, simulator.base_url, soak, seconds)
        disturbed, cpu = watch.share(), cpu_s(running.pid) - cpu
        state_mb = sum(file.stat().st_size for file in running.state.iterdir() if file.is_file()) / 1e6
        assert running.stop() == 0, running.said()
    for failure in soak.failures[:5]:
        print(failure)
    save = chosen.save and not chosen.quick and chosen.minutes >= WHOLE_MINUTES
    publish("soak", figures_of(soak, seconds, cpu, state_mb), disturbed=[disturbed], save=save)
    if chosen.save and not save:
        print("\nnothing is kept of less than ten minutes")


def figures_of(soak: Soak, seconds: float, cpu: float, state_mb: float) -> list[Figure]:
    """Make the rows of the table."""
    settled = min(SETTLED_S, seconds / 2)
    late = [sample for sample in soak.samples if sample.at_s >= settled]
    early = [sample for sample in late if sample.at_s < settled + 60.0]
    last = [sample for sample in late if sample.at_s >= seconds - 60.0]
    minutes, asked = seconds / 60.0, soak.calls.total()
    of_them = ", ".join(f"{count:,} {what}" for what, count in soak.calls.most_common())

    def grown(name: str) -> float:
        return median(getattr(sample, name) for sample in last) - median(getattr(sample, name) for sample in early)

    def ends(name: str, unit: float = 1.0) -> str:
        of_all = [getattr(sample, name) / unit for sample in soak.samples]
        by = [median(getattr(sample, name) / unit for sample in part) for part in (early, last)]
        return f"{by[0]:.0f} in the second minute, {by[1]:.0f} in the last, {max(of_all):.0f} at most"

    return [
        Figure(f"soak of {minutes:g} minutes, {CALLS_PER_S} calls a second, reload every 5 s: calls failed or answered wrongly",
               len(soak.failures), "", 0.0,
               beside=f"of {asked:,}: {of_them}; {sum(soak.reloads.values())} reloads; daemon {cpu / asked * 1e3:.2f} ms CPU a "
               f"call; p99 of a miss {_p99(soak, 0, 60) * 1e3:.0f} ms in the first minute, "
               f"{_p99(soak, seconds - 60, seconds) * 1e3:.0f} ms in the last"),
        Figure("the same: RSS slope after the first minute", _slope_per_min(late) / 1e6, "MB a minute", 1.0,
               beside=f"{ends('rss', 1e6)} (MB); files of the state {state_mb:.0f} MB",
               details={"rss_mb": [round(sample.rss / 1e6, 2) for sample in soak.samples[::5]]}),
        Figure("the same: descriptors gained", grown("descriptors"), "", 5.0, beside=ends("descriptors")),
        Figure("the same: tasks gained", grown("tasks"), "", 5.0,
               beside=f"{ends('tasks')}; threads: {ends('threads')}"),
    ]  # fmt: skip


def _slope_per_min(samples: list[Sample]) -> float:
    """Bytes a minute: least squares."""
    mean_at = sum(sample.at_s for sample in samples) / len(samples)
    mean_rss = sum(sample.rss for sample in samples) / len(samples)
    by = sum((sample.at_s - mean_at) * (sample.rss - mean_rss) for sample in samples)
    return 60.0 * by / sum((sample.at_s - mean_at) ** 2 for sample in samples)


def _p99(soak: Soak, since_s: float, until_s: float) -> float:
    took = sorted(took for at, took in soak.took if since_s <= at < until_s)
    return quantile(took, 0.99) if took else float("nan")


async def carry_out(running: DaemonProcess, base_url: str, soak: Soak, seconds: float) -> None:
    """Ask, reload and look for so long; returns when the last call is over."""
    began = trio.current_time()
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(AsyncClient(running.socket, timeout_s=30.0)) for _ in range(CLIENTS)]
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(seconds):
                async with trio.open_nursery() as looking:
                    looking.start_soon(_ask_at_random, clients, running.socket, soak, began, nursery)
                    looking.start_soon(_reload, running, base_url, soak)
                    looking.start_soon(_look, running, soak, began)


async def _ask_at_random(
    clients: list[AsyncClient], socket: Path, soak: Soak, began: float, nursery: trio.Nursery
) -> None:
    chance = random.Random(5)
    due = began
    fresh = 0
    for client in itertools.cycle(clients):
        due += chance.expovariate(CALLS_PER_S)
        await trio.sleep_until(due)
        if fresh == 0 or chance.random() < 0.5:
            fresh += 1
            number, kind = fresh, "new"
        else:
            number, kind = chance.randint(max(1, fresh - 300), fresh), "asked before"
        luck = chance.random()
        if luck < 0.10:
            kind = f"{kind}, streamed"
        elif luck < 0.11:
            kind = f"{kind}, given up"
        elif luck < 0.12:
            kind = f"{kind}, on its own connection"
        nursery.start_soon(_ask, client, socket, soak, began, number, kind)


async def _ask(client: AsyncClient, socket: Path, soak: Soak, began: float, number: int, kind: str) -> None:
    wanted = sum_of(number)
    soak.calls[kind] += 1
    asked = trio.current_time()
    try:
        if kind.endswith("streamed"):
            async with client.stream(wanted.prompt, model="small") as pieces:
                text = "".join([piece async for piece in pieces])
        elif kind.endswith("given up"):
            with trio.move_on_after(0.01):
                await client.complete(wanted.prompt, model="small")
            return
        elif kind.endswith("connection"):
            async with AsyncClient(socket, timeout_s=30.0) as own:
                text = (await own.complete(wanted.prompt, model="small")).text
        else:
            text = (await client.complete(wanted.prompt, model="small")).text
    except AiorchError as error:
        soak.failures.append(f"call {number} ({kind}) failed: {type(error).__name__}: {error}")
        return
    if text != wanted.answer:
        soak.failures.append(f"call {number} ({kind}) was answered {text!r}, not {wanted.answer!r}")
    if kind == "new":
        soak.took.append((asked - began, trio.current_time() - asked))


async def _reload(running: DaemonProcess, base_url: str, soak: Soak) -> None:
    async with AsyncClient(running.socket) as client:
        for number, write in enumerate(itertools.cycle(WAYS.values()), 1):
            await trio.sleep(RELOAD_EACH_S)
            # The same few sizes over and over: what grows is then nothing that was asked for.
            await write(running.config, configuration(base_url, number % 20))
            verdict = await client.config_reload()
            soak.reloads[verdict["result"]] += 1
            if verdict["result"] == "refused":
                soak.failures.append(f"reload {number}: {verdict}")


async def _look(running: DaemonProcess, soak: Soak, began: float) -> None:
    async with AsyncClient(running.socket) as client:
        while True:
            await trio.sleep(1.0)
            tasks = (await client.status())["tasks"]
            threads = len(list(Path(f"/proc/{running.pid}/task").iterdir()))
            soak.samples.append(
                Sample(trio.current_time() - began, rss_bytes(running.pid), descriptors(running.pid), threads, tasks)
            )
            if len(soak.samples) % 60 == 0:
                sample = soak.samples[-1]
                print(
                    f"{time.strftime('%H:%M:%S')} {sample.rss / 1e6:.1f} MB, {sample.descriptors} descriptors, "
                    f"{sample.tasks} tasks, {sample.threads} threads, {soak.calls.total():,} calls, {len(soak.failures)} failed",
                    flush=True,
                )


if __name__ == "__main__":
    main()
