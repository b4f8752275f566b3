"""What no single key can know: whether the parts of a configuration fit together, and what is allowed but unlikely."""

from __future__ import annotations

import grp
import math
import pwd
from typing import Any, Final

from aiorchd.config.budgets import check_budgets
from aiorchd.config.endpoint import check_provider
from aiorchd.config.findings import Findings
from aiorchd.config.lines import Path
from aiorchd.config.problems import did_you_mean, printable, show
from aiorchd.config.records import Records
from aiorchd.config.schema import Breaker, Cache, Concurrency, Daemon, Model, Pool, Queue, Routing, Timeouts
from aiorchd.config.schema.daemon import LOG_AREAS
from aiorchd.config.secrets import looks_secret

DEAREST_USD_PER_1M: Final = 1000.0
"""No model on sale costs more; a price above it is probably meant per billion or in another currency."""

CHEAPEST_USD_PER_1M: Final = 0.001
"""A price below it, but not 0, is probably that of one token or of a thousand."""

CHEAPEST_OUTPUT_SHARE: Final = 0.1
DEAREST_OUTPUT_SHARE: Final = 100.0
"""Output usually costs between the input price and ten times of it."""

_NOBODY: Final = 65534
_DEEPEST_EXTRA: Final = 16
_OWN_FIELDS: Final = frozenset({"model", "messages", "input", "stream", "stream_options"})


def check(records: Records, findings: Findings) -> None:
    """Note everything that does not fit, over all sections. Asks the host's user database for names."""
    daemon = records.sections.get("daemon")
    if isinstance(daemon, Daemon):
        _people(daemon, findings)
        _log_areas(daemon, findings)
    for name, provider in records.providers.items():
        check_provider(("providers", name), provider, findings)
    _accounts(records, findings)
    _models(records, findings)
    _routing(records, findings)
    _bounds(records, findings)
    _embedder(records, findings)
    check_budgets(records, findings)


def _embedder(records: Records, findings: Findings) -> None:
    """The model that makes the vectors of the semantic cache must be there, and speak a dialect that has embeddings."""
    cache = records.sections.get("cache")
    if not isinstance(cache, Cache) or not cache.semantic.embedding_model:
        return
    name, path = cache.semantic.embedding_model, ("cache", "semantic", "embedding_model")
    found = next((model for _, model in records.models if model.name == name), None)
    if found is None:
        if records.all_models:  # else it may be one of those that could not be read
            findings.wrong(
                path,
                f"there is no model {show(name)}.",
                did_you_mean(name, [model.name for _, model in records.models]),
            )
        return
    provider = records.providers.get(found.provider)
    if provider is not None and provider.dialect in ("anthropic", "host"):
        findings.wrong(path, f"{show(name)} gives no vectors: the dialect {provider.dialect} has no embeddings.")
    elif not found.enabled:
        findings.doubtful(path, f"the model {show(name)} is not enabled: no question gets a vector.")


def _people(daemon: Daemon, findings: Findings) -> None:
    """Refuse names that this host does not know: an allow list of which nothing is left must not let everybody in."""
    for key in ("allow_users", "admin_users", "allow_groups", "admin_groups"):
        kind = "user" if key.endswith("users") else "group"
        names: tuple[int | str, ...] = getattr(daemon, key)
        for place, name in enumerate(names):
            path: Path = ("daemon", key, place)
            try:
                number = name if isinstance(name, int) else _number(kind, name)
            except (KeyError, ValueError):  # ValueError: a NUL in the name
                findings.wrong(
                    path, f"this host knows no {kind} {show(name)}.", f"Name one that exists, or a {kind}'s number."
                )
                continue
            if number == _NOBODY:
                findings.wrong(path, f"{show(name)} is whoever has no number of their own here, and stands for nobody.")


def _log_areas(daemon: Daemon, findings: Findings) -> None:
    """Doubt levels for what never logs; not refused, for a release may log from other places than the one before."""
    for area in daemon.log_levels:
        if area not in LOG_AREAS:
            findings.doubtful(
                ("daemon", "log_levels", area),
                f"nothing logs as {show(area)}, so this has no effect.",
                did_you_mean(area, LOG_AREAS),
            )


def _number(kind: str, name: str) -> int:
    return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid


def _accounts(records: Records, findings: Findings) -> None:
    """Refuse names that cannot be told apart, and doubt limits of one account that contradict each other."""
    said: dict[tuple[str, str], tuple[str, int]] = {}
    for name, provider in records.providers.items():
        account = provider.account
        if account is None:
            continue
        if any(character.isspace() or not character.isprintable() for character in account):
            path: Path = ("providers", name, "account")
            findings.wrong(path, f"{show(account)} holds blanks or control characters.")
            continue
        for key in ("requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day"):
            limit: int | None = getattr(provider, key)
            if limit is None:
                continue
            where, before = said.setdefault((account, key), (name, limit))
            if before != limit:
                findings.doubtful(
                    ("providers", name, key),
                    f"{limit} contradicts the {before} of providers.{printable(where)}, which draws on the same account: the "
                    "lower one holds.",
                    "Say it once.",
                )


def _models(records: Records, findings: Findings) -> None:
    seen: dict[str, int] = {}
    for number, model in records.models:
        path: Path = ("models", number)
        if any(character.isspace() or not character.isprintable() for character in model.name):
            findings.wrong((*path, "name"), f"{show(model.name)} holds blanks or control characters.")
        if model.name in seen:
            findings.wrong((*path, "name"), f"{show(model.name)} is already the name of models[{seen[model.name]}].")
        else:
            seen[model.name] = number
        if model.provider not in records.provider_names:
            remedy = did_you_mean(model.provider, records.provider_names)
            findings.wrong(
                (*path, "provider"),
                f"there is no provider {show(model.provider)}.",
                remedy or f"Write [providers.{printable(model.provider)}].",
            )
        _prices(path, model, findings)
        _extra(path, model, findings)
    if records.provider_names and not records.models and records.all_models:
        findings.doubtful(("providers",), "there are providers but no models: every call gets the error no_models.")
    elif records.models and records.all_models and not any(model.enabled for _, model in records.models):
        findings.doubtful(("models",), "no model is enabled: every call gets the error no_models.")


_PRICES: Final = (
    "input_usd_per_1m",
    "output_usd_per_1m",
    "cache_read_usd_per_1m",
    "cache_write_usd_per_1m",
    "cache_write_1h_usd_per_1m",
    "tier_input_usd_per_1m",
    "tier_output_usd_per_1m",
    "tier_cache_read_usd_per_1m",
    "tier_cache_write_usd_per_1m",
)


def _prices(path: Path, model: Model, findings: Findings) -> None:
    """Doubt what is no likely price: one typed for a token, or parts that stand in no usual relation to each other."""
    unlikely = False
    for name in _PRICES:
        price: float | None = getattr(model, name)
        if price is None or price == 0:
            continue
        unlikely = unlikely or not CHEAPEST_USD_PER_1M <= price <= DEAREST_USD_PER_1M
        if price > DEAREST_USD_PER_1M:
            findings.doubtful((*path, name), f"{price:g} US dollars for a million tokens is more than any model costs.")
        elif price < CHEAPEST_USD_PER_1M:
            findings.doubtful(
                (*path, name),
                f"{price:g} US dollars for a million tokens is less than any model costs.",
                f"If it is the price of one token, write {price * 1e6:g}.",
            )
    if not unlikely:
        _relations(path, model, findings)
    tiered = [name for name in _PRICES if name.startswith("tier_") and getattr(model, name) is not None]
    if tiered and model.tier_above_tokens is None:
        findings.wrong((*path, tiered[0]), "has no tier_above_tokens beside it, so it is not known when it holds.")
    if model.tier_above_tokens is not None and not tiered:
        findings.wrong((*path, "tier_above_tokens"), "has no tier price beside it.", "Write tier_input_usd_per_1m.")
    if tiered and model.input_usd_per_1m is None:
        findings.wrong((*path, tiered[0]), "has no input_usd_per_1m beside it, the price of shorter prompts.")


def _relations(path: Path, model: Model, findings: Findings) -> None:
    into, out, read = model.input_usd_per_1m, model.output_usd_per_1m, model.cache_read_usd_per_1m
    others = any(getattr(model, name) is not None for name in _PRICES[1:5])
    if into is None:
        if others:
            first = next(name for name in _PRICES[1:5] if getattr(model, name) is not None)
            findings.doubtful(
                (*path, first), "there is no input_usd_per_1m beside it, so the cost of every call is unknown."
            )
        return
    if out is not None and 0 < out < into * CHEAPEST_OUTPUT_SHARE:
        findings.doubtful(
            (*path, "output_usd_per_1m"),
            f"{out:g} is less than a tenth of the input price, {into:g}; no model answers so cheaply.",
            "Are the two exchanged, or is one typed for a thousand tokens?",
        )
    elif out is not None and into > 0 and out > into * DEAREST_OUTPUT_SHARE:
        findings.doubtful(
            (*path, "output_usd_per_1m"),
            f"{out:g} is more than a hundred times the input price, {into:g}.",
            "Is one of them typed for a thousand tokens?",
        )
    if read is not None and read > into:
        findings.doubtful(
            (*path, "cache_read_usd_per_1m"), f"{read:g} is more than the input price, {into:g}: reading is cheaper."
        )


def _extra(path: Path, model: Model, findings: Findings) -> None:
    for name, value in model.extra.items():
        here = (*path, "extra", name)
        if name in _OWN_FIELDS:
            findings.wrong(here, "is a field that the daemon sets itself.")
        elif looks_secret(str(name)) or _any_text(value, looks_secret):
            findings.wrong(here, "holds what looks like a secret.", "Secrets are never written in this file.")
        elif not _is_json(value, 0):
            findings.wrong(here, "cannot be sent as JSON: dates, times, inf and nan cannot, nor what nests too deep.")


def _any_text(value: Any, test: Any) -> bool:
    """Tell whether any string in a value passes a test; only as deep as `_is_json` allows."""
    level = [value]
    for _ in range(_DEEPEST_EXTRA + 1):
        below: list[Any] = []
        for one in level:
            if isinstance(one, str) and test(one):
                return True
            if isinstance(one, dict):
                below.extend(one.values())
            elif isinstance(one, list):
                below.extend(one)
        level = below
    return False


def _is_json(value: Any, depth: int) -> bool:
    if depth > _DEEPEST_EXTRA:
        return False
    if isinstance(value, dict):
        return all(_is_json(one, depth + 1) for one in value.values())
    if isinstance(value, list):
        return all(_is_json(one, depth + 1) for one in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, str)


_FALLBACKS: Final = ("fallback", "context_window_fallback", "content_filter_fallback")


def _routing(records: Records, findings: Findings) -> None:
    routing = records.sections.get("routing")
    for name in _FALLBACKS:
        if isinstance(routing, Routing):
            _chain(getattr(routing, name), ("routing", name), records, findings)
        for number, model in records.models:
            path: Path = ("models", number, name)
            chain = getattr(model, name)
            for place, one in enumerate(chain or ()):
                if one == model.name:
                    findings.wrong(
                        (*path, place), f"{show(one)} names itself: it is asked before its fallbacks anyway."
                    )
            _chain(chain, path, records, findings)


def _chain(chain: tuple[str, ...] | None, path: Path, records: Records, findings: Findings) -> None:
    enabled = {model.name: model.enabled for _, model in records.models}
    seen: set[str] = set()
    for number, name in enumerate(chain or ()):
        here: Path = (*path, number)
        if name in seen:
            findings.wrong(here, f"{show(name)} stands in the chain twice.")
        seen.add(name)
        if name not in enabled:
            if records.all_models:  # else it may be one of those that could not be read
                findings.wrong(here, f"there is no model {show(name)}.", did_you_mean(name, enabled))
        elif not enabled[name]:
            findings.doubtful(here, f"the model {show(name)} is not enabled and will be passed over.")


def _bounds(records: Records, findings: Findings) -> None:
    """Pairs of bounds of which one makes the other void."""
    timeouts = records.sections.get("timeouts")
    if isinstance(timeouts, Timeouts):
        if timeouts.total_s > timeouts.max_total_s:
            findings.wrong(
                ("timeouts", "total_s"),
                f"{timeouts.total_s:g} is above timeouts.max_total_s, {timeouts.max_total_s:g}.",
            )
        for name in ("connect_s", "first_byte_s", "first_token_s", "idle_s"):
            bound: float = getattr(timeouts, name)
            if bound > timeouts.attempt_s:
                findings.doubtful(
                    ("timeouts", name),
                    f"{bound:g} is above timeouts.attempt_s, {timeouts.attempt_s:g}, which ends it before.",
                )
    breaker = records.sections.get("breaker")
    if isinstance(breaker, Breaker) and breaker.open_s > breaker.max_open_s:
        findings.wrong(
            ("breaker", "open_s"), f"{breaker.open_s:g} is above breaker.max_open_s, {breaker.max_open_s:g}."
        )
    queue = records.sections.get("queue")
    if isinstance(queue, Queue) and queue.max_inside_per_caller > queue.max_inside:
        findings.doubtful(
            ("queue", "max_inside_per_caller"),
            f"{queue.max_inside_per_caller} is above queue.max_inside and never reached.",
        )
    concurrency = records.sections.get("concurrency")
    if isinstance(concurrency, Concurrency) and concurrency.min > concurrency.max:
        findings.doubtful(
            ("concurrency", "min"), f"{concurrency.min} is above concurrency.max, {concurrency.max}, which holds."
        )
    pool = records.sections.get("pool")
    if isinstance(pool, Pool) and pool.max_keepalive > pool.max_connections:
        findings.doubtful(
            ("pool", "max_keepalive"), f"{pool.max_keepalive} is above pool.max_connections and never reached."
        )
    cache = records.sections.get("cache")
    if isinstance(cache, Cache) and cache.ttl_s == 0 and cache.strategy != "off":
        findings.doubtful(
            ("cache", "ttl_s"), "with 0 nothing is ever found again.", 'To switch the cache off say strategy = "off".'
        )
