"""A synchronous block may cost so much CPU and no more."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest
import trio

from aiorchd.runtime.cpu_limit import CpuLimit


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_block_within_the_limit_is_left_alone() -> None:
    limit = CpuLimit(5.0)
    with limit():
        spin(0.01)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGVTALRM) == signal.SIG_DFL


def test_a_runaway_regular_expression_is_ended() -> None:
    started = time.process_time()
    with pytest.raises(TimeoutError, match=r"more than 0\.05 s of CPU"), CpuLimit(0.05)():
        re.match("(a+)+$", "a" * 60 + "b")
    assert time.process_time() - started < 2
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGVTALRM) == signal.SIG_DFL


def test_other_errors_pass_and_the_timer_is_off() -> None:
    with pytest.raises(KeyError), CpuLimit(0.01)():
        raise KeyError
    spin(0.05)
    assert signal.getsignal(signal.SIGVTALRM) == signal.SIG_DFL


def test_it_can_be_used_again_and_again() -> None:
    limit = CpuLimit(0.02)
    for _ in range(3):
        with pytest.raises(TimeoutError), limit():
            spin(1.0)
        with limit():
            pass


def test_outside_the_main_thread_there_is_no_limit() -> None:
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            with CpuLimit(0.01)():
                spin(0.05)
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ended == [None]


async def test_trio_goes_on_undisturbed() -> None:
    limit = CpuLimit(0.02)
    for _ in range(5):
        with pytest.raises(TimeoutError), limit():
            spin(1.0)
        await trio.sleep(0)
    with trio.fail_after(5):
        await trio.to_thread.run_sync(lambda: None)


def test_a_limit_must_be_one() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        CpuLimit(0.0)
