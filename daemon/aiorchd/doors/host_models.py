"""``models.register`` and ``models.remove``: a process of the host says for which models it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final, Protocol

from aiorch.errors import Forbidden, InvalidRequest
from aiorchd.calls.caller import UNMAPPED_UID
from aiorchd.calls.host_model import HOST, HostModel, HostOffer
from aiorchd.calls.target import Price
from aiorchd.doors.arguments import asked_by, label, named_arguments, number_within, take
from aiorchd.doors.method import Asked
from aiorchd.runtime.host_models import HostModels

_MOST_AT_ONCE: Final = 1000
_MOST_USD_PER_1M: Final = 1_000_000
_MOST_TOKENS: Final = 10**12

_PRICES: Final = (
    "input_usd_per_1m",
    "output_usd_per_1m",
    "cache_read_usd_per_1m",
    "cache_write_usd_per_1m",
    "cache_write_1h_usd_per_1m",
)
_LIMITS: Final[Mapping[str, int]] = {
    "context_tokens": _MOST_TOKENS,
    "max_output_tokens": _MOST_TOKENS,
    "max_concurrency": 10_000,
    "requests_per_minute": _MOST_TOKENS,
    "tokens_per_minute": _MOST_TOKENS,
}
_DESCRIBES: Final = frozenset((*_PRICES, *_LIMITS, "fallback"))


class Configured(Protocol):
    """What is asked of the pipeline in force."""

    def dialect_of(self, model: str) -> str | None:
        """Give the dialect that a configured model is asked in, enabled or not; None when there is no such model."""
        ...


class RegisterModels:
    """Handles ``models.register``."""

    takes: ClassVar[frozenset[str]] = _DESCRIBES | {"name", "names", "version", "host"}

    def __init__(self, host_models: HostModels, current: Callable[[], Configured]) -> None:
        self._host_models = host_models
        self._current = current

    async def __call__(self, asked: Asked) -> dict[str, Any]:
        """Register. Raises `InvalidRequest` and `TooLarge`, and has changed nothing then."""
        arguments = named_arguments(asked.params)
        take(arguments, self.takes)
        session = asked.session
        if session.caller.uid == UNMAPPED_UID:
            raise Forbidden("models.register: your user has no number here, so nobody could be told from you")
        names = read_names(arguments)
        model = _described(arguments)
        pipeline = self._current()
        for name in names:
            self._refuse_taken(name, pipeline, arguments)
        for name in model["fallback"] or ():
            if pipeline.dialect_of(name) is None:
                raise InvalidRequest(f"fallback: no model {name[:60]!r} is configured")
        offer = HostOffer(session.callbacks, asked_by(arguments.get("host")) or ())
        self._host_models.register(
            session.caller.uid,
            [HostModel(name=name, **model) for name in names],
            offer,
            at_most=session.max_host_models,
        )
        session.answer_from_now_on(self._host_models.withdraw)
        return {"registered": names}

    @staticmethod
    def _refuse_taken(name: str, pipeline: Configured, arguments: Mapping[str, Any]) -> None:
        dialect = pipeline.dialect_of(name)
        if dialect is None:
            return
        if dialect != HOST:
            raise InvalidRequest(
                f"name: the model {name!r} is configured, and a registered one never stands in for it; choose another name, "
                "or give a function with a call (the argument host of complete)"
            )
        described = sorted(_DESCRIBES & {field for field, value in arguments.items() if value is not None})
        if described:
            raise InvalidRequest(
                f"{described[0]}: the model {name!r} is configured with the dialect host, and the configuration says what it "
                "costs and takes; leave this out"
            )


class RemoveModels:
    """Handles ``models.remove`` of what the connection has registered itself."""

    takes: ClassVar[frozenset[str]] = frozenset(("name", "names"))

    def __init__(self, host_models: HostModels) -> None:
        self._host_models = host_models

    async def __call__(self, asked: Asked) -> dict[str, Any]:
        """Remove. Raises `NotFound` for what this connection has not registered."""
        arguments = named_arguments(asked.params)
        take(arguments, self.takes)
        return {"removed": self._host_models.withdraw(asked.session.callbacks, read_names(arguments))}


def read_names(arguments: Mapping[str, Any]) -> list[str]:
    """Read ``name`` or ``names``; at least one. Raises `InvalidRequest`."""
    name, names = arguments.get("name"), arguments.get("names")
    if (name is None) == (names is None):
        raise InvalidRequest(
            "name: give name, or names for several models" + (", not both" if name is not None else "")
        )
    if names is not None and (type(names) is not list or not 1 <= len(names) <= _MOST_AT_ONCE):
        raise InvalidRequest(f"names: must be a list of 1 to {_MOST_AT_ONCE} texts")
    read = []
    for field, value in [("name", name)] if names is None else [(f"names[{i}]", one) for i, one in enumerate(names)]:
        text = label(field, value)
        if text is None or any(character.isspace() or not character.isprintable() for character in text):
            raise InvalidRequest(f"{field}: must be text without blanks or control characters, not empty")
        read.append(text)
    return list(dict.fromkeys(read))


def _described(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a model costs and takes."""
    prices: dict[str, Any] = {name: number_within(name, arguments.get(name), 0, _MOST_USD_PER_1M) for name in _PRICES}
    price = Price(**prices)
    if price != Price():
        price = replace(price, source="registered")
    limits = {name: number_within(name, arguments.get(name), 1, most, whole=True) for name, most in _LIMITS.items()}
    fallback = arguments.get("fallback")
    if fallback is not None:
        if type(fallback) is not list or len(fallback) > _MOST_AT_ONCE:
            raise InvalidRequest("fallback: must be a list of the names of configured models")
        fallback = tuple(label(f"fallback[{place}]", name) or "" for place, name in enumerate(fallback))
    return {"price": price, **limits, "fallback": fallback, "version": label("version", arguments.get("version")) or ""}
