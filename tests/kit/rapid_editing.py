"""Edits a daemon's configuration faster than a file keeps still, in every way that files are written, half of it spoiled,
while many callers ask; judges each verdict.

An edit is followed by ``config.reload``, whose answer is its verdict; or by nothing, and then the daemon's own watch is
what is tried: it may pass over what was there for a moment only, and must end with the last one.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio
from live_editing import LOOK_S, MISTAKES, as_vim_does, by_rename, configuration, in_place
from processes import DaemonProcess
from sums import sum_of

from aiorch import AsyncClient
from aiorch.errors import AiorchError

ENTRIES = 500
"""`configuration` says ``cache.max_entries`` = this and its number: by that it is known which one is in force."""


@dataclass(slots=True)
class Rapid:
    """What became of it all. ``failures`` are calls without an answer or with a wrong one, ``misjudged`` are edits with a
    verdict that is not theirs, or after which something else was in force than should be; each told in words.
    """

    asked: int = 0
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    misjudged: list[str] = field(default_factory=list)
    edits: Counter[str] = field(default_factory=Counter)
    """By way of writing."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """By result, of the daemon's own account."""
    in_flight: list[int] = field(default_factory=list)
    """Calls that were asked and not answered yet, at each edit."""
    seconds: float = 0.0
    """How long the edits took, the last one's verdict not included."""
    last_live_s: float = 0.0
    """From the end of writing the last one, which is sound, until it was in force."""


async def in_pieces(path: Path, text: str) -> None:
    """As a slow program writes."""
    third = len(text) // 3
    with path.open("w", encoding="utf-8") as file:
        for piece in (text[:third], text[third : 2 * third], text[2 * third :]):
            file.write(piece)
            file.flush()
            await trio.sleep(0.005)


async def by_symlink(path: Path, text: str) -> None:
    """As configuration is rolled out: a version in a directory of its own, and a link that is swapped."""
    number = len(list(path.parent.glob("version-*")))
    version = path.parent / f"version-{number}"
    version.mkdir()
    (version / path.name).write_text(text, encoding="utf-8")
    link = path.with_suffix(".link")
    link.symlink_to(f"{version.name}/{path.name}")
    link.rename(path)


async def made_anew(path: Path, text: str) -> None:
    """Delete, and for a moment there is nothing."""
    path.unlink()
    await trio.sleep(0.01)
    path.write_text(text, encoding="utf-8")


WAYS: dict[str, Callable[[Path, str], Awaitable[None]]] = {
    "in place": in_place,
    "in pieces": in_pieces,
    "by rename": by_rename,
    "by symlink": by_symlink,
    "made anew": made_anew,
    "as vim does": as_vim_does,
}


async def edit_rapidly(
    daemon: DaemonProcess,
    base_url: str,
    *,
    edits: int,
    edits_per_s: float,
    callers: int,
    reload: bool,
    give_up_s: float = 10.0,
) -> Rapid:
    """Save ``edits`` files at that pace, of which one in two at random is spoiled and the last is sound, with so many
    ``callers`` who each ask anew when they are answered. With ``reload`` each edit's verdict is asked for.
    """
    story = Rapid()
    chance = random.Random(11)
    enough = trio.Event()
    async with trio.open_nursery() as nursery:
        async with AsyncClient(daemon.socket, timeout_s=30.0) as client:
            before = Counter((await client.status())["config"]["verdicts"])
            for number in range(callers):
                nursery.start_soon(_ask, daemon.socket, story, number, callers, enough)
            while (await client.status())["stages"]["observe"]["inside"] < callers:
                await trio.sleep(LOOK_S)
            ways = itertools.cycle(WAYS.items())
            mistakes = itertools.cycle(MISTAKES.items())
            sound = [0]
            began = due = trio.current_time()
            for number in range(1, edits + 1):
                await trio.sleep_until(due)
                due += 1 / edits_per_s
                way, write = next(ways)
                story.edits[way] += 1
                good, words = configuration(base_url, number), None
                if chance.random() < 0.5 and number != edits:
                    _, (spoil, words) = next(mistakes)
                    await write(daemon.config, spoil(good))
                else:
                    await write(daemon.config, good)
                    sound.append(number)
                if reload:
                    await _judge(client, story, number, words, sound[-1])
                elif (in_force := await client.config_get("cache.max_entries") - ENTRIES) not in sound:
                    story.misjudged.append(f"edit {number}: {in_force} is in force, which was never sound")
                story.in_flight.append(story.asked - story.answered - len(story.failures))
            written = trio.current_time()
            story.seconds = written - began
            with trio.fail_after(give_up_s):
                while await client.config_get("cache.max_entries") != ENTRIES + edits:
                    await trio.sleep(LOOK_S)
            story.last_live_s = trio.current_time() - written
            # What was noticed before the reload is told by the watch once more, and is nothing new.
            story.verdicts = Counter((await client.status())["config"]["verdicts"])
            story.verdicts.subtract(before)
            enough.set()
    return story


async def _judge(client: AsyncClient, story: Rapid, number: int, words: str | None, sound: int) -> None:
    """Ask for the verdict about an edit (``words`` belong to its mistake), and whether what should be is in force."""
    verdict = await client.config_reload()
    # The watch may have been faster; then a sound file has not changed since.
    right = verdict["result"] == "refused" if words else verdict["result"] in ("accepted", "unchanged")
    if not right or (words and words not in str(verdict["problems"])):
        story.misjudged.append(f"edit {number} ({words or 'sound'}): {verdict}")
    in_force = await client.config_get("cache.max_entries") - ENTRIES
    if in_force != sound:
        story.misjudged.append(f"edit {number} ({words or 'sound'}): {in_force} is in force, not {sound}")


async def _ask(path: Path, story: Rapid, first: int, step: int, enough: trio.Event) -> None:
    """Ask one question after the other, each for the first time."""
    async with AsyncClient(path, timeout_s=30.0) as client:
        for number in itertools.count(first, step):
            if enough.is_set():
                return
            wanted = sum_of(number)
            story.asked += 1
            try:
                reply = await client.complete(wanted.prompt, model="small")
            except AiorchError as error:
                story.failures.append(f"call {number} failed: {type(error).__name__}: {error}")
                continue
            if reply.text != wanted.answer:
                story.failures.append(f"call {number} was answered {reply.text!r}, not {wanted.answer!r}")
                continue
            story.answered += 1
