"""What the daemon asks of this process on one connection, for models that it answers for. No I/O here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

_NOT_OF_THE_REQUEST: Final = frozenset(("model", "name", "msgid", "call_id"))


class HostRequest(dict[str, Any]):
    """What a function is asked: ``messages`` and the other fields of the call that determine its answer, ``request_id`` (the
    ``id`` that the reply will have), ``deadline_s`` (how many seconds are left)."""

    called_off = False
    """Turns true when nobody waits for the answer any more; it is dropped then. For functions that work long in a thread: one
    that is ``async`` is cancelled."""


class Callback:
    """One question of the daemon. Its exchange turns ``called_off`` true, and calls ``on_called_off`` then."""

    __slots__ = ("model", "msgid", "name", "on_called_off", "request")

    def __init__(self, msgid: int, arguments: Mapping[str, Any]) -> None:
        self.msgid = msgid
        self.model = str(arguments.get("model") or "")
        """What the function is told."""
        self.name = str(arguments.get("name") or self.model)
        """What callers say."""
        self.request = HostRequest(
            (name, value) for name, value in arguments.items() if name not in _NOT_OF_THE_REQUEST
        )
        self.on_called_off: Callable[[], object] | None = None

    def call_off(self) -> None:
        """Nobody waits for the answer any more."""
        self.request.called_off = True
        if self.on_called_off is not None:
            self.on_called_off()


class Serving:
    """Who waits for questions to registered models on one connection; a `Pending` to the shells' ways of waiting."""

    __slots__ = ("answered", "callbacks", "leaving", "waiter")

    def __init__(self) -> None:
        self.callbacks: deque[Callback] = deque()
        """Questions that were not picked up yet."""
        self.answered = False
        """Whether the connection is over."""
        self.leaving = False
        """Whether a successor should be looked for; whoever has taken note of it sets it back."""
        self.waiter: Any = None
        """As in `Pending`."""

    @property
    def moved(self) -> bool:
        """Whether there is something to pick up."""
        return self.answered or self.leaving or bool(self.callbacks)
