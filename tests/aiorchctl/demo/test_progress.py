"""Progress: plain lines where nothing can move, a bar on a terminal."""

import io
import itertools

from aiorchctl.demo.progress import progress_on
from aiorchctl.demo.rounds import Standing


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines(monkeypatch):
    clock = itertools.count(0.0, 2.0)
    monkeypatch.setattr("aiorchctl.demo.progress.time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    with progress_on(stream).stage("directly", 800) as stage:
        stage.standing(Standing(10, 12, 0, 1.0))
        stage.standing(Standing(1234, 1234, 56, 3.0))
        stage.standing(Standing(800, 800, 57, 4.0))
    assert stream.getvalue() == (
        "directly …\n"
        "    3.0 s: 1,234 of 800 answered; provider: 1,234, 56 refused\n"
        "    4.0 s: 800 of 800 answered; provider: 800, 57 refused\n"
    )


def test_counting_lines():
    stream = io.StringIO()
    with progress_on(stream).stage("reading pages", 150) as stage:
        stage.count(75)
        stage.count(150)
    assert stream.getvalue() == "reading pages …\n  150 of 150\n"


def test_bars_fit_a_terminal_of_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with progress_on(stream).stage("through aiorchd", 800) as stage:
        stage.standing(Standing(800, 1148, 5123, 4.0))
    last = stream.getvalue().replace("\r", "\n").splitlines()
    assert any("800/800" in line and "provider: 1,148, 5,123 refused" in line for line in last)
