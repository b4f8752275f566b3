"""What stages need from the outside, as protocols: they are handed objects that satisfy these and know nothing more."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from aiorch.errors import BudgetExceeded
from aiorchd.calls.reply import Reply, Usage

if TYPE_CHECKING:
    from aiorchd.calls.call import Attempt
    from aiorchd.calls.host_model import HostOffer
    from aiorchd.calls.journal import CallRecord, Hit
    from aiorchd.calls.rate_limits import LimitsTold

RequestT_contra = TypeVar("RequestT_contra", contravariant=True)


class Service(Protocol[RequestT_contra]):
    """Anything that answers: every stage, and what stands below the last one.

    Raises `aiorch.errors.CallError` subclasses only (and lets Trio's cancellation pass); whatever else escapes is a
    defect and is caught at the door.
    """

    async def __call__(self, request: RequestT_contra, /) -> Reply:
        """Answer one request."""
        ...


class WallClock(Protocol):
    """Seconds since the epoch; the only source of wall time in the house."""

    def __call__(self) -> float:
        """Tell the time."""
        ...


class DeltaSink(Protocol):
    """Where the pieces of a streamed answer go. Waiting here is back-pressure on the provider."""

    @property
    def started(self) -> bool:
        """Whether content already reached the caller: from then on nothing may be asked again."""
        ...

    async def send(self, *, text: str | None = None, tool_calls: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Pass one piece on."""
        ...


class Relay(DeltaSink, Protocol):
    """One stream that several listen to, each from its beginning and at its own pace."""

    def close(self) -> None:
        """There will be no more."""
        ...

    async def play(self, sink: DeltaSink, /) -> None:
        """Send everything to ``sink``, from the beginning, until the end has come."""
        ...


TIMEOUT_OF_ATTEMPT: Final = "timeouts.attempt_s"
"""The key that bounds one attempt, as errors name it."""


class Provider(Protocol):
    """One configured endpoint: encodes, sends over the shared transport, decodes.

    Raises `RateLimited` (with ``retry_after_s`` when told), `ProviderError`, `ProviderAuth`, `ContextExceeded`,
    `ContentFiltered`, `UnknownModel`, `InvalidRequest`, `IncompleteStream`; ``details`` carries ``status`` when there was
    one and ``provider_code``/``provider_message``, shortened and without secrets. Cancelling closes the provider's
    connection at once. Deltas go to ``attempt.call.sink``; the reply carries the whole answer again. What the headers of
    any answer say of rate limits goes to ``attempt.heard`` as soon as they are there (see `calls.rate_limits`).
    """

    @property
    def attempt_s(self) -> float | None:
        """After how many seconds it ends, by itself, an answer that is not streamed: with a `ProviderError` whose details
        name `TIMEOUT_OF_ATTEMPT` as ``timeout``. None when it does not."""
        ...

    async def chat(self, attempt: Attempt) -> Reply:
        """Answer a chat call, streamed when the call has a sink."""
        ...

    async def embed(self, attempt: Attempt) -> Reply:
        """Turn each input string into a vector."""
        ...

    async def check(self, models: Sequence[str], timeout_s: float) -> ProviderCheck:
        """Ask for something that costs nothing, to see whether the endpoint answers and takes the key; ``models`` are its
        own names of those that are configured. Never raises a `CallError`: what went wrong is the result."""
        ...


@dataclass(frozen=True, slots=True)
class ProviderCheck:
    """What came of asking an endpoint for its list of models.

    ``result`` is ``ok`` (it answered and took the key, or none is named), ``simulated`` (there is nothing to ask), ``no_key``
    (the key that the configuration names is not there, so nothing was sent), ``refused`` (it refused the key), ``unclear``
    (it answers, and whether it takes the key was not to be seen), ``failed`` (it answers with an error of its own, or is
    not what the configuration says) or ``unreachable``. ``sentence`` tells a person, without any secret.

    ``missing`` are configured models that its list does not have; ``listed`` how many it has, None when it gave no list.
    ``clock_s`` is its wall clock when it answered, None when it did not tell.
    """

    result: str
    sentence: str
    status: int | None = None
    took_s: float | None = None
    listed: int | None = None
    missing: tuple[str, ...] = ()
    clock_s: float | None = None


class HostPeer(Protocol):
    """A connection to a process of the host that may be asked something."""

    @property
    def asked(self) -> int:
        """How many questions it has not answered yet."""
        ...

    async def ask(self, method: str, params: list[Any], *, cancels: bool = True) -> Any:
        """Ask and wait for the result, whatever that is.

        Raises `HostError`: what the other side said; marked as retryable when the connection went, `Overloaded` when it has
        as many open questions as it may. An error of the other side with a code of ours is raised as that. A cancelled wait
        tells the other side, unless it does not understand that.
        """
        ...


class HostDirectory(Protocol):
    """Who answers for which models. A model is seen by its own user only."""

    def choose(self, attempt: Attempt) -> HostOffer | None:
        """Find who is to be asked: for a call that its caller answers for itself, that one, or another one who waits for the
        same answer; else the least busy connection of the caller's user that has registered for the model."""
        ...

    async def returned(self, uid: int, name: str) -> bool:
        """Wait for somebody who had registered for a model with the daemon before; tells whether they have again. Returns at once
        when nobody is expected."""
        ...


class Turnstile(Protocol):
    """The one place where attempts wait: grants a permit, request and token quota together, at the moment of the start.

    Survives reloads.
    """

    def ask(self, attempt: Attempt, now: float) -> Passage:
        """Ask for a turn. It is granted at once where nothing has to be waited for; one that is not has to be waited for."""
        ...

    def cool_down(self, now: float, seconds: float) -> None:
        """Grant nothing to anybody for ``seconds``: the provider said not now. Of two such words the later end holds."""
        ...


class Paced(Protocol):
    """Something that attempts wait for, and that can tell for how long."""

    def wait_s(self, now: float, tokens: int) -> float:
        """Guess how long an attempt of so many tokens would wait if it came now; 0 when it could start."""
        ...


class Passage(Protocol):
    """One attempt's turn. Once it is granted, `leave` is called when the attempt has ended, and before that what the attempt
    really used, and how it ended, is told here; else the estimate stands."""

    @property
    def granted(self) -> bool:
        """Whether it is the attempt's turn."""
        ...

    async def wait(self) -> None:
        """Wait until it is. Raises `Overloaded` with ``retry_after_s`` when the queue is full or the deadline cannot be met.
        A cancellation leaves the queue as if it had never been entered."""
        ...

    def leave(self, now: float) -> None:
        """Give the permit back and settle the tokens."""
        ...

    @property
    def waited_for(self) -> Sequence[str]:
        """What it had to wait for, in the order in which that was found; sentences for a person."""
        ...

    def heard(self, told: LimitsTold) -> None:
        """Learn what the answer says of the provider's limits."""
        ...

    def answered(self, input_tokens: int | None, output_tokens: int) -> None:
        """An answer came: the target takes as much as it is given. The reserved tokens are corrected to what was used; None where
        nobody said."""
        ...

    def refused(self, *, about: str | None, overloaded: bool) -> None:
        """The provider would not take it now: because of a rate (of ``about`` ``requests`` or ``tokens``, None when it does
        not say), or because it is ``overloaded`` itself."""
        ...


class Purse(Protocol):
    """What may be spent: the budgets of the configuration, and the limit of each single call. Survives reloads."""

    def refusal(self, attempt: Attempt) -> BudgetExceeded | None:
        """Say whether an attempt cannot be paid for, whatever others that are under way turn out to cost. Decided at once,
        from memory: for whoever would otherwise queue in vain."""
        ...

    def reserve_at_once(self, attempt: Attempt) -> Hold | None:
        """Hold the most that an attempt can cost where no budget has to be kept; None where one has, for `reserve`. Raises
        `BudgetExceeded`."""
        ...

    async def reserve(self, attempt: Attempt) -> Hold:
        """Hold the most that an attempt can cost, safely on the disk where a budget has to be kept, before it starts.

        Waits while others hold what it needs, until its ``start_by``. Raises `BudgetExceeded`, and `StorageError` when the
        disk does not take it. Cancelling leaves nothing held.
        """
        ...


class Hold(Protocol):
    """What one attempt holds until it ends; exactly one of the three is called then."""

    @property
    def max_tokens(self) -> int | None:
        """How long the answer may be so that it can be paid for, to be sent with the attempt; None: as the call says."""
        ...

    def settle(self, usage: Usage | None, cost_usd: float | None) -> float:
        """It was answered: what it cost takes the place of what it held. What is not known stays held, as an estimate.

        Returns the US dollars that are counted for it.
        """
        ...

    def keep(self) -> float:
        """It ended and nobody said what it cost: all that it held is taken as spent, as an estimate. Returns how much."""
        ...

    def release(self) -> None:
        """It certainly cost nothing."""
        ...


class SpendingStore(Protocol):
    """Where the accounts of budgets are kept: ``ledger.db``."""

    async def commit(self) -> None:
        """Wait until every change made to the accounts before now is on the disk. Raises `StorageError`."""
        ...

    def write_soon(self) -> None:
        """Something changed that nobody waits for."""
        ...


class StoredAnswer(msgspec.Struct, frozen=True, gc=False):
    """An answer as the disk keeps it. ``body`` is the packed reply (see ``stages/cache``), guarded by ``checksum``.

    Times are wall seconds. ``partition`` and ``tags`` exist for deletion and accounting; the key already separates.
    """

    key: bytes
    body: bytes
    stored_at: float
    expires_at: float
    source_id: str
    uid: int
    partition: str
    model: str
    tags: tuple[str, ...]
    cost_usd: float | None


class AnswerStore(Protocol):
    """The disk tier of the cache: ``cache.db``. Never raises for a failing disk: it logs, counts, and acts as empty."""

    async def get(self, key: bytes) -> StoredAnswer | None:
        """Find an answer that is fresh, or out of date by no more than stale ones may be; one that fails its checksum is
        dropped and counted."""
        ...

    def look(self, key: bytes) -> StoredAnswer | None:
        """Find the same without giving anybody else a turn, for a millisecond at most, where it is very probably there. None
        says nothing about what `get` would find."""
        ...

    def absent(self, key: bytes) -> bool:
        """Tell, without looking, whether there is surely nothing under a key: then it counts as asked for and not found."""
        ...

    def likely(self, key: bytes) -> bool:
        """Tell, without looking, whether there is very probably something under a key; False also while that is not known."""
        ...

    def put(self, answer: StoredAnswer) -> None:
        """Queue an answer to be written within a second; dropped (and counted) when the queue is full."""
        ...

    def drop(self, key: bytes) -> None:
        """Have nothing under a key from now on, until something is put there. Cheap where surely nothing is."""
        ...

    def touch(self, keys: Iterable[bytes]) -> None:
        """Count these as used now, though they were served from elsewhere. Cheap; a hint that may be lost."""
        ...

    async def delete(
        self,
        *,
        uid: int | None = None,
        keys: Sequence[bytes] | None = None,
        source_id: str | None = None,
        tag: str | None = None,
        everything: bool = False,
    ) -> list[bytes]:
        """Delete what matches all the given marks, of one user or (uid None) of all; returns the keys."""
        ...

    async def some_stored_at(self) -> list[float]:
        """Give the times at which some answers were stored, chosen evenly over all of them; none when the disk fails."""
        ...

    def statistics(self) -> Mapping[str, Any]:
        """Tell entries, bytes, bounds, queue, faults."""
        ...


class SemanticEntry(msgspec.Struct, frozen=True, gc=False):
    """A question that was answered, as the semantic cache keeps it on disk: without its words. ``key`` is that of its
    answer, ``scope`` what must be equal for anybody to be given it, ``vector`` float32 of its text, ``sketch`` the packed
    `core.text_sketch.TextSketch`, ``mark`` that of its answer, ``right`` and ``wrong`` how often it was checked."""

    key: bytes
    scope: bytes
    vector: bytes
    sketch: bytes
    mark: bytes
    source_id: str
    uid: int
    right: int = 0
    wrong: int = 0


class SemanticStore(Protocol):
    """Where the semantic cache survives a restart: two tables of ``cache.db``. Never raises for a failing disk."""

    async def load_state(self) -> bytes | None:
        """Read what `keep_state` was last given; None when there is nothing or the disk fails."""
        ...

    async def load(self, after: int) -> tuple[Sequence[SemanticEntry], int | None]:
        """Read some entries, the oldest first, from the start (0) or from where another call ended; gives them and where
        to go on, None at the end."""
        ...

    def put(self, entry: SemanticEntry) -> None:
        """Queue an entry to be written, in the place of one with its key."""
        ...

    def delete(self, keys: Sequence[bytes]) -> None:
        """Queue entries to be deleted."""
        ...

    def recount(self, key: bytes, right: int, wrong: int) -> None:
        """Queue how often an entry was right and wrong."""
        ...

    def keep_state(self, state: bytes) -> None:
        """Queue what was learned to be written."""
        ...


class BatchStore(Protocol):
    """Where it survives a restart how many questions may be asked together: a table of ``metrics.db``. Never raises for a failing
    disk."""

    async def load(self) -> Sequence[tuple[str, str, bytes]]:
        """Read what `keep` was last given, by operation and model; nothing when the disk fails."""
        ...

    def keep(self, operation: str, model: str, state: bytes) -> None:
        """Queue what was learned of an operation and a model to be written."""
        ...


class NearestVectors(Protocol):
    """Vectors of one scope by number; see `likeness.nearest`."""

    def __len__(self) -> int: ...

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has here."""
        ...

    def add(self, number: int, vector: bytes) -> None:
        """Put one in."""
        ...

    def remove(self, number: int) -> None:
        """Take one out."""
        ...

    def steps(self, vector: bytes, count: int) -> Generator[None, None, list[tuple[int, float]]]:
        """Find numbers and cosines of the nearest, with pauses."""
        ...


class Arrays(Protocol):
    """All that needs arrays; see `likeness.arrays`."""

    def vector(self, text: str) -> bytes | None:
        """Give the vector of a text."""
        ...

    def unit(self, vector: bytes) -> bytes | None:
        """Give a vector the length 1."""
        ...

    def nearest(self, dimensions: int) -> NearestVectors:
        """Make an empty index."""
        ...

    def fit(self, rows: bytes, labels: bytes) -> Any:
        """Fit the model; for a worker thread."""
        ...


class RecordSink(Protocol):
    """Where finished calls are told. Never waits and never raises."""

    def record(self, record: CallRecord) -> None:
        """Count and keep one finished call."""
        ...

    def record_hit(self, hit: Hit) -> None:
        """Count and keep one answer from memory; the caller waits meanwhile, so the work is done later."""
        ...
