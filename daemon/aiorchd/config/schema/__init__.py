"""Every key of the TOML: its type, unit, bounds, default, meaning, consequence, and whether it changes live.

A table is a frozen record whose docstring opens its part of the manual. Only what this release does is here; names of
the public face that come later are in `later.py` and are refused with a sentence that says so.
"""

from aiorchd.config.schema.batch import Batch
from aiorchd.config.schema.budget import Budget
from aiorchd.config.schema.cache import Cache, SemanticCache
from aiorchd.config.schema.caller import CallerTable
from aiorchd.config.schema.configuration import Config, section_in, sections, top_keys
from aiorchd.config.schema.connecting import Pool, Timeouts
from aiorchd.config.schema.daemon import Daemon
from aiorchd.config.schema.failing import Breaker, Hedge, Retry
from aiorchd.config.schema.metrics import Metrics
from aiorchd.config.schema.model import Model
from aiorchd.config.schema.operation import Operation
from aiorchd.config.schema.provider import DEFAULT_BASE_URLS, WITHOUT_ADDRESS, Provider
from aiorchd.config.schema.routing import Routing, Validation
from aiorchd.config.schema.table import Profile, Section
from aiorchd.config.schema.waiting import Concurrency, Limits, Queue

__all__ = [
    "DEFAULT_BASE_URLS",
    "WITHOUT_ADDRESS",
    "Batch",
    "Breaker",
    "Budget",
    "Cache",
    "CallerTable",
    "Concurrency",
    "Config",
    "Daemon",
    "Hedge",
    "Limits",
    "Metrics",
    "Model",
    "Operation",
    "Pool",
    "Profile",
    "Provider",
    "Queue",
    "Retry",
    "Routing",
    "Section",
    "SemanticCache",
    "Timeouts",
    "Validation",
    "section_in",
    "sections",
    "top_keys",
]
