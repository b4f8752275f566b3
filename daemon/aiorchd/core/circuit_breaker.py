"""Leave a target alone while it fails, and find out by single probes when it has recovered.

    closed      everything passes; outcomes are counted over the last ``window_s`` seconds. At least ``min_calls`` of them,
                and a share of ``failure_rate`` or more failed: open. So too when the latest ``min_calls`` all failed: who dies
                under load is known long before the successes of the minute before are outweighed
    open        nothing passes for a while: ``open_s`` the first time, twice as long each further time, at most
                ``max_open_s``; then half open
    half open   one call passes, as a probe; another one when the probe has said nothing for ``max_open_s``, for a target that
                swallows calls does not tell by them that it is back. Failed: open again, for longer. Answered: recovering
    recovering  a share of the calls passes that grows evenly from a tenth to all over ``recovery_s``. Too many of them fail
                again: open, for longer; else closed

How long it opens is forgotten when it has been closed for ``window_s`` without opening.

Every call that passes holds a ticket with the generation in which it was given. A change of state begins a new
generation, and what comes of older tickets says nothing any more: calls that were sent before it opened and fail
afterwards neither open it again nor end a probe.

What counts as failed is not decided here. "Not now" (a 429) is an answer: whoever says it is alive, and pacing is
somebody else's work. A call that was cancelled counts as nothing.

After Nygard, "Release It!" (2007); the gradual return is that of agentgateway's ``restoreHealth``, the ticket that of
Hystrix's half-open state.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_SLICES: Final = 10
_FIRST_SHARE: Final = 0.1
_RECOVERY_SAMPLE: Final = 3
"""So few outcomes are enough to send a target back that was let return; it had its chance."""
_PROBE_GUESS_S: Final = 1.0
"""How long a probe may take: told to those who must not pass meanwhile."""


class State(StrEnum):
    """Four states of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    RECOVERING = "recovering"


class Outcome(StrEnum):
    """What a call that passed says about its target."""

    ANSWERED = "answered"
    FAILED = "failed"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When it opens, for how long, and how it closes; seconds, and shares between 0 and 1. ``enabled`` off lets all pass
    and counts all the same."""

    enabled: bool = True
    failure_rate: float = 0.5
    min_calls: int = 10
    window_s: float = 30.0
    open_s: float = 5.0
    max_open_s: float = 12.0
    recovery_s: float = 3.0


@dataclass(frozen=True, slots=True)
class BreakerTicket:
    """The right to send one call, to be given back with `CircuitBreaker.settle`, once."""

    generation: int
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing may pass now: in which state, how bad it is (share of failures when it opened), when to come again."""

    state: State
    failure_rate: float
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class BreakerStatistics:
    """Idle when ``in_flight`` is 0. ``failure_rate`` is that of the window, None when nothing happened in it;
    ``opens_again_s`` how long nothing passes yet. The rest counts since the start."""

    state: str
    in_flight: int
    failure_rate: float | None
    samples: int
    opens_again_s: float
    openings: int
    probes: int
    refused: int
    forced: int
    """Let through although it was open, because there was nobody else."""


class CircuitBreaker:
    """The breaker of one target. Mutable; handed the time; outlives the configuration that its policy comes from."""

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self._policy = policy if policy is not None else BreakerPolicy()
        self._state = State.CLOSED
        self._generation = 0
        self._window: deque[list[float]] = deque()
        """Slices of the window, oldest first: when it began, answered, failed."""
        self._slice: list[float] = [0.0, 0, 0]
        """The latest, which is added to until `_slice_ends`."""
        self._slice_ends = -math.inf
        self._answered = self._failed = 0
        """What is in all slices together."""
        self._usual = BreakerTicket(0)
        """The ticket of this generation that is no probe: all of them are alike."""
        self._opened_until = 0.0
        self._open_rate = 0.0
        self._openings_in_a_row = 0
        self._failed_in_a_row = 0
        self._since = 0.0
        """When the present state began."""
        self._probing = False
        self._probe_at = 0.0
        self._credit = 0.0
        self._in_flight = self._openings = self._probes = self._refused = self._forced = 0

    def admit(self, now: float, *, forced: bool = False) -> BreakerTicket | Refused:
        """Let a call pass, or say when to come again. A forced one always passes: there is nobody else to ask."""
        if self._state is State.CLOSED:
            self._in_flight += 1
            return self._usual
        refusal = self._refusal(now)
        if refusal is not None and self._policy.enabled:
            if not forced:
                self._refused += 1
                return refusal
            self._forced += 1
        probe = self._state is State.HALF_OPEN and not self._awaits_probe(now)
        if probe:
            self._probing, self._probe_at = True, now
            self._probes += 1
        self._in_flight += 1
        return BreakerTicket(self._generation, probe=True) if probe else self._usual

    def settle(self, ticket: BreakerTicket, now: float, outcome: Outcome) -> bool:
        """Take a ticket back, with what came of it; tells whether that changed the state."""
        self._in_flight -= 1
        if ticket.generation != self._generation:
            return False
        before = self._state
        if outcome is Outcome.ANSWERED and before is State.CLOSED:  # as nearly always
            self._count_answered(now)
            return False
        self._learn(ticket, now, outcome)
        return self._state is not before

    def _learn(self, ticket: BreakerTicket, now: float, outcome: Outcome) -> None:
        """Follow an outcome that may change the state."""
        if ticket.probe:
            self._probing = False
        if outcome is Outcome.NOTHING:
            return
        if self._state in (State.OPEN, State.HALF_OPEN):
            if outcome is Outcome.ANSWERED:
                self._recover(now)
            elif ticket.probe:
                self._open(now, 1.0)
            return
        if outcome is Outcome.ANSWERED:
            self._count_answered(now)
            return
        if now >= self._slice_ends:
            self._begin_slice(now)
        self._slice[2] += 1
        self._failed += 1
        self._failed_in_a_row += 1
        answered, failed = self._sums(now)
        total = answered + failed
        least = self._policy.min_calls if self._state is State.CLOSED else min(_RECOVERY_SAMPLE, self._policy.min_calls)
        if min(self._failed_in_a_row, failed) >= least:
            self._open(now, 1.0)
        elif total >= least and failed >= self._policy.failure_rate * total:
            self._open(now, failed / total)

    def would_refuse(self, now: float) -> Refused | None:
        """Tell, without a ticket and without counting, whether a call would have to wait; for choosing between targets."""
        if not self._policy.enabled:
            return None
        if self._state is State.OPEN and now < self._opened_until:
            return Refused(self._state, self._open_rate, self._opened_until - now)
        if self._state is State.HALF_OPEN and self._awaits_probe(now):
            return Refused(self._state, self._open_rate, _PROBE_GUESS_S)
        return None

    def reconfigure(self, now: float, policy: BreakerPolicy) -> None:
        """Change the policy live. One that is open stays so no longer than the new policy allows; switched off, it closes."""
        self._policy = policy
        self._slice_ends = -math.inf
        if not policy.enabled and self._state is not State.CLOSED:
            self._enter(State.CLOSED, now)
        elif self._state is State.OPEN:
            self._opened_until = min(self._opened_until, now + policy.max_open_s)

    def statistics(self, now: float) -> BreakerStatistics:
        """Tell the present state."""
        self._advance(now)
        answered, failed = self._sums(now)
        total = answered + failed
        return BreakerStatistics(
            state=str(self._state),
            in_flight=self._in_flight,
            failure_rate=failed / total if total else None,
            samples=total,
            opens_again_s=max(0.0, self._opened_until - now) if self._state is State.OPEN else 0.0,
            openings=self._openings,
            probes=self._probes,
            refused=self._refused,
            forced=self._forced,
        )

    @property
    def state(self) -> State:
        """The state as the last call left it; time may have moved on."""
        return self._state

    @property
    def idle(self) -> bool:
        """Whether no ticket is out."""
        return self._in_flight == 0

    def _refusal(self, now: float) -> Refused | None:
        """Say whether this call must not pass; in recovery that spends a part of what may."""
        self._advance(now)
        if self._state is State.OPEN:
            return Refused(self._state, self._open_rate, self._opened_until - now)
        if self._state is State.HALF_OPEN and self._awaits_probe(now):
            return Refused(self._state, self._open_rate, _PROBE_GUESS_S)
        if self._state is State.RECOVERING:
            grown = (now - self._since) / self._policy.recovery_s
            self._credit += max(_FIRST_SHARE, grown)
            if self._credit < 1.0:
                return Refused(self._state, self._open_rate, self._since + self._policy.recovery_s - now)
            self._credit -= 1.0
        return None

    def _awaits_probe(self, now: float) -> bool:
        return self._probing and now < self._probe_at + self._policy.max_open_s

    def _advance(self, now: float) -> None:
        """Let time do its part."""
        if self._state is State.OPEN and now >= self._opened_until:
            self._enter(State.HALF_OPEN, now)
        elif self._state is State.RECOVERING and now >= self._since + self._policy.recovery_s:
            # The calls that went through on the way are part of the picture, so their tickets stay good.
            self._state, self._since = State.CLOSED, now

    def _open(self, now: float, rate: float) -> None:
        if self._state is State.CLOSED and now - self._since >= self._policy.window_s:
            self._openings_in_a_row = 0
        self._openings_in_a_row += 1
        self._openings += 1
        self._open_rate = rate
        doubled = self._policy.open_s * 2.0 ** min(self._openings_in_a_row - 1, 32)
        self._opened_until = now + min(doubled, max(self._policy.max_open_s, self._policy.open_s))
        self._enter(State.OPEN, now)

    def _recover(self, now: float) -> None:
        self._enter(State.RECOVERING, now)
        self._credit = 1.0 - _FIRST_SHARE

    def _enter(self, state: State, now: float) -> None:
        self._state, self._since = state, now
        self._generation += 1
        self._usual = BreakerTicket(self._generation)
        self._answered = self._failed = 0
        self._probing = False
        self._failed_in_a_row = 0
        self._window.clear()
        self._slice_ends = -math.inf

    def _count_answered(self, now: float) -> None:
        if now >= self._slice_ends:
            self._begin_slice(now)
        self._slice[1] += 1
        self._answered += 1
        self._failed_in_a_row = 0

    def _begin_slice(self, now: float) -> None:
        """Begin the next part of the window. What is too old for it leaves with each, and before it is looked at."""
        self._sums(now)
        self._slice = [now, 0, 0]
        self._slice_ends = now + self._policy.window_s / _SLICES
        self._window.append(self._slice)

    def _sums(self, now: float) -> tuple[int, int]:
        while self._window and self._window[0][0] <= now - self._policy.window_s:
            _, answered, failed = self._window.popleft()
            self._answered -= int(answered)
            self._failed -= int(failed)
        return self._answered, self._failed
