"""The one file that knows the order of the stages, and what of the configuration each of them is given.

A pipeline is built from one accepted configuration and never changes. What must outlive it (the memory cache, who waits
for which target, what is kept for callers' own keys) is in `Lasting`, which is reconfigured and handed from generation to
generation.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from struct import Struct
from typing import Any, Final, TypeAlias

import trio

from aiorch.errors import InvalidRequest
from aiorchd.calls.call import Attempt, Call
from aiorchd.calls.caller import UNMAPPED_UID, Caller
from aiorchd.calls.host_model import HOST, HostModel
from aiorchd.calls.journal import Hit, Journal
from aiorchd.calls.kept import Kept, kept_from_disk
from aiorchd.calls.ports import (
    AnswerStore,
    Arrays,
    DeltaSink,
    Provider,
    RecordSink,
    SemanticStore,
    Service,
    SpendingStore,
    WallClock,
)
from aiorchd.calls.question import Prepared, Question
from aiorchd.calls.reply import Reply
from aiorchd.calls.target import ListedModel, Price, Target, Tier
from aiorchd.config.operations import NOTHING, Material
from aiorchd.config.problems import ConfigError, Problem
from aiorchd.config.schema import Budget, CallerTable, Config, Model, Operation
from aiorchd.config.schema import Provider as ProviderSection
from aiorchd.core.backoff import Backoff
from aiorchd.core.circuit_breaker import BreakerPolicy, CircuitBreaker
from aiorchd.core.concurrency import ConcurrencyBounds
from aiorchd.core.fallback_chains import FallbackChains, Fallbacks
from aiorchd.core.hedge_pace import HedgePace, HedgePolicy
from aiorchd.core.key_ring import KeyRing
from aiorchd.core.memory_cache import CLOCK_TOLERANCE_S, MemoryCache
from aiorchd.core.normalise import NOISE_VERSION
from aiorchd.core.occupancy import Occupancy
from aiorchd.core.quota_account import Limits, QuotaAccount
from aiorchd.core.request_key import PolicyForm, UncanonicalError, policy_form, relevant, request_key, samples
from aiorchd.core.retry_budget import RetryBudget
from aiorchd.core.s3_fifo import S3FifoCache
from aiorchd.core.spending import Spending
from aiorchd.core.token_estimate import TokenEstimator
from aiorchd.runtime.caller_shares import CallerShares
from aiorchd.runtime.cpu_limit import CpuLimit
from aiorchd.runtime.host_models import HostModels
from aiorchd.runtime.logs import Log
from aiorchd.runtime.operations import Made, Operations
from aiorchd.runtime.purse import Purse
from aiorchd.runtime.semantic_memory import SemanticMemory
from aiorchd.runtime.turnstile import TargetTurnstile, TurnstileStatistics, by_uid
from aiorchd.stages.admit import Admit
from aiorchd.stages.afford import Afford
from aiorchd.stages.breaker import Breaker
from aiorchd.stages.cache import Cache, CacheStatistics
from aiorchd.stages.call_log import CallLog
from aiorchd.stages.coalesce import Coalesce
from aiorchd.stages.deadline import Deadline
from aiorchd.stages.dispatch import AttemptTimes, Dispatch
from aiorchd.stages.gate import Gate
from aiorchd.stages.hedge import Alarms, Hedge
from aiorchd.stages.host_routes import HostRoutes
from aiorchd.stages.json_schema import JsonSchemas
from aiorchd.stages.keys import Keys, KeyWay
from aiorchd.stages.observe import Observe, record_end
from aiorchd.stages.refresh import Refresh
from aiorchd.stages.relay import Relay
from aiorchd.stages.repeats import KeyedCalls, Repeats
from aiorchd.stages.retry import Retry
from aiorchd.stages.route import Route
from aiorchd.stages.semantic import Found, Semantic
from aiorchd.stages.spend import Spend
from aiorchd.stages.validate import Validate

_REMEMBERED_ENTRIES: Final = 4096
_REMEMBERED_BYTES: Final = 4 * 1024 * 1024
_KEYED_ENTRIES: Final = 10_000
_KEYED_BYTES: Final = 32 * 1024 * 1024
_SCHEMA_CPU_S: Final = 0.25
_MOST_OWN: Final = 1024
"""Models of host processes about which something is remembered, besides those that are in use."""
_THROTTLE_BURST_S: Final = 1.0
_TEMPLATE_CPU_S: Final = 0.25

_PLAIN_KIND: Final = f"chat without noise {NOISE_VERSION}"
"""Stands in the key where the kind of the request does, so that no exact key is that of a question without its noise."""

_ID_PAIR: Final = b"\xa2id"
# {"queue_s": 0.0, "provider_s": 0.0, "overhead_s": X, "total_s": X} of a hit: all its time is overhead.
_TIMING: Final = b"\xa6timing\x84\xa7queue_s\xcb" + bytes(8) + b"\xaaprovider_s\xcb" + bytes(8) + b"\xaaoverhead_s\xcb"
_TIMING_TOTAL: Final = b"\xa7total_s\xcb"
_TEXT_HEADS: Final = tuple(bytes((0xA0 + length,)) for length in range(32))
"""Heads of short texts: an id has 13 characters and a number in hexadecimal, which will not grow beyond."""
_pack_double: Final = Struct(">d").pack
_pack_map_head: Final = Struct(">BH").pack


@dataclass(frozen=True, slots=True)
class KeyedProvider:
    """A provider object that uses one key. ``name`` is what the key's place is called, ``place`` where it is, for people;
    ``problem`` why there is none, or ""; ``mark`` changes with the key and tells nothing of it."""

    name: str
    place: str
    problem: str
    mark: bytes
    provider: Provider


@dataclass(frozen=True, slots=True)
class Plan:
    """What a generation is built from: the configuration, and a provider object for each provider in it."""

    config: Config
    providers: Mapping[str, Provider]
    addresses: Mapping[str, str]
    """Provider name to where its answers come from: dialect and base URL, never a key."""
    simulated: bool
    """Whether the embedded simulated model serves because nothing was configured."""
    keyed: Mapping[str, tuple[KeyedProvider, ...]] = field(default_factory=dict)
    """One object for each key, of the providers that have keys."""
    listed: Mapping[str, ListedModel] = field(default_factory=dict)
    """By the name of the model: what the bundled table says of those that have no price of their own."""
    host: Provider | None = None
    """Asks processes of the host, for the models that these answer for."""
    materials: Mapping[str, Material] = field(default_factory=lambda: NOTHING)
    """By the name of the operation: its template and its schema."""


class Names:
    """Makes the ids of calls: unique over restarts, and short."""

    def __init__(self, rng: random.Random) -> None:
        self._boot = f"{rng.getrandbits(48):012x}-"
        self._count = 0

    def next(self) -> str:
        """Make one."""
        self._count += 1
        return f"{self._boot}{self._count:x}"


OwnPlace: TypeAlias = tuple[int, str, bool]
"""Whose model, its name, and whether its caller answers for it in that very call, without having registered it."""


@dataclass(slots=True)
class OwnTarget:
    """What is kept of one model that a process of the host answers for, as of any target."""

    model: HostModel
    account: QuotaAccount
    turnstile: TargetTurnstile
    breaker: CircuitBreaker
    retry_budget: RetryBudget
    estimator: TokenEstimator

    @property
    def idle(self) -> bool:
        """Whether nobody waits for it and nobody is asked."""
        return self.turnstile.idle and self.breaker.idle


@dataclass(slots=True)
class Lasting:
    """State that outlives a generation, with its owner's clock, sink, store and chance."""

    memory: MemoryCache[Kept]
    keyed: KeyedCalls
    answers: AnswerStore
    records: RecordSink
    wall_clock: WallClock
    rng: random.Random
    names: Names
    occupancy: Occupancy
    estimator: TokenEstimator
    schemas: JsonSchemas
    template_limit: CpuLimit
    purse: Purse
    turnstiles: dict[str, TargetTurnstile]
    """By the name of the model: who waits for it and what it was granted is known however often the file is edited."""
    breakers: dict[str, CircuitBreaker] = field(default_factory=dict)
    """By the name of the model: a target that is sick stays so over a reload."""
    retry_budgets: dict[str, RetryBudget] = field(default_factory=dict)
    """By the name of the model."""
    key_rings: dict[str, KeyRing] = field(default_factory=dict)
    """By the name of the provider: a key that was refused stays set aside over a reload, unless it has changed."""
    hedge_paces: dict[str, HedgePace] = field(default_factory=dict)
    """By the name of the model: how long it took lately, while hedging is on."""
    model_accounts: dict[str, QuotaAccount] = field(default_factory=dict)
    key_accounts: dict[str, QuotaAccount] = field(default_factory=dict)
    """By the name of the provider, and of the key where it has several."""
    host_models: HostModels = field(default_factory=HostModels)
    """Who answers for which models."""
    semantic: SemanticMemory = field(kw_only=True)
    """Questions by their vectors, and what was learned of likeness."""
    own: dict[OwnPlace, OwnTarget] = field(default_factory=dict)
    """What is known of the models that processes of the host answer for."""
    throttle: QuotaAccount = field(default_factory=lambda: QuotaAccount("all models", learns=False))
    shares: CallerShares | None = None

    def reconfigure(self, config: Config) -> None:
        """Follow a configuration that came into force; what runs or waits goes on."""
        self.semantic.reconfigure(config.cache.semantic)
        self.memory.reconfigure(config.cache.max_entries, config.cache.max_bytes)
        self.purse.reconfigure(config)
        self.occupancy.reconfigure(config.queue.max_inside, config.queue.max_inside_per_caller)
        names = {model.name for model in config.models}
        ways = {way: model for model in config.models for way in ways_of(config, model)}
        now = trio.current_time()
        if self.shares is None:
            self.shares = CallerShares(config)
        else:
            self.shares.reconfigure(config)
        self.throttle.reconfigure(now, _throttle(config))
        kept_keys = set()
        for way, model in ways.items():
            key = _key_of(model, way)
            kept_keys.add(key)
            self.key_account(key).reconfigure(now, _limits(config, config.providers[model.provider]))
            turnstile = self.turnstiles.get(way)
            if turnstile is None:
                self.turnstile(config, model, way)
                continue
            self.model_account(way).reconfigure(now, _limits(config, model))
            turnstile.reconfigure(
                now,
                bounds=_bounds(config, model),
                accounts=self._accounts(model, way),
                max_waiting=config.queue.max_waiting,
                trickle=config.queue.low_priority_share,
            )
        for name in [name for name in self.turnstiles if name not in ways]:
            # While somebody is there, who comes back with a later configuration must find it: its permits are taken.
            if self.turnstiles[name].idle:
                del self.turnstiles[name]
                self.model_accounts.pop(name, None)
        for name in self.key_accounts.keys() - kept_keys:
            del self.key_accounts[name]
        self._introduce(ways)
        self.estimator.keep_only(names)
        breaker_policy = _breaker_policy(config)
        for breaker in self.breakers.values():
            breaker.reconfigure(now, breaker_policy)
        for name in [name for name, breaker in self.breakers.items() if name not in ways and breaker.idle]:
            del self.breakers[name]
        for budget in self.retry_budgets.values():
            budget.reconfigure(config.retry.budget_share, config.retry.budget_retries)
        for name in [name for name in self.key_rings if name not in config.providers]:
            del self.key_rings[name]
        for name in [name for name in self.retry_budgets if name not in names]:
            del self.retry_budgets[name]
        for pace in self.hedge_paces.values():
            pace.reconfigure(_hedge_policy(config))
        for name in [name for name in self.hedge_paces if name not in names]:
            del self.hedge_paces[name]
        for own in self.own.values():
            self._follow(own, config)

    def own_target(self, place: OwnPlace, config: Config, model: HostModel) -> OwnTarget:
        """Find or make what is known of a model that a process of the host answers for, and let it follow what that says."""
        own = self.own.get(place)
        if own is None:
            if len(self.own) >= _MOST_OWN:
                for other in [other for other, each in self.own.items() if each.idle]:
                    del self.own[other]
            account = QuotaAccount(f"model {model.name}")
            own = self.own[place] = OwnTarget(
                model,
                account,
                TargetTurnstile(
                    model.name,
                    bounds=_own_bounds(config, model),
                    accounts=(account,),
                    trickle=config.queue.low_priority_share,
                    share_of=by_uid if self.shares is None else self.shares.share_of,
                ),
                CircuitBreaker(_breaker_policy(config)),
                RetryBudget(config.retry.budget_share, config.retry.budget_retries),
                TokenEstimator(),
            )
            self._follow(own, config)
        elif own.model != model:
            own.model = model
            self._follow(own, config)
        return own

    def _follow(self, own: OwnTarget, config: Config) -> None:
        """Let a model of a host process follow the configuration, and what its process says of it."""
        now = trio.current_time()
        described = _as_configured(own.model)
        own.account.reconfigure(now, _limits(config, described))
        limited = self.throttle.limited
        own.turnstile.reconfigure(
            now,
            bounds=_own_bounds(config, own.model),
            accounts=(own.account, self.throttle) if limited else (own.account,),
            max_waiting=config.queue.max_waiting,
            trickle=config.queue.low_priority_share,
        )
        own.turnstile.beside(self.turnstiles.values() if limited else ())
        own.breaker.reconfigure(now, _breaker_policy(config))
        own.retry_budget.reconfigure(config.retry.budget_share, config.retry.budget_retries)

    def forget_own(self, uid: int, name: str) -> None:
        """Nobody answers for a registered model any more; who comes back begins anew."""
        own = self.own.get((uid, name, False))
        if own is not None and own.idle:
            del self.own[uid, name, False]

    def key_ring(self, provider: str, keys: Sequence[KeyedProvider]) -> KeyRing:
        """Find or make what is known of a provider's keys, and tell it which they are."""
        ring = self.key_rings.setdefault(provider, KeyRing())
        ring.reconfigure({key.name: key.mark for key in keys})
        return ring

    def breaker(self, name: str, config: Config) -> CircuitBreaker:
        """Find or make the breaker of a target."""
        breaker = self.breakers.get(name)
        if breaker is None:
            breaker = self.breakers[name] = CircuitBreaker(_breaker_policy(config))
        return breaker

    def hedge_pace(self, name: str, config: Config) -> HedgePace:
        """Find or make what is known of a target's times."""
        pace = self.hedge_paces.get(name)
        if pace is None:
            pace = self.hedge_paces[name] = HedgePace(_hedge_policy(config))
        return pace

    def retry_budget(self, name: str, config: Config) -> RetryBudget:
        """Find or make the retry budget of a target."""
        budget = self.retry_budgets.get(name)
        if budget is None:
            budget = RetryBudget(config.retry.budget_share, config.retry.budget_retries)
            self.retry_budgets[name] = budget
        return budget

    def turnstile(self, config: Config, model: Model, way: str) -> TargetTurnstile:
        """Give the turnstile of a way to a model, made when there is none yet."""
        turnstile = self.turnstiles.get(way)
        if turnstile is None:
            self.model_account(way).reconfigure(trio.current_time(), _limits(config, model))
            turnstile = self.turnstiles[way] = TargetTurnstile(
                way,
                bounds=_bounds(config, model),
                accounts=self._accounts(model, way),
                max_waiting=config.queue.max_waiting,
                trickle=config.queue.low_priority_share,
                share_of=by_uid if self.shares is None else self.shares.share_of,
            )
        return turnstile

    def model_account(self, way: str) -> QuotaAccount:
        """Give what the provider counts for a model by one key alone."""
        return self.model_accounts.setdefault(way, QuotaAccount(f"model {way}"))

    def key_account(self, key: str) -> QuotaAccount:
        """Give what a provider counts for a key."""
        return self.key_accounts.setdefault(key, QuotaAccount(f"key of {key}"))

    def _accounts(self, model: Model, way: str) -> tuple[QuotaAccount, ...]:
        """The model's own account first. The key's only where it has limits: others draw on it too."""
        shared = (self.key_account(_key_of(model, way)), self.throttle)
        return (self.model_account(way), *(account for account in shared if account.limited))

    def _introduce(self, ways: Mapping[str, Model]) -> None:
        """Let the turnstiles know who draws on the same account."""
        by_key: dict[str, list[TargetTurnstile]] = {}
        for way, model in ways.items():
            key = "" if self.throttle.limited else _key_of(model, way)
            if self.throttle.limited or self.key_account(key).limited:
                by_key.setdefault(key, []).append(self.turnstiles[way])
        for way, model in ways.items():
            self.turnstiles[way].beside(by_key.get("" if self.throttle.limited else _key_of(model, way), ()))


def lasting_state(
    config: Config,
    *,
    answers: AnswerStore,
    records: RecordSink,
    wall_clock: WallClock,
    rng: random.Random,
    spending: Spending | None = None,
    spending_store: SpendingStore | None = None,
    semantic_store: SemanticStore | None = None,
    open_arrays: Callable[[], Arrays] | None = None,
    host_models: HostModels | None = None,
) -> Lasting:
    """Make the state that generations hand on. Without a ``spending_store`` budgets are kept as long as the process lives."""
    lasting = Lasting(
        memory=S3FifoCache(config.cache.max_entries, config.cache.max_bytes),
        keyed=KeyedCalls(MemoryCache(_KEYED_ENTRIES, _KEYED_BYTES)),
        answers=answers,
        records=records,
        wall_clock=wall_clock,
        rng=rng,
        names=Names(rng),
        occupancy=Occupancy(config.queue.max_inside, config.queue.max_inside_per_caller),
        estimator=TokenEstimator(),
        template_limit=CpuLimit(_TEMPLATE_CPU_S),
        schemas=JsonSchemas(cpu_limit=CpuLimit(_SCHEMA_CPU_S)),
        semantic=SemanticMemory(
            config.cache.semantic,
            open_arrays=open_arrays or _no_arrays,
            store=semantic_store,
            chance=rng.random,
            log=Log("semantic"),
        ),
        turnstiles={},
        purse=Purse(config, spending=spending or Spending(), store=spending_store, wall_clock=wall_clock),
        host_models=host_models if host_models is not None else HostModels(),
    )
    lasting.host_models.on_gone = lasting.forget_own
    lasting.reconfigure(config)
    return lasting


def _no_arrays() -> Arrays:
    raise LookupError("this process has no embedder")


@asynccontextmanager
async def open_pipeline(plan: Plan, lasting: Lasting) -> AsyncIterator[Pipeline]:
    """Build the stages of one generation, inside out; leaving it waits for the flights that are still under way."""
    config = plan.config
    targets = {model.name: _target(model, plan) for model in config.models if model.enabled}
    chains = _chains(config, targets)
    _check_schemas(plan, lasting)
    policies = _Policies(tuple(targets.values()), chains)
    operations = Operations(config.operations, plan.materials, lasting.template_limit)
    # Whoever sees the end of a call tells these; the log has a line of it only where that was asked for.
    story = config.daemon.log_levels.get("calls", config.daemon.log_level) == "debug"
    records: RecordSink = lasting.records
    if config.daemon.log_calls or story:
        records = CallLog(records, Log("calls"), lines=config.daemon.log_calls)
    backoff = Backoff(config.retry.backoff_s, uniform=lasting.rng.random, jitter=config.retry.jitter)
    times = AttemptTimes(config.timeouts.attempt_s, config.timeouts.first_token_s, config.timeouts.idle_s)
    async with trio.open_nursery() as flights:
        stacks: dict[str, Service[Attempt]] = {}
        inner_stages: dict[str, Any] = {}
        models = {model.name: model for model in config.models}
        rings = {name: lasting.key_ring(name, keys) for name, keys in plan.keyed.items()}
        for name, target in targets.items():
            keyed = plan.keyed.get(target.provider, ())
            ways: list[KeyWay] = []
            inner: Service[Attempt] | None = None
            for number, way in enumerate(ways_of(config, models[name])):
                turnstile = lasting.turnstile(config, models[name], way)
                provider = keyed[number].provider if keyed else plan.providers[target.provider]
                # Innermost: one wire call, no longer than an attempt may take.
                dispatch = Dispatch(provider, times)
                # Directly above the wire call: whatever asks again above pays again.
                spend = Spend(dispatch, lasting.purse)
                # A permit and quotas are held for the length of one wire call, and by nothing that sleeps.
                gate = Gate(spend, turnstile)
                # Above the gate: who is refused for a sick target never queues for it.
                circuit = lasting.breaker(way, config)
                inner = breaker = Breaker(gate, circuit, Log("breaker"))
                inner_stages |= {f"breaker {way}": breaker, f"gate {way}": gate}
                inner_stages |= {f"spend {way}": spend, f"dispatch {way}": dispatch}
                if keyed:
                    key = keyed[number]
                    ways.append(KeyWay(key.name, key.place, key.problem, breaker, turnstile, circuit))
            assert inner is not None
            if ways:
                # Above what there is once for each key, below the retries: with another key it is another attempt.
                inner = Keys(target.provider, ways, rings[target.provider], Log("keys"))
                inner_stages[f"keys {name}"] = inner
            # Above the breaker: whoever backs off holds neither permit nor quota, and each attempt is counted by itself.
            retry = Retry(inner, backoff, lasting.retry_budget(name, config))
            inner_stages[f"retry {name}"] = retry
            # Outermost: what cannot be paid for does not queue.
            stacks[name] = inner_stages[f"afford {name}"] = Afford(retry, lasting.purse)
        alarms = Alarms()
        if config.hedge.enabled:
            flights.start_soon(alarms.run)
            # Above the retries: a second try is sent once, and what the first one does meanwhile is its own matter.
            retries, stacks = stacks, {}
            for name, retrying in retries.items():
                stacks[name] = inner_stages[f"hedge {name}"] = Hedge(
                    retrying,
                    retries,
                    lasting.hedge_pace(name, config),
                    alarms,
                    flights,
                    Log("hedge"),
                    elsewhere=config.hedge.target == "next",
                )
        _warn_of_unknown_prices(config, targets.values())
        # One call becomes attempts here, and nowhere else: one budget of attempts over the whole chain.
        route = Route(
            stacks,
            tuple(targets.values()),
            chains=chains,
            disabled=[model.name for model in config.models if not model.enabled],
            max_attempts=config.retry.max_attempts,
            estimator=lasting.estimator,
        )

        def own_stack(own: OwnTarget) -> Service[Attempt]:
            assert plan.host is not None
            gate = Gate(Spend(Dispatch(plan.host, times), lasting.purse), own.turnstile)
            return Afford(Retry(Breaker(gate, own.breaker, Log("breaker")), backoff, own.retry_budget), lasting.purse)

        own_routes = _OwnRoutes(plan, lasting, policies, stacks, chains, own_stack)
        # Beside the router: a model of a host process is its user's own, and has a router of its own.
        host_routes = HostRoutes(route, own_routes.find)
        # Outside the router: a bad answer may be asked for again elsewhere.
        validate = Validate(host_routes, lasting.schemas, max_reasks=config.validation.max_reasks)
        # Outside validation: a re-ask is still the same call inside the house.
        admit = Admit(validate, lasting.occupancy)
        # Outside the house's bounds: who shares a flight takes no room of their own.
        coalesce = Coalesce(admit, flights, Log("coalesce"), Relay)
        # Beside the cache, above the flights: what it asks anew is joined like any other call.
        refresh = Refresh(
            coalesce,
            flights,
            timeout_s=config.timeouts.total_s,
            new_id=lasting.names.next,
            wall_clock=lasting.wall_clock,
            tell_end=partial(record_end, records),
            log=Log("refresh"),
        )
        # Outside the flights, as the exact cache, and below it: what is known for certain is not guessed at.
        semantic = Semantic(
            coalesce,
            lasting.semantic,
            scope_of=partial(_semantic_scope, config, policies),
            find=partial(_kept_answer, lasting, config.cache.strategy),
        )
        # Outside the flights: a kept answer needs none, and only whole, validated answers come up to be kept.
        cache = Cache(
            semantic,
            strategy=config.cache.strategy,
            memory=lasting.memory,
            store=lasting.answers,
            wall_clock=lasting.wall_clock,
            ttl_s=config.cache.ttl_s,
            stale_s=config.cache.stale_s,
            refreshes=refresh,
            chance=lasting.rng.random,
        )
        # Outside the cache: the caller's own key promises the same answer even where the cache is bypassed.
        repeats = Repeats(
            cache, lasting.keyed, flights, trio.current_time, Log("repeats"), partial(record_end, records)
        )
        # The one scope of the call: it ends the waiting for a shared flight, and the flight only when it is the last.
        deadline = Deadline(repeats)
        # Outermost: sees every end, refusals and timeouts too.
        observe = Observe(deadline, records)
        stages = {
            "observe": observe,
            "deadline": deadline,
            "repeats": repeats,
            "cache": cache,
            "refresh": refresh,
            "semantic": semantic,
            "coalesce": coalesce,
            "admit": admit,
            "validate": validate,
            "host routes": host_routes,
            "route": route,
            "purse": lasting.purse,
            **inner_stages,
        }
        try:
            yield Pipeline(config, lasting, policies, operations, own_routes, observe, cache, stages)
        finally:
            alarms.close()
            refresh.close()


class Pipeline:
    """All stages of one generation, and the short way for what is known already."""

    def __init__(
        self,
        config: Config,
        lasting: Lasting,
        policies: _Policies,
        operations: Operations,
        own_routes: _OwnRoutes,
        observe: Observe,
        cache: Cache,
        stages: Mapping[str, Any],
    ) -> None:
        self._config = config
        self._lasting = lasting
        self._policies = policies
        self._own_routes = own_routes
        self._operations = operations
        self._observe = observe
        self._cache = cache
        self._stages = stages
        self._default_timeout_s = config.timeouts.total_s
        self._max_timeout_s = config.timeouts.max_total_s
        self._clock = trio.lowlevel.current_clock().current_time
        # What was prepared for equal bytes of equal users, oldest first.
        self._remembered: dict[tuple[int, bytes], Prepared] = {}
        self._remembered_bytes = 0

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
        by_chance = samples(question.request)
        kept = caller.uid != UNMAPPED_UID and (not by_chance or question.cache_samples > 0)
        return Prepared(
            question=question,
            key=key if kept else None,
            exact_key=exact_key if kept else None,
            asked=asked,
            owner=self,
            samples=question.cache_samples if by_chance else 0,
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
        made = None if question.operation is None else self._operations.make(question)
        question, policy = self._policy(caller, question if made is None else made.question)
        if made is None:
            return question, self._key(caller, question, question.kind, question.request, policy), None
        exact_key = self._key(caller, question, question.kind, made_request(made, question.request), policy)
        if made.plain_request is None:
            return question, exact_key, None
        plain_key = self._key(caller, question, _PLAIN_KIND, made_request(made, made.plain_request), policy)
        return question, plain_key, exact_key

    def _policy(self, caller: Caller, question: Question) -> tuple[Question, PolicyForm]:
        """Find who may answer, as the key has it, and complete the question where a process of the host does."""
        policies = self._policies
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

    def _key(
        self, caller: Caller, question: Question, kind: str, request: Mapping[str, Any], policy: PolicyForm
    ) -> bytes:
        try:
            return request_key(
                kind,
                request,
                uid=None if question.shared else caller.uid,
                partition=question.partition,
                policy=policy,
                task=question.task,
                quality_threshold=question.quality_threshold,
            )
        except UncanonicalError as error:
            raise InvalidRequest(str(error)) from error

    def recognise(self, caller: Caller, argument_bytes: bytes) -> Prepared | None:
        """Find what `remember` was told of equal bytes from this user."""
        return self._remembered.get((caller.uid, argument_bytes))

    def remember(self, caller: Caller, argument_bytes: bytes, prepared: Prepared) -> None:
        """Keep a prepared question for when the same bytes come again."""
        question = prepared.question
        if not prepared.quick or question.host is not None:
            return
        if question.model is not None and question.model not in self._policies:
            return  # what this name stands for changes with who registers it
        remembered = self._remembered
        while remembered and (
            len(remembered) >= _REMEMBERED_ENTRIES or self._remembered_bytes + len(argument_bytes) > _REMEMBERED_BYTES
        ):
            oldest = next(iter(remembered))
            self._remembered_bytes -= len(oldest[1])
            del remembered[oldest]
        remembered[(caller.uid, argument_bytes)] = prepared
        self._remembered_bytes += len(argument_bytes)

    def try_hit(self, caller: Caller, prepared: Prepared, received_at: float) -> bytes | None:
        """Give the packed reply if a fresh exact answer is in memory; counted and journalled like any call."""
        if not prepared.quick or prepared.key is None:
            return None
        wall = self._lasting.wall_clock()
        question = prepared.question
        kept = self._cache.peek_fresh(prepared.key, wall, question.cache_ttl_s, prepared.exact_key)
        if kept is None or not kept.belongs_to(caller.uid, question.partition, shared=question.shared):
            return None
        call_id = self._lasting.names.next()
        total_s = self._clock() - received_at
        self._observe.observe_hit(
            Hit(
                call_id,
                wall,
                caller,
                kept.reply,
                kept.source_id,
                total_s,
                question.task,
                question.tags,
                question.operation,
            )
        )
        took = _pack_double(total_s)
        packed_id = call_id.encode()
        return b"".join(
            (
                _pack_map_head(0xDE, kept.pair_count + 2),
                kept.packed_pairs,
                _ID_PAIR,
                _TEXT_HEADS[len(packed_id)],
                packed_id,
                _TIMING,
                took,
                _TIMING_TOTAL,
                took,
            )
        )

    def open_call(self, caller: Caller, prepared: Prepared, received_at: float, sink: DeltaSink | None) -> Call:
        """Make the call, with its id, deadline and journal."""
        question = prepared.question
        timeout_s, bounded_by = self._default_timeout_s, "timeouts.total_s"
        if question.timeout_s is not None:
            timeout_s, bounded_by = question.timeout_s, "timeout_s"
        if timeout_s > self._max_timeout_s:
            timeout_s, bounded_by = self._max_timeout_s, "timeouts.max_total_s"
        # Whoever has no number here is everybody who has none: nothing is kept for them, by key neither.
        named = question.key is not None and caller.uid != UNMAPPED_UID
        asked = prepared.asked if prepared.asked is not None else question
        return Call(
            id=self._lasting.names.next(),
            caller=caller,
            kind=question.kind,
            request=question.request,
            deadline=received_at + timeout_s,
            bounded_by=bounded_by,
            journal=Journal(started=received_at, at=self._lasting.wall_clock()),
            model=question.model,
            task=question.task,
            key=prepared.key,
            exact_key=prepared.exact_key,
            repeat_key=_repeat_key(caller.uid, question.key) if named and question.key is not None else None,
            repeat_question=_repeat_question(caller.uid, asked) if named else b"",
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
            operation=question.operation,
            models=question.models,
            keep_s=question.keep_s,
            tier=question.tier,
            shared=question.shared,
        )

    async def answer(self, call: Call) -> Reply:
        """Send a call down the stages."""
        return await self._observe(call)

    async def forget(
        self, *, uid: int | None, request_id: str | None, tag: str | None, operation: str | None = None
    ) -> int:
        """Delete kept answers, of one user or (uid None) of all; of everything when no mark is given."""
        if tag is None:  # of what was kept by a tag the entries go when they are met without their answers
            self._lasting.semantic.forget(uid=uid, source_id=request_id, everything=request_id is None)
        return await self._cache.forget(
            uid=uid,
            source_id=request_id,
            tag=tag,
            operation=operation,
            everything=request_id is None and tag is None and operation is None,
        )

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


def _semantic_scope(config: Config, policies: _Policies, call: Call) -> tuple[bytes, str] | None:
    """Give what of a question must be equal, hashed, and the text that need not be; None where nothing is to be guessed."""
    if call.kind != "chat" or call.by_host or (call.model is not None and call.model not in policies):
        return None
    if policies.may_ask_host(call.model, call.models) or call.tier == "off" or call.keep_s == 0:
        return None
    if call.operation is not None:
        operation = config.operations.get(call.operation)
        if operation is None or not operation.semantic or operation.document_id or operation.document_version:
            return None
    *earlier, last = call.request["messages"]
    if last.get("role") != "user" or set(last) - {"role", "content"}:
        return None
    text = last.get("content")
    if isinstance(text, (list, tuple)) and len(text) == 1 and isinstance(text[0], Mapping) and len(text[0]) == 2:
        text = text[0].get("text") if text[0].get("type") == "text" else None
    if not isinstance(text, str) or not 0 < len(text) <= config.cache.semantic.max_characters:
        return None
    scope = request_key(
        "semantic",
        {**call.request, "messages": [*earlier, {"role": "user", "content": None}]},
        uid=None if call.shared else call.caller.uid,
        partition=call.partition,
        policy=policies.form(call.model, call.models),
        task=call.task,
        quality_threshold=call.quality_threshold,
    )
    return scope, text


async def _kept_answer(lasting: Lasting, strategy: str, key: bytes) -> Found | None:
    """Find a fresh answer in the tiers that are used."""
    now = lasting.wall_clock()
    kept = lasting.memory.recall(key, now) if strategy in ("memory", "hybrid") else None
    if kept is None and strategy in ("disk", "hybrid"):
        stored = await lasting.answers.get(key)
        now = lasting.wall_clock()
        kept = None if stored is None else kept_from_disk(stored)
    if kept is None or not kept.stored_at - CLOCK_TOLERANCE_S <= now < kept.expires_at:
        return None
    return Found(kept.reply, kept.source_id, max(0.0, now - kept.stored_at))


class _Policies:
    """What was asked for, as the cache key has it: a model by name or none, and every candidate that may answer."""

    def __init__(self, targets: tuple[Target, ...], chains: FallbackChains) -> None:
        self.targets = targets
        self._by_name = {target.name: target for target in targets}
        self._chains = chains
        self._of_allowed: dict[tuple[str | None, tuple[str, ...]], PolicyForm] = {}
        """Bounded by the configuration: operations refuse models that they do not allow."""
        self._forms: dict[str | None, PolicyForm] = {
            name: self._form(name) for name in (None, *self._by_name, *chains.own)
        }

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def candidates(self, names: Iterable[str]) -> list[Candidate]:
        """Give what makes the answers of some targets their own."""
        return [_candidate(self._by_name[name]) for name in names]

    def form(self, asked: str | None, allowed: tuple[str, ...] = ()) -> PolicyForm:
        """Give the form for a model asked for by name, or None. An unknown one has no candidates; Route will refuse it.

        ``allowed`` are those that may answer, in order, where an operation says so.
        """
        if allowed:
            form = self._of_allowed.get((asked, allowed))
            if form is None:
                names = allowed if asked is None else tuple(dict.fromkeys((asked, *allowed)))
                there = self.candidates(name for name in names if name in self._by_name)
                form = self._of_allowed[asked, allowed] = policy_form(asked, there)
            return form
        known = self._forms.get(asked)
        return known if known is not None else policy_form(asked, ())

    def may_ask_host(self, asked: str | None, allowed: tuple[str, ...]) -> bool:
        """Tell whether a process of the caller's user may come to answer."""
        names = (*allowed, asked) if allowed else self._candidates_for(asked)
        return any(name in self._by_name and self._by_name[name].dialect == HOST for name in names if name is not None)

    def _form(self, asked: str | None) -> PolicyForm:
        return policy_form(asked, self.candidates(self._candidates_for(asked)))

    def _candidates_for(self, asked: str | None) -> tuple[str, ...]:
        first = asked if asked is not None else next(iter(self._by_name), None)
        return () if first is None else self._chains.candidates(first)


class _OwnRoutes:
    """Routers for the models that processes of the host answer for, made when they are first asked."""

    def __init__(
        self,
        plan: Plan,
        lasting: Lasting,
        policies: _Policies,
        stacks: Mapping[str, Service[Attempt]],
        chains: FallbackChains,
        own_stack: Callable[[OwnTarget], Service[Attempt]],
    ) -> None:
        self._plan = plan
        self._lasting = lasting
        self._policies = policies
        self._stacks = stacks
        self._chains = chains
        self._own_stack = own_stack
        self._configured = {model.name: model for model in plan.config.models}
        self._routes: dict[OwnPlace, tuple[OwnTarget, HostModel, Route]] = {}
        self._forms: dict[tuple[HostModel, bool], PolicyForm] = {}

    @property
    def usual_name(self) -> str:
        """What the model is called of a call that names none and brings its own function."""
        return next((target.name for target in self._policies.targets), HOST)

    def dialect_of(self, name: str) -> str | None:
        """Give the dialect that a configured model is asked in; None when there is no such model."""
        model = self._configured.get(name)
        return None if model is None else self._plan.config.providers[model.provider].dialect

    def find(self, call: Call) -> Service[Call] | None:
        """Find the router of a call's model; None when no process of the host has to do with it."""
        model = self._model(call.caller.uid, call.model, offered=call.by_host)
        if model is None or self._plan.host is None:
            return None
        place = (call.caller.uid, model.name, call.by_host)
        own = self._lasting.own_target(place, self._plan.config, model)
        known = self._routes.get(place)
        if known is not None and known[0] is own and known[1] == model:
            return known[2]
        if len(self._routes) >= _MOST_OWN:
            self._routes.clear()  # those in use are held by their calls
        target = self._target(model, offered=call.by_host)
        others = [each for each in self._policies.targets if each.name != target.name]
        route = Route(
            {**self._stacks, target.name: self._own_stack(own)},
            [target, *others],
            chains=self._chains_of(model),
            max_attempts=self._plan.config.retry.max_attempts,
            estimator=own.estimator,
        )
        self._routes[place] = own, model, route
        return route

    def form(self, uid: int, question: Question) -> PolicyForm | None:
        """Give the policy under which answers for such a model are kept; None when no process has to do with it."""
        offered = question.host is not None
        model = self._model(uid, question.model, offered=offered)
        if model is None:
            return None
        form = self._forms.get((model, offered))
        if form is None:
            if len(self._forms) >= _MOST_OWN:
                self._forms.clear()
            following = [name for name in self._chains_of(model).candidates(model.name) if name != model.name]
            own: Candidate = (_address(model, offered=offered), model.name)
            form = policy_form(model.name, [own, *self._policies.candidates(following)])
            self._forms[model, offered] = form
        return form

    def _model(self, uid: int, name: str | None, *, offered: bool) -> HostModel | None:
        if name is None:
            return None
        configured = self._configured.get(name)
        if not offered:  # what is configured is never shadowed
            return self._lasting.host_models.find(uid, name) if configured is None else None
        if configured is None:
            return HostModel(name=name, fallback=())
        # The function reaches the model of that name in another way; it costs and takes the same.
        return HostModel(
            name=name,
            price=price_of(configured, self._plan.listed),
            context_tokens=context_of(configured, self._plan.listed),
            max_output_tokens=configured.max_output_tokens,
            fallback=(),
        )

    def _chains_of(self, model: HostModel) -> FallbackChains:
        chains, name, following = self._chains, model.name, model.fallback
        return replace(
            chains,
            enabled=(name, *(other for other in chains.enabled if other != name)),
            own={**chains.own, name: Fallbacks(following, following, following)},
        )

    def _target(self, model: HostModel, *, offered: bool) -> Target:
        return Target(
            name=model.name,
            provider=HOST,
            dialect=HOST,
            provider_model=model.name,
            address=_address(model, offered=offered),
            price=model.price,
            context_tokens=model.context_tokens,
            max_output_tokens=model.max_output_tokens,
        )


def _address(model: HostModel, *, offered: bool) -> str:
    """Tell functions apart, as far as their owners do: a registered one by its version, one that comes with a call not."""
    return f"{HOST} call" if offered else f"{HOST} {model.version}"


def _as_configured(model: HostModel) -> Model:
    """Give the limits of a model of a host process in the form that configured ones have."""
    return Model(
        name=model.name,
        provider=HOST,
        max_concurrency=model.max_concurrency,
        requests_per_minute=model.requests_per_minute,
        tokens_per_minute=model.tokens_per_minute,
    )


def _chains(config: Config, targets: Mapping[str, Target]) -> FallbackChains:
    routing = config.routing
    return FallbackChains(
        enabled=tuple(targets),
        general=Fallbacks(
            routing.fallback, routing.context_window_fallback or None, routing.content_filter_fallback or None
        ),
        own={
            model.name: Fallbacks(model.fallback, model.context_window_fallback, model.content_filter_fallback)
            for model in config.models
        },
        context_tokens={
            name: target.context_tokens for name, target in targets.items() if target.context_tokens is not None
        },
    )


Candidate: TypeAlias = tuple[str, str] | tuple[str, str, Mapping[str, Any]]


def _candidate(target: Target) -> Candidate:
    """What makes the answers of a target its own. What its configuration adds to each request counts like what a caller
    adds; the edit of a running daemon's file must not give anybody the answers from before.
    """
    extra = relevant({"extra": target.extra}).get("extra")
    if not extra:
        return target.address, target.provider_model
    return target.address, target.provider_model, extra


def _target(model: Model, plan: Plan) -> Target:
    provider = plan.config.providers[model.provider]
    return Target(
        name=model.name,
        provider=model.provider,
        dialect=provider.dialect,
        provider_model=model.provider_model,
        address=plan.addresses[model.provider],
        price=price_of(model, plan.listed),
        context_tokens=context_of(model, plan.listed),
        max_output_tokens=model.max_output_tokens,
        simulated=provider.dialect == "simulated",
        extra=model.extra,
    )


def _warn_of_unknown_prices(config: Config, targets: Iterable[Target]) -> None:
    """Say which models a budget can only guess at."""
    limited: tuple[Budget | CallerTable | Operation, ...] = (
        config.budget,
        *config.callers.values(),
        *config.operations.values(),
    )
    unknown = [target.name for target in targets if not target.price.known and not target.simulated]
    if unknown and any(one.per_day_usd is not None or one.per_month_usd is not None for one in limited):
        Log("spend").warning(
            "models of unknown price count in the budgets at budget.assumed_usd_per_1m; give them input_usd_per_1m and "
            "output_usd_per_1m",
            models=", ".join(unknown[:20]),
            assumed_usd_per_1m=config.budget.assumed_usd_per_1m,
        )


def price_of(model: Model, listed: Mapping[str, ListedModel]) -> Price:
    """Give the price of a model: its own when it has any, else the listed one, else an unknown one."""
    own = own_price(model)
    if own is not None:
        return own
    found = listed.get(model.name)
    return Price() if found is None else found.price


def own_price(model: Model) -> Price | None:
    """Give the price that the configuration sets, None when it sets none."""
    tier = Tier(
        above_tokens=model.tier_above_tokens or 0,
        input_usd_per_1m=model.tier_input_usd_per_1m,
        output_usd_per_1m=model.tier_output_usd_per_1m,
        cache_read_usd_per_1m=model.tier_cache_read_usd_per_1m,
        cache_write_usd_per_1m=model.tier_cache_write_usd_per_1m,
    )
    price = Price(
        input_usd_per_1m=model.input_usd_per_1m,
        output_usd_per_1m=model.output_usd_per_1m,
        cache_read_usd_per_1m=model.cache_read_usd_per_1m,
        cache_write_usd_per_1m=model.cache_write_usd_per_1m,
        cache_write_1h_usd_per_1m=model.cache_write_1h_usd_per_1m,
        tiers=() if model.tier_above_tokens is None else (tier,),
    )
    return None if price == Price() else replace(price, source="configuration")


def context_of(model: Model, listed: Mapping[str, ListedModel]) -> int | None:
    """Give how long prompt and answer may be together: as configured, else as listed, else unknown."""
    found = listed.get(model.name)
    return model.context_tokens if model.context_tokens is not None or found is None else found.context_tokens


def _hedge_policy(config: Config) -> HedgePolicy:
    hedge = config.hedge
    return HedgePolicy(quantile=hedge.quantile, min_samples=hedge.min_samples, max_share=hedge.max_share)


def _breaker_policy(config: Config) -> BreakerPolicy:
    breaker = config.breaker
    return BreakerPolicy(
        enabled=breaker.enabled,
        failure_rate=breaker.failure_rate,
        min_calls=breaker.min_calls,
        window_s=breaker.window_s,
        open_s=breaker.open_s,
        max_open_s=breaker.max_open_s,
        recovery_s=breaker.recovery_s,
    )


def ways_of(config: Config, model: Model) -> tuple[str, ...]:
    """Name the ways to a model: one for each key of its provider. The only one is called like the model."""
    provider = config.providers[model.provider]
    keys = provider.api_keys_env or provider.api_keys_credential
    return tuple(f"{model.name} by {key}" for key in keys) if len(keys) > 1 else (model.name,)


def _key_of(model: Model, way: str) -> str:
    """Name the key that a way to a model goes by, with its provider."""
    return model.provider + way.removeprefix(model.name)


def _bounds(config: Config, model: Model) -> ConcurrencyBounds:
    concurrency = config.concurrency
    most = concurrency.max if model.max_concurrency is None else model.max_concurrency
    return ConcurrencyBounds(
        initial=min(concurrency.initial, most),
        least=min(concurrency.min, most),
        most=most,
        algorithm=concurrency.algorithm,
    )


def _own_bounds(config: Config, model: HostModel) -> ConcurrencyBounds:
    """What a process says of itself needs no finding out; it still shrinks when that proves too much."""
    bounds = _bounds(config, _as_configured(model))
    return bounds if model.max_concurrency is None else replace(bounds, initial=bounds.most)


def _throttle(config: Config) -> Limits:
    per_second = config.queue.calls_per_second
    return Limits(None if per_second is None else per_second * 60.0, burst_s=_THROTTLE_BURST_S)


def _limits(config: Config, section: Model | ProviderSection) -> Limits:
    return Limits(
        requests_per_minute=section.requests_per_minute,
        tokens_per_minute=section.tokens_per_minute,
        requests_per_day=section.requests_per_day,
        tokens_per_day=section.tokens_per_day,
        margin=config.limits.safety_margin,
        burst_s=config.limits.burst_s,
    )


def made_request(made: Made, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give what an operation's call is known by: what it sends, and which document that is about."""
    return request if made.document is None else {**request, "document": list(made.document)}


def _check_schemas(plan: Plan, lasting: Lasting) -> None:
    """Refuse a schema that is none, before anybody is asked to satisfy it."""
    problems = []
    for name, material in plan.materials.items():
        if material.output_schema is not None:
            try:
                lasting.schemas.check(material.output_schema, "output_schema")
            except InvalidRequest as error:
                file = next(
                    (str(one.path) for one in material.files if one.key == "output_schema"), "the configuration"
                )
                problems.append(
                    Problem(file, f"operations.{name}.output_schema", None, f"{error.message.rstrip('.')}.")
                )
    if problems:
        raise ConfigError(problems)


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


def _repeat_key(uid: int, key: str) -> bytes:
    return blake2b(f"{uid} {key}".encode(), digest_size=16).digest()
