"""One question, and one try at having it answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from aiorchd.calls.caller import Caller
from aiorchd.calls.journal import Journal
from aiorchd.calls.leash import Leash
from aiorchd.calls.ports import DeltaSink
from aiorchd.calls.question import CacheMode, CacheTier, Kind, Priority
from aiorchd.calls.rate_limits import LimitsTold
from aiorchd.calls.target import Target


class Call(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One question from a caller, immutable.

    ``request`` holds what determines the answer, by the names of the wire: for ``chat`` ``messages`` (always, a prompt
    became one) and, when given, ``tools tool_choice temperature max_tokens seed stop output_schema extra``; for
    ``embed`` ``input`` (a list of strings) and ``dimensions``. Everything else here only says how to treat the call.

    ``key`` is the identity of the answer (see ``core/request_key``), or None when this call's answer may neither be
    looked up nor shared. ``deadline`` is on Trio's clock; of a call that several share it moves on when one with more time
    joins, so read it when deciding and keep no copy. ``sink`` takes the deltas of a streamed answer, else None. ``avoid``
    names models whose answer to this call was no good: another is asked first, if there is one.
    """

    id: str
    caller: Caller
    kind: Kind
    request: Mapping[str, Any]
    deadline: float
    journal: Journal
    model: str | None = None
    task: str | None = None
    key: bytes | None = None
    exact_key: bytes | None = None
    """Where ``key`` is that of the question without its noise (``core/normalise``): the question's own."""
    repeat_key: bytes | None = None
    """The caller's own name for this question, made unique among users; see ``stages/repeats``."""
    repeat_question: bytes = b""
    """What was asked under that name."""
    sink: DeltaSink | None = None
    priority: Priority = "normal"
    cache: CacheMode = "use"
    cache_ttl_s: float | None = None
    samples: int = 0
    """How many answers to a call that asks for chance are kept beside each other; 0 for any other call."""
    partition: str = ""
    tags: tuple[str, ...] = ()
    session: str | None = None
    quality_threshold: float | None = None
    cost_limit_usd: float | None = None
    avoid: tuple[str, ...] = ()
    by_host: bool = False
    """Whether its model is answered for by whoever asks this, and not by what the configuration says."""
    operation: str | None = None
    models: tuple[str, ...] = ()
    """Who may answer, in order; empty where the usual chain serves."""
    keep_s: float | None = None
    """How long its answer is fresh where ``cache_ttl_s``, which is the caller's own, does not say."""
    stale_s: float | None = None
    """How long after that it may still be given; None where the configuration of the cache alone decides."""
    tier: CacheTier | None = None
    shared: bool = False
    """Whether its kept answer is everybody's within the partition."""
    recurring: bool = False
    """Whether what its prompt begins with (tools and system) was sent lately, too, and is long enough to be kept for others."""
    batch: bool = True
    """Whether it may be asked together with others, where its operation allows that."""
    leash: Leash | None = None
    """By which its caller can end it; see `stages/deadline`."""
    bounded_by: str = "timeout_s"
    """Where ``deadline`` is from: the call's own ``timeout_s``, or the key of the configuration that bounds it."""

    @property
    def streamed(self) -> bool:
        """Whether the caller wants the answer piece by piece."""
        return self.sink is not None


class AttemptBudget(msgspec.Struct, eq=False):
    """How often one call may still be sent, over all targets of its chain together. Shared by its attempts, mutable.

    ``held_back`` attempts are kept for targets that come later in the chain, so that retries at the first do not use up
    what the fallbacks need.
    """

    limit: int
    used: int = 0
    held_back: int = 0

    @property
    def left(self) -> int:
        """How often it may still be sent."""
        return self.limit - self.used

    @property
    def may_retry(self) -> bool:
        """Whether the same target may be asked again."""
        return self.limit - self.used > self.held_back

    def take(self) -> None:
        """Count one attempt that starts now."""
        self.used += 1

    def give_back(self) -> None:
        """Take back one that was refused by ourselves before anything was sent."""
        self.used -= 1


def _nobody_listens() -> None:
    """Do nothing with a sign of life."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One call sent to one target, once. ``number`` counts from 1 over the whole call, fallbacks included.

    ``estimated_tokens`` is what the rate limits reserve before it starts: prompt and expected answer. ``start_by`` is the
    latest moment (Trio's clock) at which it is worth starting, before the call's deadline when another target could still
    be asked: a wait known to last longer is not begun. ``notes`` is where
    the stages below Retry leave what its record needs: ``queue_s`` and ``provider_s`` (Gate), and whatever a provider knows
    of ``status``, ``first_token_s``, ``usage`` (of answers that are no good, too), ``cost_usd``.
    """

    call: Call
    target: Target
    number: int = 1
    estimated_tokens: int = 0
    estimated_output_tokens: int = 0
    """As many of these are expected to be the answer's."""
    messages_bound: int | None = None
    """The most tokens that its messages can be billed for, where that is known (`core.prompt_size`)."""
    start_by: float = math.inf
    alternatives: tuple[Target, ...] = ()
    """Who is asked after this target, should it fail: where a second try may go."""
    forced: bool = False
    """Whether it passes a breaker that is open: there is nobody else to ask."""
    budget: AttemptBudget = msgspec.field(default_factory=lambda: AttemptBudget(1))
    notes: dict[str, Any] = msgspec.field(default_factory=dict)
    alive: Callable[[], None] = _nobody_listens
    """What a provider calls for a sign of life in a streamed answer that has nothing for the caller: a thought, the head of
    a message; not for what only keeps the connection warm."""

    def heard(self, told: LimitsTold | None) -> None:
        """Pass on what the headers of an answer say of rate limits: providers call this as soon as they have the headers of
        any answer, a refusal's and a stream's too. None is ignored.

        It stays in the notes as ``limits_told``, and whoever keeps the quotas hears of it at once.
        """
        if told is None:
            return
        self.notes["limits_told"] = told
        listener: Callable[[LimitsTold], None] | None = self.notes.get("limits_listener")
        if listener is not None:
            listener(told)
