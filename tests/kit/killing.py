"""Kills a daemon under load without warning, again and again, and looks what its successor still knows.

What was answered more than ``KEPT_AFTER_S`` before the kill must be found again, with the answer it had; what was answered
later may be. All three files must be whole, both as the kill left them (looked at in a copy) and in the end.
"""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import trio
from processes import DaemonProcess
from sums import sum_of

from aiorch import AsyncClient
from aiorch.errors import AiorchError, ConnectionLost, NotFound, Unreachable

KEPT_AFTER_S = 1.0
FILES = ("cache.db", "metrics.db", "ledger.db")


@dataclass(slots=True)
class Kill:
    """One kill and what came after: how many answers were ``due`` and ``found``, and of those younger than a second, how
    many there were and were found, and the age of the oldest that was not."""

    in_flight: int
    due: int = 0
    found: int = 0
    young: int = 0
    young_found: int = 0
    oldest_lost_s: float = 0.0
    restart_s: float = 0.0
    integrity: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Story:
    """All kills. ``wrong`` holds wrong answers and lost ones that were due, in words; ``cut`` counts calls by the error
    that the kill gave them."""

    answered: int = 0
    kills: list[Kill] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    cut: Counter[str] = field(default_factory=Counter)
    integrity: dict[str, str] = field(default_factory=dict)


async def kill_under_load(
    daemon: DaemonProcess, scratch: Path, *, kills: int, callers: int, load_s: Callable[[random.Random], float]
) -> Story:
    """Run ``kills`` lives of a daemon: load by so many callers, SIGKILL after ``load_s``, restart, and look. The daemon is
    not running before, and is stopped, in good order, afterwards."""
    story = Story()
    chance = random.Random(11)
    answered_at: dict[int, float] = {}
    daemon.start()
    for turn in range(kills):
        in_flight = await _load(daemon, story, answered_at, chance, callers, load_s(chance))
        killed_at = trio.current_time()
        kill = Kill(in_flight=in_flight)
        story.kills.append(kill)
        copy = scratch / f"kill-{turn}"
        shutil.copytree(daemon.state, copy)
        kill.integrity = integrity(copy)
        restarted_at = trio.current_time()
        await trio.to_thread.run_sync(daemon.start)
        kill.restart_s = trio.current_time() - restarted_at
        await _look(daemon, story, kill, answered_at, killed_at)
    code = await trio.to_thread.run_sync(daemon.stop)
    assert code == 0, daemon.said()
    story.integrity = integrity(daemon.state)
    return story


def integrity(folder: Path) -> dict[str, str]:
    """What SQLite says of each file: ``ok``, or what is wrong with it."""
    told = {}
    for name in FILES:
        path = folder / name
        if not path.exists():
            told[name] = "missing"
            continue
        with closing(sqlite3.connect(path)) as connection:
            told[name] = str(connection.execute("pragma integrity_check").fetchone()[0])
    return told


async def _load(
    daemon: DaemonProcess,
    story: Story,
    answered_at: dict[int, float],
    chance: random.Random,
    callers: int,
    seconds: float,
) -> int:
    """Let callers ask until the daemon is killed; gives how many calls that cut."""
    killed = trio.Event()
    before = sum(story.cut.values())
    first = trio.Event()

    async def caller() -> None:
        nonlocal fresh
        while not killed.is_set():
            if answered_at and chance.random() < 0.3:
                number = chance.choice(tuple(answered_at)[-500:])
            else:
                fresh += 1
                number = fresh
            wanted = sum_of(number)
            try:
                text = (await client.complete(wanted.prompt)).text
            except (ConnectionLost, Unreachable) as error:
                story.cut[type(error).__name__] += 1
                await killed.wait()  # the only reason there can be
                return
            if text != wanted.answer:
                story.wrong.append(f"call {number} was answered {text!r}, not {wanted.answer!r}")
            story.answered += 1
            answered_at.setdefault(number, trio.current_time())
            first.set()

    # Beyond the numbers that the last kill cut: what they got nobody knows.
    fresh = max(answered_at, default=0) + callers
    async with (
        AsyncClient(daemon.socket, timeout_s=30.0, connect_timeout_s=0.1) as client,
        trio.open_nursery() as nursery,
    ):
        for _ in range(callers):
            nursery.start_soon(caller)
        await first.wait()
        await trio.sleep(seconds)
        assert daemon.process is not None
        assert daemon.process.poll() is None, daemon.said()
        daemon.process.kill()
        daemon.process.wait()
        killed.set()
    assert daemon.process.returncode == -signal.SIGKILL
    return sum(story.cut.values()) - before


async def _look(
    daemon: DaemonProcess, story: Story, kill: Kill, answered_at: dict[int, float], killed_at: float
) -> None:
    """Ask for everything that was ever answered, from what is kept alone."""
    lost: list[int] = []
    async with AsyncClient(daemon.socket, timeout_s=30.0) as client:

        async def look(number: int, at: float) -> None:
            wanted = sum_of(number)
            due = at < killed_at - KEPT_AFTER_S
            try:
                reply = await client.complete(wanted.prompt, cache="only")
            except NotFound:
                found = False
            except AiorchError as error:
                story.wrong.append(f"call {number}: {type(error).__name__}: {error}")
                return
            else:
                found = True
                if reply.text != wanted.answer or reply.cache != "exact":
                    story.wrong.append(f"call {number} is kept as {reply.text!r}, not {wanted.answer!r}")
            if due:
                kill.due += 1
                kill.found += found
                if not found:
                    story.wrong.append(f"call {number}, answered {killed_at - at:.3f} s before the kill, is lost")
            else:
                kill.young += 1
                kill.young_found += found
                if not found:
                    kill.oldest_lost_s = max(kill.oldest_lost_s, killed_at - at)
            if not found:
                lost.append(number)

        limit = trio.CapacityLimiter(64)

        async def look_in_turn(number: int, at: float) -> None:
            async with limit:
                await look(number, at)

        async with trio.open_nursery() as nursery:
            for number, at in tuple(answered_at.items()):
                nursery.start_soon(look_in_turn, number, at)
    for number in lost:
        del answered_at[number]  # what was lost once is not due at the next kill
