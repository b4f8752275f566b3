"""Signals as events: SIGTERM and SIGINT ask for the end, a second one insists; SIGHUP asks for a reload."""

from __future__ import annotations

import signal
from collections.abc import Callable

import trio


async def watch_signals(
    *,
    stop: Callable[[str], None],
    insist: Callable[[], None],
    reload: Callable[[], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call ``stop`` with the signal's name at the first request to end, ``insist`` at every further one, ``reload`` at
    each SIGHUP; runs until cancelled.
    """
    stopping = False
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                reload()
            elif stopping:
                insist()
            else:
                stopping = True
                stop(signal.Signals(number).name)
