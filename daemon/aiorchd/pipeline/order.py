"""THE one file that knows the order of the stages, and what of the configuration each of them is given.

A pipeline is built from one accepted configuration and never changes. What must outlive it is in `pipeline.lasting`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from aiorch.errors import InvalidRequest
from aiorchd.calls.call import Attempt
from aiorchd.calls.ports import (
    RecordSink,
    Service,
)
from aiorchd.calls.target import Target
from aiorchd.config.problems import ConfigError, Problem
from aiorchd.config.schema import Budget, CallerTable, Config, Operation
from aiorchd.core.backoff import Backoff
from aiorchd.pipeline.batch_scope import BatchScopes
from aiorchd.pipeline.generation import Pipeline
from aiorchd.pipeline.lasting import Lasting, OwnTarget
from aiorchd.pipeline.own_routes import OwnRoutes
from aiorchd.pipeline.plan import Plan
from aiorchd.pipeline.policies import Policies
from aiorchd.pipeline.semantic_scope import kept_answer, semantic_scope
from aiorchd.pipeline.settings import chains_of, target_of, ways_of
from aiorchd.runtime.crew import Crew
from aiorchd.runtime.logs import Log
from aiorchd.runtime.operations import Operations
from aiorchd.stages.admit import Admit
from aiorchd.stages.afford import Afford
from aiorchd.stages.batch import Batch
from aiorchd.stages.breaker import Breaker
from aiorchd.stages.cache import Cache
from aiorchd.stages.call_log import CallLog
from aiorchd.stages.catalogues import Catalogues
from aiorchd.stages.coalesce import Coalesce
from aiorchd.stages.deadline import Deadline
from aiorchd.stages.dispatch import AttemptTimes, Dispatch
from aiorchd.stages.gate import Gate
from aiorchd.stages.hedge import Alarms, Hedge
from aiorchd.stages.host_routes import HostRoutes
from aiorchd.stages.keys import Keys, KeyWay
from aiorchd.stages.observe import Observe, record_end
from aiorchd.stages.question_vectors import QuestionVectors
from aiorchd.stages.refresh import Refresh
from aiorchd.stages.relay import Relay
from aiorchd.stages.repeats import Repeats
from aiorchd.stages.retry import Retry
from aiorchd.stages.route import Route
from aiorchd.stages.semantic import Semantic
from aiorchd.stages.spend import Spend
from aiorchd.stages.validate import Validate


@asynccontextmanager
async def open_pipeline(plan: Plan, lasting: Lasting) -> AsyncIterator[Pipeline]:
    """Build the stages of one generation, inside out; leaving it waits for the flights that are still under way."""
    config = plan.config
    targets = {model.name: target_of(model, plan) for model in config.models if model.enabled}
    chains = chains_of(config, targets)
    _check_schemas(plan, lasting)
    policies = Policies(tuple(targets.values()), chains)
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

        own_routes = OwnRoutes(plan, lasting, policies, stacks, chains, own_stack)
        # Beside the router: a model of a host process is its user's own, and has a router of its own.
        host_routes = HostRoutes(route, own_routes.find)
        # Once for all attempts, and below whatever keeps and shares answers, which sees no order of names anyway.
        catalogues = Catalogues(host_routes, lasting.tool_forms, lasting.recurrence)
        # Above all that looks at one call: one for several is laid out, routed, paced and paid for like any other.
        batch = Batch(
            catalogues,
            lasting.batching,
            flights,
            Log("batch"),
            scope_of=BatchScopes(config, policies, lasting),
            draw=lasting.rng.choice,
            new_id=lasting.names.next,
            likeness=partial(_cosine, lasting),
        )
        # Outside batches and the router: each answer is checked by itself, and a bad one may be asked for again elsewhere.
        validate = Validate(batch, lasting.schemas, max_reasks=config.validation.max_reasks)
        # Outside validation: a re-ask is still the same call inside the house.
        admit = Admit(validate, lasting.occupancy)
        # Outside the house's bounds: who shares a flight takes no room of their own.
        crew = Crew(flights)
        coalesce = Coalesce(admit, crew, Log("coalesce"), Relay)
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
        # Vectors of questions, where a model makes them: calls like any other, but neither kept nor shared.
        asked_vectors = None
        if config.cache.semantic.enabled and config.cache.semantic.embedding_model:
            asked_vectors = QuestionVectors(
                admit,
                flights,
                model=config.cache.semantic.embedding_model,
                new_id=lasting.names.next,
                wall_clock=lasting.wall_clock,
                tell_end=partial(record_end, records),
                log=Log("semantic"),
            )
        # Outside the flights, as the exact cache, and below it: what is known for certain is not guessed at.
        semantic = Semantic(
            coalesce,
            lasting.semantic,
            scope_of=partial(semantic_scope, config, policies),
            find=partial(kept_answer, lasting, config.cache.strategy),
            asked=asked_vectors,
            wait_s=config.cache.semantic.embedding_wait_s,
            nursery=flights,
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
            **({} if asked_vectors is None else {"question vectors": asked_vectors}),
            "coalesce": coalesce,
            "admit": admit,
            "validate": validate,
            "batch": batch,
            "catalogues": catalogues,
            "host routes": host_routes,
            "route": route,
            "purse": lasting.purse,
            **inner_stages,
        }
        try:
            yield Pipeline(
                config, lasting, policies, operations, own_routes, observe, cache, stages, retire=batch.close
            )
        finally:
            alarms.close()
            crew.close()
            refresh.close()
            if asked_vectors is not None:
                asked_vectors.close()


def _cosine(lasting: Lasting, one: str, other: str) -> float:
    """Give how alike two long texts are; 1 where that cannot be told, and their words must do."""
    vectors = lasting.semantic.vector(one), lasting.semantic.vector(other)
    return 1.0 if None in vectors else lasting.semantic.likeness(*vectors)


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
