"""The socket of the daemon: systemd's at once, its own when everything else is in order."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from aiorchd.app.listening import Listening
from aiorchd.app.places import Places
from aiorchd.config.places import Place, SocketPlace
from aiorchd.doors.listener import SocketPathError


def places(path: Path | None, *, descriptor: int | None = None, mode: int = 0o600) -> Places:
    return Places(None, SocketPlace(path, "--socket", mode), Place(Path("/nowhere"), "--state-dir"), descriptor)


def test_its_own_is_made_when_opened_and_removed_when_left(tmp_path: Path) -> None:
    path = tmp_path / "aiorch" / "a.sock"
    with Listening(places(path)) as listening:
        assert listening.path == path
        assert not path.parent.exists()
        opened = listening.open()
        assert listening.open() is opened
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        listening.close()
        assert not path.exists()
        assert opened.fileno() == -1


def test_systemds_is_taken_at_once_and_its_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as managers:
        managers.bind(str(path))
        managers.listen()
        descriptor = os.dup(managers.fileno())
        with Listening(places(None, descriptor=descriptor)) as listening:
            assert listening.path == path
            assert listening.socket is not None
            assert listening.open() is listening.socket
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        assert path.is_socket()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))  # whoever comes now waits for a successor


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with (
        Listening(places(Path("/proc/aiorch/a.sock"))) as listening,
        pytest.raises(SocketPathError, match="/proc/aiorch"),
    ):
        listening.open()


def test_what_is_no_listening_socket_is_refused(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(SocketPathError, match="does not listen"):
        Listening(places(None, descriptor=os.dup(ours.fileno())))
