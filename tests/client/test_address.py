"""Which socket is tried, and what is said when none answers."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiorch
from aiorch.address import SYSTEM_SOCKET, Dial, Patience, candidates


@pytest.mark.parametrize(
    ("argument", "environ", "expected"),
    [
        ("/a", {"AIORCH_SOCKET": "/b", "XDG_RUNTIME_DIR": "/r"}, ("/a",)),
        (Path("/a"), {}, ("/a",)),
        (None, {"AIORCH_SOCKET": "/b", "XDG_RUNTIME_DIR": "/r"}, ("/b",)),
        (None, {"AIORCH_SOCKET": "", "XDG_RUNTIME_DIR": "/r"}, ("/r/aiorch/aiorch.sock", SYSTEM_SOCKET)),
        (None, {"XDG_RUNTIME_DIR": ""}, (SYSTEM_SOCKET,)),
        (None, {}, (SYSTEM_SOCKET,)),
    ],
)
def test_candidates(argument: str | None, environ: dict[str, str], expected: tuple[str, ...]) -> None:
    assert candidates(argument, environ) == expected


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen(0)
        yield listening


def test_the_first_that_answers_is_taken(tmp_path: Path, listening: socket.socket) -> None:
    dial = Dial([str(tmp_path / "missing"), str(tmp_path / "s")])
    connected = dial.attempt()
    assert connected is not None
    connection, path = connected
    with connection:
        assert path == str(tmp_path / "s")
        assert connection.gettimeout() == 0.0
        assert connection.getpeername() == path
        assert not os.get_inheritable(connection.fileno())


def test_what_waiting_may_mend_is_waited_for(tmp_path: Path, listening: socket.socket) -> None:
    full = Dial([str(tmp_path / "s")])
    held = []
    while (connected := full.attempt()) is not None:  # nobody accepts: the queue fills
        held.append(connected[0])
        assert len(held) < 10
    listening.close()
    (tmp_path / "plain").write_text("x")
    missing, refused, plain = (Dial([str(tmp_path / name)]) for name in ("missing", "s", "plain"))
    assert [dial.attempt() for dial in (missing, refused, plain)] == [None] * 3
    assert [dial.unreachable().tried[0][1] for dial in (full, missing, refused, plain)] == [
        "its queue of waiting connections is full",
        "no such socket",
        "nobody listens there",
        "nobody listens there",
    ]
    for connection in held:
        connection.close()


def test_what_waiting_cannot_mend_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(aiorch.Unreachable, match="too long") as caught:
        Dial(["/" + "x" * 200]).attempt()
    assert caught.value.tried == (("/" + "x" * 200, "AF_UNIX path too long"),)
    (tmp_path / "file").write_text("x")
    with pytest.raises(aiorch.Unreachable, match="not a directory"):
        Dial([str(tmp_path / "file" / "s")]).attempt()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(str(tmp_path / "d"))
        with pytest.raises(aiorch.Unreachable, match="not a stream socket"):
            Dial([str(tmp_path / "d")]).attempt()


def test_permission_denied_is_said_at_once() -> None:
    """In a child that is nobody, since root may everything."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listening:
        path = Path(directory, "s")
        listening.bind(str(path))
        listening.listen()
        path.chmod(stat.S_IRUSR)
        Path(directory).chmod(0o755)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                if os.getuid() == 0:
                    os.setuid(65534)
                Dial([str(path)]).attempt()
            except aiorch.Unreachable as error:
                code = 0 if "your user is not in the group" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_hope_for_one_is_hope(tmp_path: Path) -> None:
    assert Dial(["/" + "x" * 200, str(tmp_path / "missing")]).attempt() is None


def test_the_error_says_what_was_tried_and_what_to_do(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a", "b")]
    dial = Dial(paths)
    assert dial.attempt() is None
    error = dial.unreachable(1.25)
    for words in (
        *paths,
        "for 1.2 s",
        "no such socket",
        "aiorchctl doctor",
        "systemctl start aiorchd.socket",
        "`aiorchd`",
    ):
        assert words in str(error)
    assert error.tried == tuple((path, "no such socket") for path in paths)


def test_pauses_grow_to_a_twentieth_of_a_second(tmp_path: Path) -> None:
    dial = Dial([str(tmp_path / "missing")])
    pauses = []
    for _ in range(12):
        assert dial.attempt() is None
        pauses.append(dial.delay_s)
    assert pauses[0] == 0.002
    assert pauses == sorted(pauses)
    assert pauses[-1] == 0.05


def test_a_daemon_that_was_there_is_waited_for_longer_once() -> None:
    patience, before, after = Patience(2.0), object(), object()
    assert patience.until(100.0, None) == 102.0
    assert patience.until(200.0, before) == 210.0
    assert patience.until(201.0, before) == 210.0, "counted from when it was missed"
    assert patience.until(209.0, before) == 211.0
    assert patience.until(300.0, before) == 302.0, "it has been gone for long"
    assert patience.until(400.0, after) == 410.0
    assert Patience(0.0).until(100.0, before) == 100.0
