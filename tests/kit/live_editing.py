"""Edits a daemon's configuration again and again while it answers calls, and watches what becomes of both.

The files are written as people and programs write them: in place, in two halves, by rename, as an editor that moves the
old file away first. An edit is live when a call that names the model it brought is answered; it was refused when
``status`` says so with the reason that belongs to this mistake.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from processes import DaemonProcess
from sums import sum_of

from aiorch import AsyncClient
from aiorch.errors import AiorchError, UnknownModel

LOOK_S = 0.01
"""Nothing tells a client that a configuration is in force; it asks this often."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One saved file: how it was written, what was wrong with it (None: nothing), and after how long its verdict showed."""

    number: int
    way: str
    mistake: str | None
    took_s: float
    verdict: dict[str, Any]


@dataclass(slots=True)
class Story:
    """What became of it all. ``failures`` are calls without an answer or with a wrong one, told in words."""

    asked: int = 0
    answered: int = 0
    hits: int = 0
    failures: list[str] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def valid(self) -> list[Edit]:
        """The edits that had to come into force."""
        return [edit for edit in self.edits if edit.mistake is None]

    @property
    def invalid(self) -> list[Edit]:
        """The edits that had to be refused."""
        return [edit for edit in self.edits if edit.mistake is not None]


def configuration(base_url: str, number: int = 0) -> str:
    """A file that differs from its predecessor in what a reload has to carry out, besides a model of its own."""
    return f"""
[providers.main]
dialect = "openai"
base_url = "{base_url}"

[[models]]
name = "small"
provider = "main"
input_usd_per_1m = {0.15 + number / 1000:.3f}
output_usd_per_1m = 0.60

[[models]]
name = "edit-{number}"
provider = "main"
max_concurrency = {4 + number % 5}

[concurrency]
max = {20 + number % 30}

[cache]
max_entries = {500 + number}
ttl_s = {3600 + number}
strategy = "{("hybrid", "memory", "hybrid", "disk")[number % 4]}"

[pool]
max_connections = {100 + number % 7}

[retry]
max_attempts = {2 + number % 4}
"""


# Each spoils a good file in another way: (what it does, words of the verdict).
MISTAKES: dict[str, tuple[Callable[[str], str], str]] = {
    "a bracket is missing": (lambda good: good.replace("[retry]", "[retry"), "TOML"),
    "an unknown key": (lambda good: good.replace("max_attempts", "max_attemps"), "max_attemps"),
    "out of bounds": (lambda good: good.replace("ttl_s = ", "ttl_s = -"), "ttl_s"),
    "a provider that is not there": (lambda good: good.replace('provider = "main"', 'provider = "mian"'), "mian"),
    "text for a number": (lambda good: good + '[queue]\nmax_inside = "many"\n', "max_inside"),
}


async def in_place(path: Path, text: str) -> None:
    """Truncate and write."""
    path.write_text(text, encoding="utf-8")


async def in_halves(path: Path, text: str) -> None:
    """As a slow program writes: the first half is on the disk for a while, and is not what was meant."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text[: len(text) // 2])
        file.flush()
        await trio.sleep(0.05)
        file.write(text[len(text) // 2 :])


async def by_rename(path: Path, text: str) -> None:
    """As careful programs do."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.rename(path)


async def as_vim_does(path: Path, text: str) -> None:
    """Move the old file away, write a new one, remove the old."""
    backup = path.with_suffix(".toml~")
    path.rename(backup)
    path.write_text(text, encoding="utf-8")
    backup.unlink()


WAYS: dict[str, Callable[[Path, str], Awaitable[None]]] = {
    "in place": in_place,
    "in halves": in_halves,
    "by rename": by_rename,
    "as vim does": as_vim_does,
}


async def edit_under_load(
    daemon: DaemonProcess,
    base_url: str,
    *,
    calls_per_s: float,
    edits: int,
    every_invalid: int,
    pause_s: float,
    give_up_s: float = 10.0,
) -> Story:
    """Save ``edits`` files, ``pause_s`` after the verdict of the one before, every ``every_invalid``-th spoiled; the last one
    is sound. Calls come meanwhile at random, ``calls_per_s`` of them on average, half of them asked before.
    """
    story = Story()
    chance = random.Random(7)
    async with AsyncClient(daemon.socket, timeout_s=30.0) as client, trio.open_nursery() as nursery:
        enough = trio.CancelScope()
        nursery.start_soon(_ask_at_random, client, story, chance, calls_per_s, nursery, enough)
        ways = itertools.cycle(WAYS.items())
        mistakes = itertools.cycle(MISTAKES.items())
        for number in range(1, edits + 1):
            good = configuration(base_url, number)
            way, write = next(ways)
            began = trio.current_time()
            with trio.fail_after(give_up_s):
                if number % every_invalid == 0 and number != edits:
                    mistake, (spoil, words) = next(mistakes)
                    await write(daemon.config, spoil(good))
                    verdict = await _refused(client, words)
                else:
                    mistake = None
                    await write(daemon.config, good)
                    verdict = await _live(client, number)
            story.edits.append(Edit(number, way, mistake, trio.current_time() - began, verdict))
            await trio.sleep(pause_s)
        enough.cancel()
        # The nursery waits for every call that was begun.
    async with AsyncClient(daemon.socket) as client:
        story.status = await client.status()
    return story


async def _ask_at_random(
    client: AsyncClient,
    story: Story,
    chance: random.Random,
    calls_per_s: float,
    nursery: trio.Nursery,
    enough: trio.CancelScope,
) -> None:
    with enough:
        due = trio.current_time()
        fresh = 0
        while True:
            due += chance.expovariate(calls_per_s)
            await trio.sleep_until(due)
            if fresh == 0 or chance.random() < 0.5:
                fresh += 1
                number = fresh
            else:
                number = chance.randint(max(1, fresh - 300), fresh)
            story.asked += 1
            nursery.start_soon(_ask_one, client, story, number)


async def _ask_one(client: AsyncClient, story: Story, number: int) -> None:
    wanted = sum_of(number)
    try:
        reply = await client.complete(wanted.prompt, model="small")
    except AiorchError as error:
        story.failures.append(f"call {number} failed: {type(error).__name__}: {error}")
        return
    if reply.text != wanted.answer:
        story.failures.append(f"call {number} was answered {reply.text!r}, not {wanted.answer!r}")
        return
    story.answered += 1
    story.hits += reply.cache == "exact"


async def _live(client: AsyncClient, number: int) -> dict[str, Any]:
    """Wait until a call that names the new model is answered."""
    while True:
        try:
            await client.complete("What is 6 * 7?", model=f"edit-{number}")
        except UnknownModel:
            await trio.sleep(LOOK_S)
            continue
        verdict: dict[str, Any] = (await client.status())["config"]["verdict"]
        return verdict


async def _refused(client: AsyncClient, words: str) -> dict[str, Any]:
    """Wait until ``status`` tells of this mistake."""
    while True:
        verdict: dict[str, Any] = (await client.status())["config"]["verdict"]
        if verdict["result"] == "refused" and words in str(verdict["problems"]):
            return verdict
        await trio.sleep(LOOK_S)
