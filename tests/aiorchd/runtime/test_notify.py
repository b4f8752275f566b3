"""The systemd protocol against a real datagram socket and real descriptors."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from aiorchd.runtime.notify import Notifier, feed_watchdog, take_descriptors, take_notifier, take_watchdog_s


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        receiving.settimeout(5)
        yield receiving


@pytest.fixture
def notifier(manager: socket.socket) -> Iterator[Notifier]:
    made = Notifier(manager.getsockname())
    yield made
    made.close()


def test_what_is_said_when(manager: socket.socket, notifier: Notifier) -> None:
    assert notifier.active
    before = time.monotonic_ns() // 1000
    for say, expected in (
        (lambda: notifier.ready("serving 2 models"), b"READY=1\nSTATUS=serving 2 models"),
        (notifier.ready, b"READY=1"),
        (lambda: notifier.stopping("draining"), b"STOPPING=1\nSTATUS=draining"),
        (lambda: notifier.status("generation 3"), b"STATUS=generation 3"),
        (notifier.alive, b"WATCHDOG=1"),
        (lambda: notifier.extend_timeout(2.5), b"EXTEND_TIMEOUT_USEC=2500000"),
    ):
        assert say()
        assert manager.recv(4096) == expected
    assert notifier.reloading()
    first, second = manager.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_a_status_is_one_line_without_secrets(manager: socket.socket, notifier: Notifier) -> None:
    notifier.status("refused:\nREADY=1\nkey sk-abcdefgh12345 " + "x" * 5000)
    told = manager.recv(65536).decode()
    assert "\n" not in told
    assert "sk-" not in told
    assert len(told) < 600


def test_an_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        name = f"aiorch-test-{os.getpid()}-{time.monotonic_ns()}"
        receiving.bind(b"\0" + name.encode())
        receiving.settimeout(5)
        notifier = Notifier("@" + name)
        assert notifier.alive()
        assert receiving.recv(100) == b"WATCHDOG=1"
        notifier.close()


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "relative"])
def test_without_a_manager_nothing_is_sent(address: str | None) -> None:
    notifier = Notifier(address)
    assert not notifier.active
    assert not notifier.ready("")
    notifier.close()


def test_a_manager_that_is_gone_or_full_is_no_reason_to_stop(tmp_path: Path, manager: socket.socket) -> None:
    gone = Notifier(str(tmp_path / "gone"))
    assert not gone.alive()
    gone.close()
    assert not gone.alive()
    full = Notifier(manager.getsockname())
    began = time.monotonic()
    while full.alive():
        pass
    assert time.monotonic() - began < 5, "sending blocked"
    full.close()


def test_what_cannot_be_made_up_for_waits_for_a_manager_that_is_behind(
    manager: socket.socket, notifier: Notifier
) -> None:
    while notifier.alive():
        pass
    began = time.monotonic()
    assert not notifier.stopping("")  # not for ever
    assert 0.9 < time.monotonic() - began < 3
    catching_up = threading.Timer(0.1, lambda: manager.recv(100))
    catching_up.start()
    assert notifier.ready()
    catching_up.join()


def test_the_address_is_not_left_for_children(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "PATH": "x"}
    notifier = take_notifier(environ)
    assert environ == {"PATH": "x"}
    assert notifier.alive()
    notifier.close()
    assert not take_notifier(environ).active


async def test_the_watchdog_is_fed_twice_in_each_period(
    manager: socket.socket, notifier: Notifier, autojump_clock: object
) -> None:
    with trio.move_on_after(10.5):
        await feed_watchdog(notifier, 2.0)
    manager.setblocking(False)
    fed = 0
    while True:
        try:
            assert manager.recv(100) == b"WATCHDOG=1"
        except BlockingIOError:
            break
        fed += 1
    assert fed == 11


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "42"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
    ],
)
def test_the_time_of_the_watchdog(environ: dict[str, str], expected: float | None) -> None:
    assert take_watchdog_s(environ, 42) == expected
    assert not environ


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "43"},
        {"LISTEN_FDS": "many", "LISTEN_PID": "42"},
        {"LISTEN_FDS": "-1", "LISTEN_PID": "42"},
        {"LISTEN_FDS": "100000", "LISTEN_PID": "42", "LISTEN_FDNAMES": "a"},
        {"LISTEN_FDS": "0", "LISTEN_PID": "42"},
    ],
)
def test_descriptors_that_are_not_ours_are_left_alone(environ: dict[str, str]) -> None:
    assert take_descriptors(environ, 42) == ()
    assert not environ


def test_descriptors_are_taken_by_name_and_kept_from_children(tmp_path: Path) -> None:
    """In a process of its own, where descriptors 3 and 4 are what the test says they are."""
    code = """
import os, socket, json
from aiorchd.runtime.notify import take_descriptors
environ = dict(os.environ, LISTEN_PID=str(os.getpid()))
found = take_descriptors(environ, os.getpid())
taken = [(each.name, each.descriptor, os.get_inheritable(each.descriptor)) for each in found]
listening = socket.socket(fileno=found[0].descriptor)
print(json.dumps([taken, listening.getsockname(), [name for name in environ if name.startswith("LISTEN")]]))
"""
    with socket.socket(socket.AF_UNIX) as listening:
        path = str(tmp_path / "s")
        listening.bind(path)
        listening.listen()
        # What systemd does: the socket at 3, something at 5, nothing at 4, all inheritable.
        launch = (
            f"import os,sys; os.dup2({listening.fileno()}, 3); os.dup2(1, 5); os.close(4) if {listening.fileno()} != 4 "
            "and os.path.exists('/proc/self/fd/4') else None; os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
        )
        ran = subprocess.run(
            [sys.executable, "-c", launch, code],
            pass_fds=[listening.fileno()],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "LISTEN_FDS": "3",
                "LISTEN_FDNAMES": "main.socket::",
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    taken, name, left = json.loads(ran.stdout)
    assert taken[0] == ["main.socket", 3, False]
    assert ["unknown", 5, False] in taken
    assert all(descriptor != 4 for _, descriptor, _ in taken)
    assert (name, left) == (path, [])
