"""The file is replaced whole, by one rename, as the file it was; and not at all when it is not what was read."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from aiorchctl.config_file import WriteError, create, read_file, replace_content
from aiorchd.config.problems import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "aiorch.toml"
    path.write_text("old\n")
    path.chmod(0o640)
    return path


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_it_is_another_file_with_the_same_mode_and_nothing_is_left(file: Path) -> None:
    before = file.stat()
    replace_content(read_file(file), b"new\n")
    after = file.stat()
    assert file.read_bytes() == b"new\n"
    assert after.st_ino != before.st_ino
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert left_in(file.parent) == {"aiorch.toml"}


def test_whoever_had_it_open_reads_the_old_one_to_its_end(file: Path) -> None:
    with file.open("rb") as reader:
        replace_content(read_file(file), b"something quite else\n")
        assert reader.read() == b"old\n"


def test_a_link_is_followed_and_stays(tmp_path: Path, file: Path) -> None:
    (tmp_path / "links").mkdir()
    first, second = tmp_path / "links" / "first.toml", tmp_path / "links" / "second.toml"
    first.symlink_to("second.toml")
    second.symlink_to("../aiorch.toml")
    replace_content(read_file(first), b"new\n")
    assert first.is_symlink()
    assert second.is_symlink()
    assert not file.is_symlink()
    assert file.read_bytes() == b"new\n"
    assert left_in(tmp_path / "links") == {"first.toml", "second.toml"}


@pytest.mark.parametrize("change", ["written", "replaced", "gone"])
def test_a_file_that_somebody_else_changed_meanwhile_is_left_alone(file: Path, change: str) -> None:
    read = read_file(file)
    if change == "written":
        file.write_text("theirs\n")
    elif change == "replaced":
        other = file.with_suffix(".other")
        other.write_text("old\n")
        other.replace(file)
    else:
        file.unlink()
    kept = file.read_bytes() if file.exists() else None
    with pytest.raises((WriteError, FileNotFoundError)) as caught:
        replace_content(read, b"mine\n")
    if isinstance(caught.value, WriteError):
        assert caught.value.exit_code == os.EX_TEMPFAIL
        assert "meanwhile" in str(caught.value)
    assert (file.read_bytes() if file.exists() else None) == kept
    assert left_in(file.parent) <= {"aiorch.toml"}


def test_of_many_at_once_one_wins_and_the_others_are_told(file: Path) -> None:
    reads = [read_file(file) for _ in range(8)]
    outcomes: list[str] = []

    def write(number: int) -> None:
        try:
            replace_content(reads[number], f"{number}\n".encode())
            outcomes.append("written")
        except WriteError:
            outcomes.append("told")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["told"] * 7 + ["written"]
    assert left_in(file.parent) == {"aiorch.toml"}


def test_extended_attributes_are_kept_where_there_are_any(file: Path) -> None:
    try:
        os.setxattr(file, "user.note", b"ours")
    except OSError:
        return  # this file system has none, and then there is nothing to keep
    replace_content(read_file(file), b"new\n")
    assert os.getxattr(file, "user.note") == b"ours"


def test_what_others_may_write_is_not_even_read(file: Path) -> None:
    file.chmod(0o666)
    with pytest.raises(ConfigError, match="others than its owner may write it"):
        read_file(file)


@pytest.mark.parametrize("kind", ["missing", "circle", "directory", "fifo"])
def test_what_cannot_be_read_is_said(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.toml"
    if kind == "circle":
        path.symlink_to(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert str(path) in str(caught.value)


def test_text_that_is_not_utf_8_is_said(file: Path) -> None:
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        _ = read_file(file).text


def test_a_new_file_with_the_directories_to_it(tmp_path: Path) -> None:
    path = tmp_path / "one" / "two" / "aiorch.toml"
    create(path, b"first\n")
    assert path.read_bytes() == b"first\n"
    assert stat.S_IMODE(path.stat().st_mode) == (0o644 if os.geteuid() == 0 else 0o600)
    with pytest.raises(WriteError, match="there already"):
        create(path, b"second\n")
    create(path, b"third\n", replace=True)
    assert path.read_bytes() == b"third\n"
    assert left_in(path.parent) == {"aiorch.toml"}


def test_a_place_where_nothing_can_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be made"):
        create(tmp_path / "file" / "below" / "aiorch.toml", b"")
