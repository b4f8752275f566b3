"""The named arguments of ``complete`` and ``embed``, checked one by one, each with an error that says what to do.

Lenient where other clients' type systems force it: an integer stands for a float, an empty array for an empty map, and
text that was not valid UTF-8 is repaired (with U+FFFD) rather than refused, because an editor's buffer may hold any
bytes. Everything else is refused by name.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from aiorch.errors import InvalidRequest
from aiorchd.calls.question import Question

_MAX_DEPTH: Final = 64
_MOST_COUNT: Final = 2**31
_MAX_TAGS: Final = 32
_MAX_LABEL_CHARACTERS: Final = 256


def named_arguments(params: list[Any]) -> dict[str, Any]:
    """Take the one map out of the params array; ``[]`` counts as an empty map. Raises `InvalidRequest`."""
    if not params:
        return {}
    if len(params) == 1:
        first = params[0]
        if type(first) is dict:
            return first
        if first is None or first == []:
            return {}
    raise InvalidRequest('params: must be an array holding one map of named arguments, such as [{"prompt": "…"}]')


def take(arguments: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse names that the method does not have, with the nearest one it has."""
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"
            raise InvalidRequest(f"{str(name)[:60]}: no such argument{hint}")


def parse_complete(arguments: dict[str, Any]) -> Question:
    """Check the arguments of ``complete``. Raises `InvalidRequest` naming the field."""
    if not COMPLETE_ARGUMENTS.issuperset(arguments):
        take(arguments, COMPLETE_ARGUMENTS)
    request: dict[str, Any]
    operation = given = None
    if arguments.get("operation") is not None:
        operation = _label("operation", arguments["operation"])
    if operation is not None:
        request, given = {}, _input(arguments)
    elif "input" in arguments:
        raise InvalidRequest("input: belongs to an operation; send prompt or messages, or name the operation")
    else:
        request = {"messages": _messages(arguments)}
    treatment: dict[str, Any] = {}
    for name, value in arguments.items():
        read = _READ.get(name)
        if read is None or value is None:
            continue
        check, field = read
        checked = check(name, value)
        if field is not None:
            treatment[field] = checked
        elif checked is not None:
            request[name] = checked
    if not _DELIVERY.isdisjoint(arguments):
        for name in ("user", "metadata"):
            if arguments.get(name) is not None:
                request["extra"] = {name: _plain(name, arguments[name]), **request.get("extra", {})}
        treatment |= _delivery(arguments)
    return Question(kind="chat", request=request, operation=operation, input=given, **treatment)


def _delivery(arguments: dict[str, Any]) -> dict[str, Any]:
    """Read how the answer is to come, by whom and with what, as the fields of `Question`."""
    stream = _flag("stream", arguments.get("stream"))
    notify = arguments.get("notify")
    host = asked_by(arguments.get("host"))
    call_id = arguments.get("call_id")
    if call_id is not None and type(call_id) not in (str, int):
        raise InvalidRequest("call_id: must be text or an integer, chosen by the caller")
    if notify is not None:
        if type(notify) is not list or not notify or type(notify[0]) is not str:
            raise InvalidRequest(
                "notify: must be an array of a method name and the arguments that come before each delta"
            )
        notify = tuple(_plain("notify", notify))
    if stream and call_id is None and notify is None:
        raise InvalidRequest(
            "call_id: a streamed call needs one, chosen by the caller, so that its deltas can be told apart"
        )
    batch = arguments.get("batch")
    if _flag("batch", batch) and stream:
        raise InvalidRequest("batch: a streamed call is never batched; leave out one of the two")
    return {"stream": stream, "call_id": call_id, "notify": notify, "host": host, "batch": batch is not False}


def parse_embed(arguments: dict[str, Any]) -> Question:
    """Check the arguments of ``embed``. Raises `InvalidRequest` naming the field."""
    take(arguments, EMBED_ARGUMENTS)
    texts = arguments.get("input")
    if type(texts) is str:
        texts = [texts]
    if type(texts) is not list or not texts:
        raise InvalidRequest("input: must be a list of at least one text")
    checked = []
    for index, text in enumerate(texts):
        if type(text) is not str or not text:
            raise InvalidRequest(f"input[{index}]: must be text that is not empty")
        checked.append(_repaired(text))
    request: dict[str, Any] = {"input": checked}
    dimensions = arguments.get("dimensions")
    if dimensions is not None:
        request["dimensions"] = _count("dimensions", dimensions)
    return Question(
        kind="embed",
        request=request,
        model=_label("model", arguments.get("model")),
        timeout_s=_seconds("timeout_s", arguments.get("timeout_s")),
        priority=_one_of("priority", arguments.get("priority"), _PRIORITIES, "normal"),
        cache=_one_of("cache", arguments.get("cache"), _CACHE_MODES, "use"),
        cache_ttl_s=_not_negative("cache_ttl_s", arguments.get("cache_ttl_s")),
        partition=_scope("partition", arguments.get("partition")) or "",
        tags=_tags(arguments.get("tags")),
        vectors_as_bytes=_one_of("encoding", arguments.get("encoding"), ("list", "bytes"), "list") == "bytes",
    )


def asked_by(value: Any) -> tuple[Any, ...] | None:
    """Read how a host process wants to be asked: None for not at all, empty for `host.complete`, else a method and its
    leading arguments."""
    if value is None or value is False or value == 0:
        return None
    if value is True or value == 1:
        return ()
    if type(value) is not list or not value or type(value[0]) is not str or not value[0]:
        raise InvalidRequest(
            "host: must be true, or an array of a method name and the arguments that come before the question"
        )
    return tuple(_plain("host", value))


def _input(arguments: dict[str, Any]) -> Any:
    """Check what an operation is to be done on: anything that JSON can carry, but nothing."""
    for name in ("prompt", "messages"):
        if arguments.get(name) is not None:
            raise InvalidRequest(f"{name}: send {name}, or operation with input, not both")
    return plain_input("input", arguments.get("input"))


def plain_input(name: str, given: Any) -> Any:
    """Take an input of an operation as plain data. Raises `InvalidRequest`."""
    if given is None:
        raise InvalidRequest(f"{name}: missing; an operation is done on an input: text, a map or a list")
    return _plain(name, given)


def _messages(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    prompt = arguments.get("prompt")
    messages = arguments.get("messages")
    if prompt is not None:
        if messages is not None:
            raise InvalidRequest("messages: send prompt or messages, not both")
        if type(prompt) is not str:
            raise InvalidRequest(f"prompt: must be text, got {_kind(prompt)}")
        if not prompt:
            raise InvalidRequest("prompt: must not be empty")
        return [{"role": "user", "content": prompt if prompt.isascii() else _repaired(prompt)}]
    if messages is None:
        raise InvalidRequest("prompt: missing; send prompt, messages, or operation with input")
    if type(messages) is not list or not messages:
        raise InvalidRequest("messages: must be a list of at least one map with role and content")
    checked: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if type(message) is not dict:
            raise InvalidRequest(f"{where}: must be a map with role and content, got {_kind(message)}")
        role = message.get("role")
        if type(role) is not str or not role:
            raise InvalidRequest(f"{where}.role: must be text such as system, user, assistant or tool")
        content = message.get("content")
        if content is not None and type(content) not in (str, list):
            raise InvalidRequest(f"{where}.content: must be text or a list of content parts, got {_kind(content)}")
        if type(content) is str and len(message) == 2:
            checked.append({"role": role, "content": content if content.isascii() else _repaired(content)})
        else:
            checked.append(_plain(where, message))
    return checked


def _repaired(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="surrogateescape" if _only_escapes(text) else "replace").decode(errors="replace")
    return text


def _only_escapes(text: str) -> bool:
    return all(not 0xD800 <= ord(character) <= 0xDFFF or 0xDC80 <= ord(character) <= 0xDCFF for character in text)


def _plain(where: str, value: Any, depth: int = 0) -> Any:
    """Copy nested data, refusing what JSON cannot carry, repairing text."""
    kind = type(value)
    if kind is str:
        return _repaired(value)
    if value is None or kind is bool or kind is int:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise InvalidRequest(f"{where}: must be a finite number, got {value}")
        return value
    if depth >= _MAX_DEPTH:
        raise InvalidRequest(f"{where}: nested deeper than {_MAX_DEPTH} levels")
    if kind is list:
        return [_plain(f"{where}[{index}]", item, depth + 1) for index, item in enumerate(value)]
    if kind is dict:
        plain = {}
        for key, item in value.items():
            if type(key) is not str:
                raise InvalidRequest(f"{where}: map keys must be text, got {_kind(key)}")
            name = _repaired(key)
            if name in plain:
                raise InvalidRequest(
                    f"{where}: has two names that are one ({name[:60]!r}) when what is not UTF-8 is replaced"
                )
            plain[name] = _plain(f"{where}.{key[:60]}", item, depth + 1)
        return plain
    raise InvalidRequest(f"{where}: {_kind(value)} has no place here; send text, numbers, booleans, lists and maps")


def _map(name: str, value: Any) -> dict[str, Any] | None:
    if value == []:
        return None
    if type(value) is not dict:
        raise InvalidRequest(f"{name}: must be a map, got {_kind(value)}")
    return cast("dict[str, Any]", _plain(name, value)) or None


def _schema(name: str, value: Any) -> Any:
    if type(value) is bool:
        return value
    if type(value) is not dict:
        raise InvalidRequest(f"{name}: must be a JSON Schema as a map, got {_kind(value)}")
    return _plain(name, value)


def _tools(name: str, value: Any) -> list[Any] | None:
    if type(value) is not list:
        raise InvalidRequest(f"{name}: must be a list of tool definitions, got {_kind(value)}")
    for index, tool in enumerate(value):
        if type(tool) is not dict:
            raise InvalidRequest(f"{name}[{index}]: must be a map, got {_kind(tool)}")
    return cast("list[Any]", _plain(name, value)) or None


def _tool_choice(name: str, value: Any) -> Any:
    if type(value) not in (str, dict):
        raise InvalidRequest(f"{name}: must be text such as auto, none, required, or a map naming a tool")
    return _plain(name, value)


def _temperature(name: str, value: Any) -> float | int:
    number = _number(name, value)
    if not 0 <= number <= 10:
        raise InvalidRequest(f"{name}: must be between 0 and 10, got {number}")
    return number


def _count(name: str, value: Any) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 1 <= value <= _MOST_COUNT:
        raise InvalidRequest(f"{name}: must be a whole number from 1 to {_MOST_COUNT}, got {_shown(value)}")
    return value


def _seed(name: str, value: Any) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise InvalidRequest(f"{name}: must be a whole number, got {_shown(value)}")
    return value


def _stop(name: str, value: Any) -> list[str]:
    if type(value) is str:
        value = [value]
    if type(value) is not list or not all(type(item) is str and item for item in value):
        raise InvalidRequest(f"{name}: must be text or a list of texts, none of them empty")
    return [_repaired(item) for item in value]


def _number(name: str, value: Any) -> float | int:
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return value
    raise InvalidRequest(f"{name}: must be a finite number, got {_shown(value)}")


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    number = float(_number(name, value))
    if number <= 0:
        raise InvalidRequest(f"{name}: must be more than 0 seconds, got {number:g}")
    return number


def _not_negative(name: str, value: Any) -> float | None:
    if value is None:
        return None
    number = float(_number(name, value))
    if number < 0:
        raise InvalidRequest(f"{name}: must not be negative, got {number:g}")
    return number


def _share(name: str, value: Any) -> float | None:
    if value is None:
        return None
    number = float(_number(name, value))
    if not 0 <= number <= 1:
        raise InvalidRequest(f"{name}: must be between 0 and 1, got {number:g}")
    return number


def _label(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if type(value) is not str:
        raise InvalidRequest(f"{name}: must be text, got {_kind(value)}")
    if len(value) > _MAX_LABEL_CHARACTERS:
        raise InvalidRequest(f"{name}: must have at most {_MAX_LABEL_CHARACTERS} characters, got {len(value)}")
    return (value if value.isascii() else _repaired(value)) or None


def _scope(name: str, value: Any) -> str | None:
    """Read a label that keeps questions apart: two that differ must not be made one by repairing them."""
    label = _label(name, value)
    if label is not None and label != value:
        raise InvalidRequest(f"{name}: must be valid UTF-8, because it keeps questions apart and so cannot be repaired")
    return label


def label(name: str, value: Any) -> str | None:
    """Read a short text; None when it is not there or empty."""
    return _label(name, value)


def number_within(name: str, value: Any, least: float, most: float, *, whole: bool = False) -> float | int | None:
    """Read a number between two bounds; None when it is not there."""
    if value is None:
        return None
    number = _number(name, value)
    if whole and type(number) is float:
        if not number.is_integer():
            raise InvalidRequest(f"{name}: must be a whole number, got {number:g}")
        number = int(number)
    if not least <= number <= most:
        raise InvalidRequest(f"{name}: must be between {least:g} and {most:g}, got {number:g}")
    return number


def _tags(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if type(value) is not list or len(value) > _MAX_TAGS:
        raise InvalidRequest(f"tags: must be a list of at most {_MAX_TAGS} texts")
    tags = []
    for index, tag in enumerate(value):
        label = _label(f"tags[{index}]", tag)
        if label is None:
            raise InvalidRequest(f"tags[{index}]: must not be empty")
        tags.append(label)
    return tuple(tags)


def _flag(name: str, value: Any) -> bool:
    if value is None:
        return False
    if type(value) is bool:
        return value
    if value in (0, 1) and type(value) is int:
        return bool(value)  # Vim script has no booleans of its own
    raise InvalidRequest(f"{name}: must be true or false, got {_shown(value)}")


def _one_of(name: str, value: Any, choices: tuple[str, ...], otherwise: str) -> Any:
    if value is None:
        return otherwise
    if value not in choices:
        raise InvalidRequest(f"{name}: must be one of {', '.join(choices)}, got {_shown(value)}")
    return value


def _samples(value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= _MAX_SAMPLES:
        raise InvalidRequest(f"cache_samples: must be a whole number from 0 to {_MAX_SAMPLES}, not {_shown(value)}")
    return value


def _kind(value: Any) -> str:
    return {dict: "a map", list: "a list", str: "text", bytes: "bytes", int: "a whole number", float: "a number"}.get(
        type(value), "nothing" if value is None else type(value).__name__.lower()
    )


def _shown(value: Any) -> str:
    return repr(value)[:60] if isinstance(value, (str, int, float, bool)) else _kind(value)


_PRIORITIES: Final = ("interactive", "normal", "bulk")
_MAX_SAMPLES: Final = 100
_CACHE_MODES: Final = ("use", "refresh", "bypass", "only")

_ANSWER_FIELDS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "tools": _tools,
    "tool_choice": _tool_choice,
    "temperature": _temperature,
    "max_tokens": _count,
    "seed": _seed,
    "stop": _stop,
    "output_schema": _schema,
    "extra": _map,
}

_TREATMENT: Final[Mapping[str, tuple[str, Callable[[str, Any], Any]]]] = {
    "model": ("model", _label),
    "task": ("task", _label),
    "timeout_s": ("timeout_s", _seconds),
    "priority": ("priority", lambda name, value: _one_of(name, value, _PRIORITIES, "normal")),
    "cache": ("cache", lambda name, value: _one_of(name, value, _CACHE_MODES, "use")),
    "cache_ttl_s": ("cache_ttl_s", _not_negative),
    "cache_samples": ("cache_samples", lambda _, value: _samples(value)),
    "partition": ("partition", lambda name, value: _scope(name, value) or ""),
    "key": ("key", _scope),
    "tags": ("tags", lambda _, value: _tags(value)),
    "session": ("session", _label),
    "quality_threshold": ("quality_threshold", _share),
    "cost_limit": ("cost_limit_usd", _not_negative),
}
"""How to treat a call: the field of `Question` for each such argument, and what checks it."""

_READ: Final[Mapping[str, tuple[Callable[[str, Any], Any], str | None]]] = {
    **{name: (check, None) for name, check in _ANSWER_FIELDS.items()},
    **{name: (check, field) for name, (field, check) in _TREATMENT.items()},
}
"""Both: what checks an argument, and its field; None for what determines the answer, which keeps its name."""

_DELIVERY: Final = frozenset(("user", "metadata", "stream", "notify", "host", "call_id", "batch"))
"""What most calls say nothing of."""

COMPLETE_ARGUMENTS: Final = frozenset(
    (
        "prompt messages operation input model task quality_threshold cost_limit timeout_s priority stream cache "
        "cache_ttl_s cache_samples batch session partition key call_id notify tags output_schema tools tool_choice temperature "
        "max_tokens seed stop extra user metadata host"
    ).split()
)
EMBED_ARGUMENTS: Final = frozenset(
    "input model dimensions encoding timeout_s priority cache cache_ttl_s partition tags".split()
)
