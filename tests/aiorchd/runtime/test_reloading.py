"""Verdicts: accepted, unchanged, refused; and the last good configuration stays in force."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
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


async def test_a_signal_that_changes_nothing_is_told_in_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    owner = reloading(path, Applied())
    with caplog.at_level("INFO"):
        await owner.reload("file")
        await owner.reload("call")
        assert caplog.messages == []
        await owner.reload("signal")
    assert [message for message in caplog.messages if "configuration unchanged" in message] != []


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


# --- overrides ---------------------------------------------------------------------------------------------------


async def test_an_override_is_live_at_once_and_survives_the_file(path: Path) -> None:
    applied = Applied()
    owner = reloading(path, applied)
    verdict = await owner.override("retry.max_attempts", 9, by="test")
    assert (verdict.trigger, verdict.result, verdict.generation) == ("override", "accepted", 2)
    assert verdict.changed == ("retry.max_attempts",)
    assert applied.attempts == [9]
    assert owner.overrides() == {"retry.max_attempts": 9}
    path.write_text(GOOD.format(3) + "jitter = 0.5\n")
    verdict = await owner.reload("file")
    assert (verdict.result, verdict.changed) == ("accepted", ("retry.jitter",))
    assert owner.loaded.config.retry.max_attempts == 9
    assert (await owner.reload("call")).result == "unchanged"
    verdict = await owner.reset("retry.max_attempts", by="test")
    assert (verdict.trigger, verdict.result, verdict.changed) == ("reset", "accepted", ("retry.max_attempts",))
    assert owner.loaded.config.retry.max_attempts == 3
    assert owner.overrides() == {}


async def test_an_override_is_laid_over_what_is_in_force_and_not_over_a_broken_file(path: Path) -> None:
    applied = Applied()
    owner = reloading(path, applied)
    path.write_text("[retry\n")
    assert (await owner.reload("file")).result == "refused"
    verdict = await owner.override("retry.jitter", 0.5, by="test")
    assert (verdict.result, verdict.generation) == ("accepted", 2)
    assert (owner.loaded.config.retry.max_attempts, owner.loaded.config.retry.jitter) == (2, 0.5)
    assert owner.verdict.result == "refused", "what is wrong with the file stays told"
    assert owner.verdict.generation == 2
    path.unlink()
    assert (await owner.reset(None, by="test")).result == "accepted"


async def test_what_is_wrong_with_an_override_is_told_and_changes_nothing(path: Path) -> None:
    applied = Applied()
    owner = reloading(path, applied)
    for key, value in (("retry.max_attempts", 0), ("retry.max_atempts", 1), ("daemon.admin_users", ["root"])):
        verdict = await owner.override(key, value, by="test")
        assert (verdict.result, verdict.generation) == ("refused", 1)
        assert verdict.problems[0].file == "override"
    assert (await owner.reset("retry.jitter", by="test")).result == "refused"
    applied.refuse = True
    assert (await owner.override("retry.jitter", 0.5, by="test")).result == "refused"
    assert owner.overrides() == {}
    assert applied.attempts == []
    assert owner.verdict.trigger == "start"
    assert owner.statistics().refused == 0, "those are counts of looks at the file"


async def test_the_same_override_again_changes_nothing(path: Path) -> None:
    applied = Applied()
    owner = reloading(path, applied)
    await owner.override("retry.jitter", 0.5, by="test")
    assert (await owner.override("retry.jitter", 0.5, by="test")).result == "unchanged"
    assert (await owner.reset(None, by="test")).result == "accepted"
    assert (await owner.reset(None, by="test")).result == "unchanged"
    assert len(applied.attempts) == 2


async def test_a_file_that_does_not_fit_an_override_is_refused_with_the_way_out(path: Path) -> None:
    owner = reloading(path, Applied())
    assert (await owner.override("timeouts.total_s", 3000, by="test")).result == "accepted"
    path.write_text("[timeouts]\nmax_total_s = 1000\n")
    verdict = await owner.reload("file")
    assert [str(problem) for problem in verdict.problems] == [
        (
            "override: timeouts.total_s: 3000 is above timeouts.max_total_s, 1000. "
            "Take the override away: aiorchctl config reset timeouts.total_s"
        )
    ]
    assert (await owner.reset("timeouts.total_s", by="test")).result == "accepted"
    assert (await owner.reload("call")).result == "accepted"


async def test_without_a_file_there_can_be_overrides_all_the_same() -> None:
    applied = Applied()
    owner = reloading(None, applied)
    assert (await owner.override("retry.max_attempts", 2, by="test")).result == "accepted"
    assert applied.attempts == [2]
    assert owner.loaded.simulated
    verdict = await owner.override("models.simulated.enabled", False, by="test")
    assert verdict.result == "refused", "the embedded model is in no file"


async def test_overrides_and_looks_at_the_file_do_not_overtake_each_other(path: Path) -> None:
    applied = Applied()
    owner = reloading(path, applied)
    path.write_text(GOOD.format(3) + "jitter = 0\n")
    async with trio.open_nursery() as nursery:
        for number in range(5, 15):
            nursery.start_soon(partial(owner.override, "retry.max_attempts", number, by="test"))
            nursery.start_soon(owner.reload, "file")
    assert owner.loaded.config.retry.jitter == 0.0
    assert owner.loaded.config.retry.max_attempts == applied.attempts[-1] == owner.overrides()["retry.max_attempts"]


# --- secrets that changed behind the same name -------------------------------------------------------------------


async def test_a_reload_takes_secrets_that_changed_though_the_file_did_not(path: Path) -> None:
    applied = Applied()
    rotated: list[str] = []

    async def names() -> tuple[str, ...]:
        return tuple(rotated)

    owner = Reloading(
        load(path, {}),
        1,
        path=path,
        environ={},
        apply=applied,
        wall_clock=lambda: 1000.0,
        log=Log("test"),
        rotated=names,
    )
    assert (await owner.reload("call")).result == "unchanged"
    rotated.append("providers.main.api_key_credential")
    verdict = await owner.reload("call")
    assert (verdict.result, verdict.changed) == ("accepted", ("providers.main.api_key_credential",))
    assert applied.attempts == [2]


async def look_of_another_thread() -> None:
    """The clock jumps; the look at the file, in a thread, does not."""
    await trio.to_thread.run_sync(time.sleep, 0.001)


async def test_files_that_it_names_are_followed_too(path: Path, autojump_clock: trio.testing.MockClock) -> None:
    schema = path.parent / "s.json"
    schema.write_text("{}")
    path.write_text(GOOD.format(2) + "[operations.one]\noutput_schema = 's.json'\n")
    told: list[tuple[str, tuple[str, ...]]] = []
    owner = reloading(path, Applied(), lambda verdict: told.append((verdict.result, verdict.changed)))

    async def told_of(number: int) -> None:
        while len(told) < number:
            await trio.sleep(0.3)
            await look_of_another_thread()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(owner.follow_files)
        for number, content in enumerate(('{"type": "string"}', "{", '{"type": "number"}'), 1):
            schema.write_text(content)
            await told_of(number)
        schema.unlink()
        await told_of(4)
        nursery.cancel_scope.cancel()
    changed = ("operations.one.output_schema",)
    assert told == [("accepted", changed), ("refused", ()), ("accepted", changed), ("refused", ())]
    assert owner.loaded.materials["one"].output_schema == {"type": "number"}


@pytest.mark.parametrize(("whole", "verdict"), [('{"type": "string"}', "accepted"), ("{", "refused")])
async def test_half_a_write_of_a_file_that_it_names_is_no_verdict(
    path: Path, autojump_clock: trio.testing.MockClock, whole: str, verdict: str
) -> None:
    schema = path.parent / "s.json"
    schema.write_text("{}")
    path.write_text(GOOD.format(2) + "[operations.one]\noutput_schema = 's.json'\n")
    told: list[str] = []
    owner = reloading(path, Applied(), lambda verdict: told.append(verdict.result))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(owner.follow_files)
        schema.write_text("")
        await trio.sleep(1.05)
        schema.write_text(whole)
        for _ in range(10):
            await trio.sleep(0.5)
            await look_of_another_thread()
        nursery.cancel_scope.cancel()
    assert told == [verdict]
