"""The environment names of the guides that aiorch takes the place of, understood so that an existing ``.env`` still works.

They set the same keys as ``AIORCH__SECTION__KEY``, which wins over them. The names are not ours alone (``CACHE_SIZE`` may
belong to another program), so a value that does not fit is passed over with a warning instead of keeping the daemon
from starting. A name that has nothing to set here is understood too, and told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import msgspec

from aiorchd.config.address import find_address
from aiorchd.config.lines import Path
from aiorchd.config.problems import show
from aiorchd.config.values import value_from_text

_TRUE: Final = frozenset(("1", "true", "yes", "on"))
_FALSE: Final = frozenset(("0", "false", "no", "off"))


@dataclass(frozen=True, slots=True)
class DocumentName:
    """One variable: the key it sets and how, or (``key`` empty) ``why`` it has no effect, and what to do instead."""

    key: str = ""
    sets: Callable[[str], str | None] = str.strip
    """From its text to the text of the key; None when it leaves the key alone. Raises `ValueError`."""
    why: str = ""
    remedy: str = ""
    meaning: str = ""


def _lowered(text: str) -> str:
    return text.strip().lower()


def _only_false(then: str) -> Callable[[str], str | None]:
    """A switch that is on anyway: false sets the key to ``then``, true leaves it alone."""

    def sets(text: str) -> str | None:
        word = _lowered(text)
        if word in _FALSE:
            return then
        if word in _TRUE:
            return None
        raise ValueError("must be true or false")

    return sets


_THROTTLING: Final = DocumentName(
    why="every model is paced anyway",
    remedy="MAX_REQUESTS_PER_SECOND or queue.calls_per_second throttles all together.",
)

DOCUMENT_NAMES: Final[Mapping[str, DocumentName]] = MappingProxyType(
    {
        # The performance guide.
        "OPTIMIZATION_LEVEL": DocumentName("profile", _lowered, meaning="the level"),
        "CACHE_STRATEGY": DocumentName("cache.strategy", _lowered, meaning="where answers are kept"),
        "CACHE_SIZE": DocumentName("cache.max_entries", meaning="answers in memory"),
        "DISK_CACHE_PATH": DocumentName(
            why="the answers on disk lie in the state directory",
            remedy="Move that with --state-dir or $STATE_DIRECTORY.",
        ),
        "OPTIMIZATION_MAX_WORKERS": DocumentName("concurrency.max", meaning="attempts at once"),
        "OPTIMIZATION_PARALLEL": DocumentName("concurrency.max", _only_false("1"), meaning="false: one at a time"),
        "REQUEST_THROTTLING": _THROTTLING,
        "MAX_REQUESTS_PER_SECOND": DocumentName("queue.calls_per_second", meaning="attempts a second, over all models"),
        "BATCH_PROCESSING": DocumentName(
            "batch.max_size", _only_false("1"), meaning="false: no questions are asked together"
        ),
        "BATCH_SIZE": DocumentName("batch.max_size", meaning="questions in one prompt, of operations that allow it"),
        "MAX_BATCH_WAIT_TIME": DocumentName("batch.max_wait_s", meaning="how long a question waits for others"),
        # The tag-space guide; its names are the more particular ones and win.
        "TAG_SPACE_AI_CONCURRENCY": DocumentName("concurrency.initial", meaning="attempts at once in the beginning"),
        "TAG_SPACE_MAX_AI_CONCURRENCY": DocumentName("concurrency.max", meaning="attempts at once"),
        "TAG_SPACE_BATCH_SIZE": DocumentName("batch.max_size", meaning="as BATCH_SIZE"),
        "TAG_SPACE_CACHE_SIZE": DocumentName("cache.max_entries", meaning="answers in memory"),
        "TAG_SPACE_CACHE_ENABLED": DocumentName("cache.strategy", _only_false("off"), meaning="false: no cache"),
    }
)
"""In order: of two that set the same key the later one wins."""


@dataclass(frozen=True, slots=True)
class Understood:
    """What the variables say: values by path with the variable each came from, and (variable, sentence, remedy) for those
    without effect.
    """

    values: Mapping[Path, tuple[Any, str]]
    doubts: tuple[tuple[str, str, str], ...]


def understand(environ: Mapping[str, str]) -> Understood:
    """Read the documents' names from an environment; empty ones count as unset."""
    values: dict[Path, tuple[Any, str]] = {}
    doubts: list[tuple[str, str, str]] = []
    for variable, name in DOCUMENT_NAMES.items():
        text = environ.get(variable, "")
        if not text.strip():
            continue
        if not name.key:
            doubts.append((variable, f"is understood and has no effect: {name.why}.", name.remedy))
            continue
        address = find_address(name.key, providers=(), models=())
        try:
            meant = name.sets(text)
            value = None if meant is None else value_from_text(meant, address.shape)
            if meant is not None:
                msgspec.convert(value, address.field.shape)
        except msgspec.ValidationError:
            doubts.append(
                (variable, f"is passed over: it must be {address.field.expectation()}, not {show(text)}.", "")
            )
            continue
        except ValueError as error:
            doubts.append((variable, f"is passed over: it {error}, not {show(text)}.", ""))
            continue
        if meant is None:
            continue
        before = values.get(address.path)
        if before is not None and before[0] != value:
            doubts.append((variable, f"wins over {before[1]}, which sets {name.key} to something else.", ""))
        values[address.path] = (value, variable)
    return Understood(values, tuple(doubts))
