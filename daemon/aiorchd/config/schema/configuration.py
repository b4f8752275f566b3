"""One whole configuration, and its tables by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Struct, field

from aiorchd.config.key import Field, described_fields_of, key, struct_fields
from aiorchd.config.schema.batch import Batch
from aiorchd.config.schema.budget import Budget
from aiorchd.config.schema.cache import Cache
from aiorchd.config.schema.caller import CallerTable
from aiorchd.config.schema.connecting import Pool, Timeouts
from aiorchd.config.schema.daemon import Daemon
from aiorchd.config.schema.failing import Breaker, Hedge, Retry
from aiorchd.config.schema.metrics import Metrics
from aiorchd.config.schema.model import Model
from aiorchd.config.schema.operation import Operation
from aiorchd.config.schema.provider import Provider
from aiorchd.config.schema.routing import Routing, Validation
from aiorchd.config.schema.table import Profile, Section
from aiorchd.config.schema.waiting import Concurrency, Limits, Queue


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One whole configuration, complete with defaults; equal ones compare equal."""

    profile: Annotated[
        Profile | None,
        key(
            "A level (basic, moderate, aggressive) or a scenario that sets other keys with one word; it stands before the "
            "first table.",
            effect="What this file says itself wins, so leave out the keys that it is to set. `aiorchctl config diff` shows "
            "what came from where, and docs/configuration.md what each one sets.",
            example='"moderate"',
        ),
    ] = None
    daemon: Daemon = field(default_factory=Daemon)
    queue: Queue = field(default_factory=Queue)
    concurrency: Concurrency = field(default_factory=Concurrency)
    limits: Limits = field(default_factory=Limits)
    retry: Retry = field(default_factory=Retry)
    breaker: Breaker = field(default_factory=Breaker)
    hedge: Hedge = field(default_factory=Hedge)
    timeouts: Timeouts = field(default_factory=Timeouts)
    pool: Pool = field(default_factory=Pool)
    cache: Cache = field(default_factory=Cache)
    batch: Batch = field(default_factory=Batch)
    routing: Routing = field(default_factory=Routing)
    validation: Validation = field(default_factory=Validation)
    budget: Budget = field(default_factory=Budget)
    metrics: Metrics = field(default_factory=Metrics)
    providers: Mapping[str, Provider] = field(default_factory=dict)
    callers: Mapping[str, CallerTable] = field(default_factory=dict)
    operations: Mapping[str, Operation] = field(default_factory=dict)
    models: tuple[Model, ...] = ()


def sections() -> Mapping[str, type[Section]]:
    """Name the plain tables (all but providers and models) in the order of the manual; one within another has a dot in its
    name."""
    found: dict[str, type[Section]] = {}
    for name, kind in _tables_in(Config):
        found[name] = kind
        found |= {f"{name}.{inner}": table for inner, table in _tables_in(kind)}
    return found


def section_in(config: Config, name: str) -> Section:
    """Give the table that `sections` calls ``name``."""
    found: Any = config
    for part in name.split("."):
        found = getattr(found, part)
    table: Section = found
    return table


def _tables_in(kind: type[Struct]) -> list[tuple[str, type[Section]]]:
    return [
        (each.name, each.type)
        for each in struct_fields(kind)
        if isinstance(each.type, type) and issubclass(each.type, Section)
    ]


def top_keys() -> Mapping[str, Field]:
    """Describe the keys that stand before the first table."""
    return described_fields_of(Config)
