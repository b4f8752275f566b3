"""What the tables of the TOML have in common: their base, and the kinds of values that many keys take."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from aiorchd.config.key import span

MIB: Final = 1024 * 1024
DAY_S: Final = 86400.0

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
UserOrGroup: TypeAlias = Annotated[int, span(0, 2**32 - 2)] | Annotated[str, Meta(min_length=1, max_length=256)]
Seconds: TypeAlias = Annotated[float, span(0.001, DAY_S)]
Count: TypeAlias = Annotated[int, span(1, 10**12)]
Usd: TypeAlias = Annotated[float, span(0.001, 10_000_000)]
UsdPer1m: TypeAlias = Annotated[float, span(0, 1_000_000)]
ModelName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]
Profile: TypeAlias = Literal[
    "basic",
    "moderate",
    "aggressive",
    "large_repository_analysis",
    "real_time_validation",
    "batch_processing",
    "api_heavy_workload",
]
"""Three levels and four scenarios; a file of each name stands in `presets/`."""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the TOML, immutable; a change makes a new one."""
