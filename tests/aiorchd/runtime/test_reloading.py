"""Verdicts: accepted, unchanged, refused; and the last good configuration stays in force."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from aiorchd.config.compare import Changes
from aiorchd.config.load import Loaded, load
from aiorchd.config.problems import ConfigError, Problem
from aiorchd.runtime.logs import Log
from aiorchd.runtime.reloading import Reloading, Verdict
from aiorchd.runtime.watch import FileWatch

GOOD = "[retry]\nmax_attempts = {}\n"


class Applied:
    """Puts configurations in force, or refuses to."""

    def __init__(self) -> None:
        self.attempts: list[int] = []
        self.refuse = False

    async def __call__(self, loaded: Loaded, changed: Changes) -> int:
        if self.refuse:
            raise ConfigError([Problem("f", "providers.main", None, "does not work here.")])
        self.attempts.append(loaded.config.retry.max_attempts)
        return 1 + len(self.attempts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "aiorch.toml"
    file.write_text(GOOD.format(2))
    return file


def reloading(path: Path | None, applied: Applied, on_verdict: Callable[[Verdict], None] = lambda _: None) -> Reloading:
    return Reloading(
        load(path, {}),
        1,
        path=path,
        environ={},
        apply=applied,
        wall_clock=lambda: 1000.0,
        log=Log("test"),
        on_verdict=on_verdict,
    )


async def test_a_change_is_put_in_force_and_named(path: Path) -> None:
    applied = Applied()
    owner = reloading(path, applied)
    assert (owner.verdict.trigger, owner.verdict.result) == ("start", "accepted")
    path.write_text(GOOD.format(3))
    verdict = await owner.reload("call")
    assert (verdict.result, verdict.generation, verdict.changed) == ("accepted", 2, ("retry.max_attempts",))
    assert applied.attempts == [3]
    assert owner.loaded.config.retry.max_attempts == 3
    assert verdict.to_wire()["result"] == "accepted"


async def test_every_verdict_is_told_once_it_holds(path: Path) -> None:
    told: list[tuple[str, int]] = []
    owner = reloading(
        path, Applied(), lambda verdict: told.append((verdict.result, owner.loaded.config.retry.max_attempts))
    )
    for attempts in (3, 3, -3, 3):
        path.write_text(GOOD.format(attempts))
        await owner.reload("call")
    assert told == [("accepted", 3), ("unchanged", 3), ("refused", 3), ("unchanged", 3)]


async def test_the_same_content_is_no_change(path: Path) -> None:
    applied = Applied()
    owner = reloading(path, applied)
    path.write_text(GOOD.format(2))
    assert (await owner.reload("signal")).result == "unchanged"
    assert applied.attempts == []


@pytest.mark.parametrize("content", ["[retry]\nmax_attempts = 0\n", "no toml [", "", "[retyr]\n", "\xff"])
async def test_what_is_wrong_is_refused_and_the_last_good_stays(path: Path, content: str) -> None:
    applied = Applied()
    owner = reloading(path, applied)
    path.write_bytes(content.encode("latin-1"))
    verdict = await owner.reload("file")
    assert verdict.result == "refused"
    assert verdict.problems
    assert verdict.generation == 1
    assert owner.loaded.config.retry.max_attempts == 2
    path.write_text(GOOD.format(5))
    assert (await owner.reload("file")).result == "accepted"
    counts = owner.statistics()
    assert (counts.accepted, counts.unchanged, counts.refused) == (1, 0, 1)


async def test_what_does_not_work_on_this_host_is_refused_too(path: Path) -> None:
    applied = Applied()
    owner = reloading(path, applied)
    applied.refuse = True
    path.write_text(GOOD.format(3))
    verdict = await owner.reload("call")
    assert verdict.result == "refused"
    assert owner.loaded.config.retry.max_attempts == 2
    applied.refuse = False
    assert (await owner.reload("call")).result == "accepted"


async def test_without_a_file_there_is_nothing_to_read() -> None:
    assert (await reloading(None, Applied()).reload("call")).result == "unchanged"


async def test_the_file_is_followed_and_its_loss_is_survived(path: Path) -> None:
    applied = Applied()
    owner = reloading(path, applied)
    watch = FileWatch(path)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(owner.follow, watch)
            path.unlink()
            path.write_text(GOOD.format(4))
            while applied.attempts != [4]:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    watch.close()
