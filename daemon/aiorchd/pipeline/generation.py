"""One generation: all its stages, the identity of a question, and the short way for what is known already."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from hashlib import blake2b
from operator import itemgetter
from struct import Struct
from typing import Any, Final

import trio
from msgspec.structs import replace

from aiorch.errors import InvalidRequest
from aiorchd.calls.call import Call
from aiorchd.calls.caller import UNMAPPED_UID, Caller
from aiorchd.calls.host_model import HOST, HostModel
from aiorchd.calls.journal import Hit, Journal
from aiorchd.calls.kept import Kept
from aiorchd.calls.leash import Leash
from aiorchd.calls.ports import (
    DeltaSink,
)
from aiorchd.calls.question import Prepared, Question
from aiorchd.calls.reply import Reply
from aiorchd.calls.target import Target
from aiorchd.config.schema import Config
from aiorchd.core.request_key import PolicyForm, UncanonicalError, policy_form, request_key, samples
from aiorchd.pipeline.lasting import Lasting
from aiorchd.pipeline.own_routes import OwnRoutes
from aiorchd.pipeline.policies import Policies
from aiorchd.pipeline.settings import ways_of
from aiorchd.runtime.operations import Made, Operations
from aiorchd.runtime.turnstile import TurnstileStatistics
from aiorchd.stages.cache import FOUND_ON_DISK, Cache, CacheStatistics, Wanted
from aiorchd.stages.observe import Observe

_REMEMBERED_ENTRIES: Final = 4096
_REMEMBERED_BYTES: Final = 4 * 1024 * 1024
# {"queue_s": 0.0, "provider_s": 0.0, "overhead_s": X, "total_s": X} of a hit: all its time is overhead.
_TIMING: Final = b"\xa6timing\x84\xa7queue_s\xcb" + bytes(8) + b"\xaaprovider_s\xcb" + bytes(8) + b"\xaaoverhead_s\xcb"
_TIMING_TOTAL: Final = b"\xa7total_s\xcb"
_TEXT_HEADS: Final = tuple(bytes((0xA0 + length,)) for length in range(32))
"""Heads of short texts: an id has 13 characters and a number in hexadecimal, which will not grow beyond."""
_pack_timing: Final = Struct(f">{len(_TIMING)}sd{len(_TIMING_TOTAL)}sd").pack
_new_hit: Final = tuple.__new__  # the shortest way to a named tuple


class Pipeline:
    """All stages of one generation, and the short way for what is known already."""

    def __init__(
        self,
        config: Config,
        lasting: Lasting,
        policies: Policies,
        operations: Operations,
        own_routes: OwnRoutes,
        observe: Observe,
        cache: Cache,
        stages: Mapping[str, Any],
        *,
        retire: Callable[[], None],
    ) -> None:
        self._config = config
        self._lasting = lasting
        self._policies = policies
        self._own_routes = own_routes
        self._operations = operations
        self._observe = observe
        self._cache = cache
        self._stages = stages
        self._retire = retire
        self._max_timeout_s = config.timeouts.max_total_s
        usual_s = config.timeouts.total_s, "timeouts.total_s"
        self._usual_timeout = min(usual_s, (self._max_timeout_s, "timeouts.max_total_s"), key=itemgetter(0))
        self._clock = trio.lowlevel.current_clock().current_time
        self._next_id = lasting.names.next
        self._wall_clock = lasting.wall_clock
        # What was prepared for equal bytes of equal users, oldest first.
        self._remembered: OrderedDict[tuple[int, bytes], Prepared] = OrderedDict()
        self._remembered_bytes = 0

    def retire(self) -> None:
        """Another generation has taken over: what waits for others here need not wait any longer."""
        self._retire()

    @property
    def targets(self) -> tuple[Target, ...]:
        """The models of this generation, in the order of the file."""
        return self._policies.targets

    def prepare(self, caller: Caller, question: Question) -> Prepared:
        """Work out the identity of a question, having made it first where an operation stands for it.

        Raises `InvalidRequest` for what has none, and `UnknownOperation`, `TooLarge`.
        """
        asked = question
        question, key, exact_key = self._identify(caller, question)
        by_chance = len(question.request) > 1 and samples(question.request)  # not as most, who have only messages
        wanted = question.cache_samples or 0
        kept = caller.uid != UNMAPPED_UID and (not by_chance or wanted > 0)
        return Prepared(
            question=question,
            key=key if kept else None,
            exact_key=exact_key if kept else None,
            asked=asked,
            owner=self,
            samples=wanted if by_chance else 0,
            quick=kept
            and not by_chance
            and question.kind == "chat"
            and not question.stream
            and question.key is None
            and question.cache in ("use", "only")
            and question.tier in (None, "hybrid", "memory"),
        )

    def compare(self, caller: Caller, operation: str, a: Any, b: Any) -> Mapping[str, Any]:
        """Tell as plain data whether two inputs of an operation are one question, at which depth, and why. Raises like
        `prepare`.
        """
        keys = []
        for given in (a, b):
            _, key, exact_key = self._identify(
                caller, Question(kind="chat", request={}, operation=operation, input=given)
            )
            keys.append((key, key if exact_key is None else exact_key))
        equal = "exact" if keys[0][1] == keys[1][1] else "normalised" if keys[0][0] == keys[1][0] else None
        found = self._operations.compare(operation, a, b)
        return {
            "operation": operation,
            "equal": equal,
            "noise": [
                {"in": side, "path": told.path, "rule": told.rule}
                for side, all_told in found.noise.items()
                for told in all_told
            ],
            "differs": [{"path": one.path, "a": one.a, "b": one.b} for one in found.differs],
            "differs_in_noise": [{"path": one.path, "a": one.a, "b": one.b} for one in found.differs_in_noise],
        }

    def _identify(self, caller: Caller, question: Question) -> tuple[Question, bytes, bytes | None]:
        """Give the question that is sent, the key that its answer is kept under, and its own where that is another."""
        try:
            if question.operation is None:
                question, policy = self._policy(caller, question)
                return question, _key(caller, question, question.kind, question.request, policy), None
            made = self._operations.make(question)
            question, policy = self._policy(caller, made.question)
            exact_key = _key(caller, question, question.kind, made_request(made, question.request), policy)
            if made.plain_request is None:
                return question, exact_key, None
            plain_key = _key(caller, question, made.plain_kind, made_request(made, made.plain_request), policy)
            return question, plain_key, exact_key
        except UncanonicalError as error:
            raise InvalidRequest(str(error)) from error

    def _policy(self, caller: Caller, question: Question) -> tuple[Question, PolicyForm]:
        """Find who may answer, as the key has it, and complete the question where a process of the host does."""
        policies = self._policies
        if question.host is None and not question.shared and not question.models:  # as most
            form = policies.usual_form(question.model)
            if form is not None:
                return question, form
        if question.host is None and (question.model is None or question.model in policies):
            if question.shared and policies.may_ask_host(question.model, question.models):
                question = replace(question, shared=False)  # what a user's process says is nobody else's
            return question, policies.form(question.model, question.models)
        if question.host is not None and question.model is None:
            question = replace(question, model=self._own_routes.usual_name)
        own = self._own_routes.form(caller.uid, question)
        if own is None:
            return question, policies.form(question.model, question.models)
        return replace(question, shared=False), own

    def recognise(self, caller: Caller, argument_bytes: bytes) -> Prepared | None:
        """Find what `remember` was told of equal bytes from this user."""
        return self._remembered.get((caller.uid, argument_bytes))

    def try_known_hit(self, caller: Caller, argument_bytes: bytes, received_at: float) -> bytes | None:
        """Do as `try_hit` for the question that `remember` was told of equal bytes from this user, if any."""
        prepared = self._remembered.get((caller.uid, argument_bytes))
        return None if prepared is None else self.try_hit(caller, prepared, received_at)

    def remember(self, caller: Caller, argument_bytes: bytes, prepared: Prepared) -> None:
        """Keep a prepared question for when the same bytes come again."""
        question = prepared.question
        if not prepared.quick or question.host is not None:
            return
        if question.model is not None and question.model not in self._policies:
            return  # what this name stands for changes with who registers it
        remembered = self._remembered
        remembered[(caller.uid, argument_bytes)] = prepared
        self._remembered_bytes += len(argument_bytes)
        while len(remembered) > _REMEMBERED_ENTRIES or self._remembered_bytes > _REMEMBERED_BYTES:
            oldest, _ = remembered.popitem(last=False)
            self._remembered_bytes -= len(oldest[1])

    def try_hit(self, caller: Caller, prepared: Prepared, received_at: float) -> bytes | None:
        """Give the packed reply if a fresh exact answer is in memory; counted and journalled like any call."""
        if not prepared.quick or prepared.key is None:
            return None
        wall = self._wall_clock()
        question = prepared.question
        kept = self._cache.peek_fresh(prepared.key, wall, question.cache_ttl_s, prepared.exact_key)
        if kept is None or not kept.belongs_to(caller.uid, question.partition, shared=question.shared):
            return None
        return self._packed_hit(caller, question, kept, wall, received_at, None)

    def may_fetch(self, prepared: Prepared) -> bool:
        """Tell, without looking, whether there is very probably an answer on disk that may be given."""
        return (
            prepared.quick
            and prepared.key is not None
            and prepared.question.tier != "memory"
            and self._cache.may_bring(prepared.key)
        )

    async def fetch_hit(self, caller: Caller, prepared: Prepared, received_at: float) -> bytes | None:
        """Give the packed reply if a fresh exact answer is known to be on disk; counted and journalled like any call. None
        when the call has to go its way. A disk that does not answer is given up after half a second."""
        wanted = _wanted(caller, prepared)
        kept = None if wanted is None else await self._cache.bring(wanted)
        return None if kept is None else self._brought(caller, prepared.question, kept, received_at)

    def read_hit(self, caller: Caller, prepared: Prepared, received_at: float) -> bytes | None:
        """Do the same without giving anybody else a turn: None also when the disk would let them wait."""
        wanted = _wanted(caller, prepared)
        kept = None if wanted is None else self._cache.bring_at_once(wanted)
        return None if kept is None else self._brought(caller, prepared.question, kept, received_at)

    def _brought(self, caller: Caller, question: Question, kept: Kept, received_at: float) -> bytes:
        story = {"notes": [[round(self._clock() - received_at, 6), "cache", FOUND_ON_DISK]]}
        return self._packed_hit(caller, question, kept, self._wall_clock(), received_at, story)

    def _packed_hit(
        self,
        caller: Caller,
        question: Question,
        kept: Kept,
        wall: float,
        received_at: float,
        story: dict[str, Any] | None,
    ) -> bytes:
        call_id = self._next_id()
        total_s = self._clock() - received_at
        self._observe.observe_hit(
            _new_hit(
                Hit,
                (
                    call_id,
                    wall,
                    caller,
                    kept.reply,
                    kept.source_id,
                    total_s,
                    question.task,
                    question.tags,
                    question.operation,
                    story,
                ),
            )
        )
        timing = _pack_timing(_TIMING, total_s, _TIMING_TOTAL, total_s)
        return b"".join((kept.packed_start, _TEXT_HEADS[len(call_id)], call_id.encode(), timing))

    def open_call(
        self,
        caller: Caller,
        prepared: Prepared,
        received_at: float,
        sink: DeltaSink | None,
        leash: Leash | None = None,
    ) -> Call:
        """Make the call, with its id, deadline and journal."""
        question = prepared.question
        if question.timeout_s is None:
            timeout_s, bounded_by = self._usual_timeout
        else:
            timeout_s, bounded_by = question.timeout_s, "timeout_s"
            if timeout_s > self._max_timeout_s:
                timeout_s, bounded_by = self._max_timeout_s, "timeouts.max_total_s"
        repeat_key, repeat_question = None, b""
        # Whoever has no number here is everybody who has none: nothing is kept for them, by key neither.
        if question.key is not None and caller.uid != UNMAPPED_UID:
            repeat_key = _repeat_key(caller.uid, question.key)
            repeat_question = _repeat_question(caller.uid, question if prepared.asked is None else prepared.asked)
        call = Call(
            id=self._next_id(),
            caller=caller,
            kind=question.kind,
            request=question.request,
            deadline=received_at + timeout_s,
            bounded_by=bounded_by,
            journal=Journal(started=received_at, at=self._wall_clock()),
            model=question.model,
            task=question.task,
            key=prepared.key,
            exact_key=prepared.exact_key,
            repeat_key=repeat_key,
            repeat_question=repeat_question,
            sink=sink,
            priority=question.priority,
            cache=question.cache,
            cache_ttl_s=question.cache_ttl_s,
            samples=prepared.samples,
            partition=question.partition,
            tags=question.tags,
            session=question.session,
            quality_threshold=question.quality_threshold,
            cost_limit_usd=question.cost_limit_usd,
            by_host=question.host is not None,
            leash=leash,
        )
        if question.operation is None:
            return call
        return replace(
            call,
            operation=question.operation,
            models=question.models,
            keep_s=question.keep_s,
            stale_s=question.stale_s,
            tier=question.tier,
            shared=question.shared,
            batch=question.batch,
        )

    def answer(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """Send a call down the stages."""
        return self._observe(call)

    async def forget(
        self, *, uid: int | None, request_id: str | None, tag: str | None, operation: str | None = None
    ) -> int:
        """Delete kept answers, of one user or (uid None) of all; of everything when no mark is given."""
        gone = await self._cache.forget_keys(
            uid=uid,
            source_id=request_id,
            tag=tag,
            operation=operation,
            everything=request_id is None and tag is None and operation is None,
        )
        # The questions of these answers, and those of answers that were gone before; what is left is dropped when it is met.
        await self._lasting.semantic.forget_answers(gone)
        if tag is None and operation is None:
            await self._lasting.semantic.forget(uid=uid, source_id=request_id, everything=request_id is None)
        return len(gone)

    def statistics(self) -> dict[str, Any]:
        """Tell the present state of every stage, outermost first."""
        return {name: stage.statistics() for name, stage in self._stages.items()}

    def limits(self, uid: int | None) -> list[dict[str, Any]]:
        """Tell of each way to a model its permits, its quotas and who waits; with ``uid``, of the waiting only that user's."""
        models = {model.name: model for model in self._config.models}
        return [
            {"model": target.name, "provider": target.provider, "way": way, **turnstile.limits(uid=uid)}
            for target in self._policies.targets
            for way in ways_of(self._config, models[target.name])
            if (turnstile := self._lasting.turnstiles.get(way)) is not None
        ] + [
            {"model": name, "provider": HOST, "way": name, **own.turnstile.limits(uid=uid)}
            for (owner, name, _), own in self._lasting.own.items()
            if uid is None or owner == uid
        ]

    def target_statistics(self) -> dict[str, dict[str, TurnstileStatistics]]:
        """Tell, by model and by way to it, who waits and what was granted."""
        models = {model.name: model for model in self._config.models}
        return {
            target.name: {
                way: self._lasting.turnstiles[way].statistics()
                for way in ways_of(self._config, models[target.name])
                if way in self._lasting.turnstiles
            }
            for target in self._policies.targets
        }

    def dialect_of(self, model: str) -> str | None:
        """Give the dialect that a configured model is asked in, enabled or not; None when there is no such model."""
        return self._own_routes.dialect_of(model)

    def own_models(self, uid: int) -> list[tuple[HostModel, int, TurnstileStatistics | None]]:
        """List what a user has registered: each model, how many connections answer for it, and who waits."""
        lasting = self._lasting
        return [
            (model, connections, own.turnstile.statistics() if own is not None else None)
            for model, connections in lasting.host_models.of(uid)
            if self.dialect_of(model.name) is None
            for own in (lasting.own.get((uid, model.name, False)),)
        ]

    def cache_statistics(self) -> CacheStatistics:
        """Tell what both tiers hold."""
        return self._cache.statistics()

    async def cache_ages(self) -> Mapping[str, Mapping[str, float | None]]:
        """Tell how old the answers in both tiers are."""
        return await self._cache.ages()


def _key(caller: Caller, question: Question, kind: str, request: Mapping[str, Any], policy: PolicyForm) -> bytes:
    return request_key(
        kind,
        request,
        uid=None if question.shared else caller.uid,
        partition=question.partition,
        policy=policy,
        task=question.task,
        quality_threshold=question.quality_threshold,
    )


def made_request(made: Made, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give what an operation's call is known by: what it sends, and which document that is about."""
    return request if made.document is None else {**request, "document": list(made.document)}


def _repeat_question(uid: int, question: Question) -> bytes:
    """Tell questions of one key apart: as the caller asked, whatever the configuration makes of it by now."""
    return request_key(
        question.kind,
        question.request
        if question.operation is None
        else {**question.request, "operation": question.operation, "input": question.input},
        uid=uid,
        partition=question.partition,
        policy=policy_form(question.model, ()),
        task=question.task,
        quality_threshold=question.quality_threshold,
    )


def _wanted(caller: Caller, prepared: Prepared) -> Wanted | None:
    """Say what is wanted from disk; None for a call that has to go its way."""
    question = prepared.question
    if not prepared.quick or prepared.key is None or question.tier == "memory":
        return None
    return Wanted(
        prepared.key,
        caller.uid,
        question.partition,
        question.shared,
        question.cache_ttl_s,
        prepared.exact_key,
        question.stale_s,
    )


def _repeat_key(uid: int, key: str) -> bytes:
    return blake2b(f"{uid} {key}".encode(), digest_size=16).digest()
