"""The body of a request as JSON, and what a caller's ``extra`` may put into it. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from aiorch.errors import InvalidRequest

_texts: Final = msgspec.json.Encoder().encode
_as_it_is: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_escaped: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def holds_only_texts(messages: Any) -> bool:
    """Whether all messages are a role and a text and nothing else, as most are."""
    for message in messages:
        if len(message) != 2 or type(message.get("role")) is not str or type(message.get("content")) is not str:
            return False
    return True


def texts_to_json(body: Mapping[str, Any]) -> bytes:
    """Write as `to_json` does what is known to hold only maps and lists of texts and booleans: in a tenth of the steps."""
    try:
        return _texts(body)
    except UnicodeEncodeError:
        return to_json(body)


def to_json(body: Mapping[str, Any]) -> bytes:
    """Write JSON; raises `InvalidRequest` for what has no place in it."""
    try:
        try:
            return _as_it_is(body).encode()
        except UnicodeEncodeError:  # half of a surrogate pair: JSON has an escape for it, UTF-8 has no bytes
            return _escaped(body).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:100]
        raise InvalidRequest(f"the request cannot be written as JSON: {reason}") from error


def checked_extra(extra: Any, reserved: Collection[str]) -> Mapping[str, Any]:
    """Give the fields of a call's ``extra``; raises `InvalidRequest` for those that are arguments of the call."""
    if extra is None:
        return {}
    if not isinstance(extra, Mapping):
        raise InvalidRequest("extra must be a map of request fields")
    for name in reserved:
        if name in extra:
            raise InvalidRequest(f"extra may not set {name!r}: use the argument of the call")
    return extra
