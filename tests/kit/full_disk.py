"""Fills a daemon's state directory under load and gives the room back later, and looks what was served meanwhile and after.

The directory is a small file system in memory that only the daemon sees, so this needs root and `unshare`.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from crowd import Crowd, Told
from killing import integrity
from processes import DaemonProcess
from sums import sum_of

from aiorch import AsyncClient
from aiorch.errors import AiorchError, NotFound

DISK_MIB = 24
_MOUNT = f'mkdir -p "$0" && mount -t tmpfs -o size={DISK_MIB}m,mode=0700 none "$0" && exec "$@"'
_LOOK_S = 0.05
TAG = "to be forgotten"


def why_not() -> str | None:
    """Say why this cannot be done here, if it cannot."""
    if os.geteuid() != 0:
        return "it needs root, to mount a small file system"
    if shutil.which("unshare") is None:
        return "it needs unshare (util-linux)"
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/tmp"], check=False, capture_output=True, text=True
    )
    return f"a file system may not be mounted here: {tried.stderr.strip()}" if tried.returncode else None


def on_a_small_disk(daemon: DaemonProcess) -> None:
    """Let this daemon, not yet started, have its state on a disk of its own."""
    daemon.through = ("unshare", "--mount", "sh", "-c", _MOUNT, str(daemon.state))


@dataclass(slots=True)
class Story:
    """What became of it. ``wrong`` are calls that were not served though they need no disk, in words; ``states`` those that
    the files were seen in while the disk was full, ``concerns`` what `status` said then. ``slowest_s`` is of the calls
    beside the crowd; ``works_again_s`` counts from when there was room."""

    told: Told
    wrong: list[str] = field(default_factory=list)
    asked_while_full: int = 0
    answered_while_full: int = 0
    states: dict[str, set[str]] = field(default_factory=dict)
    concerns: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    works_again_s: float = 0.0
    waited: int = 0
    dropped: int = 0
    counted: int = 0
    counted_on_disk: int = 0
    answers_on_disk: int = 0
    integrity: dict[str, str] = field(default_factory=dict)


async def fill_under_load(
    daemon: DaemonProcess, scratch: Path, *, clients: int, pause_s: float, before_s: float, full_s: float
) -> Story:
    """Load a running daemon that is `on_a_small_disk`, fill the disk, ask all that needs no disk, and make room again.

    The daemon is stopped at the end.
    """
    disk = Path(f"/proc/{daemon.pid}/root{daemon.state}")
    crowd = Crowd(daemon.socket, clients, pause_s=pause_s)
    story = Story(crowd.told)
    async with AsyncClient(daemon.socket, timeout_s=10.0) as client, trio.open_nursery() as nursery:
        await client.complete("What is 20 + 3?", tags=[TAG])
        await nursery.start(crowd.run)
        await trio.sleep(before_s)
        answered = story.told.answered
        with trio.move_on_after(full_s):
            async with trio.open_nursery() as filling:
                filling.start_soon(_keep_full, disk / "ballast")
                await _ask_all(client, story, crowd)
        story.answered_while_full = story.told.answered - answered
        await _look(client, story)
        (disk / "ballast").unlink()
        room_at = trio.current_time()
        written = (await client.status())["store"]["answers"]["written"]
        while True:
            status = await client.status()
            if status["health"] == "ok" and status["store"]["answers"]["written"] > written:
                break
            await trio.sleep(_LOOK_S)
        story.works_again_s = trio.current_time() - room_at
        crowd.leave()
    async with AsyncClient(daemon.socket, timeout_s=10.0) as client:
        while (status := await client.status())["store"]["answers"]["queued"] or status["store"]["records"]["tallies"]:
            await trio.sleep(_LOOK_S)
        story.dropped = status["store"]["answers"]["dropped"]
        story.counted = (await client.stats())["calls"]
    # The file system ends with the daemon, unless somebody is in it.
    inside = os.open(disk, os.O_RDONLY | os.O_DIRECTORY)
    try:
        code = await trio.to_thread.run_sync(daemon.stop)
        assert code == 0, daemon.said()
        shutil.copytree(f"/proc/self/fd/{inside}", scratch)
    finally:
        os.close(inside)
    story.integrity = integrity(scratch)
    with closing(sqlite3.connect(scratch / "metrics.db")) as connection:
        (story.counted_on_disk,) = connection.execute("SELECT sum(calls) FROM hours").fetchone()
    with closing(sqlite3.connect(scratch / "cache.db")) as connection:
        (story.answers_on_disk,) = connection.execute("SELECT count(*) FROM answers").fetchone()
    return story


async def _keep_full(ballast: Path) -> None:
    """Take every byte there is, again and again: the daemon frees some by itself."""
    piece = bytes(65536)
    with ballast.open("ab", buffering=0) as file:
        while True:
            try:
                while file.write(piece):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            await trio.sleep(0.05)


async def _ask_all(client: AsyncClient, story: Story, crowd: Crowd) -> None:
    """Ask everything that needs no room, until cancelled."""
    story.asked_while_full += 1
    if await client.cache_forget(tag=TAG) < 1:
        story.wrong.append("forgetting found nothing")
    number = 0
    while True:
        number += 1
        await _look(client, story)
        for what in ("a hit", "explain", "stats", "ping", "what was forgotten"):
            began = trio.current_time()
            story.asked_while_full += 1
            answered = crowd.told.answered
            try:
                if what == "a hit":
                    reply = await client.complete(sum_of(1).prompt, cache="only")
                    assert reply.text == sum_of(1).answer
                elif what == "explain":
                    assert await client.explain(reply.id)
                elif what == "stats":
                    assert (await client.stats())["calls"] >= answered
                elif what == "ping":
                    await client.ping()
                else:
                    await client.complete("What is 20 + 3?", cache="only")
                    story.wrong.append("what was forgotten is served")
            except NotFound:
                if what != "what was forgotten":
                    story.wrong.append(f"{what}: not found")
            except (AiorchError, AssertionError) as error:
                story.wrong.append(f"{what}: {type(error).__name__}: {error}")
            story.slowest_s = max(story.slowest_s, trio.current_time() - began)
        await trio.sleep(_LOOK_S)


async def _look(client: AsyncClient, story: Story) -> None:
    status: dict[str, Any] = await client.status()
    for name, file in status["store"]["files"].items():
        story.states.setdefault(name, set()).add(file["state"])
    story.concerns = status["concerns"] or story.concerns
    story.waited = max(story.waited, status["store"]["answers"]["queued"])
