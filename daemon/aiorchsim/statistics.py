"""What the simulator saw: the independent witness of every call that somebody claims to have made or saved.

Every request to an endpoint of the provider is one call, whatever becomes of it: it is counted when it has been read
whole, and once more when it ends, as one of
- answered: the whole answer was handed to the socket;
- rate_limited: 429;
- errors: any other status from 300 on, or an answer that was spoiled or cut on purpose;
- abandoned: the client was gone before that.
So received = answered + rate_limited + errors + abandoned + in_flight, always. Tokens are counted as a provider bills
them: the prompt once work on the call has begun (refused calls and 5xx are free, abandoned and cut ones are not), the
answer as far as it was sent. `prompt_tokens` are all of a prompt; `cache_read_tokens` and `cache_write_tokens` are those
of them that the prompt cache gave or kept. Costs follow from tokens and the profile's prices. Requests that are no HTTP,
and those under /sim, are no calls.

`left` holds the last calls whose client was gone before the answer was: when (on the clock of `time.monotonic()`, which
processes of one host share), after how long, and what the simulator was doing.
"""

import os
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from aiorchsim.prompt_cache import NOTHING_CACHED, Cached
from aiorchsim.textwork.together import Spoiled

MOST_ROWS: Final = 1_000
MOST_LEFT: Final = 256
OTHER: Final = "(other)"


class Outcome(StrEnum):
    """How a call ended."""

    ANSWERED = "answered"
    RATE_LIMITED = "rate_limited"
    ERRORS = "errors"
    ABANDONED = "abandoned"


class Prices(NamedTuple):
    """USD for a million tokens of each kind."""

    prompt: float = 0.0
    """Of the prompt, where the cache had no part in them."""
    answer: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0
    cache_write_long: float = 0.0


FREE: Final = Prices()


@dataclass(slots=True)
class Row:
    """The counts of one endpoint, model and key."""

    prices: Prices = FREE
    received: int = 0
    answered: int = 0
    rate_limited: int = 0
    errors: int = 0
    abandoned: int = 0
    in_flight: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_long_tokens: int = 0
    """Those of the line above that are kept for an hour."""
    statuses: Counter[int | str] = field(default_factory=Counter)

    def add(self, other: "Row") -> None:
        """Add another row's counts (prices are not counts)."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.statuses.update(other.statuses)

    def restart(self) -> None:
        """Forget everything but the calls in flight, which count as received now."""
        for name in _COUNTS:
            if name != "in_flight":
                setattr(self, name, 0)
        self.received = self.in_flight
        self.statuses.clear()

    @property
    def cost_usd(self) -> float:
        """Money for the tokens counted, at this row's prices."""
        prices = self.prices
        return (
            (self.prompt_tokens - self.cache_read_tokens - self.cache_write_tokens) * prices.prompt
            + self.completion_tokens * prices.answer
            + self.cache_read_tokens * prices.cache_read
            + (self.cache_write_tokens - self.cache_write_long_tokens) * prices.cache_write
            + self.cache_write_long_tokens * prices.cache_write_long
        ) / 1e6


_COUNTS: Final = (
    "received",
    "answered",
    "rate_limited",
    "errors",
    "abandoned",
    "in_flight",
    "prompt_tokens",
    "completion_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_long_tokens",
)


class Call:
    """The account of one call: begun when counted as received, ended exactly once."""

    __slots__ = ("_began", "_model", "_row", "_statistics")

    def __init__(self, statistics: "Statistics", row: Row, model: str, now: float) -> None:
        self._statistics = statistics
        self._row = row
        self._model = model
        self._began = now
        row.received += 1
        row.in_flight += 1
        statistics.in_flight += 1
        statistics.most_in_flight = max(statistics.most_in_flight, statistics.in_flight)

    def bill_prompt(self, tokens: int, cached: Cached) -> None:
        """Count the tokens of the prompt, once."""
        row = self._row
        row.prompt_tokens += tokens
        if tokens and cached is not NOTHING_CACHED:
            row.cache_read_tokens += cached.read
            row.cache_write_tokens += cached.written + cached.written_long
            row.cache_write_long_tokens += cached.written_long

    def bill_answer(self, tokens: int) -> None:
        """Count tokens of the answer; may be called as often as there are more of them."""
        self._row.completion_tokens += tokens

    def left(self, now: float, doing: str) -> None:
        """The client is gone before its answer was; ends the account."""
        gone = {"at_s": now, "model": self._model, "after_s": now - self._began, "while": doing}
        self._statistics.left.append(gone)
        self.end(Outcome.ABANDONED, "abandoned")

    def end(self, outcome: Outcome, status: int | str) -> None:
        """The call is over. `status` is the HTTP status that was sent, or a word when none was."""
        row = self._row
        row.in_flight -= 1
        self._statistics.in_flight -= 1
        row.statuses[status] += 1
        match outcome:
            case Outcome.ANSWERED:
                row.answered += 1
            case Outcome.RATE_LIMITED:
                row.rate_limited += 1
            case Outcome.ERRORS:
                row.errors += 1
            case Outcome.ABANDONED:
                row.abandoned += 1


class Batches:
    """Prompts with many items in one document (see `textwork.together`) that were answered."""

    __slots__ = ("_faults", "_harmed", "_sizes")

    def __init__(self) -> None:
        self._sizes: Counter[int] = Counter()
        self._faults: Counter[str] = Counter()
        self._harmed = 0

    def add(self, spoiled: Spoiled) -> None:
        """Count one."""
        self._sizes[spoiled.items] += 1
        self._harmed += spoiled.harmed
        if spoiled.fault is not None:
            self._faults[spoiled.fault.value] += 1

    def snapshot(self) -> dict[str, Any]:
        """As JSON tells it."""
        return {
            "calls": self._sizes.total(),
            "items": sum(size * calls for size, calls in self._sizes.items()),
            "sizes": {str(size): calls for size, calls in sorted(self._sizes.items())},
            "harmed": self._harmed,
            "faults": dict(self._faults),
        }


class Statistics:
    """All counts of one simulator."""

    def __init__(self, seed: int, started: float) -> None:
        self._seed = seed
        self._started = started
        self._rows: dict[tuple[str, str, str], Row] = {}
        self.in_flight = 0
        self.most_in_flight = 0
        self.connections_opened = 0
        self.connections_open = 0
        self.malformed_requests = 0
        self.redirects_followed = 0
        self.batches = Batches()
        self.faults: Counter[str] = Counter()
        self.left: deque[dict[str, Any]] = deque(maxlen=MOST_LEFT)

    def begin(self, endpoint: str, model: str, api_key: str, prices: Prices, now: float) -> Call:
        """Count a call as received. `api_key` is the name under which its key is shown."""
        row = self._rows.get((endpoint, model, api_key))
        if row is None:
            if len(self._rows) >= MOST_ROWS:
                model = api_key = OTHER
            row = self._rows.setdefault((endpoint, model, api_key), Row(prices))
        return Call(self, row, model, now)

    def restart(self) -> None:
        """Begin to count anew. Calls in flight stay in flight, and connections stay open."""
        for key, row in list(self._rows.items()):
            row.restart()
            if not row.in_flight:
                del self._rows[key]
        self.most_in_flight = self.in_flight
        self.connections_opened = self.connections_open
        self.malformed_requests = self.redirects_followed = 0
        self.batches = Batches()
        self.faults.clear()
        self.left.clear()

    def snapshot(self, now: float) -> dict[str, Any]:
        """Everything counted, as JSON tells it; `now` on the clock that `started` was read from."""
        total = Row()
        by_endpoint: dict[str, Row] = {}
        by_model: dict[str, Row] = {}
        by_key: dict[str, Row] = {}
        cost_by_model: dict[str, float] = {}
        for (endpoint, model, api_key), row in self._rows.items():
            total.add(row)
            by_endpoint.setdefault(endpoint, Row()).add(row)
            by_model.setdefault(model, Row()).add(row)
            by_key.setdefault(api_key, Row()).add(row)
            cost_by_model[model] = cost_by_model.get(model, 0.0) + row.cost_usd
        return {
            "calls": _calls(total) | {"most_in_flight": self.most_in_flight},
            "tokens": {
                "prompt": total.prompt_tokens,
                "completion": total.completion_tokens,
                "cache_read": total.cache_read_tokens,
                "cache_write": total.cache_write_tokens,
            },
            "cost_usd": sum(cost_by_model.values()),
            "by_status": _statuses(total),
            "by_endpoint": {name: _calls(row) | {"by_status": _statuses(row)} for name, row in by_endpoint.items()},
            "by_model": {
                name: _calls(row)
                | {
                    "prompt_tokens": row.prompt_tokens,
                    "completion_tokens": row.completion_tokens,
                    "cache_read_tokens": row.cache_read_tokens,
                    "cache_write_tokens": row.cache_write_tokens,
                    "cost_usd": cost_by_model[name],
                    "by_status": _statuses(row),
                }
                for name, row in by_model.items()
            },
            "by_key": {name: _calls(row) | {"by_status": _statuses(row)} for name, row in by_key.items()},
            "batches": self.batches.snapshot(),
            "faults": dict(self.faults),
            "left": list(self.left),
            "connections": {"opened": self.connections_opened, "open": self.connections_open},
            "malformed_requests": self.malformed_requests,
            "redirects_followed": self.redirects_followed,
            "process": {
                "pid": os.getpid(),
                "seed": self._seed,
                "uptime_s": now - self._started,
                "cpu_s": time.process_time(),
                "rss_bytes": resident_bytes(),
            },
        }


def resident_bytes() -> int:
    """Memory of this process that is resident; 0 where /proc does not tell."""
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 (a path object costs more than the reading)
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _calls(row: Row) -> dict[str, int]:
    return {name: getattr(row, name) for name in _COUNTS[:6]}


def _statuses(row: Row) -> dict[str, int]:
    return dict(sorted((str(status), count) for status, count in row.statuses.items()))
