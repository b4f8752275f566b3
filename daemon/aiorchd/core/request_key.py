"""The identity of a question: a canonical form of everything that can change the answer, and its hash.

Idea. Two requests that mean the same must get the same key, else money is spent twice; two that mean something else
must never, else somebody gets a wrong answer. So nothing is picked into the key: **everything in the request is in it,
unless it is on a list of things known to be irrelevant**. The form is a tagged, length-prefixed text, which is
injective by construction: it can be read back, so two values with one form are one value.

    null n    true t    false f
    number    i<decimal>;  when its value is whole, however it was written (1, 1.0, 1e0; -0.0 is 0)
              d<16 hex digits>  otherwise: its IEEE 754 double, big-endian
    text      s<length>:<text>   in NFC; length in bytes of its UTF-8
    bytes     b<length>:<hex>    length in bytes, before hex
    list      l<count>:<items>
    map       m<count>:<name><value>…   names as text, in ascending order of code points

``docs/keys.md`` publishes the form and the list, with a second implementation; ``docs/key-vectors.json`` holds golden
vectors. The disk cache outlives this program: whatever changes a key must raise `KEY_VERSION`.

Sources: the shape is bencode's with JSON's types; that lists of relevant parameters rot, while lists of irrelevant
ones only cost misses, is the lesson of other gateways' cache bugs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from math import isfinite
from struct import pack
from typing import Any, Final, TypeAlias

KEY_VERSION: Final = 1
"""First byte of every key."""

KEY_BYTES: Final = 24
"""The version byte and 23 bytes of BLAKE2b."""

IRRELEVANT: Final = frozenset(
    (
        "timeout_s priority tags session stream notify call_id key cost_limit cache cache_ttl_s cache_samples batch user "
        "metadata encoding partition"
    ).split()
)
"""Named arguments of a request that never change its answer (``partition`` has a place of its own in the key)."""

IRRELEVANT_EXTRA: Final = frozenset(("user", "metadata", "stream", "stream_options"))
"""Members of ``extra`` that never change the answer."""

MAX_DEPTH: Final = 100
"""Levels of nesting taken."""

_MAX_INTEGER_BITS: Final = 1024
"""As many as the largest double has."""

PolicyForm: TypeAlias = str
"""The canonical form of a policy, made once per configuration by `policy_form`."""


class UncanonicalError(ValueError):
    """A value has no canonical form. ``path`` says where in it, like ``.messages[2].content``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = ""

    def __str__(self) -> str:
        return f"{self.path.lstrip('.')[:200]}: {self.reason}" if self.path else self.reason


def canonical(value: Any) -> bytes:
    """Give the canonical form of plain data: null, booleans, numbers, text, bytes, lists and maps of them.

    Raises `UncanonicalError` (a ValueError), naming the place, for NaN and infinities, for maps with names that are not
    text or that are equal in NFC, for nesting beyond `MAX_DEPTH`, and for anything that is not plain data.
    """
    parts: list[str] = []
    _write(parts.append, value, 0)
    return _encoded("".join(parts))


def policy_form(
    asked: str | None, candidates: Sequence[tuple[str, str] | tuple[str, str, Mapping[str, Any]]]
) -> PolicyForm:
    """Prepare a policy for `request_key`: the model asked for by name (None: the configuration's choice), and the
    address and provider's model id of each candidate in order, with what the configuration puts into every request to
    it, where it does. What a fallback answers is kept under this policy.
    """
    parts: list[str] = []
    _write(parts.append, [asked, [list(candidate) for candidate in candidates]], 0)
    return "".join(parts)


def request_key(
    kind: str,
    request: Mapping[str, Any],
    *,
    uid: int | None,
    partition: str,
    policy: PolicyForm,
    task: str | None = None,
    quality_threshold: float | None = None,
) -> bytes:
    """Give the key of a question: `KEY_BYTES` bytes.

    ``uid`` and ``partition`` stand first: no request can reach into another's partition. A ``uid`` of None is everybody's,
    for answers that are shared between users; no user has it. ``request`` holds the named
    arguments; irrelevant ones, null ones and those equal to their default are left out (see `relevant`); ``task`` and
    ``quality_threshold`` count as members of it. Raises `UncanonicalError` naming the place.
    """
    who = "n" if uid is None else f"i{uid};"
    parts = [f"l5:{who}{_text(partition) if partition else 's0:'}{_text(kind)}{policy}"]
    if len(request) == 1 and task is None and quality_threshold is None and type(request.get("messages")) is list:
        parts.append("m1:s8:messages")  # as most are: there is nothing to be left out
        try:
            _write_list(parts.append, request["messages"], 1)
        except UncanonicalError as error:
            error.path = f".messages{error.path}"
            raise
    else:
        _write(parts.append, relevant(request, task=task, quality_threshold=quality_threshold), 0)
    return b"\x01" + blake2b("".join(parts).encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES - 1).digest()


def relevant(
    request: Mapping[str, Any], *, task: str | None = None, quality_threshold: float | None = None
) -> dict[str, Any]:
    """Leave out of a request what does not change its answer.

    That is: what is on the lists; arguments that are null; ``tool_choice: "auto"`` beside tools, ``n: 1`` in ``extra``
    and an empty ``extra``, which every provider takes like nothing at all; a single ``stop`` text is a list of one. Not
    left out are ``top_p: 1`` and its like: servers of the same dialect have defaults of their own (a model's
    generation_config), so there the argument and its absence are different questions.
    """
    kept = {name: value for name, value in request.items() if value is not None and name not in IRRELEVANT}
    extra = kept.get("extra")
    if task is not None:
        kept["task"] = task
    if quality_threshold is not None:
        kept["quality_threshold"] = quality_threshold
    if kept.get("tool_choice") == "auto" and kept.get("tools"):
        del kept["tool_choice"]
    if type(kept.get("stop")) is str:
        kept["stop"] = [kept["stop"]]
    if extra is not None and isinstance(extra, Mapping):
        relevant_extra = {
            name: value
            for name, value in extra.items()
            if name not in IRRELEVANT_EXTRA and not (name == "n" and _is_one(value))
        }
        if relevant_extra:
            kept["extra"] = relevant_extra
        else:
            del kept["extra"]
    return kept


_CHANCES: Final = frozenset(("temperature", "n", "best_of"))


def samples(request: Mapping[str, Any]) -> bool:
    """Tell whether a request asks for chance: a temperature above 0, or several answers to choose from.

    Identical such requests may be meant to differ, so they have no key unless the caller says otherwise.
    """
    extra = request.get("extra")
    return _asks_for_chance(request) or (extra is not None and isinstance(extra, Mapping) and _asks_for_chance(extra))


def _asks_for_chance(source: Mapping[str, Any]) -> bool:
    return not _CHANCES.isdisjoint(source) and (
        _is_more_than(source.get("temperature"), 0)
        or _is_more_than(source.get("n"), 1)
        or _is_more_than(source.get("best_of"), 1)
    )


def _is_one(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == 1


def _is_more_than(value: Any, bound: int) -> bool:
    return isinstance(value, (int, float)) and value > bound


# --- the form --------------------------------------------------------------------------------------------------------

_Append: TypeAlias = Callable[[str], None]


def _write(append: _Append, value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str:
        append(f"s{len(value)}:{value}" if value.isascii() else _text(value))
    elif kind is dict:
        _write_map(append, value, depth)
    elif kind is list or kind is tuple:
        _write_list(append, value, depth)
    elif kind is int:
        append(_integer(value))
    elif value is None:
        append("n")
    elif value is True:
        append("t")
    elif value is False:
        append("f")
    elif kind is float:
        append(_double(value))
    elif kind is bytes:
        append(f"b{len(value)}:{value.hex()}")
    else:
        _write_unusual(append, value, depth)


def _write_unusual(append: _Append, value: Any, depth: int) -> None:
    """Take subclasses and other containers of plain data for what they hold."""
    if isinstance(value, str):
        append(_text(str.__str__(value)))
    elif isinstance(value, int):
        append(_integer(int(value)))
    elif isinstance(value, float):
        append(_double(float(value)))
    elif isinstance(value, (bytearray, memoryview)):
        append(f"b{len(bytes(value))}:{bytes(value).hex()}")
    elif isinstance(value, Mapping):
        _write_map(append, dict(value), depth)
    elif isinstance(value, (list, tuple)):
        _write_list(append, value, depth)
    else:
        raise UncanonicalError(
            f"{type(value).__name__} is not plain data; use null, booleans, numbers, text, lists, maps"
        )


def _write_list(append: _Append, items: Sequence[Any], depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise UncanonicalError(f"nested deeper than {MAX_DEPTH} levels")
    append(f"l{len(items)}:")
    depth += 1
    index = 0
    try:
        for item in items:
            if type(item) is dict and len(item) == 2 and depth < MAX_DEPTH:  # a role and a text, as most messages
                role, content = item.get("role"), item.get("content")
                if type(role) is str and type(content) is str and role.isascii() and content.isascii():
                    append(f"m2:s7:contents{len(content)}:{content}s4:roles{len(role)}:{role}")
                    index += 1
                    continue
            _write(append, item, depth)
            index += 1
    except UncanonicalError as error:
        error.path = f"[{index}]{error.path}"
        raise


def _write_map(append: _Append, members: dict[Any, Any], depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise UncanonicalError(f"nested deeper than {MAX_DEPTH} levels")
    for name in members:
        if type(name) is not str or not name.isascii():
            members = _normalised_names(members)
            break
    append(f"m{len(members)}:")
    depth += 1
    name = ""
    try:
        for name in sorted(members):
            value = members[name]
            written = f"s{len(name)}:{name}" if name.isascii() else _text(name)
            if type(value) is str and value.isascii():  # most are
                append(f"{written}s{len(value)}:{value}")
            else:
                append(written)
                _write(append, value, depth)
    except UncanonicalError as error:
        error.path = f".{name}{error.path}"
        raise


def _normalised_names(members: dict[Any, Any]) -> dict[str, Any]:
    normalised: dict[str, Any] = {}
    for name, value in members.items():
        if not isinstance(name, str):
            raise UncanonicalError(f"a map has a name that is not text ({type(name).__name__})")
        plain = unicodedata.normalize("NFC", name)
        if plain in normalised:
            raise UncanonicalError(f"a map has two names that are equal in Unicode NFC ({plain[:60]!r})")
        normalised[plain] = value
    return normalised


def _text(value: str) -> str:
    if value.isascii():
        return f"s{len(value)}:{value}"
    value = unicodedata.normalize("NFC", value)
    return f"s{len(_encoded(value))}:{value}"


def _encoded(text: str) -> bytes:
    # Bytes that are not UTF-8 arrive as lone surrogates; they keep their three-byte form and collide with nothing.
    return text.encode("utf-8", "surrogatepass")


def _integer(value: int) -> str:
    if value.bit_length() > _MAX_INTEGER_BITS:
        raise UncanonicalError(f"an integer of more than {_MAX_INTEGER_BITS} bits")
    return f"i{value};"


def _double(value: float) -> str:
    if not isfinite(value):
        raise UncanonicalError(f"{value} is not a number that JSON knows")
    return f"i{int(value)};" if value.is_integer() else f"d{pack('>d', value).hex()}"
