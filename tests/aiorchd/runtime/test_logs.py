"""One line for each event, cheap when filtered, levels changed live, never a secret and never a forged line."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiorchd.runtime.logs import Log, Logging, choose_style, logging_to


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def journal(stream: io.StringIO) -> Iterator[Logging]:
    with logging_to(stream, style="journal") as owner:
        yield owner


def said(stream: io.StringIO) -> list[str]:
    text = stream.getvalue()
    stream.seek(0)
    stream.truncate()
    return text.splitlines()


def test_one_line_with_fields_as_logfmt(stream: io.StringIO, journal: Logging) -> None:
    Log("reload").info(
        "accepted",
        generation=3,
        keys="retry.jitter",
        live=True,
        took_s=0.0123456789,
        file="/a b",
        nothing=None,
        empty="",
    )
    assert said(stream) == [
        '<6>reload: accepted generation=3 keys=retry.jitter live=true took_s=0.0123457 file="/a b" empty=""'
    ]


def test_levels_have_the_priorities_of_the_journal(stream: io.StringIO, journal: Logging) -> None:
    journal.set_levels("debug")
    log = Log("x")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    logging.getLogger("aiorchd.x").critical("e")
    assert said(stream) == ["<7>x: a", "<6>x: b", "<4>x: c", "<3>x: d", "<3>x: e"]


def test_plain_lines_carry_time_and_level(stream: io.StringIO) -> None:
    with logging_to(stream, style="plain"):
        Log("reload").warning("refused", problems=2)
    [line] = said(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning reload: refused problems=2", line)


def test_a_terminal_gets_colour_unless_it_minds() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        assert choose_style(terminal, {"TERM": "xterm"}) == "terminal"
        assert choose_style(terminal, {"TERM": "xterm", "NO_COLOR": "1"}) == "plain"
        assert choose_style(terminal, {"TERM": "dumb"}) == "plain"
        with logging_to(terminal, environ={"TERM": "xterm"}):
            Log("reload").error("refused")
    shown = os.read(ours, 1000).decode()
    os.close(ours)
    assert "\x1b[31mreload: refused\x1b[0m" in shown


def test_the_journal_is_recognised_by_the_very_stream(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as here, (tmp_path / "b").open("w") as elsewhere:
        status = os.fstat(here.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert choose_style(here, environ) == "journal"
        assert choose_style(elsewhere, environ) == "plain"
        assert choose_style(here, {}) == "plain"
    assert choose_style(io.StringIO(), environ) == "plain"
    assert choose_style(here, environ) == "plain"  # closed


def test_levels_change_live_and_by_area(stream: io.StringIO, journal: Logging) -> None:
    reload, door = Log("reload"), Log("door")

    def try_all() -> list[str]:
        for log in (reload, door):
            log.debug("d")
            log.info("i")
            log.warning("w")
        return said(stream)

    assert try_all() == ["<6>reload: i", "<4>reload: w", "<6>door: i", "<4>door: w"]
    journal.set_levels("warning", {"reload": "debug"})
    assert try_all() == ["<7>reload: d", "<6>reload: i", "<4>reload: w", "<4>door: w"]
    assert reload.enabled_for("debug")
    assert not door.enabled_for("info")
    journal.set_levels("error", {"door": "info"})
    assert try_all() == ["<6>door: i", "<4>door: w"]
    journal.set_levels("info")
    assert try_all() == ["<6>reload: i", "<4>reload: w", "<6>door: i", "<4>door: w"]


def test_libraries_are_heard_from_warning_on_and_as_told(stream: io.StringIO, journal: Logging) -> None:
    library = logging.getLogger("some.library")
    library.info("quiet")
    library.warning("retrying %s", "https://user:hunter2@host/")
    assert said(stream) == ["<4>some.library: retrying https://[hidden]@host/"]
    journal.set_levels("error", {"libraries": "info"})
    library.info("heard")
    Log("reload").warning("not heard")
    assert said(stream) == ["<6>some.library: heard"]


def test_a_library_whose_arguments_do_not_fit_breaks_nothing(stream: io.StringIO, journal: Logging) -> None:
    [ours] = [handler for handler in logging.getLogger().handlers if "_LineHandler" in repr(handler)]
    ours.handle(logging.LogRecord("some.library", logging.WARNING, "", 0, "%d of %d", ("one",), None))
    assert said(stream) == ["<4>some.library: %d of %d"]


def test_a_traceback_follows_line_by_line_without_secrets(stream: io.StringIO, journal: Logging) -> None:
    try:
        raise ValueError("broken by\nsk-abcdefgh12345")
    except ValueError:
        Log("door").exception("request_failed", method="ping")
    lines = said(stream)
    assert lines[0] == "<3>door: request_failed method=ping"
    assert lines[1] == "<3>  Traceback (most recent call last):"
    assert all(line.startswith("<3>") for line in lines)
    assert "ValueError: broken by" in lines[-2]
    assert lines[-1] == "<3>  [hidden]"


def test_a_filtered_exception_costs_nothing(stream: io.StringIO, journal: Logging) -> None:
    logging.getLogger("aiorchd").setLevel(logging.CRITICAL)
    Log("door").exception("request_failed")
    assert said(stream) == []


def test_what_a_client_sends_cannot_forge_a_line(stream: io.StringIO, journal: Logging) -> None:
    Log("door").info("refused", why='x\n<0>kernel: all is lost\x1b[2J\u2028 "quoted"', path="a=b")
    assert said(stream) == [r'<6>door: refused why="x\n<0>kernel: all is lost\x1b[2J\u2028 \"quoted\"" path="a=b"']


def test_surrogates_do_not_stop_the_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as file, logging_to(file, style="journal") as owner:
        Log("door").info("refused", why="\udcff")
        assert owner.lost == 0
    assert (tmp_path / "log").read_text() == "<6>door: refused why=\\udcff\n"


def test_secrets_are_hidden_by_form_and_by_value(stream: io.StringIO, journal: Logging) -> None:
    log = Log("transport")
    journal.hide(["a-key-of-no-form", "a-key-of-no-form-at-all", "short", ""])
    log.info("sent", header="Bearer abcdefghijk", url="https://u:p4ss@h", note="a-key-of-no-form-at-all", word="short")
    assert said(stream) == [
        '<6>transport: sent header="Bearer [hidden]" url=https://[hidden]@h note=[hidden] word=short'
    ]
    journal.hide([])
    log.info("sent", note="a-key-of-no-form")
    assert said(stream) == ["<6>transport: sent note=a-key-of-no-form"]


def test_a_long_value_is_cut_after_it_was_cleaned(stream: io.StringIO, journal: Logging) -> None:
    journal.hide(["the-whole-key-in-use"])
    Log("x").info("long", value="y" * 990 + "the-whole-key-in-use" + "z" * 100_000)
    [line] = said(stream)
    assert "the-whole" not in line
    assert len(line) < 1100


def test_a_stream_that_takes_nothing_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    file = (tmp_path / "log").open("w")
    with logging_to(file, style="plain") as owner:
        file.close()
        Log("x").info("lost")
        assert owner.lost == 1
    with open("/dev/full", "w") as full, logging_to(full, style="plain") as owner:
        Log("x").info("lost")
        assert owner.lost == 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # so that closing it can write what is left


def test_everything_is_put_back(stream: io.StringIO) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.getLogger("aiorchd").level)
    with logging_to(stream, style="plain") as owner:
        owner.set_levels("debug", {"reload": "error", "libraries": "debug"})
        assert len(root.handlers) == len(before[0]) + 1
    assert (root.handlers, root.level, logging.getLogger("aiorchd").level) == before
    assert logging.getLogger("aiorchd.reload").level == logging.NOTSET


def test_a_line_that_is_filtered_is_cheap(journal: Logging) -> None:
    log = Log("hot")
    rounds = 20_000
    began = time.perf_counter()
    for _ in range(rounds):
        log.debug("hit", call="x")
    assert (time.perf_counter() - began) / rounds < 20e-6  # about 0.3 µs; the bound allows for a busy machine
