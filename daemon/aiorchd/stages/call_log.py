"""Lines of log about calls that have ended; never a prompt or an answer.

One line each, at info, where ``[daemon] log_calls`` asks for it:

::

    calls: answered id=... uid=1000 pid=4242 unit=web.service kind=chat model=small provider=main cache=miss attempts=1
           input=120 output=8 cost_usd=2.28e-05 queue_s=0 provider_s=0.41 total_s=0.412
    calls: failed id=... ... error=rate_limited attempts=4 throttled=4 ...

And at debug of the area ``calls`` the whole story of each, a line for each decision and attempt, as ``explain`` tells it:

::

    calls: cache: nothing kept id=... after_s=0.0002
    calls: attempt id=... number=1 model=small provider=main began_s=0.0004 provider_s=0.41 verdict=ok

It stands before the records and passes everything on. Where nobody asked for lines, it does not stand there at all.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from aiorchd.calls.journal import CallRecord, Hit
from aiorchd.calls.ports import RecordSink

UNKNOWN: Final = "unknown"
"""What a price is when nobody knows it; it is not 0."""

_TASK_CHARACTERS: Final = 60


class Log(Protocol):
    """Where the lines go."""

    def debug(self, event: str, /, **fields: Any) -> None:
        """Tell of a decision."""
        ...

    def info(self, event: str, /, **fields: Any) -> None:
        """Say what happened on a normal day."""
        ...


class CallLog:
    """Satisfies `RecordSink`: says a line of each call (with ``lines``) and its story, and hands it to ``records``."""

    def __init__(self, records: RecordSink, log: Log, *, lines: bool = True) -> None:
        self._records = records
        self._log = log
        self._lines = lines

    def record(self, record: CallRecord) -> None:
        """Pass on and say one finished call."""
        self._records.record(record)
        self._say(record)

    def record_hit(self, hit: Hit) -> None:
        """Pass on and say one answer from memory."""
        self._records.record_hit(hit)
        self._say(hit.record())

    def _say(self, record: CallRecord) -> None:
        story = record.story or {}
        for at_s, stage, what in story.get("notes", ()):
            self._log.debug(f"{stage}: {what}", id=record.id, after_s=at_s)
        for attempt in story.get("attempts", ()):
            self._log.debug("attempt", id=record.id, **attempt)
        if not self._lines:
            return
        self._log.info(
            "answered" if record.error is None else "failed",
            id=record.id,
            uid=record.uid,
            pid=record.pid,
            unit=record.unit or None,
            kind=record.kind,
            operation=record.operation,
            task=record.task[:_TASK_CHARACTERS] if record.task else None,
            model=record.model,
            provider=record.provider,
            cache=record.cache if record.error is None else None,
            source=record.source_id,
            error=record.error,
            simulated=record.simulated or None,
            streamed=record.streamed or None,
            attempts=record.attempts or None,
            throttled=record.throttled or None,
            fallbacks=record.fallbacks or None,
            input=record.input_tokens,
            output=record.output_tokens,
            cost_usd=UNKNOWN if record.cost_usd is None else record.cost_usd,
            cost_known_usd=record.cost_known_usd if record.cost_unknown_attempts else None,
            cost_estimate_usd=record.cost_estimate_usd if record.cost_unknown_attempts else None,
            queue_s=record.queue_s or None,
            provider_s=record.provider_s or None,
            total_s=record.total_s,
        )
