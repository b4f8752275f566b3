"""Only a regular file of sane size that nobody else can write is read, and nothing else ever blocks."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from aiorchd.config.problems import ConfigError
from aiorchd.config.reading import LARGEST_BYTES, read_guarded

OWN = frozenset({os.geteuid()})


def refusal(path: Path, owners: frozenset[int] = OWN) -> str:
    with pytest.raises(ConfigError) as caught:
        read_guarded(path, owners)
    [problem] = caught.value.problems
    assert problem.file == str(path)
    assert caught.value.exit_code == 78
    return str(problem)


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"a = 1\n" * 1000)
    path.chmod(0o640)
    assert read_guarded(path, OWN) == b"a = 1\n" * 1000


def test_links_are_followed_and_the_file_behind_them_judged(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_bytes(b"x")
    link = tmp_path / "link"
    link.symlink_to(real)
    assert read_guarded(link, OWN) == b"x"
    real.chmod(0o666)
    assert "others than its owner may write it (mode 0666)" in refusal(link)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o660])
def test_a_file_that_others_may_write_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"")
    path.chmod(mode)
    assert refusal(path).endswith(f"chmod go-w {path}")


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"")
    if os.geteuid() == 0:
        os.chown(path, 54321, -1)
        told = refusal(path)
        assert "it belongs to user 54321" in told
        assert told.endswith("It must belong to root.")
        assert read_guarded(path, frozenset({54321})) == b""
    else:
        told = refusal(path, frozenset({54321}))
        assert told.endswith("It must belong to root or user 54321.")


def test_a_missing_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    told = refusal(tmp_path / "none.toml")
    assert "there is no such file" in told
    assert "--config" in told


def test_a_dangling_link_is_a_missing_file(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "none")
    assert "there is no such file" in refusal(link)


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"")
    path.chmod(0)
    tmp_path.chmod(0o700)
    me = os.geteuid()
    if me == 0:
        os.seteuid(54321)
    try:
        told = refusal(path)
    finally:
        os.seteuid(me)
    assert "may not read it" in told


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert "it is a FIFO" in refusal(path)


def test_other_things_are_refused_by_name(tmp_path: Path) -> None:
    assert "it is a directory" in refusal(tmp_path)
    assert "it is a device" in refusal(Path("/dev/zero"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        assert "cannot be opened" in refusal(tmp_path / "s")


def test_links_in_a_circle_and_names_with_nul_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert "cannot be opened" in refusal(tmp_path / "a")
    assert "cannot be opened" in refusal(tmp_path / "a\0b")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    assert f"104857600 bytes large; the most is {LARGEST_BYTES}" in refusal(path)
    os.truncate(path, LARGEST_BYTES)
    assert len(read_guarded(path, OWN)) == LARGEST_BYTES


def test_a_file_whose_size_is_a_lie_is_refused() -> None:
    # Files of /proc say they are empty and are not: what is read never agrees with what was promised.
    if os.geteuid() == 0:
        assert "being written to" in refusal(Path("/proc/cpuinfo"))
    else:
        assert "being written to" in refusal(Path("/proc/cpuinfo"), frozenset({0}))
