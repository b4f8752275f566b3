"""The levels and scenarios that ``profile = …`` names: files in `presets/` which set other keys.

They are ordinary configuration files, made with the same care and held to the schema by a test. A scenario may name a
level with a ``profile`` of its own and is then laid over it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from aiorchd.config.schema import Profile

PROFILES: Final[tuple[str, ...]] = get_args(Profile)
LEVELS: Final = PROFILES[:3]
"""The others are scenarios."""
_FOLDER: Final = Path(__file__).parent / "presets"


@dataclass(frozen=True, slots=True)
class Preset:
    """One file: its name, and the tables in it without the name of the level below."""

    name: str
    tables: Mapping[str, Any]


def preset_text(name: str) -> str:
    """Give the file of a profile as it is, comments and all. Raises `KeyError` for a name that there is not."""
    if name not in PROFILES:
        raise KeyError(name)
    return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")


def presets_of(name: str) -> tuple[Preset, ...]:
    """Give what a profile is made of, the lowest first: a level alone, or the level that a scenario names and itself."""
    tables = tomllib.loads(preset_text(name))
    level = tables.pop("profile", None)
    below = () if level is None else presets_of(level)
    return (*below, Preset(name, tables))
