"""Functions of this process that answer for models: which there are, and what becomes of what they give.

No I/O here. The shells find the function for a question, run it where they run things, and hand what came of it back to the
exchange. Loaded when a function is first given: few hosts have any.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict

from aiorch.callbacks import Callback, HostRequest
from aiorch.errors import AiorchError, CallError, HostError, InvalidRequest, NotFound
from aiorch.questions import Question, plain

if TYPE_CHECKING:
    from aiorch.exchange import Answering
    from aiorch.link import Link

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
"""Between two looks for a daemon that is away."""
MOVE_S: Final = 10.0
"""So long at most are questions held back for the models of their client."""

_MESSAGE_CHARACTERS: Final = 500
_RETRIES: Final = 3
"""Registering twice does no harm."""
_ANSWER_FIELDS: Final = ("text", "data", "tool_calls", "finish_reason")
_COUNTS: Final = ("input", "cache_read", "cache_write", "output", "reasoning")


ModelFunction: TypeAlias = Callable[[str, HostRequest], Any]
"""Answers for a model: ``f(model, request)``. Gives a text, a map of ``text``, ``data``, ``tool_calls``, ``finish_reason`` and
``usage``, or an object with such attributes."""

AsyncModelFunction: TypeAlias = Callable[[str, HostRequest], "Awaitable[Any] | Any"]


class ModelOptions(TypedDict, total=False):
    """What a registered model costs and takes; what is None is not sent."""

    version: str
    """Part of what its answers are kept under: change it when the function changes."""
    input_usd_per_1m: float
    output_usd_per_1m: float
    cache_read_usd_per_1m: float
    cache_write_usd_per_1m: float
    cache_write_1h_usd_per_1m: float
    context_tokens: int
    max_output_tokens: int
    max_concurrency: int
    """Calls at once, over all processes that answer for the model."""
    requests_per_minute: int
    tokens_per_minute: int
    fallback: Sequence[str]
    """Configured models that are asked when it fails; none if empty, as configured for all models otherwise."""


class Registered:
    """The functions of one client, by the names of their models; what is registered anew after a connection was lost."""

    def __init__(self) -> None:
        self._functions: dict[str, AsyncModelFunction] = {}
        self._arguments: dict[str, dict[str, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._functions)

    def add(self, names: Sequence[str], function: AsyncModelFunction, options: Mapping[str, Any]) -> Callable[[], None]:
        """Take models in; gives what takes them out again as if they had never been added."""
        if not callable(function):
            raise TypeError(f"register_model(): call must be a function, got {type(function).__name__}")
        before = {name: (self._functions[name], self._arguments[name]) for name in names if name in self._functions}
        for name in names:
            self._functions[name] = function
            self._arguments[name] = {option: value for option, value in options.items() if value is not None}

        def undo() -> None:
            for name in names:
                if name in before:
                    self._functions[name], self._arguments[name] = before[name]
                else:
                    self.remove(name)

        return undo

    def remove(self, name: str) -> None:
        """Forget a model."""
        self._functions.pop(name, None)
        self._arguments.pop(name, None)

    def function(self, callback: Callback) -> AsyncModelFunction | None:
        """Find the function for a question."""
        return self._functions.get(callback.name)

    def names(self) -> list[str]:
        """Give the names, in the order in which they came."""
        return list(self._functions)

    def question(self, name: str, timeout_s: float | None) -> Question[Any] | None:
        """Give what registers a model anew; None when it is not registered any more."""
        options = self._arguments.get(name)
        return None if options is None else registration([name], options, timeout_s)

    def take_out(self, names: Sequence[str]) -> None:
        """Forget models. Raises `NotFound` when one of them is not here; nothing has changed then."""
        for name in names:
            if name not in self._functions:
                raise NotFound(f"name: this client has registered no model {name!r}", stage="client")
        for name in names:
            self.remove(name)


def registration(names: Sequence[str], options: Mapping[str, Any], timeout_s: float | None) -> Question[Any]:
    """Ask to register models. Raises TypeError for options that there are not."""
    if unknown := options.keys() - ModelOptions.__annotations__.keys():
        raise TypeError(f"register_model() got an unexpected keyword argument {min(unknown)!r}")
    return plain("models.register", {**options, **_named(names)}, timeout_s)._replace(retries=_RETRIES)


def removal(names: Sequence[str], timeout_s: float | None) -> Question[Any]:
    """Ask to register them no more."""
    return plain("models.remove", _named(names), timeout_s)


def _named(names: Sequence[str]) -> dict[str, Any]:
    return {"name": names[0]} if len(names) == 1 else {"names": list(names)}


def names_of(name: str | Sequence[str]) -> list[str]:
    """Take one name or several. Raises `InvalidRequest`."""
    names = [name] if isinstance(name, str) else list(name)
    if not names or not all(isinstance(one, str) and one for one in names):
        raise InvalidRequest("name: give the name of a model, or several; none of them empty", stage="client")
    return names


def answer_of(said: Any) -> dict[str, Any]:
    """Give what a function answered in the form of the wire. Raises `HostError` for what is no answer."""
    if isinstance(said, str):
        return {"text": str(said)}
    if not isinstance(said, Mapping) and callable(getattr(said, "model_dump", None)):
        said = said.model_dump()  # pydantic, as the SDKs of providers have it
    if isinstance(said, Mapping):
        if isinstance(said.get("choices"), Sequence) and said["choices"]:
            return _of_completion(said)
        return {**said, "usage": _usage(said["usage"])} if said.get("usage") is not None else dict(said)
    if isinstance(getattr(said, "text", None), str):
        answer = {name: _plain(value) for name in _ANSWER_FIELDS if (value := getattr(said, name, None)) is not None}
        usage = getattr(said, "usage", None)
        return answer if usage is None else {**answer, "usage": _usage(usage)}
    raise HostError(
        f"the function gave {type(said).__name__}; it must give a text, a map with text or data, or an object with a text",
        stage="client",
    )


def refusal_of(error: BaseException) -> CallError:
    """Give what the daemon is told of an exception: errors of this library as they are, others by type and message."""
    if isinstance(error, CallError):
        return error
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    try:
        said.encode()
    except UnicodeEncodeError:
        said = said.encode(errors="replace").decode()
    return HostError(said[:_MESSAGE_CHARACTERS], stage="client")


def _of_completion(said: Mapping[str, Any]) -> dict[str, Any]:
    """Read OpenAI's form."""
    choice = said["choices"][0]
    message = choice.get("message") or {}
    answer: dict[str, Any] = {"text": message.get("content") or ""}
    if message.get("tool_calls"):
        answer["tool_calls"] = list(message["tool_calls"])
    if choice.get("finish_reason") is not None:
        answer["finish_reason"] = choice["finish_reason"]
    if said.get("usage") is not None:
        answer["usage"] = _usage(said["usage"])
    return answer


def _usage(told: Any) -> Any:
    """Read counts in our form or in OpenAI's, whose totals hold the parts."""
    if not isinstance(told, Mapping):
        if not hasattr(told, "input"):
            return told
        counts = {name: getattr(told, name, 0) for name in _COUNTS}
        return {**counts, "estimated": True} if getattr(told, "estimated", False) else counts
    if "prompt_tokens" not in told and "completion_tokens" not in told:
        return dict(told)
    read = (told.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    thought = (told.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input": max(0, (told.get("prompt_tokens") or 0) - read),
        "cache_read": read,
        "output": max(0, (told.get("completion_tokens") or 0) - thought),
        "reasoning": thought,
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def said_of(function: ModelFunction, callback: Callback) -> tuple[dict[str, Any] | None, BaseException | None]:
    """Run a function that waits for nothing but itself; gives its answer or what it raised. Lets through what is no
    `Exception`: whoever interrupts a thread means it."""
    try:
        said = function(callback.model, callback.request)
        if hasattr(said, "__await__"):
            close = getattr(said, "close", None)
            if close is not None:
                close()
            raise HostError("the function is async; only an AsyncClient can run it", stage="client")
        return answer_of(said), None
    except Exception as error:  # barrier: a function of the host
        return None, error


class Local:
    """A function that came with a call, run by the thread that made it."""

    def __init__(self, function: ModelFunction) -> None:
        self._function = function
        self.raised: BaseException | None = None
        """What it raised last."""

    def answer(self, link: Link, asked: Answering) -> None:
        """Answer all that was asked back."""
        while asked.callbacks:
            callback = asked.callbacks.popleft()
            if callback.request.called_off:
                continue
            answer, self.raised = said_of(self._function, callback)
            link.answer(callback, answer, None if self.raised is None else refusal_of(self.raised))


def warn(name: str, failure: CallError) -> None:
    """Tell this process's log that the daemon takes a model no more: it is in the way of something new in its configuration."""
    import logging

    logging.getLogger("aiorch").warning("the daemon does not take the model %s any more: %s", name, failure)


def tell(error: BaseException) -> None:
    """Tell this process's log of what a function raised; over the wire no traceback goes."""
    if isinstance(error, AiorchError):
        return
    import logging

    logging.getLogger("aiorch").warning("a function that answers for a model failed", exc_info=error)
