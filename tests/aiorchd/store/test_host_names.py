"""Which models processes of the host answer for, on the disk."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from aiorchd.store.host_names import FILE_NAME, HostNames


async def eventually(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():
            await trio.sleep(0.01)


@pytest.fixture
def places() -> Iterator[set[tuple[int, str]]]:
    yield set()


async def test_what_changes_is_written_after_a_moment_and_read_by_the_next(
    tmp_path: Path, places: set[tuple[int, str]]
) -> None:
    names = HostNames(tmp_path, lambda: places)
    assert await names.read() == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names.run)
        places |= {(1000, "mine"), (1000, "yours"), (7, "mine")}
        names.changed()
        await eventually((tmp_path / FILE_NAME).exists)
        before = (tmp_path / FILE_NAME).stat()
        assert await HostNames(tmp_path, set).read() == [(7, "mine"), (1000, "mine"), (1000, "yours")]
        places.discard((1000, "yours"))
        names.changed()
        await eventually(lambda: (tmp_path / FILE_NAME).stat().st_mtime_ns != before.st_mtime_ns)
        after = (tmp_path / FILE_NAME).stat()
        assert await HostNames(tmp_path, set).read() == [(7, "mine"), (1000, "mine")]
        await names.keep()
        assert (tmp_path / FILE_NAME).stat().st_mtime_ns == after.st_mtime_ns, "what is as before is not written"
        nursery.cancel_scope.cancel()
    assert stat.S_IMODE(after.st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


async def test_what_goes_with_the_daemon_stays(tmp_path: Path, places: set[tuple[int, str]]) -> None:
    names = HostNames(tmp_path, lambda: places)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names.run)
        places.add((1000, "mine"))
        await names.keep()
        places.clear()
        names.changed()
        await trio.sleep(0.3)
        nursery.cancel_scope.cancel()
    assert await HostNames(tmp_path, set).read() == [(1000, "mine")]


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", "[[1, 2]]", '[["a", "b"]]', "[[true, 'x']]", "[[1]]", "\udcff", "[" * 9999]
)
async def test_what_makes_no_sense_is_nothing(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).write_bytes(text.encode(errors="surrogateescape"))
    names = HostNames(tmp_path, lambda: {(1, "a")})
    assert await names.read() == []
    assert "cannot be read" in caplog.text
    await names.keep()
    assert json.loads((tmp_path / FILE_NAME).read_bytes()) == [[1, "a"]]


async def test_a_disk_that_takes_nothing_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "state"
    names = HostNames(directory, lambda: {(1, "a")})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names.run)
        names.changed()
        await eventually(lambda: "cannot be kept" in caplog.text)
        directory.mkdir()
        names.changed()
        await eventually((directory / FILE_NAME).exists)
        nursery.cancel_scope.cancel()
    assert await HostNames(directory, set).read() == [(1, "a")]
