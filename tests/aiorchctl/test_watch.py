"""`--watch`: the figures again and again, through a restart of the daemon, until somebody has seen enough."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doctoring import SIMULATED
from processes import daemon as real_daemon

from aiorch.errors import Forbidden
from aiorchctl.commands.stats import _pace
from aiorchctl.page import Paragraph, plain
from aiorchctl.terminal import redraw

LINE = {"calls": 10, "provider_calls": 4, "saved_calls": {"exact": 6}, "since": 0.0, "until": 100.0}


def answers(*results: Any) -> Callable[[Any], Any]:
    """One after the other."""
    left = iter(results)
    return lambda arguments: next(left)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_pages_follow_each_other_in_a_pipe(daemon: Any, ctl: Any) -> None:
    later = LINE | {"calls": 30, "provider_calls": 9, "until": 102.0}
    daemon.answers["stats"] = answers(LINE, later, Forbidden("enough"))
    ran = ctl("stats", "--watch", "0.1")
    assert (ran.code, ran.err) == (77, "aiorchctl: forbidden: enough\n")
    first, second = ran.out.split("\n\n1970-")
    assert first.startswith("1970-01-01 00:01:40, every 100 ms\n")
    assert "calls asked          10" in first
    assert second.startswith("01-01 00:01:42, every 100 ms: 10.0 calls a second, 2.5 to providers\n")
    assert "calls asked          30" in second


def test_one_line_each_for_a_machine(daemon: Any, ctl: Any) -> None:
    daemon.answers["stats"] = answers(LINE, LINE | {"calls": 11}, Forbidden("enough"))
    ran = ctl("stats", "--watch", "0.1", "--json", "--since", "1h", "--by", "model")
    assert [json.loads(line)["calls"] for line in ran.out.splitlines()] == [10, 11]
    assert daemon.arguments_of("stats") == {"since": 3600.0, "by": "model"}


def test_the_seconds_may_be_left_out(daemon: Any, ctl: Any) -> None:
    daemon.answers["stats"] = Forbidden("enough")
    for arguments in (("--watch",), ("--watch", "--json"), ("--watch=30s",)):
        assert ctl("stats", *arguments).code == 77


@pytest.mark.parametrize("seconds", ["0.05", "often"])
def test_odd_intervals(ctl: Any, seconds: str) -> None:
    assert ctl("stats", "--watch", seconds).code == 64


def test_without_a_daemon_it_does_not_begin(ctl: Any, tmp_path: Path) -> None:
    assert ctl("stats", "--watch", "--socket", str(tmp_path / "none")).code == 69


@pytest.mark.parametrize(
    ("now", "before"),
    [
        (LINE, None),
        (LINE, LINE),  # no time went by
        (LINE | {"since": 50.0}, LINE | {"until": 98.0}),  # a window that moves
        (LINE, LINE | {"calls": 20, "until": 98.0}),  # old records were dropped
        ({}, {}),
    ],
)
def test_no_pace_is_told_where_it_would_be_wrong(now: dict[str, Any], before: Any) -> None:
    assert "a second" not in plain(_pace(now, before, 2.0))


def test_a_restart_of_the_daemon_is_waited_out(tmp_path: Path, program: Any) -> None:
    with real_daemon(tmp_path, SIMULATED) as running:
        watching = program.start(
            "-m", "aiorchctl", "stats", "--watch", "0.1", "--json", "--socket", str(running.socket)
        )
        assert json.loads(watching.stdout.readline())["calls"] == 0
        running.stop(signal.SIGKILL)
        gone = json.loads(watching.stderr.readline())
        assert gone["code"] in ("unreachable", "connection_lost")
        draining = threading.Thread(target=watching.stderr.read)
        draining.start()
        running.start()
        assert json.loads(watching.stdout.readline())["calls"] == 0
        assert json.loads(watching.stdout.readline())["calls"] == 0
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 0
        draining.join(10)
        watching.stdout.close()
        watching.stderr.close()


def test_on_a_terminal_it_is_drawn_anew_until_ctrl_c(tmp_path: Path, daemon: Any, program: Any) -> None:
    daemon.answers["stats"] = LINE
    ours, theirs = pty.openpty()
    program.environment |= {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **program.environment}
    command = [sys.executable, "-m", "aiorchctl", "stats", "--watch", "0.1"]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment) as watching:
        os.close(theirs)
        shown = b""
        while shown.count(b"\x1b[H\x1b[J") < 3:
            shown += os.read(ours, 65536)
        watching.send_signal(signal.SIGINT)
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:
            pass  # the other end is closed
        assert watching.wait(30) == 0
    os.close(ours)
    assert shown.count(b"calls asked") >= 3
    assert b"Traceback" not in shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_does_not_fit_on_the_terminal_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "5")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    redraw([Paragraph(f"line {number}") for number in range(20)], stream)
    assert stream.getvalue() == "\x1b[H\x1b[Jline 0\nline 1\nline 2\nline 3\n"
