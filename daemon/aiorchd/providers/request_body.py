"""The body of a request as JSON, and what a caller's ``extra`` may put into it. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from aiorch.errors import InvalidRequest

_as_it_is: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_escaped: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


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
