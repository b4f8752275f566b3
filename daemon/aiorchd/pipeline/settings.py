"""From the configuration to what the parts of the pipeline are made with: pure, one function for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from aiorchd.calls.host_model import HOST, HostModel
from aiorchd.calls.target import ListedModel, Price, Target, Tier
from aiorchd.config.schema import Config, Model
from aiorchd.config.schema import Provider as ProviderSection
from aiorchd.core.circuit_breaker import BreakerPolicy
from aiorchd.core.concurrency import ConcurrencyBounds
from aiorchd.core.fallback_chains import FallbackChains, Fallbacks
from aiorchd.core.hedge_pace import HedgePolicy
from aiorchd.core.quota_account import Limits
from aiorchd.pipeline.plan import Plan

_THROTTLE_BURST_S: Final = 1.0


def target_of(model: Model, plan: Plan) -> Target:
    """Give a configured model as what is asked: where, as what, at which price."""
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


def chains_of(config: Config, targets: Mapping[str, Target]) -> FallbackChains:
    """Give who answers where a model does not, by what went wrong."""
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


def hedge_policy(config: Config) -> HedgePolicy:
    """Give when a second try is sent, and how many may be."""
    hedge = config.hedge
    return HedgePolicy(quantile=hedge.quantile, min_samples=hedge.min_samples, max_share=hedge.max_share)


def breaker_policy(config: Config) -> BreakerPolicy:
    """Give when a target is left alone, and for how long."""
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


def key_of(model: Model, way: str) -> str:
    """Name the key that a way to a model goes by, with its provider."""
    return model.provider + way.removeprefix(model.name)


def bounds_of(config: Config, model: Model) -> ConcurrencyBounds:
    """Give between which numbers the permits of a model move."""
    concurrency = config.concurrency
    most = concurrency.max if model.max_concurrency is None else model.max_concurrency
    return ConcurrencyBounds(
        initial=min(concurrency.initial, most),
        least=min(concurrency.min, most),
        most=most,
        algorithm=concurrency.algorithm,
    )


def own_bounds(config: Config, model: HostModel) -> ConcurrencyBounds:
    """What a process says of itself needs no finding out; it still shrinks when that proves too much."""
    bounds = bounds_of(config, as_configured(model))
    return bounds if model.max_concurrency is None else replace(bounds, initial=bounds.most)


def as_configured(model: HostModel) -> Model:
    """Give the limits of a model of a host process in the form that configured ones have."""
    return Model(
        name=model.name,
        provider=HOST,
        max_concurrency=model.max_concurrency,
        requests_per_minute=model.requests_per_minute,
        tokens_per_minute=model.tokens_per_minute,
    )


def throttle_of(config: Config) -> Limits:
    """Give the one throttle over all models."""
    per_second = config.queue.calls_per_second
    return Limits(None if per_second is None else per_second * 60.0, burst_s=_THROTTLE_BURST_S)


def limits_of(config: Config, section: Model | ProviderSection) -> Limits:
    """Give the quotas that a model or a provider is said to have."""
    return Limits(
        requests_per_minute=section.requests_per_minute,
        tokens_per_minute=section.tokens_per_minute,
        requests_per_day=section.requests_per_day,
        tokens_per_day=section.tokens_per_day,
        margin=config.limits.safety_margin,
        burst_s=config.limits.burst_s,
    )
