"""The state directory: private whatever the umask says, held by one process, and nothing in it ever overwritten."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aiorchd.store.errors import StateDirectoryUnusable, StateInUse
from aiorchd.store.place import LOCK_NAME, create_private, locked, make_private, move_aside, prepare_directory, remove

HOLD = """
import sys, pathlib
from aiorchd.store.place import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_the_directory_is_made_with_its_parents_and_private(tmp_path: Path, open_umask: None) -> None:
    directory = tmp_path / "share" / "aiorch"
    prepare_directory(directory)
    assert mode_of(directory) == 0o700


def test_a_directory_open_to_others_is_made_private(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    prepare_directory(directory)
    assert mode_of(directory) == 0o700


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateDirectoryUnusable, match="is not a directory.*--state-dir") as caught:
        prepare_directory(tmp_path / "state")
    assert caught.value.exit_code == 77
    with pytest.raises(StateDirectoryUnusable, match="--state-dir"):
        prepare_directory(tmp_path / "state" / "below")


def test_another_users_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(StateDirectoryUnusable, match=f"belongs to user {owner} and aiorchd runs as user {owner + 1}"):
        prepare_directory(directory)


def test_files_are_private_whatever_the_umask_says(tmp_path: Path, open_umask: None) -> None:
    create_private(tmp_path / "a.db")
    assert mode_of(tmp_path / "a.db") == 0o600
    os.umask(0o777)
    create_private(tmp_path / "b.db")
    assert mode_of(tmp_path / "b.db") == 0o600
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "a.db")


def test_existing_files_and_their_companions_are_made_private(tmp_path: Path) -> None:
    for name in ("a.db", "a.db-wal"):
        (tmp_path / name).write_bytes(b"")
        (tmp_path / name).chmod(0o644)
    make_private(tmp_path / "a.db")
    assert mode_of(tmp_path / "a.db") == mode_of(tmp_path / "a.db-wal") == 0o600


def test_a_second_holder_is_refused_with_the_number_of_the_first(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(StateInUse, match=rf"another aiorchd \(process {os.getpid()}\) is using {tmp_path}"):
            with locked(tmp_path):
                raise AssertionError("held twice")
        assert mode_of(tmp_path / LOCK_NAME) == 0o600
    with locked(tmp_path):
        pass


def test_a_holder_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateInUse, match=rf"process {holder.pid}\)"), locked(tmp_path):
            raise AssertionError("held twice")
        holder.kill()
        holder.wait()
    with locked(tmp_path):
        pass


def test_the_lock_is_not_followed_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / LOCK_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateDirectoryUnusable), locked(tmp_path):
        raise AssertionError("locked a link")
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_what_is_put_aside_keeps_its_companions_and_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    for number in range(3):
        path.write_text(f"main {number}")
        path.with_name("cache.db-wal").write_text(f"log {number}")
        aside = move_aside(path, 0.0)
        assert aside.read_text() == f"main {number}"
        assert aside.with_name(aside.name + "-wal").read_text() == f"log {number}"
    assert not path.exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "cache.db.damaged-19700101T000000Z",
        "cache.db.damaged-19700101T000000Z-2",
        "cache.db.damaged-19700101T000000Z-2-wal",
        "cache.db.damaged-19700101T000000Z-3",
        "cache.db.damaged-19700101T000000Z-3-wal",
        "cache.db.damaged-19700101T000000Z-wal",
    ]


def test_removing_takes_the_companions_and_minds_nothing_missing(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    path.write_text("")
    path.with_name("cache.db-shm").write_text("")
    remove(path)
    remove(path)
    assert list(tmp_path.iterdir()) == []
