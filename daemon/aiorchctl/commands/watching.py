"""Asking again and again, and showing each answer in place of the last: ``--watch``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import aiorch
from aiorchctl.command import Invocation, write_json
from aiorchctl.failures import failure_of
from aiorchctl.page import Page, Paragraph, Words, plain

SHORTEST_S: Final = 0.1
"""More often, watching would be load of its own."""

_PASSING: Final = (aiorch.Unreachable, aiorch.ConnectionLost, aiorch.GoingAway)


def watch(
    invocation: Invocation,
    ask: Callable[[aiorch.Client], Any],
    page: Callable[[Any, Any], Page],
    every_s: float,
) -> None:
    """Show what ``ask`` gives every ``every_s`` seconds until Ctrl-C. ``page`` is given an answer and the one before it,
    None at first.

    With JSON each answer is a line. Otherwise a terminal is drawn anew each time, and into a pipe the pages follow each
    other. A daemon that goes away is waited for, once it had answered: watching must survive its restart. Raises what the
    client raises for anything else.
    """
    try:
        with invocation.client() as client:
            now = ask(client)
            _show(invocation, now, partial(page, now, None))
            while True:
                before = now
                time.sleep(every_s)
                try:
                    now = ask(client)
                except _PASSING as error:
                    _tell_absence(invocation, error)
                    continue
                _show(invocation, now, partial(page, now, before))
    except KeyboardInterrupt:  # the usual way to end it
        if not invocation.as_json:
            sys.stdout.write("\n")


def _show(invocation: Invocation, answer: Any, page: Callable[[], Page]) -> None:
    if invocation.as_json:
        write_json(answer, line=True)
    elif sys.stdout.isatty():
        from aiorchctl.terminal import redraw

        redraw(page(), sys.stdout)
    else:
        sys.stdout.write(plain(page()) + "\n")
    sys.stdout.flush()


def _tell_absence(invocation: Invocation, error: aiorch.AiorchError) -> None:
    failure = failure_of(error)
    if invocation.as_json:
        write_json(failure.to_json(), sys.stderr, line=True)
    else:
        _show(invocation, None, lambda: [Paragraph(Words(f"{failure.sentence} Trying again.", "bad"))])
