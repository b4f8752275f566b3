"""Who answers for which models: processes of the host, each for its own user and for as long as its connection lives.

A model is registered by one connection or by several of the same user, which then take turns: the least busy is asked, and
of equally busy ones the one that was asked longest ago. Beside what is registered there is what is offered for the length of
one call, whose caller answers for its model itself; the two never serve each other's calls.

When the daemon was replaced, those who had registered with the one before come again, each in its own time. For so long calls
for their models wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from aiorch.errors import NotFound, TooLarge
from aiorchd.calls.call import Attempt, Call
from aiorchd.calls.host_model import HostModel, HostOffer
from aiorchd.calls.ports import HostPeer


@dataclass(frozen=True, slots=True)
class HostModelsStatistics:
    """Connections that answer for registered models, how many models those are, and offers for single calls under way."""

    connections: int
    models: int
    offered: int


class _Way:
    """One offer, and when it was last taken, counted in takings."""

    __slots__ = ("offer", "taken")

    def __init__(self, offer: HostOffer) -> None:
        self.offer = offer
        self.taken = 0


class HostModels:
    """Satisfies the port `HostDirectory`. Outlives reloads. ``on_gone`` hears of models that nobody answers for any more,
    ``on_changed`` of every change in what there is; ``return_s`` is how long after a start calls wait, and may change."""

    def __init__(self) -> None:
        self.return_s = 0.0
        self._since = 0.0
        # This is all the mutable state.
        self._models: dict[tuple[int, str], HostModel] = {}
        self._registered: dict[tuple[int, str], dict[HostPeer, _Way]] = {}
        self._names_of: dict[HostPeer, dict[str, int]] = {}
        self._offered: dict[str, _Way] = {}
        """By the id of the call."""
        self._sharing: dict[bytes, list[_Way]] = {}
        """By the key of the call: who waits for the same answer may be asked when the first one has gone."""
        self._takings = 0
        self._expected: dict[tuple[int, str], trio.Event] = {}
        """What was registered with the daemon before, and has not come again."""
        self.on_gone: Callable[[int, str], None] | None = None
        self.on_changed: Callable[[], None] | None = None

    def register(self, uid: int, models: Sequence[HostModel], offer: HostOffer, *, at_most: int) -> None:
        """Let a connection answer for models; of those it has registered already it changes what they are.

        What several connections say of one model, the last one said. Raises `TooLarge` when it would be more than ``at_most``
        on this connection; nothing is registered then.
        """
        names = self._names_of.setdefault(offer.peer, {})
        if len(names.keys() | {model.name for model in models}) > at_most:
            if not names:
                del self._names_of[offer.peer]
            raise TooLarge(
                f"names: one connection registers at most {at_most} models ([daemon] max_host_models_per_connection); one "
                "function may answer for any name: see the argument host of complete",
                stage="host",
            )
        for model in models:
            place = (uid, model.name)
            names[model.name] = uid
            self._models[place] = model
            self._registered.setdefault(place, {})[offer.peer] = _Way(offer)
            back = self._expected.pop(place, None)
            if back is not None:
                back.set()
        self._tell_of_change()

    def withdraw(self, peer: HostPeer, names: Iterable[str] | None = None) -> list[str]:
        """Let a connection answer for some models no more, or for none at all; gives their names. Raises `NotFound`, naming
        the first that it has not registered; nothing has changed then."""
        held = self._names_of.get(peer, {})
        wanted = list(held) if names is None else list(dict.fromkeys(names))
        for name in wanted:
            if name not in held:
                raise NotFound(f"name: this connection has registered no model {name[:60]!r}", stage="host")
        for name in wanted:
            uid = held.pop(name)
            ways = self._registered[uid, name]
            del ways[peer]
            if not ways:
                del self._registered[uid, name], self._models[uid, name]
                if self.on_gone is not None:
                    self.on_gone(uid, name)
        if not held:
            self._names_of.pop(peer, None)
        if wanted:
            self._tell_of_change()
        return wanted

    def expect(self, places: Iterable[tuple[int, str]], now: float) -> None:
        """Let calls wait from now on for what was registered with the daemon before: users and names."""
        self._since = now
        self._expected = {place: trio.Event() for place in places if place not in self._registered}

    def awaits(self, uid: int, name: str) -> bool:
        """Tell whether `returned` might wait for a model."""
        return (uid, name) in self._expected

    async def returned(self, uid: int, name: str) -> bool:
        """Wait until a model that is expected is registered again, or has had its time; tells whether it is. Does not wait
        for any other."""
        back = self._expected.get((uid, name))
        if back is None:
            return False
        with trio.CancelScope(deadline=self._since + self.return_s):
            await back.wait()
        return back.is_set()

    def places(self) -> list[tuple[int, str]]:
        """List all that is registered: users and names."""
        return list(self._models)

    def _tell_of_change(self) -> None:
        if self.on_changed is not None:
            self.on_changed()

    @contextmanager
    def offered(self, call: Call, offer: HostOffer) -> Iterator[None]:
        """Let the caller of a call answer for its model, for the length of the block."""
        way = _Way(offer)
        self._offered[call.id] = way
        sharing = self._sharing.setdefault(call.key, []) if call.key is not None else []
        sharing.append(way)
        try:
            yield
        finally:
            del self._offered[call.id]
            sharing.remove(way)
            if not sharing and call.key is not None and self._sharing.get(call.key) is sharing:
                del self._sharing[call.key]

    def find(self, uid: int, name: str) -> HostModel | None:
        """Find what a user has registered."""
        return self._models.get((uid, name))

    def of(self, uid: int) -> list[tuple[HostModel, int]]:
        """List what a user has registered, and how many connections answer for each."""
        return [
            (model, len(self._registered[owner, name])) for (owner, name), model in self._models.items() if owner == uid
        ]

    def choose(self, attempt: Attempt) -> HostOffer | None:
        """See `HostDirectory`."""
        call = attempt.call
        ways: Iterable[_Way]
        if not call.by_host:
            ways = self._registered.get((call.caller.uid, attempt.target.name), {}).values()
        elif (own := self._offered.get(call.id)) is not None:
            ways = (own,)
        else:
            ways = self._sharing.get(call.key, ()) if call.key is not None else ()
        way = min(ways, key=lambda each: (each.offer.peer.asked, each.taken), default=None)
        if way is None:
            return None
        self._takings += 1
        way.taken = self._takings
        return way.offer

    def statistics(self) -> HostModelsStatistics:
        """Tell how many there are; never whose, and never their names."""
        return HostModelsStatistics(
            connections=len(self._names_of),
            models=len(self._models),
            offered=len(self._offered),
        )
