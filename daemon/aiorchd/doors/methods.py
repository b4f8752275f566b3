"""The table of methods: name, who may call it, what does it. One place to read what the daemon can be asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from aiorch.errors import Forbidden, InvalidRequest, NotFound
from aiorch.version import PROTOCOL, __version__
from aiorchd.calls.caller import Caller
from aiorchd.calls.outcome import rules
from aiorchd.doors.arguments import COMPLETE_ARGUMENTS, EMBED_ARGUMENTS, named_arguments, plain_input, take
from aiorchd.doors.host_models import Configured, RegisterModels, RemoveModels
from aiorchd.doors.method import Asked
from aiorchd.doors.questions import Questions
from aiorchd.runtime.host_models import HostModels


class House(Protocol):
    """What the methods about the daemon itself are answered from. All results are plain data."""

    async def status(self) -> dict[str, Any]:
        """Health, generation, configuration and its last verdict, every stage's statistics."""
        ...

    async def stats(self, *, uid: int | None, since_s: float | None, by: str | None) -> dict[str, Any]:
        """Add up finished calls of one user, or of all (uid None)."""
        ...

    async def explain(self, request_id: str) -> dict[str, Any] | None:
        """Tell the story of one call; None when it is not known (any more)."""
        ...

    async def models(self, uid: int) -> list[dict[str, Any]]:
        """List the models with their live state: those of the configuration, and those that this user has registered."""
        ...

    async def cache_stats(self) -> dict[str, Any]:
        """Tell what the cache holds."""
        ...

    async def feedback(self, *, uid: int | None, request_id: str, correct: bool) -> bool:
        """Take a caller's word on an answer, ``uid`` None for whoever's; tells whether it counts for anything."""
        ...

    async def cache_forget(
        self, *, uid: int | None, request_id: str | None, tag: str | None, operation: str | None
    ) -> int:
        """Delete answers of one user, or of all (uid None); returns how many."""
        ...

    async def cache_explain(self, caller: Caller, operation: str, a: Any, b: Any) -> dict[str, Any]:
        """Tell whether two inputs of an operation are one question to the cache, at which depth, and why."""
        ...

    async def config_get(self, key: str | None) -> Any:
        """Give the configuration in force, or the part below a dotted key."""
        ...

    async def config_layers(self) -> dict[str, Any]:
        """Give every layer of the configuration, and what is in force."""
        ...

    async def config_reload(self) -> dict[str, Any]:
        """Read the file now; returns the verdict."""
        ...

    async def config_override(self, key: str, value: Any, by: str) -> dict[str, Any]:
        """Set a key over the file, live; returns the verdict and all overrides. ``by`` is for the log."""
        ...

    async def config_reset(self, key: str | None, by: str) -> dict[str, Any]:
        """Take an override away, or (None) all; returns the verdict and what is left."""
        ...

    async def limits(self, uid: int | None) -> dict[str, Any]:
        """Tell what paces each model, and who waits; with ``uid``, of the waiting only that user's."""
        ...

    async def doctor(self, timeout_s: float) -> dict[str, Any]:
        """Tell what only the daemon can see of its surroundings, its providers included: clock, limits, libraries, keys."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """One method. ``takes`` are the names of its arguments; its handler refuses others. ``in_line``: see `Method`."""

    handler: Callable[[Asked], Awaitable[Any]]
    admin_only: bool = False
    takes: frozenset[str] = frozenset()
    in_line: bool = False


class _Handler(Protocol):
    """A handler that knows its arguments."""

    takes: ClassVar[frozenset[str]]

    async def __call__(self, asked: Asked) -> Any: ...


def _row(handler: _Handler, *, admin_only: bool = False) -> Row:
    return Row(handler, admin_only, handler.takes)


def method_table(
    questions: Questions, house: House, host_models: HostModels, current: Callable[[], Configured]
) -> Mapping[str, Row]:
    """Build the table. ``current`` gives the pipeline in force."""
    return {
        "hello": Row(_hello, takes=_HELLO),
        "ping": Row(_ping),
        "complete": Row(questions.complete, takes=COMPLETE_ARGUMENTS, in_line=True),
        "embed": Row(questions.embed, takes=EMBED_ARGUMENTS, in_line=True),
        "models.list": _row(_ModelsList(house)),
        "models.register": _row(RegisterModels(host_models, current)),
        "models.remove": _row(RemoveModels(host_models)),
        "cache.stats": _row(_Plain(house.cache_stats)),
        "cache.clear": _row(_CacheClear(house), admin_only=True),
        "cache.forget": _row(_CacheForget(house)),
        "cache.explain": _row(_CacheExplain(house)),
        "feedback": _row(_Feedback(house)),
        "config.get": _row(_ConfigGet(house), admin_only=True),
        "config.reload": _row(_Plain(house.config_reload), admin_only=True),
        "config.override": _row(_ConfigOverride(house), admin_only=True),
        "config.reset": _row(_ConfigReset(house), admin_only=True),
        "stats": _row(_Stats(house)),
        "explain": _row(_Explain(house)),
        "status": _row(_Plain(house.status)),
        "limits": _row(_Limits(house)),
        "limits.rules": Row(_rules),
        "doctor": _row(_Doctor(house), admin_only=True),
    }


_HELLO: Final = frozenset(("client", "version", "errors"))
"""What is understood; clients to come may tell more."""


async def _hello(asked: Asked) -> dict[str, Any]:
    arguments = named_arguments(asked.params)
    form = arguments.get("errors")
    if form not in (None, "map", "text"):
        raise InvalidRequest('errors: must be "map" or "text"')
    caller = asked.session.caller
    return {
        "server": "aiorchd",
        "version": __version__,
        "protocol": PROTOCOL,
        "uid": caller.uid,
        "gid": caller.gid,
        "pid": caller.pid,
        "unit": caller.unit,
        "admin": caller.admin,
        "max_frame_bytes": asked.session.takes.max_frame_bytes,
        "max_elements": asked.session.takes.max_elements,
    }


async def _ping(asked: Asked) -> str:  # noqa: ARG001 - nothing to look at
    return "pong"


async def _rules(asked: Asked) -> list[dict[str, Any]]:
    take(named_arguments(asked.params), frozenset())
    return rules()


@dataclass(frozen=True, slots=True)
class _Plain:
    """A method without arguments."""

    takes: ClassVar[frozenset[str]] = frozenset()
    ask: Callable[[], Awaitable[Any]]

    async def __call__(self, asked: Asked) -> Any:
        take(named_arguments(asked.params), self.takes)
        return await self.ask()


@dataclass(frozen=True, slots=True)
class _ModelsList:
    takes: ClassVar[frozenset[str]] = frozenset()
    house: House

    async def __call__(self, asked: Asked) -> list[dict[str, Any]]:
        take(named_arguments(asked.params), self.takes)
        return await self.house.models(asked.session.caller.uid)


@dataclass(frozen=True, slots=True)
class _Limits:
    takes: ClassVar[frozenset[str]] = frozenset()
    house: House

    async def __call__(self, asked: Asked) -> dict[str, Any]:
        take(named_arguments(asked.params), self.takes)
        caller = asked.session.caller
        return await self.house.limits(None if caller.admin else caller.uid)


@dataclass(frozen=True, slots=True)
class _CacheClear:
    takes: ClassVar[frozenset[str]] = frozenset(("operation",))
    house: House

    async def __call__(self, asked: Asked) -> dict[str, Any]:
        arguments = named_arguments(asked.params)
        take(arguments, self.takes)
        operation = _text(arguments, "operation")
        return {"removed": await self.house.cache_forget(uid=None, request_id=None, tag=None, operation=operation)}


@dataclass(frozen=True, slots=True)
class _CacheForget:
    takes: ClassVar[frozenset[str]] = frozenset(("request_id", "tag", "operation"))
    house: House

    async def __call__(self, asked: Asked) -> dict[str, Any]:
        arguments = named_arguments(asked.params)
        take(arguments, self.takes)
        request_id, tag, operation = (_text(arguments, name) for name in ("request_id", "tag", "operation"))
        if request_id is None and tag is None and operation is None:
            raise InvalidRequest(
                "request_id: name what to forget: request_id, tag or operation (cache.clear forgets all)"
            )
        caller = asked.session.caller
        removed = await self.house.cache_forget(
            uid=None if caller.admin else caller.uid, request_id=request_id, tag=tag, operation=operation
        )
        return {"removed": removed}


@dataclass(frozen=True, slots=True)
class _CacheExplain:
    takes: ClassVar[frozenset[str]] = frozenset(("operation", "a", "b"))
    house: House

    async def __call__(self, asked: Asked) -> dict[str, Any]:
        arguments = named_arguments(asked.params)
        take(arguments, self.takes)
        operation = _text(arguments, "operation")
        if operation is None:
            raise InvalidRequest("operation: missing; name the operation whose inputs these are")
        a, b = (plain_input(name, arguments.get(name)) for name in ("a", "b"))
        return await self.house.cache_explain(asked.session.caller, operation, a, b)


@dataclass(frozen=True, slots=True)
class _Feedback:
    takes: ClassVar[frozenset[str]] = frozenset(("request_id", "correct"))
    house: House

    async def __call__(self, asked: Asked) -> dict[str, Any]:
        arguments = named_arguments(asked.params)
        take(arguments, self.takes)
        request_id, correct = _text(arguments, "request_id"), arguments.get("correct")
        if request_id is None:
            raise InvalidRequest("request_id: missing; it is the id of a reply")
        if not isinstance(correct, bool):
            raise InvalidRequest("correct: must be true or false")
        caller = asked.session.caller
        counted = await self.house.feedback(
            uid=None if caller.admin else caller.uid, request_id=request_id, correct=correct
        )
        return {"counted": counted}


@dataclass(frozen=True, slots=True)
class _ConfigGet:
    takes: ClassVar[frozenset[str]] = frozenset(("key", "layers"))
    house: House

    async def __call__(self, asked: Asked) -> Any:
        arguments = named_arguments(asked.params)
        take(arguments, self.takes)
        key, layers = _text(arguments, "key"), arguments.get("layers")
        if layers not in (None, True, False):
            raise InvalidRequest("layers: must be true or false")
        if layers and key is not None:
            raise InvalidRequest("layers: gives all keys; leave out key")
        return await self.house.config_layers() if layers else await self.house.config_get(key)


@dataclass(frozen=True, slots=True)
class _ConfigOverride:
    takes: ClassVar[frozenset[str]] = frozenset(("key", "value"))
    house: House

    async def __call__(self, asked: Asked) -> dict[str, Any]:
        arguments = named_arguments(asked.params)
        take(arguments, self.takes)
        key = _text(arguments, "key")
        if key is None:
            raise InvalidRequest("key: missing; it is a dotted key such as cache.ttl_s")
        if arguments.get("value") is None:
            raise InvalidRequest("value: missing; config.reset takes an override away")
        return await self.house.config_override(key, arguments["value"], _who(asked))


@dataclass(frozen=True, slots=True)
class _ConfigReset:
    takes: ClassVar[frozenset[str]] = frozenset(("key",))
    house: House

    async def __call__(self, asked: Asked) -> dict[str, Any]:
        arguments = named_arguments(asked.params)
        take(arguments, self.takes)
        return await self.house.config_reset(_text(arguments, "key"), _who(asked))


def _who(asked: Asked) -> str:
    caller = asked.session.caller
    return f"uid {caller.uid} pid {caller.pid}"


@dataclass(frozen=True, slots=True)
class _Stats:
    takes: ClassVar[frozenset[str]] = frozenset(("since", "by", "own"))
    house: House

    async def __call__(self, asked: Asked) -> dict[str, Any]:
        arguments = named_arguments(asked.params)
        take(arguments, self.takes)
        since = arguments.get("since")
        if since is not None and (isinstance(since, bool) or not isinstance(since, (int, float)) or not since > 0):
            raise InvalidRequest("since: must be a number of seconds more than 0, counted back from now")
        by = _text(arguments, "by")
        if by not in (None, "operation", "model", "provider", "caller", "unit"):
            raise InvalidRequest("by: must be one of operation, model, provider, caller, unit")
        caller = asked.session.caller
        # Everybody sees their own; administrators see all unless they ask for their own.
        everybody = caller.admin and arguments.get("own") is not True
        return await self.house.stats(
            uid=None if everybody else caller.uid, since_s=None if since is None else float(since), by=by
        )


@dataclass(frozen=True, slots=True)
class _Explain:
    takes: ClassVar[frozenset[str]] = frozenset(("request_id",))
    house: House

    async def __call__(self, asked: Asked) -> dict[str, Any]:
        arguments = named_arguments(asked.params)
        take(arguments, self.takes)
        request_id = _text(arguments, "request_id")
        if request_id is None:
            raise InvalidRequest("request_id: missing; it is the id of a reply")
        story = await self.house.explain(request_id)
        if story is None:
            raise NotFound(
                f"request_id: no call {request_id[:60]!r} is known; old ones are trimmed ([metrics] keep_calls)"
            )
        caller = asked.session.caller
        if not caller.admin and story.get("uid") != caller.uid:
            raise Forbidden("request_id: belongs to another user; administrators can see it")
        return story


@dataclass(frozen=True, slots=True)
class _Doctor:
    takes: ClassVar[frozenset[str]] = frozenset(("provider_timeout_s",))
    house: House

    async def __call__(self, asked: Asked) -> dict[str, Any]:
        arguments = named_arguments(asked.params)
        take(arguments, self.takes)
        timeout_s = arguments.get("provider_timeout_s", 10.0)
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or not 0 < timeout_s <= 60:
            raise InvalidRequest("provider_timeout_s: must be a number of seconds more than 0 and at most 60")
        return await self.house.doctor(float(timeout_s))


def _text(arguments: Mapping[str, Any], name: str) -> str | None:
    value = arguments.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{name}: must be text that is not empty")
    return value
