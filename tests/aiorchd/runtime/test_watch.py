"""Every way people and programs save a file is noticed within a second, once, and when it is finished."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from aiorchd.runtime.watch import FileWatch, Patience

# Imported by the watch itself, in its thread; here so that no test waits for it.
import watchfiles  # noqa: F401  # isort: skip

NEW = "new = true\n" * 500
OLD = "old = true\n"


@dataclass
class Place:
    """A directory of one test with the watched path in it."""

    root: Path

    @property
    def path(self) -> Path:
        return self.root / "conf" / "aiorch.toml"

    def spare(self, name: str, text: str = NEW) -> Path:
        spare = self.root / name
        spare.parent.mkdir(parents=True, exist_ok=True)
        spare.write_text(text)
        return spare


def usual(place: Place) -> None:
    place.path.parent.mkdir()
    place.path.write_text(OLD)


# --- the ways; each leaves NEW at place.path ----------------------------------------------------------------------


async def in_place(place: Place) -> None:
    place.path.write_text(NEW)


async def in_pieces(place: Place) -> None:
    """Longer between the pieces than the file has to keep still: what is there meanwhile would be valid, and half."""
    with place.path.open("w") as file:
        for start in range(0, len(NEW), 1100):
            file.write(NEW[start : start + 1100])
            file.flush()
            await trio.sleep(0.12)


async def truncated_then_written(place: Place) -> None:
    os.truncate(place.path, 0)
    await trio.sleep(0.2)
    place.path.write_text(NEW)


async def renamed_over(place: Place) -> None:
    place.spare("conf/.aiorch.toml.tmp").rename(place.path)


async def renamed_from_elsewhere(place: Place) -> None:
    place.spare("other/file").rename(place.path)


async def vim_with_backup(place: Place) -> None:
    """vim, backupcopy=no: a probe file, the old one moved to a backup, a new one written, the backup removed."""
    probe = place.spare("conf/4913", "")
    probe.unlink()
    backup = place.path.with_name("aiorch.toml~")
    place.path.rename(backup)
    place.path.write_text(NEW)
    backup.unlink()


async def emacs_with_backup(place: Place) -> None:
    """emacs: a lock link, the old one renamed to a backup that stays, a new one written."""
    lock = place.path.with_name(".#aiorch.toml")
    lock.symlink_to("me@here.1:2")
    place.path.rename(place.path.with_name("aiorch.toml~"))
    place.path.write_text(NEW)
    lock.unlink()


async def deleted_and_made_anew(place: Place) -> None:
    place.path.unlink()
    await trio.sleep(0.2)
    place.path.write_text(NEW)


async def copied_with_old_times(place: Place) -> None:
    """cp -p of a file that is older than the present one and exactly as long."""
    place.path.write_text(NEW)
    os.utime(place.path, (1, 1))


async def hard_linked(place: Place) -> None:
    place.path.unlink()
    os.link(place.spare("conf/generation-2"), place.path)


async def link_swapped(place: Place) -> None:
    place.spare("two")
    fresh = place.root / "conf" / "fresh"
    fresh.symlink_to(place.root / "two")
    fresh.rename(place.path)


def linked(place: Place) -> None:
    place.path.parent.mkdir()
    place.path.symlink_to(place.spare("one", OLD))


async def behind_the_link_in_place(place: Place) -> None:
    (place.root / "one").write_text(NEW)


async def behind_the_link_renamed(place: Place) -> None:
    place.spare("three").rename(place.root / "one")


def config_map(place: Place) -> None:
    place.spare("conf/..1/aiorch.toml", OLD)
    (place.path.parent / "..data").symlink_to("..1")
    place.path.symlink_to("..data/aiorch.toml")


async def config_map_swapped(place: Place) -> None:
    """Kubernetes: a new directory, its link renamed over ..data, the old directory removed."""
    place.spare("conf/..2/aiorch.toml")
    (place.path.parent / "..data_tmp").symlink_to("..2")
    (place.path.parent / "..data_tmp").rename(place.path.parent / "..data")
    (place.path.parent / "..1" / "aiorch.toml").unlink()
    (place.path.parent / "..1").rmdir()


def linked_directory(place: Place) -> None:
    place.spare("v1/aiorch.toml", OLD)
    (place.root / "conf").symlink_to("v1")


async def directory_link_swapped(place: Place) -> None:
    place.spare("v2/aiorch.toml")
    (place.root / "fresh").symlink_to("v2")
    (place.root / "fresh").rename(place.root / "conf")


async def directory_renamed(place: Place) -> None:
    place.spare("conf2/aiorch.toml")
    place.path.parent.rename(place.root / "conf1")
    (place.root / "conf2").rename(place.path.parent)


def nothing(place: Place) -> None:
    pass


async def made_with_its_directory(place: Place) -> None:
    place.path.parent.mkdir()
    await trio.sleep(0.05)
    place.path.write_text(NEW)


def empty_directory(place: Place) -> None:
    place.path.parent.mkdir()


WAYS: list[tuple[Callable[[Place], None], Callable[[Place], Awaitable[None]]]] = [
    (usual, in_place),
    (usual, in_pieces),
    (usual, truncated_then_written),
    (usual, renamed_over),
    (usual, renamed_from_elsewhere),
    (usual, vim_with_backup),
    (usual, emacs_with_backup),
    (usual, deleted_and_made_anew),
    (usual, copied_with_old_times),
    (usual, hard_linked),
    (usual, link_swapped),
    (linked, link_swapped),
    (linked, behind_the_link_in_place),
    (linked, behind_the_link_renamed),
    (config_map, config_map_swapped),
    (linked_directory, directory_link_swapped),
    (usual, directory_renamed),
    (nothing, made_with_its_directory),
    (empty_directory, in_place),
]


@pytest.mark.parametrize("alone", [False, True], ids=["by-events", "by-looks"])
async def test_every_way_to_save_is_told_once_within_a_second_and_whole(tmp_path: Path, alone: bool) -> None:
    """All ways at the same time, each in a directory of its own."""
    slow: dict[str, float] = {}
    wrong: dict[str, str] = {}

    async def one(number: int, prepare: Callable[[Place], None], save: Callable[[Place], Awaitable[None]]) -> None:
        name = f"{prepare.__name__}-{save.__name__}"
        place = Place(tmp_path / str(number))
        place.root.mkdir()
        prepare(place)
        watch = FileWatch(place.path)
        if alone:
            without_events(watch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(save_and_note, save, place, name)
            change = await watch.changed()
            if not change.present or place.path.read_text() != NEW:
                wrong[name] = f"told too early: {change}, {place.path.read_text()[:20] if change.present else ''}"
            slow[name] = trio.current_time() - saved.get(name, trio.current_time())
        with trio.move_on_after(0.3):
            wrong[name] = f"told twice: {await watch.changed()}"
        watch.close()

    saved: dict[str, float] = {}

    async def save_and_note(save: Callable[[Place], Awaitable[None]], place: Place, name: str) -> None:
        await save(place)
        saved[name] = trio.current_time()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for number, (prepare, save) in enumerate(WAYS):
                nursery.start_soon(one, number, prepare, save)
    assert not wrong
    assert {name: seconds for name, seconds in slow.items() if seconds > 1.0} == {}
    assert len(slow) == len(WAYS)


def without_events(watch: FileWatch) -> None:
    """As after the kernel refused: the next try is far away."""
    watch._events_again_at = float("inf")


async def test_a_file_that_vanishes_is_told_as_gone_and_its_return_as_there(tmp_path: Path) -> None:
    place = Place(tmp_path)
    usual(place)
    watch = FileWatch(place.path)
    with trio.fail_after(5):
        place.path.unlink()
        assert not (await watch.changed()).present
        place.path.write_text(NEW)
        assert (await watch.changed()).present
    assert watch.statistics().changes == 2
    watch.close()


async def test_a_file_that_stays_empty_is_told_after_a_while(tmp_path: Path) -> None:
    place = Place(tmp_path)
    usual(place)
    watch = FileWatch(place.path)
    with trio.fail_after(5):
        place.path.write_text("")
        assert (await watch.changed()).present
    watch.close()


async def test_a_fifo_in_its_place_is_told_and_blocks_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    usual(place)
    watch = FileWatch(place.path)
    with trio.fail_after(5):
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "fifo").rename(place.path)
        assert (await watch.changed()).present
    watch.close()


async def test_a_writer_that_never_closes_is_not_waited_for_without_end(tmp_path: Path) -> None:
    place = Place(tmp_path)
    usual(place)
    watch = FileWatch(place.path, replace(Patience(), writer=0.3))
    with place.path.open("a") as file:
        file.write(NEW)
        file.flush()
        with trio.fail_after(2):
            began = trio.current_time()
            await watch.changed()
            assert trio.current_time() - began >= 0.3
    watch.close()


async def test_a_file_that_never_rests_is_told_now_and_then_and_its_last_state_within_a_second(tmp_path: Path) -> None:
    """Twenty saves a second, in turn by rename, in place, in pieces, by a swapped link."""
    place = Place(tmp_path)
    usual(place)
    watch = FileWatch(place.path)
    ways = [renamed_over, in_place, link_swapped]
    told: list[float] = []
    last = "last = true\n"

    async def save_on() -> None:
        for number in range(30):
            await ways[number % len(ways)](place)
            await trio.sleep(0.05)
        place.spare("conf/tmp", last).rename(place.path)
        nonlocal done
        done = trio.current_time()

    done = float("inf")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(save_on)
            while True:
                await watch.changed()
                told.append(trio.current_time())
                if place.path.read_text() == last:
                    break
    assert told[-1] - done < 1.0
    assert len(told) >= 3
    watch.close()


async def test_what_happens_beside_the_file_is_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    usual(place)
    watch = FileWatch(place.path)
    async with trio.open_nursery() as nursery:

        async def bustle() -> None:
            for number in range(50):
                place.spare(f"conf/noise-{number}", "x").unlink()
                place.path.read_text()
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

        nursery.start_soon(bustle)
        await watch.changed()
        raise AssertionError("told a change that was none")
    watch.close()


async def test_cancelled_it_leaves_no_thread_and_loses_no_change(tmp_path: Path) -> None:
    place = Place(tmp_path)
    usual(place)
    watch = FileWatch(place.path)
    for _ in range(3):
        began = trio.current_time()
        with trio.move_on_after(0.05) as scope:
            await watch.changed()
        assert scope.cancelled_caught
        assert trio.current_time() - began < 0.5
        assert watch._one_at_a_time.borrowed_tokens == 0
    place.path.write_text(NEW)
    with trio.fail_after(2):
        assert (await watch.changed()).present
    watch.close()


async def test_a_change_found_while_being_cancelled_is_told_next(tmp_path: Path) -> None:
    place = Place(tmp_path)
    usual(place)
    watch = FileWatch(place.path)
    found = threading.Event()
    inner = watch._wait

    def wait_and_say() -> None:
        inner()
        found.set()

    watch._wait = wait_and_say  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.changed)
        await trio.testing.wait_all_tasks_blocked()
        place.path.write_text(NEW)
        # In one go for the loop: the thread has found it, and the task is cancelled before it hears of that.
        assert found.wait(5)
        nursery.cancel_scope.cancel()
    if watch.statistics().changes == 0:
        with trio.fail_after(0.5):
            assert (await watch.changed()).present
    assert watch.statistics().changes == 1
    watch.close()


async def test_when_the_kernel_tells_of_nothing_it_looks_and_says_so(tmp_path: Path) -> None:
    """Out of descriptors for real: no event queue can be made."""
    place = Place(tmp_path)
    usual(place)
    watch = FileWatch(place.path, replace(Patience(), events_again=1.0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            # The lowest free number is then out of bounds.
            lowest = os.dup(0)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
            try:
                changed = trio.Event()

                async def wait() -> None:
                    await watch.changed()
                    changed.set()

                nursery.start_soon(wait)
                while "tells of no events" not in watch.statistics().why:
                    await trio.sleep(0.01)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            statistics = watch.statistics()
            assert statistics.by == "looks"
            assert "Too many open files" in statistics.why
            place.path.write_text(NEW)
            began = trio.current_time()
            await changed.wait()
            assert trio.current_time() - began < 1.0
            assert watch.statistics().by == "looks"
        # Later the events are tried again.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.changed)
            while watch.statistics().by != "events":
                await trio.sleep(0.02)
            assert watch.statistics().why == ""
            nursery.cancel_scope.cancel()
    watch.close()


async def test_statistics_say_what_is_watched(tmp_path: Path) -> None:
    place = Place(tmp_path)
    linked(place)
    watch = FileWatch(place.path)
    statistics = watch.statistics()
    assert statistics.path == str(place.path)
    assert statistics.directories == (str(place.path.parent), str(tmp_path))
    assert (statistics.by, statistics.changes) == ("looks", 0)
    watch.close()


def test_only_absolute_paths_make_sense() -> None:
    with pytest.raises(ValueError, match="not an absolute path"):
        FileWatch(Path("aiorch.toml"))
