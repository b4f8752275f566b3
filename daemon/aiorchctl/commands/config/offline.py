"""Reading a configuration file without a daemon, as the daemon would."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiorchctl.failures import Failed

if TYPE_CHECKING:
    from aiorchd.config.load import Loaded
    from aiorchd.config.places import Place
    from aiorchd.config.problems import ConfigError, Problem


def find_file(file: str | None) -> Place | None:
    """Find the file that is named, or that a daemon started by this person would read."""
    from aiorchd.config.places import PlaceError, find_config

    try:
        return find_config(file, os.environ, os.getuid())
    except PlaceError as error:
        raise Failed("usage", str(error), os.EX_USAGE) from error


def load_file(file: str | None) -> tuple[Place | None, Loaded]:
    """Load that file with this process's environment over it; every problem is the command's failure."""
    from aiorchd.config.load import load
    from aiorchd.config.problems import ConfigError

    place = find_file(file)
    try:
        return place, load(None if place is None else place.path, os.environ)
    except ConfigError as error:
        raise refused(error) from error


def refused(error: ConfigError, opening: str = "") -> Failed:
    """Turn a refused configuration into a failure that tells all its problems."""
    return Failed(
        "config",
        "\n".join([*([opening] if opening else []), *map(str, error.problems)]),
        error.exit_code,
        problems=to_wire(error.problems),
    )


def to_wire(problems: Iterable[Problem]) -> list[dict[str, object]]:
    """Give problems as plain maps."""
    return [problem.to_wire() for problem in problems]
