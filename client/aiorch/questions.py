"""What can be asked, as plain data: a method, its named arguments, and how to read the answer.

`Client` and `AsyncClient` have the same methods; what each of them sends and returns is written here, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, Literal, NamedTuple, TypedDict, TypeVar

from aiorch.errors import DeadlineExceeded, RemoteProtocolError
from aiorch.reply import Embedding, Reply, Server
from aiorch.version import __version__

T = TypeVar("T")


class _CallOptions(TypedDict, total=False):
    model: str
    """A configured name; otherwise the daemon chooses."""
    timeout_s: float
    """When the daemon gives up and answers `DeadlineExceeded`."""
    priority: Literal["interactive", "normal", "bulk"]
    cache: Literal["use", "refresh", "bypass", "only"]
    """``refresh`` asks anew and keeps the answer, ``bypass`` neither looks nor keeps, ``only`` never asks a provider."""
    cache_ttl_s: float
    """No answer older than that is taken, and this one is kept no longer; 0 takes and keeps none."""
    partition: str
    """Answers are shared within (your user, this name) only."""
    tags: Sequence[str]
    """Labels for the statistics and for forgetting."""
    retries: int
    """How often to ask again when the connection is lost after the question was sent. Asking twice may cost twice."""


class EmbedOptions(_CallOptions, total=False):
    """Named arguments of ``embed`` besides the texts."""

    dimensions: int


class CompleteOptions(_CallOptions, total=False):
    """Named arguments of ``complete`` and ``stream`` besides the prompt; what is None is not sent."""

    messages: Sequence[Mapping[str, Any]]
    """Instead of a prompt: a conversation in OpenAI's shape."""
    operation: str
    """Instead of a prompt: a kind of work named in the daemon's configuration, done on ``input``."""
    input: Any
    task: str
    """Kind of task, for choosing a model, as in ``classification``."""
    quality_threshold: float
    cost_limit: float
    """The most this call may cost, in USD."""
    cache_samples: int
    """With a temperature above 0: keep so many different answers, and give one of them once they are all there."""
    batch: bool
    """False: not to be asked together with other questions, though its operation allows it."""
    session: str
    key: str
    """Your own name for this question: asked again with the same key within ten minutes, it is answered the same and
    paid once. With a key, a question is sent again by itself when the connection is lost."""
    call_id: str | int
    output_schema: Mapping[str, Any] | bool
    """A JSON Schema; the answer is checked against it and parsed into ``data``."""
    tools: Sequence[Mapping[str, Any]]
    tool_choice: str | Mapping[str, Any]
    temperature: float
    max_tokens: int
    seed: int
    stop: str | Sequence[str]
    extra: Mapping[str, Any]
    """Passed on to the provider untouched."""
    user: str
    metadata: Mapping[str, Any]
    model_call_func: Callable[[str, Any], Any]
    """A function of this process that answers for the model of this call: ``f(model, request)``; see docs/host-models.md."""


class Question(NamedTuple, Generic[T]):
    """One request to make. A tuple, because one is made for every call."""

    method: str
    arguments: Mapping[str, Any]
    parse: Callable[[Any], T]
    timeout_s: float | None = None
    """The caller's patience."""
    carries_timeout: bool = False
    """Whether the daemon is told the timeout, and answers by itself when it has passed."""
    retries: int = 0
    """How often its owner wants it sent again when the connection is lost."""
    keyed: bool = False
    """Whether the daemon recognises it when it is sent again."""
    streams: bool = False
    plain: bool = False
    """Whether its arguments are known to be texts and nothing else."""

    def patience_s(self, grace_s: float) -> float:
        """Give how long an answer is awaited: somewhat longer than the daemon was told, since it answers by then.

        A timeout that makes no sense is the daemon's to refuse.
        """
        timeout_s = self.timeout_s
        if not isinstance(timeout_s, (int, float)):
            return math.inf
        return (timeout_s if timeout_s > 0 else 0.0) + (grace_s if self.carries_timeout else 0.0)

    def with_time_left(self, seconds: float) -> Question[T]:
        """Give the same question for when it is sent later: the daemon is told what is left of the caller's patience."""
        if not self.carries_timeout or self.timeout_s is None:
            return self
        return self._replace(arguments={**self.arguments, "timeout_s": max(seconds, 0.001)})


def too_late(question: Question[Any]) -> DeadlineExceeded:
    """Make the error of a call that was given up on this side."""
    return DeadlineExceeded(
        f"{question.method}: no answer came within {question.timeout_s:g} s; the daemon was told to cancel",
        stage="client",
    )


def complete(
    method: str,
    prompt: str | None,
    options: Mapping[str, Any],
    default_timeout_s: float | None,
    *,
    streams: bool = False,
) -> Question[Reply]:
    """Ask for one answer. ``method`` is the name a wrong option is reported under. Raises TypeError for unknown options."""
    # The shortest way to a named tuple: one is made for every call.
    if not options and default_timeout_s is None and type(prompt) is str and not streams:
        return _new_question(Question, ("complete", {"prompt": prompt}, _read_reply, None, True, 0, False, False, True))
    if options:
        arguments, retries = _sendable(method, options, _COMPLETE, default_timeout_s)
        if (
            arguments.pop("model_call_func", None) is not None
        ):  # the client keeps it; the daemon is told that there is one
            arguments["host"] = True
    else:
        arguments, retries = {} if default_timeout_s is None else {"timeout_s": default_timeout_s}, 0
    if prompt is not None:
        arguments["prompt"] = prompt
    if streams:
        arguments["stream"] = True
    return _new_question(
        Question,
        (
            "complete",
            arguments,
            _read_reply,
            arguments.get("timeout_s"),
            True,
            retries,
            "key" in arguments,
            streams,
            False,
        ),
    )


def embed(
    texts: Sequence[str] | str, options: Mapping[str, Any], default_timeout_s: float | None
) -> Question[Embedding]:
    """Ask for vectors; they travel as bytes, a quarter of the size and none of the objects."""
    arguments, retries = _sendable("embed", options, _EMBED, default_timeout_s)
    arguments["input"] = [texts] if isinstance(texts, str) else list(texts)
    arguments["encoding"] = "bytes"
    return Question(
        "embed",
        arguments,
        Embedding.from_wire,
        timeout_s=arguments.get("timeout_s"),
        retries=retries,
        carries_timeout=True,
    )


def plain(method: str, arguments: Mapping[str, Any], default_timeout_s: float | None) -> Question[Any]:
    """Ask for whatever a method gives, as plain data. A timeout among the arguments is the daemon's to keep."""
    given = {name: value for name, value in arguments.items() if value is not None}
    told = given.get("timeout_s")
    return Question(
        method,
        given,
        _as_is,
        timeout_s=default_timeout_s if told is None else told,
        keyed="key" in given,
        carries_timeout=told is not None,
    )


def hello(timeout_s: float | None = None) -> Question[Server]:
    """Say who is calling, and ask for errors as maps."""
    return Question("hello", _HELLO, Server.from_wire, timeout_s)


def ping(timeout_s: float | None) -> Question[str]:
    """Ask for ``"pong"``."""
    return Question("ping", _NOTHING, str, timeout_s)


def status(timeout_s: float | None) -> Question[dict[str, Any]]:
    """Ask for the state of the daemon."""
    return Question("status", _NOTHING, _map, timeout_s)


def stats(since_s: float | None, by: str | None, own: bool | None, timeout_s: float | None) -> Question[dict[str, Any]]:
    """Ask what was called, saved and spent."""
    return Question("stats", _given(since=since_s, by=by, own=own), _map, timeout_s)


def explain(request_id: str, timeout_s: float | None) -> Question[dict[str, Any]]:
    """Ask for the story of one call."""
    return Question("explain", {"request_id": request_id}, _map, timeout_s)


def feedback(request_id: str, correct: bool, timeout_s: float | None) -> Question[bool]:
    """Say whether an answer was right."""
    return Question("feedback", {"request_id": request_id, "correct": correct}, _counted, timeout_s)


def models_list(timeout_s: float | None) -> Question[list[dict[str, Any]]]:
    """Ask for the models."""
    return Question("models.list", _NOTHING, _list, timeout_s)


def cache_stats(timeout_s: float | None) -> Question[dict[str, Any]]:
    """Ask what the cache holds."""
    return Question("cache.stats", _NOTHING, _map, timeout_s)


def cache_clear(operation: str | None, timeout_s: float | None) -> Question[int]:
    """Ask to forget all answers, or those of one operation."""
    return Question("cache.clear", _given(operation=operation), _removed, timeout_s)


def cache_explain(operation: str, a: Any, b: Any, timeout_s: float | None) -> Question[dict[str, Any]]:
    """Ask how two inputs of an operation compare."""
    return Question("cache.explain", {"operation": operation, "a": a, "b": b}, _map, timeout_s)


def cache_forget(
    request_id: str | None, tag: str | None, operation: str | None, timeout_s: float | None
) -> Question[int]:
    """Ask to forget some answers."""
    return Question("cache.forget", _given(request_id=request_id, tag=tag, operation=operation), _removed, timeout_s)


def config_get(key: str | None, timeout_s: float | None) -> Question[Any]:
    """Ask for the configuration in force."""
    return Question("config.get", _given(key=key), _as_is, timeout_s)


def config_layers(timeout_s: float | None) -> Question[dict[str, Any]]:
    """Ask for every layer of the configuration."""
    return Question("config.get", {"layers": True}, _map, timeout_s)


def config_reload(timeout_s: float | None) -> Question[dict[str, Any]]:
    """Ask to read the configuration file now."""
    return Question("config.reload", _NOTHING, _map, timeout_s)


def config_override(key: str, value: Any, timeout_s: float | None) -> Question[dict[str, Any]]:
    """Ask to set a key over the file."""
    return Question("config.override", {"key": key, "value": value}, _map, timeout_s)


def config_reset(key: str | None, timeout_s: float | None) -> Question[dict[str, Any]]:
    """Ask to take an override away, or all."""
    return Question("config.reset", _given(key=key), _map, timeout_s)


def _sendable(
    method: str, options: Mapping[str, Any], known: frozenset[str], default_timeout_s: float | None
) -> tuple[dict[str, Any], int]:
    arguments = {name: value for name, value in options.items() if value is not None}
    if not known.issuperset(options):
        unknown = min(options.keys() - known)
        raise TypeError(f"{method}() got an unexpected keyword argument {unknown!r}")
    retries = arguments.pop("retries", 0)
    if default_timeout_s is not None and "timeout_s" not in arguments:
        arguments["timeout_s"] = default_timeout_s
    return arguments, retries


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _as_is(result: Any) -> Any:
    return result


def _map(result: Any) -> dict[str, Any]:
    if type(result) is not dict:
        raise RemoteProtocolError(f"the result must be a map, got {type(result).__name__}")
    return result


def _list(result: Any) -> list[dict[str, Any]]:
    if type(result) is not list:
        raise RemoteProtocolError(f"the result must be a list, got {type(result).__name__}")
    return result


def _counted(result: Any) -> bool:
    return _map(result).get("counted") is True


def _removed(result: Any) -> int:
    removed = _map(result).get("removed")
    return removed if type(removed) is int else 0


_new_question: Final = tuple.__new__
_read_reply: Final = Reply.from_wire
_COMPLETE: Final = frozenset(CompleteOptions.__annotations__)
_EMBED: Final = frozenset(EmbedOptions.__annotations__)
_NOTHING: Final[Mapping[str, Any]] = {}
_HELLO: Final[Mapping[str, Any]] = {"client": "aiorch-python", "version": __version__, "errors": "map"}
