"""Answers the methods about the daemon itself: health, figures, stories, models, cache, configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import trio

from aiorch.errors import InvalidRequest, NotFound
from aiorch.version import PROTOCOL, __version__
from aiorchd.app.concerns import file_concerns
from aiorchd.app.live_state import key_concerns, key_states, live_state
from aiorchd.app.places import Places
from aiorchd.app.plain import plain
from aiorchd.app.supply import Supply
from aiorchd.app.surroundings import Surroundings
from aiorchd.calls.caller import Caller
from aiorchd.calls.host_model import HOST, HostModel
from aiorchd.calls.target import Price
from aiorchd.config.address import AddressError
from aiorchd.config.compare import find_value, flatten
from aiorchd.config.schema import Config
from aiorchd.doors.unix import UnixDoor
from aiorchd.insight.explain import explain
from aiorchd.insight.stats import GroupBy, report
from aiorchd.pipeline.generation import Pipeline
from aiorchd.pipeline.lasting import Lasting
from aiorchd.pipeline.plan import Plan
from aiorchd.pipeline.settings import context_of, price_of
from aiorchd.runtime.generations import Generations
from aiorchd.runtime.reloading import Reloading
from aiorchd.runtime.turnstile import TurnstileStatistics
from aiorchd.runtime.watch import FileWatch
from aiorchd.store.opening import Store


@dataclass(slots=True)
class Household:
    """Everything that `House` tells about; filled by `app.life` as it is built."""

    places: Places
    started_at: float
    generations: Generations[Plan, Pipeline]
    lasting: Lasting
    reloading: Reloading
    watch: FileWatch | None
    store: Store
    supply: Supply
    door: UnixDoor | None = None
    on_applied: Callable[[Config], None] | None = None
    stopping: bool = False


class House:
    """See `doors.methods.House`."""

    def __init__(self, household: Household) -> None:
        self._at = household
        self._surroundings = Surroundings(household.supply, household.lasting.wall_clock)

    async def status(self) -> dict[str, Any]:
        """Tell health first, then where everything is, then what goes on."""
        at = self._at
        loaded = at.reloading.loaded
        concerns = self._concerns()
        health = "stopping" if at.stopping else "degraded" if concerns else "ok"
        return {
            "health": health,
            "concerns": concerns,
            "version": __version__,
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "started_at": at.started_at,
            "uptime_s": max(0.0, at.lasting.wall_clock() - at.started_at),
            "simulated": loaded.simulated,
            "generation": at.generations.statistics().number,
            "config": {
                "path": plain(loaded.path),
                "rule": at.places.config_rule,
                "watched_by": plain(at.watch.statistics()) if at.watch is not None else None,
                "verdict": at.reloading.verdict.to_wire(),
                "verdicts": plain(at.reloading.statistics()),
                "overrides": at.reloading.overrides(),
                "restart_needed": list(at.reloading.pending),
            },
            "socket": {"path": plain(at.places.socket.path), "rule": at.places.socket.rule},
            "state": {"path": str(at.places.state.path), "rule": at.places.state.rule},
            "models": await self.models(None),
            "operations": self._operations(),
            "budgets": {**self._at.lasting.purse.settings(), "limits": self.budgets()},
            "semantic": plain(at.lasting.semantic.statistics()),
            "batching": plain(at.lasting.batching.statistics()),
            "stages": plain(at.generations.current.statistics()),
            "generations": plain(at.generations.statistics()),
            "door": plain(at.door.statistics()) if at.door is not None else None,
            "store": plain(at.store.statistics()),
            "transport": plain(at.supply.statistics()),
            "tasks": trio.lowlevel.current_statistics().tasks_living,
        }

    async def stats(self, *, uid: int | None, since_s: float | None, by: str | None) -> dict[str, Any]:
        """Add up finished calls."""
        found = await report(
            self._at.store.records,
            now=self._at.lasting.wall_clock(),
            since_s=since_s,
            by=cast("GroupBy | None", by),
            uid=uid,
        )
        semantic = plain(self._at.lasting.semantic.statistics())
        batching = plain(self._at.lasting.batching.statistics())
        return {**found.to_wire(), "budgets": self.budgets(uid), "semantic": semantic, "batching": batching}

    def budgets(self, uid: int | None = None) -> list[dict[str, Any]]:
        """Tell how the budgets stand: all, or those of one user."""
        told: list[dict[str, Any]] = plain(self._at.lasting.purse.budgets(uid))
        return told

    async def explain(self, request_id: str) -> dict[str, Any] | None:
        """Tell the story of one call."""
        return await explain(self._at.store.records, request_id)

    async def limits(self, uid: int | None) -> dict[str, Any]:
        """Tell what paces each model, and who waits; with ``uid``, of the waiting only that user's."""
        return {"targets": self._at.generations.current.limits(uid)}

    async def models(self, uid: int | None) -> list[dict[str, Any]]:
        """List the models of the file in its order, with the live state of those that are enabled; and what processes of the
        user ``uid`` have registered."""
        at = self._at
        config = at.reloading.loaded.config
        live = at.generations.current.target_statistics()
        problems, keyless = at.supply.key_problems(), at.supply.keyless()
        now = trio.current_time()
        listed = []
        for model in config.models:
            provider = config.providers[model.provider]
            ways = live.get(model.name, {})
            ring = at.lasting.key_rings.get(model.provider)
            listed.append(
                {
                    "name": model.name,
                    "provider": model.provider,
                    "dialect": provider.dialect,
                    "id": model.provider_model,
                    "enabled": model.enabled,
                    **price_fields(price_of(model, at.supply.listed)),
                    "requests_per_minute": model.requests_per_minute,
                    "tokens_per_minute": model.tokens_per_minute,
                    "context_tokens": context_of(model, at.supply.listed),
                    "max_output_tokens": model.max_output_tokens,
                    "simulated": provider.dialect == "simulated",
                    "operations": [
                        name for name, one in config.operations.items() if not one.models or model.name in one.models
                    ],
                    "key_problem": problems.get(model.provider) if model.provider in keyless else None,
                    "keys": key_states(model.provider, at.supply, ring, ways, now),
                    "live": live_state(model.name, ways),
                }
            )
        if uid is not None:
            listed += [
                registered(model, connections, waiting)
                for model, connections, waiting in at.generations.current.own_models(uid)
            ]
        return listed

    async def cache_stats(self) -> dict[str, Any]:
        """Tell what the cache holds."""
        with self._at.generations.lease() as pipeline:
            ages = await pipeline.cache_ages()
            found: dict[str, Any] = plain(pipeline.cache_statistics())
        for tier, told in ages.items():
            found[tier] |= told
        lasting = self._at.lasting
        return {
            **found,
            "semantic": plain(lasting.semantic.statistics()),
            "batching": plain(lasting.batching.statistics()),
        }

    async def feedback(self, *, uid: int | None, request_id: str, correct: bool) -> bool:
        """Take a caller's word on an answer; tells whether it counts for anything."""
        return self._at.lasting.semantic.judge(request_id, uid, right=correct)

    async def cache_forget(
        self, *, uid: int | None, request_id: str | None, tag: str | None, operation: str | None
    ) -> int:
        """Delete kept answers."""
        if tag is not None and operation is not None:
            raise InvalidRequest("tag: name a tag or an operation, not both")
        semantic = 0
        if request_id is not None:
            # What a near question was answered with is deleted as an answer to it; its own question keeps it.
            semantic = int(self._at.lasting.semantic.judge(request_id, uid, right=False))
        if request_id is not None and not semantic:
            # A hit or a shared call is forgotten by the call that made its answer.
            record = await self._at.store.records.find(request_id)
            if record is not None and record.source_id is not None and (uid is None or record.uid == uid):
                request_id = record.source_id
        with self._at.generations.lease() as pipeline:
            return semantic + await pipeline.forget(uid=uid, request_id=request_id, tag=tag, operation=operation)

    async def cache_explain(self, caller: Caller, operation: str, a: Any, b: Any) -> dict[str, Any]:
        """Tell whether two inputs of an operation are one question."""
        return dict(self._at.generations.current.compare(caller, operation, a, b))

    async def config_get(self, key: str | None) -> Any:
        """Give the configuration in force as dotted keys, or the value of one, or those below it."""
        config = self._at.reloading.loaded.config
        try:
            return plain(flatten(config) if key is None else find_value(config, key))
        except AddressError as error:
            raise NotFound(f"key: {error}") from None

    async def config_layers(self) -> dict[str, Any]:
        """Give every layer with the keys it sets, the lowest first, and what is in force."""
        loaded = self._at.reloading.loaded
        return {
            "path": plain(loaded.path),
            "fingerprint": loaded.fingerprint,
            "layers": plain(loaded.layers),
            "in_force": plain(flatten(loaded.config)),
            "restart_needed": list(self._at.reloading.pending),
        }

    async def config_reload(self) -> dict[str, Any]:
        """Read the file now."""
        return (await self._at.reloading.reload("call")).to_wire()

    async def config_override(self, key: str, value: Any, by: str) -> dict[str, Any]:
        """Set a key over the file, live."""
        verdict = await self._at.reloading.override(key, value, by=by)
        return {**verdict.to_wire(), "overrides": self._at.reloading.overrides()}

    async def config_reset(self, key: str | None, by: str) -> dict[str, Any]:
        """Take overrides away."""
        verdict = await self._at.reloading.reset(key, by=by)
        return {**verdict.to_wire(), "overrides": self._at.reloading.overrides()}

    async def doctor(self, timeout_s: float) -> dict[str, Any]:
        """Look at what only this process can see; asks every provider for its list of models, which costs nothing."""
        return await self._surroundings.look(self._at.reloading.loaded.config, timeout_s)

    def _operations(self) -> list[dict[str, Any]]:
        """List the operations of the file, with who may answer and what is special about their answers."""
        config = self._at.reloading.loaded.config
        return [
            {
                "name": name,
                "task": operation.task,
                "models": list(operation.models),
                "cache": operation.cache,
                "cache_ttl_s": operation.cache_ttl_s,
                "cache_stale_s": operation.cache_stale_s,
                "cache_samples": operation.cache_samples,
                "noise": list(operation.noise),
                "shared": operation.shared,
                "batch_size": operation.batch_size,
            }
            for name, operation in config.operations.items()
        ]

    def _concerns(self) -> list[str]:
        """Say in sentences what keeps the daemon from being wholly well."""
        at = self._at
        concerns = file_concerns(at.store.statistics(), at.lasting.wall_clock())
        if at.reloading.verdict.result == "refused":
            problems = at.reloading.verdict.problems
            concerns.append(f"the configuration file is refused, the last good one is in force: {problems[0]}")
        concerns += [f"provider {name}: {problem}" for name, problem in at.supply.key_problems().items()]
        concerns += key_concerns(at.supply, at.lasting.key_rings, trio.current_time())
        return concerns


def registered(model: HostModel, connections: int, waiting: TurnstileStatistics | None) -> dict[str, Any]:
    """Tell of a model that processes of the host answer for, in the fields of a configured one."""
    return {
        "name": model.name,
        "provider": HOST,
        "dialect": HOST,
        "id": model.name,
        "enabled": True,
        **price_fields(model.price),
        "requests_per_minute": model.requests_per_minute,
        "tokens_per_minute": model.tokens_per_minute,
        "context_tokens": model.context_tokens,
        "max_output_tokens": model.max_output_tokens,
        "simulated": False,
        "key_problem": None,
        "connections": connections,
        "live": None if waiting is None else live_state(model.name, {model.name: waiting}),
    }


def price_fields(price: Price) -> dict[str, Any]:
    """Tell a price in plain data, with where it comes from; None for what is unknown."""
    told = plain(price)
    tiers, source = told.pop("tiers"), told.pop("source")
    return {**told, "price_tiers": tiers, "price_source": source or None}
