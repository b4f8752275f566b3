"""Binding: stale sockets are taken over, living ones are not, and nobody can connect before the mode is set."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from aiorchd.doors.listener import SocketInUseError, SocketPathError, bound_socket, inherited_socket


def test_mode_and_removal(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with bound_socket(path, mode=0o600):
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert not path.exists()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with bound_socket(path, mode=0o660), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_living_daemon_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with bound_socket(path, mode=0o600):
        with pytest.raises(SocketInUseError, match="another daemon"), bound_socket(path, mode=0o600):
            pass
        assert path.exists()


def test_a_successors_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with bound_socket(path, mode=0o600):
        path.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
    assert path.exists()
    other.close()


def test_what_is_no_socket_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(SocketPathError, match="not a socket"), bound_socket(path, mode=0o600):
        pass
    assert path.read_text() == "precious"
    with pytest.raises(SocketPathError, match="at most 107 bytes"), bound_socket(tmp_path / ("x" * 120), mode=0o600):
        pass
    with pytest.raises(SocketPathError, match="directory"), bound_socket(tmp_path / "none" / "a.sock", mode=0o600):
        pass


def test_an_inherited_descriptor_must_listen(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    given = socket.socket(socket.AF_UNIX)
    given.bind(path)
    with pytest.raises(SocketPathError, match="does not listen"), inherited_socket(os.dup(given.fileno())):
        pass
    given.listen()
    with inherited_socket(given.detach()) as listening:
        assert not listening.getblocking()
    assert Path(path).exists()
