"""What outlives a generation: the memory cache, who waits for which target and what it was granted, what is known of the
health of targets, what is kept for callers' own keys. It is reconfigured and handed from generation to generation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import trio

from aiorchd.calls.host_model import HostModel
from aiorchd.calls.kept import Kept
from aiorchd.calls.ports import (
    AnswerStore,
    Arrays,
    BatchStore,
    RecordSink,
    SemanticStore,
    SpendingStore,
    WallClock,
)
from aiorchd.config.schema import Config, Model
from aiorchd.core.circuit_breaker import CircuitBreaker
from aiorchd.core.first_forms import FirstForms
from aiorchd.core.hedge_pace import HedgePace
from aiorchd.core.key_ring import KeyRing
from aiorchd.core.memory_cache import MemoryCache
from aiorchd.core.occupancy import Occupancy
from aiorchd.core.quota_account import QuotaAccount
from aiorchd.core.recurrence import Recurrence
from aiorchd.core.retry_budget import RetryBudget
from aiorchd.core.s3_fifo import S3FifoCache
from aiorchd.core.spending import Spending
from aiorchd.core.token_estimate import TokenEstimator
from aiorchd.pipeline.plan import KeyedProvider
from aiorchd.pipeline.quota_accounts import QuotaAccounts, introduce
from aiorchd.pipeline.settings import (
    as_configured,
    bounds_of,
    breaker_policy,
    hedge_policy,
    limits_of,
    own_bounds,
    ways_of,
)
from aiorchd.runtime.batch_memory import BatchMemory
from aiorchd.runtime.caller_shares import CallerShares
from aiorchd.runtime.cpu_limit import CpuLimit
from aiorchd.runtime.host_models import HostModels
from aiorchd.runtime.logs import Log
from aiorchd.runtime.purse import Purse
from aiorchd.runtime.semantic_memory import SemanticMemory
from aiorchd.runtime.turnstile import TargetTurnstile, by_uid
from aiorchd.stages.json_schema import JsonSchemas
from aiorchd.stages.repeats import KeyedCalls

_KEYED_ENTRIES: Final = 10_000
_KEYED_BYTES: Final = 32 * 1024 * 1024
_SCHEMA_CPU_S: Final = 0.25
MOST_OWN: Final = 1024
"""Models of host processes about which something is remembered, besides those that are in use."""
_TEMPLATE_CPU_S: Final = 0.25


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
    accounts: QuotaAccounts = field(default_factory=QuotaAccounts)
    """What providers count, and the throttle over all models."""
    host_models: HostModels = field(default_factory=HostModels)
    """Who answers for which models."""
    semantic: SemanticMemory = field(kw_only=True)
    """Questions by their vectors, and what was learned of likeness."""
    tool_forms: FirstForms = field(default_factory=FirstForms)
    """In which order of names callers sent their tools first."""
    recurrence: Recurrence = field(default_factory=Recurrence)
    """Which beginnings of prompts were sent lately."""
    batching: BatchMemory = field(kw_only=True)
    """How many questions may be asked together, and how fast they come."""
    own: dict[OwnPlace, OwnTarget] = field(default_factory=dict)
    """What is known of the models that processes of the host answer for."""
    shares: CallerShares | None = None

    def reconfigure(self, config: Config) -> None:
        """Follow a configuration that came into force; what runs or waits goes on."""
        self.semantic.reconfigure(config.cache.semantic)
        self.batching.reconfigure(config)
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
        busy = [each for name, each in self.turnstiles.items() if name not in ways and not each.idle]
        self.accounts.reconfigure(now, config, [account for each in busy for account in each.accounts])
        for way, model in ways.items():
            turnstile = self.turnstiles.get(way)
            if turnstile is None:
                self.turnstile(config, model, way)
                continue
            turnstile.reconfigure(
                now,
                bounds=bounds_of(config, model),
                accounts=self.accounts.of(now, config, model, way),
                max_waiting=config.queue.max_waiting,
                trickle=config.queue.low_priority_share,
            )
        for name in [name for name in self.turnstiles if name not in ways]:
            # While somebody is there, who comes back with a later configuration must find it: its permits are taken.
            if self.turnstiles[name].idle:
                del self.turnstiles[name]
        introduce(self.turnstiles[way] for way in ways)
        self.estimator.keep_only(names)
        for breaker in self.breakers.values():
            breaker.reconfigure(now, breaker_policy(config))
        for name in [name for name, breaker in self.breakers.items() if name not in ways and breaker.idle]:
            del self.breakers[name]
        for budget in self.retry_budgets.values():
            budget.reconfigure(config.retry.budget_share, config.retry.budget_retries)
        for name in [name for name in self.key_rings if name not in config.providers]:
            del self.key_rings[name]
        for name in [name for name in self.retry_budgets if name not in names]:
            del self.retry_budgets[name]
        for pace in self.hedge_paces.values():
            pace.reconfigure(hedge_policy(config))
        for name in [name for name in self.hedge_paces if name not in names]:
            del self.hedge_paces[name]
        for own in self.own.values():
            self._follow(own, config)

    def own_target(self, place: OwnPlace, config: Config, model: HostModel) -> OwnTarget:
        """Find or make what is known of a model that a process of the host answers for, and let it follow what that says."""
        own = self.own.get(place)
        if own is None:
            if len(self.own) >= MOST_OWN:
                for other in [other for other, each in self.own.items() if each.idle]:
                    del self.own[other]
            account = QuotaAccount(f"model {model.name}")
            own = self.own[place] = OwnTarget(
                model,
                account,
                TargetTurnstile(
                    model.name,
                    bounds=own_bounds(config, model),
                    accounts=(account,),
                    trickle=config.queue.low_priority_share,
                    share_of=by_uid if self.shares is None else self.shares.share_of,
                ),
                CircuitBreaker(breaker_policy(config)),
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
        described = as_configured(own.model)
        own.account.reconfigure(now, limits_of(config, described))
        throttle = self.accounts.throttle
        own.turnstile.reconfigure(
            now,
            bounds=own_bounds(config, own.model),
            accounts=(own.account, throttle) if throttle.limited else (own.account,),
            max_waiting=config.queue.max_waiting,
            trickle=config.queue.low_priority_share,
        )
        own.turnstile.beside(self.turnstiles.values() if throttle.limited else ())
        own.breaker.reconfigure(now, breaker_policy(config))
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
            breaker = self.breakers[name] = CircuitBreaker(breaker_policy(config))
        return breaker

    def hedge_pace(self, name: str, config: Config) -> HedgePace:
        """Find or make what is known of a target's times."""
        pace = self.hedge_paces.get(name)
        if pace is None:
            pace = self.hedge_paces[name] = HedgePace(hedge_policy(config))
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
            turnstile = self.turnstiles[way] = TargetTurnstile(
                way,
                bounds=bounds_of(config, model),
                accounts=self.accounts.of(trio.current_time(), config, model, way),
                max_waiting=config.queue.max_waiting,
                trickle=config.queue.low_priority_share,
                share_of=by_uid if self.shares is None else self.shares.share_of,
            )
        return turnstile


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
    batch_store: BatchStore | None = None,
    open_arrays: Callable[[bool], Arrays] | None = None,
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
        batching=BatchMemory(config.batch, store=batch_store, log=Log("batch")),
        turnstiles={},
        purse=Purse(config, spending=spending or Spending(), store=spending_store, wall_clock=wall_clock),
        host_models=host_models if host_models is not None else HostModels(),
    )
    lasting.host_models.on_gone = lasting.forget_own
    lasting.reconfigure(config)
    return lasting


def _no_arrays(_: bool) -> Arrays:
    raise LookupError("this process has no embedder")
