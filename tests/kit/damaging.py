"""Ways to damage the files of a state directory, and a real daemon started on each: what became of it.

Files are damaged as a kill left them, with write-ahead logs that are not folded in. A daemon either serves, with the
damaged file put aside where that may be, or ends with 78 and one sentence, and then has touched nothing.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import trio
from processes import DaemonProcess
from processes import daemon as running
from sums import sum_of

from aiorch import AsyncClient
from aiorch.errors import AiorchError, NotFound

FILES = ("cache.db", "metrics.db", "ledger.db")
COMPANIONS = ("", "-wal", "-shm")
Damage = Callable[[Path, int], None]


def flip_bits(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    raw = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 8, 200))):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)


def cut_short(path: Path, seed: int) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(random.Random(seed).choice((0, 1, 99, 100, 512, 4095, 4096, size // 2, size - 4096, size - 1)))


def zero_pages(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with path.open("r+b") as file:
        for _ in range(3):
            file.seek(rng.randrange(path.stat().st_size // 4096) * 4096)
            file.write(bytes(4096))


def garbage(path: Path, seed: int) -> None:
    path.write_bytes(random.Random(seed).randbytes(20_000))


def exchange_pages(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    raw = bytearray(path.read_bytes())
    one, other = (rng.randrange(1, len(raw) // 4096) * 4096 for _ in range(2))
    raw[one : one + 4096], raw[other : other + 4096] = raw[other : other + 4096], raw[one : one + 4096]
    path.write_bytes(raw)


def foreign(path: Path, seed: int) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE of_somebody_else (precious)")
        connection.execute("INSERT INTO of_somebody_else VALUES (?)", (seed,))
    connection.close()


def lost_tables(path: Path, seed: int) -> None:
    connection = sqlite3.connect(path)
    tables = [
        name
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '_sqlite%'"
        )
    ]
    with connection:
        connection.execute(f'DROP TABLE "{sorted(tables)[seed % len(tables)]}"')
    connection.close()


def a_folder(path: Path, seed: int) -> None:
    path.unlink()
    path.mkdir()


def only_a_journal(path: Path, seed: int) -> None:
    path.rename(path.with_name(path.name + "-wal"))


def a_broken_log(path: Path, seed: int) -> None:
    path.with_name(path.name + "-wal").write_bytes(random.Random(seed).randbytes(40_000))
    path.with_name(path.name + "-shm").write_bytes(random.Random(seed).randbytes(32_768))


def newer_schema(path: Path, seed: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {50 + seed % 10}")
        connection.commit()


DATABASE: Sequence[Damage] = (
    flip_bits,
    cut_short,
    zero_pages,
    garbage,
    exchange_pages,
    foreign,
    newer_schema,
    lost_tables,
)
LOG: Sequence[Damage] = (flip_bits, cut_short, zero_pages, garbage)
"""What is done to a database, and to its write-ahead log and the index of that."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One file, damaged in one way."""

    file: str
    companion: str
    damage: Damage
    seed: int

    def __str__(self) -> str:
        return f"{self.file}{self.companion}, {self.damage.__name__}, {self.seed}"


def trials(count: int) -> list[Trial]:
    """So many trials: every way of every file in turn, with another seed each time round."""
    ways = [
        (file, companion, damage)
        for file in FILES
        for companion in COMPANIONS
        for damage in (LOG if companion else DATABASE)
    ]
    return [Trial(*ways[number % len(ways)], seed=number // len(ways)) for number in range(count)]


@dataclass(slots=True)
class Story:
    """What became of the trials. ``wrong`` is whatever must not be, in words."""

    served: int = 0
    put_aside: int = 0
    refused: int = 0
    found: int = 0
    looked_for: int = 0
    slowest_start_s: float = 0.0
    slowest_end_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Made:
    """A state directory as a killed daemon left it: what was answered, and whose ledger it is."""

    state: Path
    answered: int
    instance: str
    boots: int


async def make(daemon: DaemonProcess, folder: Path, answers: int) -> Made:
    """Let a daemon, not yet started, live twice, kill it the second time, and keep its state."""
    daemon.start()
    daemon.stop()
    daemon.start()
    async with AsyncClient(daemon.socket) as client, trio.open_nursery() as nursery:
        for number in range(1, answers + 1):
            nursery.start_soon(client.complete, sum_of(number).prompt)
    async with AsyncClient(daemon.socket) as client:
        while True:
            store = (await client.status())["store"]
            if not (store["answers"]["queued"] or store["records"]["queued"] or store["records"]["tallies"]):
                break
            await trio.sleep(0.01)
    daemon.stop(signal.SIGKILL)
    made = Made(folder / "made", answers, store["ledger"]["instance_id"], store["ledger"]["boot"])
    shutil.copytree(daemon.state, made.state)
    return made


async def start_on_each(
    folder: Path, configuration: str, made: Made, todo: Sequence[Trial], story: Story, *, at_once: int = 2
) -> None:
    """Carry the trials out, some at once, each with a daemon and a folder of its own that goes away."""
    waiting = list(enumerate(todo))[::-1]

    async def lane() -> None:
        while waiting:
            number, trial = waiting.pop()
            own = folder / f"trial-{number}"
            own.mkdir()
            with running(own, configuration, start=False) as daemon:
                await start_on_damage(daemon, made, trial, story)
            shutil.rmtree(own)

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(lane)


async def start_on_damage(daemon: DaemonProcess, made: Made, trial: Trial, story: Story) -> None:
    """Start a daemon, not yet started, on a copy that is damaged; once more when something was put aside (and
    now and then when not): it must come up as if nothing had been."""
    shutil.copytree(made.state, daemon.state)
    trial.damage(daemon.state / f"{trial.file}{trial.companion}", trial.seed)
    before = _contents(daemon.state)
    damaged = (daemon.state / trial.file).read_bytes() if (daemon.state / trial.file).is_file() else b""
    said = len(daemon.said())
    began = trio.current_time()
    await trio.to_thread.run_sync(lambda: daemon.start(wait=False))
    if not await _serves(daemon):
        story.slowest_end_s = max(story.slowest_end_s, trio.current_time() - began)
        story.refused += 1
        story.outcomes[f"{trial.file}{trial.companion} {trial.damage.__name__}: refused"] += 1
        _judge_refusal(daemon, trial, story, before, daemon.said()[said:])
        return
    story.slowest_start_s = max(story.slowest_start_s, trio.current_time() - began)
    story.served += 1
    aside_before = story.put_aside
    await _judge_service(daemon, made, trial, story, damaged, first=True)
    code = await trio.to_thread.run_sync(daemon.stop)
    if code:
        story.wrong.append(f"{trial}: ended with {code}")
        return
    if story.put_aside == aside_before and story.served % 4:
        return  # a second start differs when something was put aside, and else hardly
    await trio.to_thread.run_sync(lambda: daemon.start(wait=False))
    if not await _serves(daemon):
        story.wrong.append(f"{trial}: the second start failed: {daemon.said()[said:]}")
        return
    await _judge_service(daemon, made, trial, story, damaged, first=False)
    code = await trio.to_thread.run_sync(daemon.stop)
    if code:
        story.wrong.append(f"{trial}: ended with {code} the second time")


def _contents(state: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in state.iterdir() if path.suffix != ".lock"}


async def _serves(daemon: DaemonProcess) -> bool:
    """Wait until it answers, or has ended."""
    try:
        await trio.to_thread.run_sync(daemon.wait_ready)
    except AssertionError:
        assert daemon.process is not None
        if daemon.process.poll() is None:
            raise
        return False
    return True


def _judge_refusal(daemon: DaemonProcess, trial: Trial, story: Story, before: dict[str, bytes], said: str) -> None:
    assert daemon.process is not None
    code = daemon.process.returncode
    errors = [line for line in said.splitlines() if " error " in line]
    newer = trial.damage is newer_schema
    if trial.file != "ledger.db" and not newer:
        story.wrong.append(f"{trial}: not served because of a disposable file: {said}")
    if code != os.EX_CONFIG or len(errors) != 1 or trial.file not in errors[0] or "Traceback" in said:
        story.wrong.append(f"{trial}: ended with {code}: {said}")
    elif not any(words in errors[0] for words in ("is not replaced", "newer aiorchd")):
        story.wrong.append(f"{trial}: does not say what to do: {errors[0]}")
    after = _contents(daemon.state)
    # The index of a log (-shm) holds nothing of its own, and SQLite makes it anew.
    if any(raw != after.get(name) for name, raw in before.items() if not name.endswith("-shm")):
        story.wrong.append(f"{trial}: refused, and yet files were touched")


async def _judge_service(
    daemon: DaemonProcess, made: Made, trial: Trial, story: Story, damaged: bytes, *, first: bool
) -> None:
    async with AsyncClient(daemon.socket, timeout_s=10.0) as client:
        for number in (*range(1, made.answered + 1, 5), 5000 + 2 * trial.seed + first):
            wanted = sum_of(number)
            old = number <= made.answered
            story.looked_for += old and first
            try:
                reply = await client.complete(wanted.prompt, cache="only" if old else "use")
            except NotFound:
                continue
            except AiorchError as error:
                story.wrong.append(f"{trial}: call {number}: {error}")
                continue
            story.found += old and first
            if reply.text != wanted.answer:
                story.wrong.append(f"{trial}: call {number} was answered {reply.text!r}, not {wanted.answer!r}")
        await client.stats()
        while (status := await client.status())["store"]["answers"]["queued"]:
            await trio.sleep(0.01)
    store = status["store"]
    aside = [name for file in store["files"].values() for name in file["put_aside"]]
    if status["health"] != "ok":
        story.wrong.append(f"{trial}: {status['concerns']}")
    # SQLite takes a damaged end of a log for one that was not finished; all that is in this one is the last start.
    boots = made.boots - (trial.file == "ledger.db" and trial.companion == "-wal")
    if store["ledger"]["instance_id"] != made.instance or store["ledger"]["boot"] <= boots:
        story.wrong.append(f"{trial}: the ledger is another one: {store['ledger']}")
    if any(not name.startswith(f"{trial.file}.damaged-") for name in aside) or (aside and not first):
        story.wrong.append(f"{trial}: put aside: {aside}")
    if aside and (trial.file == "ledger.db" or not all((daemon.state / name).exists() for name in aside)):
        story.wrong.append(f"{trial}: not kept: {aside}")
    if trial.damage in (garbage, foreign) and not trial.companion:
        if not aside and first:
            story.wrong.append(f"{trial}: was not noticed")
        elif first and (daemon.state / aside[0]).read_bytes() != damaged:
            story.wrong.append(f"{trial}: what was put aside is not what was there")
    if first:
        story.put_aside += bool(aside)
        verdict = "put aside" if aside else "served"
        story.outcomes[f"{trial.file}{trial.companion} {trial.damage.__name__}: {verdict}"] += 1
