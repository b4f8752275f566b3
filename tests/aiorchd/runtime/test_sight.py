"""Looking at a file: the links that lead to it, and whether somebody is still writing."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from aiorchd.runtime.sight import is_being_written, look


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "real" / "a.toml"
    path.parent.mkdir()
    path.write_text("a = 1")
    return path


def directories(path: Path) -> list[str]:
    return [name for name, _ in look(path).directories]


def test_a_plain_file(file: Path) -> None:
    seen = look(file)
    assert seen.links == ()
    assert (seen.size, seen.regular) == (5, True)
    assert directories(file) == [str(file.parent)]
    assert seen == look(file)


def test_every_way_to_change_it_shows(file: Path) -> None:
    ways = [
        lambda: file.write_text("a = 2222"),
        lambda: os.utime(file, ns=(1, 1)),
        lambda: file.chmod(0o600),
        lambda: file.rename(file.with_name("b")),
        lambda: file.with_name("b").rename(file),
        lambda: (file.with_name("c").write_text("a = 2222"), file.with_name("c").rename(file)),
        file.unlink,
        lambda: file.write_text("a = 2222"),
    ]
    before = look(file)
    for number, way in enumerate(ways):
        way()
        after = look(file)
        assert not after.same_file(before), number
        before = after


def test_links_on_the_way_are_part_of_the_sight(tmp_path: Path, file: Path) -> None:
    """As a ConfigMap of Kubernetes has it: file -> ..data/file, ..data -> ..1."""
    volume = tmp_path / "volume"
    for number in ("..1", "..2"):
        (volume / number).mkdir(parents=True)
        os.link(file, volume / number / "a.toml")
    (volume / "..data").symlink_to("..1")
    (volume / "a.toml").symlink_to("..data/a.toml")
    before = look(volume / "a.toml")
    assert [target for _, target in before.links] == ["..data/a.toml", "..1"]
    assert directories(volume / "a.toml") == [str(volume), str(volume / "..1")]
    (volume / "..new").symlink_to("..2")
    (volume / "..new").rename(volume / "..data")
    after = look(volume / "a.toml")
    assert after.file == before.file  # the very same file by another way
    assert not after.same_file(before)


def test_it_agrees_with_the_kernel_on_where_a_path_leads(tmp_path: Path, file: Path) -> None:
    (tmp_path / "up").symlink_to("real/../real")
    (tmp_path / "absolute").symlink_to(tmp_path / "up")
    (tmp_path / "dots").symlink_to("./absolute/.//")
    for name in ("up", "absolute", "dots"):
        seen = look(tmp_path / name / "a.toml")
        assert seen.file is not None
        status = file.stat()
        assert seen.file[:2] == (status.st_dev, status.st_ino)


def test_what_is_missing_is_looked_for_in_the_deepest_directory_there_is(tmp_path: Path) -> None:
    seen = look(tmp_path / "not" / "there" / "a.toml")
    assert (seen.file, seen.regular) == (None, False)
    assert [name for name, _ in seen.directories] == [str(tmp_path)]


def test_a_dangling_link_names_both_directories(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.toml").symlink_to("elsewhere/a.toml")
    seen = look(tmp_path / "a.toml")
    assert seen.file is None
    assert directories(tmp_path / "a.toml") == [str(tmp_path), str(tmp_path / "elsewhere")]


def test_a_directory_put_in_place_of_another_shows(file: Path) -> None:
    before = look(file)
    file.parent.rename(file.parent.with_name("old"))
    file.parent.mkdir()
    os.link(file.parent.with_name("old") / "a.toml", file)
    assert look(file).directories != before.directories


def test_circles_and_odd_paths_end(tmp_path: Path, file: Path) -> None:
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    assert look(tmp_path / "x").file is None
    assert look(file / "below").file is None
    assert look(Path("/")).file is None
    (tmp_path / "root").symlink_to("/")
    assert look(tmp_path / "root").file is None


def test_other_kinds_of_files_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    seen = look(tmp_path / "fifo")
    assert seen.file is not None
    assert not seen.regular


def test_a_writer_is_noticed_while_it_has_the_file_open(file: Path) -> None:
    assert is_being_written(file) is False
    with file.open("a"):
        assert is_being_written(file) is True
    with file.open("r+"):
        assert is_being_written(file) is True
    with file.open():
        assert is_being_written(file) is False
    assert is_being_written(file) is False


def test_what_the_kernel_does_not_tell_is_not_known(tmp_path: Path) -> None:
    assert is_being_written(tmp_path / "none") is None
    assert is_being_written(tmp_path) is None
    os.mkfifo(tmp_path / "fifo")
    assert is_being_written(tmp_path / "fifo") is None


def test_of_somebody_elses_file_the_kernel_does_not_tell() -> None:
    me = os.geteuid()
    if me != 0:
        assert is_being_written(Path("/etc/passwd")) is None
        return
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "a.toml"
        file.write_text("a = 1")
        Path(directory).chmod(0o755)
        os.seteuid(54321)
        try:
            assert file.read_text() == "a = 1"
            assert is_being_written(file) is None
        finally:
            os.seteuid(me)


def test_no_lease_stays_behind_and_no_signal_kills(file: Path) -> None:
    """A writer that comes while a lease is held makes the kernel signal the holder; the default would end the process."""
    assert signal.getsignal(signal.SIGURG) == signal.SIG_DFL
    for _ in range(200):
        assert is_being_written(file) is False
        with file.open("r+"):
            pass
    assert "a.toml" not in Path("/proc/locks").read_text()
    assert str(file.stat().st_ino) not in Path("/proc/locks").read_text()
