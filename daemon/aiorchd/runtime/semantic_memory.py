"""What the semantic cache knows: questions by their vectors, what was learned about likeness, and how often it was right.

Outlives the generations. Everything that takes long is done by one task, `SemanticMemory.run`: loading the libraries and
fitting in worker threads, the rows of an earlier process and what a smaller bound leaves no room for in slices. A lookup
is plain computing of less than a millisecond on Trio's thread, and gives way after each. Until the libraries are there,
and while it is off, nothing is looked up.

Vectors are made by the embedder that is installed here or, when ``embedding_model`` names one, by a model (see
`stages.question_vectors`). Then nothing that was learned with another embedder is of use, and it begins anew.

Memory holds no prompt: of a question only its vector and the hashes of its words are kept.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, Protocol

import msgpack
import trio

from aiorchd.calls.ports import Arrays, NearestVectors, SemanticEntry, SemanticStore
from aiorchd.config.schema import SemanticCache
from aiorchd.core.parted_dict import PartedDict
from aiorchd.core.semantic_model import Neighbourhood, Proof, Row, SemanticModel, features
from aiorchd.core.text_sketch import TextSketch, difference, sketch
from aiorchd.runtime.semantic_records import Entry, SemanticStatistics, Thought

NEIGHBOURS: Final = 6
STATE_VERSION: Final = 2
"""Of what was learned; another one is not taken, and it is learned again."""
_STATE_EVERY_S: Final = 15.0
"""What a crash may take of what was learned: some 400 kB are written as often, while it learns."""
_IDLE_LOOKUPS: Final = 500
"""After so many that found something near and gave nothing, it is not said any more that answers are given."""
_RECENT_SERVED: Final = 10_000
_SLICE: Final = 25
"""So many entries are taken in or out before others have their turn: some tenths of a millisecond."""


class Log(Protocol):
    """As much of a log as is needed."""

    def warning(self, event: str, /, **fields: Any) -> Any:
        """Tell an operator."""
        ...

    def info(self, event: str, /, **fields: Any) -> Any:
        """Tell what happened."""
        ...


class SemanticMemory:
    """See above. ``open_arrays`` opens the libraries, with an embedder or (False) without, and raises `LookupError` with a
    sentence when what it needs is not installed."""

    def __init__(
        self,
        section: SemanticCache,
        *,
        open_arrays: Callable[[bool], Arrays],
        store: SemanticStore | None,
        chance: Callable[[], float],
        log: Log,
    ) -> None:
        self._section = section
        self._open_arrays = open_arrays
        self._store = store
        self._chance = chance
        self._log = log
        self._wanted = trio.Event()
        self._wanted.set()
        self._arrays: Arrays | None = None
        self._opened: Arrays | None = None
        """What is loaded already, and not in use yet."""
        self._opening = trio.Lock()
        """Held while the libraries are loaded: `open` and `run` both want them at a start, and dropping what was loaded for
        nothing stands still for 10 ms."""
        self._missing = ""
        self._model = SemanticModel(section.target_error_rate)
        self._proof = Proof(section.target_error_rate, needed=section.min_checks)
        self._entries: PartedDict[int, Entry] = PartedDict(lambda number: number >> 12)
        """By number, the oldest first."""
        self._numbers: PartedDict[bytes, int] = PartedDict(lambda key: key[-1:])
        self._nearest: dict[bytes, NearestVectors] = {}
        self._served: dict[str, tuple[int, Entry, Row, bytes]] = {}
        """Answers given lately, by the id of the call: whose, from which entry, on what grounds, to which question."""
        self._misled: dict[bytes, None] = {}
        """Keys of questions that got a wrong answer lately, until they have one of their own."""
        self._next = 1
        self._era = 0
        self._read = False
        """Whether the rows of an earlier process are there."""
        self._changed = False
        self._state_due = 0.0
        self._idle_lookups = 0
        """Since the last one that was sure enough."""
        self._lookups = self._hits = self._would_hits = self._shadow_checks = self._vetoed = self._marked_wrong = 0

    # settings

    @property
    def ready(self) -> bool:
        """Whether lookups make sense now."""
        return self._section.enabled and self._arrays is not None and self._read

    def reconfigure(self, section: SemanticCache) -> None:
        """Follow the configuration."""
        before, self._section = self._section, section
        if section.target_error_rate != before.target_error_rate or section.min_checks != before.min_checks:
            self._model.reconfigure(section.target_error_rate)
            self._proof.reconfigure(section.target_error_rate, needed=section.min_checks)
        if section.embedding_model != before.embedding_model:
            self._begin_anew()
            self._arrays = self._opened = None
        if section.enabled and (not before.enabled or self._arrays is None):
            self._missing = ""  # it may have been installed meanwhile
        self._wanted.set()

    # one call

    def vector(self, text: str) -> bytes | None:
        """Give the vector of a text, by the embedder that is installed here; None when nothing can be said of it."""
        return None if self._arrays is None or not self._section.enabled else self._arrays.vector(text)

    def unit(self, vector: bytes) -> bytes | None:
        """Give a model's vector the length 1; None when it has no direction."""
        return None if self._arrays is None else self._arrays.unit(vector)

    def blank(self, scope: bytes, text: str, vector: bytes) -> Thought | None:
        """Give what `keep` needs of a question that is not looked for; None when nothing can be said of it."""
        words = sketch(text) if self.ready else None
        return None if words is None else Thought(scope, vector, words)

    async def think(self, scope: bytes, text: str, vector: bytes, *, may_serve: bool = True) -> Thought | None:
        """Look for the nearest kept question and judge it; None when nothing can be said of this text.

        Gives way between steps of less than a millisecond, of which only very many questions need more than one."""
        words = sketch(text) if self.ready else None
        if words is None:
            return None
        self._lookups += 1
        index = self._nearest.get(scope)
        found: list[tuple[int, float]] = []
        if index is not None and index.dimensions == len(vector) // 4:
            steps = index.steps(vector, NEIGHBOURS)
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    found = end.value
                    break
                await trio.lowlevel.checkpoint()
        entry_of = self._entries.get
        near = [(entry, cosine) for number, cosine in found if (entry := entry_of(number)) is not None]
        if not near or near[0][1] < self._section.min_likeness:
            return Thought(scope, vector, words)
        nearest, likeness = near[0]
        words_apart = difference(words, TextSketch.from_bytes(nearest.sketch))
        veto = words_apart.vetoed
        if veto is not None:
            self._vetoed += 1
            return Thought(scope, vector, words, nearest, likeness=likeness, veto=veto)
        others = [cosine for entry, cosine in near if entry.mark != nearest.mark]
        row = features(
            Neighbourhood(
                cosine=likeness,
                margin=likeness - (others[0] if others else near[-1][1]),
                agreeing=len(near) - len(others),
                right=nearest.right,
                wrong=nearest.wrong,
            ),
            words_apart,
        )
        sureness, threshold = self._model.probability(row), self._model.threshold
        if sureness is not None:
            self._model.came_up(sureness)
        would_hit = may_serve and sureness is not None and sureness >= threshold
        self._would_hits += would_hit
        if may_serve:
            self._idle_lookups = 0 if would_hit else self._idle_lookups + 1
        serve = would_hit and self._proof.allowed and self._chance() >= self._section.shadow_share
        return Thought(
            scope, vector, words, nearest, row, likeness, sureness, threshold, None, would_hit, serve, self._era
        )

    def likeness(self, one: bytes | None, other: bytes | None) -> float:
        """Give the cosine of two vectors; 0 when it cannot be told."""
        if one is None or other is None or len(one) != len(other):
            return 0.0
        return sum(a * b for a, b in zip(array("f", one), array("f", other), strict=True))

    def holds(self, entry: Entry) -> bool:
        """Whether an entry has not been deleted meanwhile."""
        return entry.number in self._entries

    def served(self, call_id: str, uid: int, thought: Thought, key: bytes) -> None:
        """An answer was given to the question of this key; `judge` may come back to it."""
        assert thought.nearest is not None
        assert thought.row is not None
        self._hits += 1
        self._served[call_id] = uid, thought.nearest, thought.row, key
        if len(self._served) > _RECENT_SERVED:
            del self._served[next(iter(self._served))]

    def misled(self, key: bytes) -> bool:
        """Whether this question got an answer lately that was called wrong, and none of its own since: another near question
        may well have the same wrong one."""
        return key in self._misled

    def learn(self, thought: Thought, *, right: bool) -> None:
        """The model was asked although something was near: the kept answer was right, or was not."""
        if thought.nearest is None or thought.row is None or thought.era != self._era:
            return
        if thought.would_hit:
            self._shadow_checks += 1
        self._count(thought.nearest, thought.row, right=right, checked=thought.would_hit, said=thought.sureness)

    def keep(self, thought: Thought, *, key: bytes, mark: bytes, source_id: str, uid: int) -> None:
        """Put a question in whose answer is kept under ``key``."""
        if self._arrays is None:
            return
        self._misled.pop(key, None)
        self._remove_number(self._numbers.get(key))
        index = self._nearest.get(thought.scope)
        if index is not None and index.dimensions != len(thought.vector) // 4:
            # The model gives vectors of another length than before: it is another one, whatever its name.
            self._begin_anew()
            self._forget_now([entry for entry in self._entries.values() if entry.scope == thought.scope])
        entry = Entry(self._next, key, thought.scope, thought.sketch.to_bytes(), mark, source_id, uid, 0, 0)
        self._put(entry, thought.vector)
        if self._store is not None:
            self._store.put(SemanticEntry(key, thought.scope, thought.vector, entry.sketch, mark, source_id, uid))
        if len(self._entries) > self._section.max_entries:
            self.drop(next(iter(self._entries.values())))
            if len(self._entries) > self._section.max_entries:
                self._wanted.set()

    def drop(self, entry: Entry) -> None:
        """Delete an entry, since its answer is gone or wrong."""
        if self._remove_number(entry.number) and self._store is not None:
            self._store.delete([entry.key])

    # what callers and administrators say

    def judge(self, call_id: str, uid: int | None, *, right: bool) -> bool:
        """A caller says whether an answer given lately was right. A wrong one counts as a check that failed, its entry is
        deleted, and the question asks the model when it comes again; a right one is learned from, and proves nothing,
        since nobody praises at random. ``uid`` None: whoever's. False: not known."""
        known = self._served.get(call_id)
        if known is None or (uid is not None and known[0] != uid):
            return False
        _, entry, row, key = self._served.pop(call_id)
        if right:
            self._count(entry, row, right=True, checked=False)
            return True
        self._marked_wrong += 1
        self._misled[key] = None
        if len(self._misled) > _RECENT_SERVED:
            del self._misled[next(iter(self._misled))]
        self._count(entry, row, right=False, checked=True)
        self.drop(entry)
        return True

    async def forget(self, *, uid: int | None, source_id: str | None, everything: bool = False) -> int:
        """Delete entries of one user or (None) of all: those of one call's answer, or everything. Gives their number. Others
        have their turn between slices."""
        gone = 0
        numbers = list(self._entries)
        for start in range(0, len(numbers), _SLICE):
            if start:
                await trio.lowlevel.checkpoint()
            here = [self._entries[number] for number in numbers[start : start + _SLICE] if number in self._entries]
            gone += self._forget_now(
                entry
                for entry in here
                if (uid is None or entry.uid == uid) and (everything or entry.source_id == source_id)
            )
        return gone

    async def forget_answers(self, keys: Collection[bytes]) -> int:
        """Delete the entries of answers that were deleted, by their keys. Gives their number; gives way between slices."""
        gone = 0
        for count, key in enumerate(keys, 1):
            number = self._numbers.get(key)
            if number is not None:
                gone += self._forget_now((self._entries[number],))
            if count % _SLICE == 0:
                await trio.lowlevel.checkpoint()
        return gone

    def statistics(self) -> SemanticStatistics:
        """Tell how it stands."""
        verdict = self._proof.verdict()
        why = ""
        if not self._section.enabled:
            why = "switched off: cache.semantic.enabled is false"
        elif self._missing:
            why = self._missing
        elif self._arrays is None or not self._read:
            why = "still loading"
        elif not self._model.trained:
            why = f"still learning: {self._model.labels} of 200 compared answers are there"
        elif verdict.allowed and self._idle_lookups >= _IDLE_LOOKUPS:
            why = (
                f"nothing was sure enough in the last {self._idle_lookups} looks that found something near: a probability of "
                f"{self._model.threshold:.4f} is needed"
            )
        else:
            why = verdict.why
        return SemanticStatistics(
            enabled=self._section.enabled,
            active=not why,
            why=why,
            embedder=self._section.embedding_model or None,
            entries=len(self._entries),
            scopes=len(self._nearest),
            labels=self._model.labels,
            target_error_rate=self._section.target_error_rate,
            threshold=self._model.threshold,
            lookups=self._lookups,
            would_hits=self._would_hits,
            hits=self._hits,
            shadow_checks=self._shadow_checks,
            vetoed=self._vetoed,
            marked_wrong=self._marked_wrong,
            shut_off=self._proof.trips,
            checked=verdict.checked,
            wrong=verdict.wrong,
            error_rate=verdict.rate,
            error_low=verdict.low,
            error_high=verdict.high,
        )

    # what takes long

    async def open(self) -> None:
        """Load the libraries, if they are wanted: some 200 ms, of which one step of 80 lets no other thread run. For who begins
        to serve only after it; else `run` does it."""
        if self._section.enabled:
            await self._open()

    async def run(self) -> None:
        """Load, fit and trim whenever something asks for it; cancel to end. What was learned is handed to the store."""
        try:
            while True:
                with trio.move_on_at(self._state_due if self._changed else math.inf):
                    await self._wanted.wait()
                self._wanted = trio.Event()
                if self._section.enabled and self._arrays is None and not self._missing:
                    await self._load()
                while self._model.due and self._arrays is not None:
                    await self._refit(self._model, self._arrays)
                await self._trim()
                if trio.current_time() >= self._state_due:
                    self._keep_state()
        finally:
            self._keep_state()

    async def _open(self) -> None:
        async with self._opening:
            if self._opened is None and self._arrays is None and not self._missing:
                await self._open_now()

    async def _open_now(self) -> None:
        model = self._section.embedding_model
        try:
            opened = await trio.to_thread.run_sync(self._open_arrays, not model, abandon_on_cancel=True)
        except LookupError as error:
            if self._section.embedding_model != model:
                return  # another embedder is wanted meanwhile, which may need less
            self._missing = str(error.args[0])
            self._log.warning("the semantic cache cannot be used", why=self._missing)
            return
        if self._section.embedding_model == model:
            self._opened = opened

    async def _load(self) -> None:
        if self._opened is None:
            await self._open()
        arrays = self._opened
        if arrays is None:
            if not self._missing:  # another embedder is wanted meanwhile
                self._wanted.set()
            return
        state = await self._store.load_state() if self._store is not None else None
        if arrays is not self._opened:
            self._wanted.set()
            return
        self._opened = None
        self._arrays = arrays
        self._restore(state)
        if not self._read:
            place: int | None = 0
            while place is not None and self._store is not None:
                entries, place = await self._store.load(place)
                for count, one in enumerate(entries, 1):
                    if self._arrays is not arrays:  # another embedder is wanted meanwhile
                        self._wanted.set()
                        return
                    self._take(one)
                    if count % _SLICE == 0:
                        await trio.lowlevel.checkpoint()
            self._read = True
        self._log.info("the semantic cache is loaded", entries=len(self._entries), labels=self._model.labels)

    def _take(self, one: SemanticEntry) -> None:
        if one.key in self._numbers:
            return
        try:
            TextSketch.from_bytes(one.sketch)
            entry = Entry(
                self._next, one.key, one.scope, one.sketch, one.mark, one.source_id, one.uid, one.right, one.wrong
            )
            self._put(entry, one.vector)
        except ValueError:  # damaged
            self._remove_number(self._numbers.get(one.key))

    async def _trim(self) -> None:
        """Drop the oldest beyond the bound."""
        while (over := len(self._entries) - self._section.max_entries) > 0:
            oldest = itertools.islice(self._entries.values(), min(over, _SLICE))
            self._forget_now(list(oldest))
            await trio.lowlevel.checkpoint()

    async def _refit(self, model: SemanticModel, arrays: Arrays) -> None:
        """Fit a model, which may not be the one in use any more when that ends."""
        rows, labels = model.take()
        weights = None
        try:
            weights = await trio.to_thread.run_sync(arrays.fit, rows, labels)
        finally:
            model.fitted(weights)

    def _keep_state(self) -> None:
        if self._store is None or not self._changed:
            return
        self._changed = False
        self._state_due = trio.current_time() + _STATE_EVERY_S
        rows, labels, threshold = self._model.state()
        checks, allowed = self._proof.state()
        embedder = self._section.embedding_model
        self._store.keep_state(msgpack.packb([STATE_VERSION, rows, labels, threshold, checks, allowed, embedder]))

    def _restore(self, state: bytes | None) -> None:
        if state is None:
            return
        try:
            version, rows, labels, threshold, checks, allowed, *embedder = msgpack.unpackb(state)
            # The first version had no embedder but its own, and of the threshold only where it stood.
            if version in (1, STATE_VERSION) and (embedder or [""])[0] == self._section.embedding_model:
                self._model.restore(rows, labels, threshold if version == STATE_VERSION else (b"", b"", 0.0))
                self._proof.restore(checks, allowed=allowed)
        except (ValueError, TypeError, msgpack.exceptions.UnpackException):
            self._log.warning("what the semantic cache had learned cannot be read; it learns again")

    # inside

    def _count(self, entry: Entry, row: Row, *, right: bool, checked: bool, said: float | None = None) -> None:
        entry.right += right
        entry.wrong += not right
        if self._store is not None and self.holds(entry):
            self._store.recount(entry.key, entry.right, entry.wrong)
        self._model.learn(row, right=right, said=said)
        if not self._changed:
            self._changed = True
            self._wanted.set()  # even if nothing more comes, it is kept in time
        if checked:
            self._model.adapt(right=right)
            if self._proof.check(right=right):
                self._state_due = -math.inf  # at once: a crash must not bring back what was allowed before
                verdict = self._proof.verdict()
                self._log.warning("the semantic cache was wrong too often and gives no more answers", why=verdict.why)
        if self._model.due or trio.current_time() >= self._state_due:
            self._wanted.set()

    def _begin_anew(self) -> None:
        """Forget what was learned: it holds for vectors of another embedder."""
        section = self._section
        self._model = SemanticModel(section.target_error_rate)
        self._proof = Proof(section.target_error_rate, needed=section.min_checks)
        self._served.clear()
        self._era += 1
        self._changed = True

    def _put(self, entry: Entry, vector: bytes) -> None:
        assert self._arrays is not None
        self._next += 1
        index = self._nearest.get(entry.scope)
        if index is None:
            index = self._arrays.nearest(len(vector) // 4)
        index.add(entry.number, vector)
        self._nearest[entry.scope] = index
        self._entries[entry.number] = entry
        self._numbers[entry.key] = entry.number

    def _forget_now(self, entries: Iterable[Entry]) -> int:
        gone = [entry for entry in entries if self._remove_number(entry.number)]
        if self._store is not None:
            self._store.delete([entry.key for entry in gone])
        return len(gone)

    def _remove_number(self, number: int | None) -> bool:
        entry = self._entries.pop(number) if number is not None else None
        if entry is None:
            return False
        self._numbers.pop(entry.key)
        index = self._nearest[entry.scope]
        index.remove(entry.number)
        if not len(index):
            del self._nearest[entry.scope]
        return True
