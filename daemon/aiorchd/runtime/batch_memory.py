"""What is known of asking several questions in one prompt: by operation and model, and how fast questions come.

Outlives the generations. How large batches may be outlives the process, too: it is kept after each check, and what an earlier
process kept is remembered when an operation and model come again, and trusted less (`core.batch_size.BatchSize.remember`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol

import msgspec

from aiorchd.calls.ports import BatchStore
from aiorchd.calls.reply import Usage
from aiorchd.config.schema import Batch, Config
from aiorchd.core.batch_departure import Pauses
from aiorchd.core.batch_loss import LossCurves, Outcome
from aiorchd.core.batch_size import BatchSize, KeptSize
from aiorchd.core.semantic_model import wilson_interval

_MOST_GROUPS: Final = 1000
_MOST_LEARNED: Final = 1000
_SMOOTHING: Final = 0.1
_FIRST_TOOK_S: Final = 1.0
_DOUBT: Final = 0.995
STATE_VERSION: Final = 1
"""Of what is kept; another one is not taken, and it is learned again."""

_Size = Annotated[int, msgspec.Meta(ge=1, le=1000)]
_Count = Annotated[float, msgspec.Meta(ge=0, le=1e6)]


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    """`KeptSize` as it is written."""

    version: int
    size: _Size
    most: _Size
    made: Annotated[int, msgspec.Meta(ge=0)]
    failed_at: dict[_Size, Annotated[int, msgspec.Meta(ge=0)]]
    counts: dict[_Size, tuple[_Count, _Count, _Count]]


class Log(Protocol):
    """As much of a log as is needed."""

    def warning(self, event: str, /, **fields: Any) -> Any:
        """Tell an operator."""
        ...


@dataclass(frozen=True, slots=True)
class BatchStatistics:
    """One operation and model (the one that is asked for; ``""`` for the usual one), since the start.

    ``allowed`` questions may be asked together now, at most ``max_size``. ``questions`` were asked in ``batches`` as ``items``
    (equal ones once); ``left`` says why batches left, ``alone`` why questions that could have joined were asked by themselves.
    Of ``checks`` ``agreed``; ``agreement`` is their share, with 95 % confidence between ``agreement_low`` and
    ``agreement_high``, and ``self_agreement`` the estimated one of single answers with each other. ``lost`` is what batches
    lose against that. ``failures`` counts items by what was wrong with their answers (and whole batches as ``broken``, or by
    their error's code). ``calls_saved`` is how many fewer provider calls were needed; ``tokens_saved`` and ``usd_saved`` are
    estimates by what single calls take, None where that is not known.
    """

    operation: str
    model: str
    allowed: int
    max_size: int
    batches: int
    items: int
    questions: int
    mean_items: float | None
    left: Mapping[str, int]
    alone: Mapping[str, int]
    checks: int
    agreed: int
    agreement: float | None
    agreement_low: float | None
    agreement_high: float | None
    self_agreement: float | None
    lost: float | None
    asked_again: int
    lowered: int
    raised: int
    failures: Mapping[str, int]
    calls_saved: int
    tokens_saved: int | None
    usd_saved: float | None


class Learned:
    """What is known of one operation and model."""

    def __init__(
        self, operation: str, model: str, section: Batch, curves: LossCurves, keep: Callable[[str, str, KeptSize], None]
    ) -> None:
        self._operation = operation
        self._model = model
        self._section = section
        self._size = BatchSize(curves)
        self._keep = keep
        self._most = section.max_size
        self._took_s: float | None = None
        self._single_tokens: float | None = None
        self._single_usd: float | None = None
        self._answer_tokens: float | None = None
        self._batches = self._items = self._questions = 0
        self._left: dict[str, int] = {}
        self._alone: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._calls_besides = self._again = 0
        self._tokens = 0
        self._usd = 0.0
        self._tokens_unknown = self._usd_unknown = False

    @property
    def usual_s(self) -> float:
        """How long a batch takes, smoothed."""
        return _FIRST_TOOK_S if self._took_s is None else self._took_s

    @property
    def answer_tokens(self) -> float | None:
        """How long the answer to one question is, smoothed; None while that is not known."""
        return self._answer_tokens

    def remember(self, kept: KeptSize) -> None:
        """Begin where an earlier process ended."""
        self._size.remember(kept)

    def reconfigure(self, section: Batch, curves: LossCurves) -> None:
        """Follow the configuration."""
        self._section = section
        self._size.reconfigure(curves)

    def allowed(self, most: int) -> int:
        """Give how many may be asked together, of at most ``most``."""
        self._most = most
        return self._size.allowed(most)

    def checks(self, items: int) -> int:
        """Say how many of the items of a batch that leaves are to be asked alone, too."""
        return self._size.checks(items, self._section.check_share)

    def checked(self, outcome: Outcome, items: int) -> None:
        """An item of a batch of so many was compared."""
        self._size.checked(outcome, items, self._most)
        self._keep(self._operation, self._model, self._size.kept())

    def departed(self, *, items: int, questions: int, why: str) -> None:
        """A batch left."""
        self._batches += 1
        self._items += items
        self._questions += questions
        self._left[why] = self._left.get(why, 0) + 1

    def answered(self, *, items: int, took_s: float, usage: Usage | None, cost_usd: float | None) -> None:
        """A batch was answered."""
        self._took_s = _smoothed(self._took_s, took_s)
        if usage is not None and not usage.estimated:
            self._answer_tokens = _smoothed(self._answer_tokens, (usage.output + usage.reasoning) / items)
        self._spend(usage, cost_usd)

    def abandoned(self, after_s: float) -> None:
        """Everybody left a batch before it was answered: it takes at least so long."""
        self._took_s = max(self.usual_s, after_s)

    def too_slow(self) -> None:
        """A question has little time for what a batch takes. That is doubted a little each time: where nobody has the time,
        no batch would ever show that they take less by now."""
        self._took_s = self.usual_s * _DOUBT

    def taken_apart(self, *, items: int, wrong: Mapping[str, str], extra: int) -> None:
        """A batch's answer was taken apart; ``wrong`` says by id what was wrong with an item's."""
        for kind in wrong.values():
            self._fail(kind)
        if extra:
            self._fail("extra", extra)
        self._settle(items, len(wrong))

    def broke(self, kind: str, *, items: int) -> None:
        """A whole batch was of no use, and its questions are asked alone."""
        self._fail(kind)
        self._settle(items, items)

    def asked_alone(self, why: str, *, too_small: bool = False) -> None:
        """A question that could have joined others is asked by itself."""
        self._alone[why] = self._alone.get(why, 0) + 1
        if too_small:
            self._size.asked_alone()

    def single(self, usage: Usage | None, cost_usd: float | None) -> None:
        """A question was answered by itself."""
        if usage is not None:
            self._single_tokens = _smoothed(self._single_tokens, usage.total)
        if cost_usd is not None:
            self._single_usd = _smoothed(self._single_usd, cost_usd)

    def besides(self, usage: Usage | None, cost_usd: float | None, *, again: bool = False) -> None:
        """A question of a batch was asked by itself, too: to compare, or since the batch did not answer it."""
        self._calls_besides += 1
        self._again += again
        self._spend(usage, cost_usd)

    def statistics(self) -> BatchStatistics:
        """Tell all of it."""
        found = self._size.agreement()
        low, high = wilson_interval(found.agreed, found.checks) if found.checks else (None, None)
        asked = self._questions
        itself = None
        if found.checks:
            itself = max(0.0, 1.0 - (2 * found.single_odd + found.all_differ) / found.checks)
        tokens = usd = None
        if self._single_tokens is not None and not self._tokens_unknown:
            tokens = round(asked * self._single_tokens) - self._tokens
        if self._single_usd is not None and not self._usd_unknown:
            usd = asked * self._single_usd - self._usd
        return BatchStatistics(
            operation=self._operation,
            model=self._model,
            allowed=self._size.lasting(self._most),
            max_size=self._most,
            batches=self._batches,
            items=self._items,
            questions=asked,
            mean_items=self._items / self._batches if self._batches else None,
            left=dict(self._left),
            alone=dict(self._alone),
            checks=found.checks,
            agreed=found.agreed,
            agreement=found.agreed / found.checks if found.checks else None,
            agreement_low=low,
            agreement_high=high,
            self_agreement=itself,
            lost=found.lost,
            asked_again=self._again,
            lowered=self._size.lowered,
            raised=self._size.raised,
            failures=dict(self._failures),
            calls_saved=asked - self._batches - self._calls_besides,
            tokens_saved=tokens,
            usd_saved=usd,
        )

    def _settle(self, items: int, wrong: int) -> None:
        lowered = self._size.lowered
        self._size.settled(items, wrong)
        if self._size.lowered != lowered:
            self._keep(self._operation, self._model, self._size.kept())

    def _spend(self, usage: Usage | None, cost_usd: float | None) -> None:
        if usage is None:
            self._tokens_unknown = True
        else:
            self._tokens += usage.total
        if cost_usd is None:
            self._usd_unknown = True
        else:
            self._usd += cost_usd

    def _fail(self, kind: str, count: int = 1) -> None:
        self._failures[kind] = self._failures.get(kind, 0) + count


class BatchMemory:
    """All of it, bounded: what was not used for longest goes first. Without a ``store`` nothing outlives the process."""

    def __init__(self, section: Batch, *, store: BatchStore | None = None, log: Log | None = None) -> None:
        self._section = section
        self._store = store
        self._log = log
        self._kept: dict[tuple[str, str], bytes] = {}
        """What is in the store."""
        self._curves = LossCurves(1.0 - section.target_agreement)
        """Shared, for they are large."""
        self._learned: dict[tuple[str, str], Learned] = {}
        self._pauses: dict[bytes, Pauses] = {}

    async def remember(self) -> None:
        """Read what an earlier process has kept; once, before the first question."""
        if self._store is not None:
            self._kept = {(operation, model): state for operation, model, state in await self._store.load()}

    def reconfigure(self, config: Config) -> None:
        """Follow a configuration that came into force."""
        if config.batch.target_agreement != self._section.target_agreement:
            self._curves = LossCurves(1.0 - config.batch.target_agreement)
        self._section = config.batch
        for places in (self._learned, self._kept):
            for place in [place for place in places if place[0] not in config.operations]:
                del places[place]
        for learned in self._learned.values():
            learned.reconfigure(config.batch, self._curves)

    def of(self, operation: str, model: str) -> Learned:
        """Find or make what is known of an operation and the model that is asked for."""
        learned = self._learned.pop((operation, model), None)
        if learned is None:
            learned = Learned(operation, model, self._section, self._curves, self._keep)
            if (kept := self._read(operation, model)) is not None:
                learned.remember(kept)
            if len(self._learned) >= _MOST_LEARNED:
                del self._learned[next(iter(self._learned))]
        self._learned[operation, model] = learned
        return learned

    def _keep(self, operation: str, model: str, kept: KeptSize) -> None:
        if self._store is None:
            return
        state = msgspec.msgpack.encode(
            _Kept(STATE_VERSION, kept.size, kept.most, kept.made, dict(kept.failed_at), dict(kept.counts))
        )
        if (operation, model) in self._kept or len(self._kept) < _MOST_LEARNED:
            self._kept[operation, model] = state
        self._store.keep(operation, model, state)

    def _read(self, operation: str, model: str) -> KeptSize | None:
        state = self._kept.get((operation, model))
        if state is None:
            return None
        try:
            kept = msgspec.msgpack.decode(state, type=_Kept)
        except msgspec.DecodeError:
            kept = None
        if kept is None or kept.version != STATE_VERSION:
            if self._log is not None:
                self._log.warning("how large batches may be cannot be read; it is learned again", operation=operation)
            return None
        return KeptSize(kept.size, kept.most, kept.made, kept.failed_at, kept.counts)

    def pauses(self, group: bytes) -> Pauses:
        """Find or make what is known of how fast questions come that may be asked together."""
        pauses = self._pauses.pop(group, None)
        if pauses is None:
            pauses = Pauses()
            if len(self._pauses) >= _MOST_GROUPS:
                del self._pauses[next(iter(self._pauses))]
        self._pauses[group] = pauses
        return pauses

    def statistics(self) -> tuple[BatchStatistics, ...]:
        """Tell of every operation and model, by name."""
        return tuple(self._learned[place].statistics() for place in sorted(self._learned))


def _smoothed(mean: float | None, value: float) -> float:
    return value if mean is None else mean + _SMOOTHING * (value - mean)
