"""A cancellation leaves the transport as it came in, and not in a group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio


@contextmanager
def bare_cancellation() -> Iterator[None]:
    """Take a cancellation out of the groups that nurseries wrap around it, those inside Trio's own connecting included:
    the stages above look for `trio.Cancelled`, and would take a group for a defect.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        if group.split(trio.Cancelled)[1] is not None:
            raise
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
