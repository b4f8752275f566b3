"""Chooses the key for an attempt, where a provider has several, and sets one aside that is refused.

A model with one key is a target of its own: what is below here (breaker, turnstile, wire) there is once for each key. Chosen
is the key that can start soonest, and among equals the one that was used longest ago; the calls of one session keep to one
key as long as that costs no time, since providers keep their prompt caches by account.

A key that is refused is reported once and set aside, and the attempt is asked again with another key at once: `Retry`, which
owns all asking again, is told so in the attempt's notes (``at_once``). The same goes for a key that is throttled while
another one could start now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Protocol

import trio

from aiorch.errors import CallError, ProviderAuth, RateLimited
from aiorchd.calls.call import Attempt
from aiorchd.calls.ports import Paced, Service
from aiorchd.calls.reply import Reply
from aiorchd.core.circuit_breaker import CircuitBreaker
from aiorchd.core.key_ring import KeyRing, KeyState, Trouble

_ALIKE_S: Final = 0.01
"""Waits that differ by less are the same."""
_WORDS: Final[Mapping[str, str]] = {
    "refused": "refused",
    "forbidden": "refused for this model",
    "no_credit": "told that it has no credit left",
}


@dataclass(frozen=True, slots=True)
class KeysStatistics:
    """Attempts below now; how often another key was asked at once since this stage was built; and how the keys fare."""

    inside: int
    rotated: int
    keys: Sequence[KeyState]


class Log(Protocol):
    """As much of a log as this stage needs."""

    def warning(self, event: str, /, **fields: Any) -> Any:
        """Tell of something that somebody should look at."""
        ...

    def info(self, event: str, /, **fields: Any) -> Any:
        """Tell of something that went well again."""
        ...


@dataclass(frozen=True, slots=True)
class KeyWay:
    """The way to a model with one key. ``name`` is what the key's place is called, ``place`` where it is, for people;
    ``problem`` why there is none, or "". ``pace`` and ``breaker`` are those of this way."""

    name: str
    place: str
    problem: str
    inner: Service[Attempt]
    pace: Paced
    breaker: CircuitBreaker


class Keys:
    """Ask by one of ``ways``. ``ring`` is what is known of the keys of ``provider``, over all its models and generations."""

    def __init__(self, provider: str, ways: Sequence[KeyWay], ring: KeyRing, log: Log) -> None:
        if not ways:
            raise ValueError(f"{provider} has no keys")
        self._provider = provider
        self._ways = tuple(ways)
        self._ring = ring
        self._log = log
        self._inside = self._rotated = 0

    async def __call__(self, attempt: Attempt) -> Reply:
        """Ask with one key. Raises what its way raises, and `ProviderAuth` when no key is left."""
        way = self._ways[0] if len(self._ways) == 1 else self._choose(attempt)
        if way is None:
            attempt.notes["unsent"] = True
            raise self._none_left(attempt)
        self._ring.use(way.name)
        if len(self._ways) > 1:
            attempt.notes["key"] = way.name
        self._inside += 1
        try:
            reply = await way.inner(attempt)
        except ProviderAuth as error:
            self._refused(attempt, way, error, "forbidden" if error.details.get("status") == 403 else "refused")
            raise
        except RateLimited as error:
            if error.details.get("no_credit"):
                self._refused(attempt, way, error, "no_credit")
            elif len(self._ways) > 1 and self._could_start_now(attempt, way):
                self._again(attempt)
            raise
        finally:
            self._inside -= 1
        if self._ring.well(way.name, attempt.target.name):
            self._log.info("key taken again", provider=self._provider, key=way.place)
        return reply

    def statistics(self) -> KeysStatistics:
        """Tell who is inside, and how the keys fare."""
        return KeysStatistics(self._inside, self._rotated, self._ring.states(trio.current_time()))

    def _choose(self, attempt: Attempt) -> KeyWay | None:
        now, model = trio.current_time(), attempt.target.name
        usable = [way for way in self._ways if not way.problem and self._ring.usable(way.name, model, now)]
        if len(usable) <= 1:
            return usable[0] if usable else None
        session = attempt.call.session
        mine = None if session is None else _key_of(session, usable).name

        def order(way: KeyWay) -> tuple[bool, int, bool, int]:
            wait_s = way.pace.wait_s(now, attempt.estimated_tokens)
            sick = way.breaker.would_refuse(now) is not None
            return sick, int(wait_s / _ALIKE_S), way.name != mine, self._ring.last_used(way.name)

        return min(usable, key=order)

    def _could_start_now(self, attempt: Attempt, but: KeyWay) -> bool:
        now = trio.current_time()
        return any(
            way is not but
            and not way.problem
            and self._ring.usable(way.name, attempt.target.name, now)
            and way.breaker.would_refuse(now) is None
            and way.pace.wait_s(now, attempt.estimated_tokens) < _ALIKE_S
            for way in self._ways
        )

    def _refused(self, attempt: Attempt, way: KeyWay, error: CallError, trouble: Trouble) -> None:
        now, model = trio.current_time(), attempt.target.name
        error.details.setdefault("key_place", way.place)
        if error.details.get("sent") is not False and self._ring.in_trouble(way.name, model, trouble, now):
            what = {
                "refused": "key refused",
                "forbidden": "key may not use this model",
                "no_credit": "key has no credit",
            }
            self._log.warning(what[trouble], provider=self._provider, model=model, key=way.place)
        if any(
            other is not way and not other.problem and self._ring.usable(other.name, model, now) for other in self._ways
        ):
            attempt.call.journal.note(
                now, "keys", f"{self._provider}: the {way.place} was {_WORDS[trouble]}; trying another"
            )
            self._again(attempt)

    def _again(self, attempt: Attempt) -> None:
        self._rotated += 1
        attempt.notes["at_once"] = True

    def _none_left(self, attempt: Attempt) -> ProviderAuth:
        troubles = {state.name: state for state in self._ring.states(trio.current_time())}
        told = []
        for way in self._ways:
            state = troubles.get(way.name)
            told.append(
                way.problem or f"the {way.place} was {_WORDS[state.trouble if state and state.trouble else 'refused']}"
            )
        return ProviderAuth(
            f"{self._provider}: none of its {len(self._ways)} keys can be used: {'; '.join(told)}. Put a valid key at one of "
            "these places and restart the daemon (a systemd credential: reload it)",
            stage="keys",
            details={"provider": self._provider, "sent": False, "model": attempt.target.name},
        )


def _key_of(session: str, ways: Sequence[KeyWay]) -> KeyWay:
    """Choose by rendezvous hashing: when a key comes, goes or is set aside, only its own sessions move, and each to one
    key again."""
    named = session.encode("utf-8", "surrogatepass")
    return max(ways, key=lambda way: blake2b(named + b"\0" + way.name.encode(), digest_size=8).digest())
