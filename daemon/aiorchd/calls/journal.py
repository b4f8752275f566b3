"""The story of one call while it happens, and the record it leaves.

A journal is opened with the call and closed by the Observe stage; each stage notes what it decided. It becomes one row
of ``metrics.db``, which is what ``explain`` tells and ``stats`` adds up.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from aiorchd.calls.caller import Caller
from aiorchd.calls.reply import Reply, Usage


class AttemptRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One try at one target: when it began (seconds after the call), how long it waited and ran, and how it ended. Put in plain
    data, it has no fields that are None."""

    number: int
    model: str
    provider: str
    began_s: float
    queue_s: float
    provider_s: float
    verdict: str
    code: str | None = None
    message: str | None = None
    status: int | None = None
    sent: bool | None = None
    """False of one that was refused before anything was sent; None of any other."""
    tokens: int | None = None
    cost_usd: float | None = None
    """What it cost: 0 when it certainly was not billed, None when nobody said."""
    cost_estimate_usd: float | None = None
    """What it is counted as where ``cost_usd`` is None: by its bound, or an estimated usage, or an assumed price."""
    usage: Usage | None = None
    """The tokens behind ``tokens``."""
    first_token_s: float | None = None
    retry_after_s: float | None = None
    key: str | None = None
    """What the place of the key is called, where its provider has several; never the key."""
    hedge: bool | None = None
    """True of a second try that was begun because the first was late."""
    race: str | None = None
    """Of two tries side by side: whether this one ``won``, or ``lost`` and was given up; None when neither answered."""
    reserved_usd: float | None = None
    """What it held of the budgets while it ran; None where none had to be kept."""
    settled_usd: float | None = None
    """What the budgets count for it, and whether that is an estimate."""
    settled_by_estimate: bool | None = None
    price_source: str | None = None


class Journal(msgspec.Struct):
    """Collects what happens to one call. ``started`` is on the monotonic clock, ``at`` is wall time."""

    started: float
    at: float
    notes: list[tuple[float, str, str]] = msgspec.field(default_factory=list)
    """(seconds after the start, stage, what happened), in order."""
    attempts: list[AttemptRecord] = msgspec.field(default_factory=list)
    queue_s: float = 0.0
    """Time spent waiting for a permit, quotas, a place in the house or the moment of a retry, over all attempts."""
    provider_s: float = 0.0
    """Time spent waiting for providers, over all attempts; two side by side count once."""
    throttled: int = 0
    """Answers that said not now: 429s and 529s."""
    fallbacks: int = 0
    context_fallbacks: int = 0
    """Of these, because the prompt was too long."""
    filter_fallbacks: int = 0
    """Of these, because the answer was withheld."""
    hedges: int = 0
    """Second tries that were begun because the first was late."""
    racing: int = 0
    """Of these, under way now: they have a number already and no record yet."""
    semantic_right: bool | None = None
    """Whether the near answer that would have been given was right, where the model was asked all the same and it could be told
    before the call ended."""
    batch_questions: int = 0
    """How many questions were in the provider call that this one was asked in together with others; 0 without others."""
    batch_left_out: bool = False
    """Whether that did not answer it, so that it was asked alone."""
    committed_usd: float = 0.0
    """What attempts of this call have cost, and the most that those under way can: what its own limit bounds."""
    goes_on: bool = False
    """Whether the call goes on without its caller: then whoever carries it out records how it ended, and nobody else."""

    def next_number(self) -> int:
        """Give the number of an attempt that begins now."""
        return len(self.attempts) + self.racing + 1

    def note(self, now: float, stage: str, what: str) -> None:
        """Add a line to the story; ``what`` is a sentence for a person and holds no prompt and no secret."""
        self.notes.append((now - self.started, stage, what))

    def take_over(self, flown: Journal) -> None:
        """Enter the account of a call that was shared, so that one of those who shared it has it."""
        later_s = flown.started - self.started
        if flown.notes is not self.notes:
            self.notes.extend((at_s + later_s, stage, what) for at_s, stage, what in flown.notes)
            self.notes.sort(key=lambda note: note[0])
        if later_s:
            self.attempts.extend(
                msgspec.structs.replace(attempt, began_s=attempt.began_s + later_s) for attempt in flown.attempts
            )
        else:
            self.attempts.extend(flown.attempts)
        self.queue_s += flown.queue_s
        self.provider_s += flown.provider_s
        if flown.semantic_right is not None:
            self.semantic_right = flown.semantic_right
        if flown.batch_questions:
            self.batch_questions, self.batch_left_out = flown.batch_questions, flown.batch_left_out
        if flown.throttled or flown.fallbacks or flown.hedges:
            self.throttled += flown.throttled
            self.fallbacks += flown.fallbacks
            self.context_fallbacks += flown.context_fallbacks
            self.filter_fallbacks += flown.filter_fallbacks
            self.hedges += flown.hedges


class CallRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is kept of one finished call."""

    id: str
    at: float
    uid: int
    pid: int
    unit: str
    kind: str
    operation: str | None = None
    task: str | None = None
    model: str | None
    """The model that answered, or that was asked when none did; None when neither is known."""
    provider: str | None
    cache: str
    """``miss exact coalesced …``, or ``none`` when the call ended in an error."""
    error: str | None = None
    """The error code, None when it was answered."""
    simulated: bool = False
    streamed: bool = False
    attempts: int = 0
    throttled: int = 0
    fallbacks: int = 0
    context_fallbacks: int = 0
    filter_fallbacks: int = 0
    hedges: int = 0
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    """What all its attempts cost; None when it is unknown of one: then the next three say more."""
    cost_known_usd: float | None = None
    cost_unknown_attempts: int = 0
    cost_estimate_usd: float | None = None
    """What the attempts of unknown cost are counted as, beside ``cost_known_usd``."""
    saved_usd: float | None = None
    saved_s: float | None = None
    """How long the provider took for the answer that this call got without asking it; None when that is not known."""
    queue_s: float = 0.0
    provider_s: float = 0.0
    total_s: float = 0.0
    source_id: str | None = None
    tags: tuple[str, ...] = ()
    story: dict[str, Any] | None = None
    """Notes and attempts for ``explain``; None for plain hits, whose whole story is the fields above."""
    semantic_right: bool | None = None
    """The journal's, like the next two."""
    batch_questions: int = 0
    batch_left_out: bool = False
    tried: tuple[AttemptRecord, ...] = ()
    """The attempts that ``attempts`` counts, so that each is counted at the model that was asked."""


COUNTED_ONLY: Final = frozenset(("semantic_right", "batch_questions", "batch_left_out", "tried"))
"""What of a record is there to be counted, and not kept call by call."""


class Hit(NamedTuple):
    """A kept answer as it is noted while its caller waits; its record is made later, of many at once. ``reply`` is
    the kept one, ``at`` wall time, ``source_id`` the call that made the answer. ``story`` is None where it was in memory.
    """

    id: str
    at: float
    caller: Caller
    reply: Reply
    source_id: str
    total_s: float
    task: str | None = None
    tags: tuple[str, ...] = ()
    operation: str | None = None
    story: dict[str, Any] | None = None

    def record(self) -> CallRecord:
        """Make the record."""
        caller, reply = self.caller, self.reply
        usage = reply.usage
        return CallRecord(
            id=self.id,
            at=self.at,
            uid=caller.uid,
            pid=caller.pid,
            unit=caller.unit,
            kind="chat" if reply.vectors is None else "embed",
            operation=self.operation,
            task=self.task,
            model=reply.model,
            provider=reply.provider,
            cache="exact",
            simulated=reply.simulated,
            input_tokens=usage.input if usage is not None else None,
            cache_read_tokens=usage.cache_read if usage is not None else None,
            cache_write_tokens=usage.cache_write if usage is not None else None,
            output_tokens=usage.output if usage is not None else None,
            reasoning_tokens=usage.reasoning if usage is not None else None,
            cost_usd=0.0,
            saved_usd=reply.cost_usd,
            saved_s=reply.saved_s,
            total_s=self.total_s,
            source_id=self.source_id,
            tags=self.tags,
            story=self.story,
        )
