"""An input without its noise: what is left is equal for inputs that mean the same.

Idea. Two inputs that differ only in when they were fetched, by which request, or in the order of their tags are the same work.
Rules say what is noise; what they find is taken out (moments, measurements, ignored fields) or, for ids, replaced by a number
that counts the different ids of that name in the order in which they appear. So which record belongs to which stays told, and
only what the id was is lost. Ids that are random enough (UUIDs, hashes) count over the whole input, whatever field they are
in: where one refers to another, that is kept.

What a map or list is made of is looked at in a fixed order (names ascending), so the result does not depend on how the maps
were written down. The default rules (`core.noise_names`) look at structure only: the input is a map or a list, or text that
is JSON of one. In free text they change nothing but line ends and blanks at the very end of a field. Explicit rules are
stronger and look into text.

Whatever changes a result must raise `NOISE_VERSION`: it is part of every key that is made of one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from urllib.parse import unquote_plus

from aiorchd.core.input_paths import InputPath, Step, matches, written
from aiorchd.core.noise_names import (
    Noise,
    agrees,
    is_id_name,
    is_known_kind,
    is_noise_header,
    is_noise_parameter,
    is_set_like,
    is_token,
    kind_below,
    kind_of_map,
    noise_of_name,
)

NOISE_VERSION: Final = 1

_MARK: Final = "\x01"
"""Begins what stands in the place of noise: no text of anybody's begins so."""
_GONE: Final = object()
_LONGEST_EMBEDDED: Final = 64 * 1024
"""Longer text is not read as JSON."""
_NAMES_KNOWN: Final = 4096

_UUIDS: Final = re.compile(r"(?i)(?<![0-9a-z])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9a-z])")
_HASHES: Final = re.compile(r"(?<![0-9A-Za-z])(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{16,128}(?![0-9A-Za-z])")
_MOMENTS: Final = re.compile(
    r"(?<!\d)\d{4}-\d\d-\d\d[T _]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?(?!\d)"
)


@dataclass(frozen=True, slots=True)
class NoiseRules:
    """What is noise in the inputs of one operation. ``kept`` are plain paths that no rule touches: who the document is."""

    default: bool = True
    uuids: bool = False
    hashes: bool = False
    timestamps: bool = False
    ids: bool = False
    whitespace: bool = False
    ignored: tuple[InputPath, ...] = ()
    unordered: tuple[InputPath, ...] = ()
    parameters: tuple[str, ...] = ()
    kept: tuple[InputPath, ...] = ()

    @property
    def in_text(self) -> bool:
        """Whether there are rules that look into free text."""
        return self.uuids or self.hashes or self.timestamps or self.whitespace

    @property
    def any(self) -> bool:
        """Whether there is any rule at all."""
        return self.default or self.in_text or self.ids or bool(self.ignored or self.unordered or self.parameters)


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that was taken for noise: where, and by which rule."""

    path: str
    rule: str


class Normaliser:
    """Takes the noise out of inputs, by the rules of one operation."""

    def __init__(self, rules: NoiseRules) -> None:
        self.rules = rules
        # What was found out about names; nothing else is remembered.
        self._names: dict[str, Noise | None] = {}

    def applies(self, value: Any) -> bool:
        """Tell whether any rule looks at such an input: without explicit ones, free text is left alone."""
        rules = self.rules
        if isinstance(value, (dict, list)):
            return rules.any
        if not isinstance(value, str):
            return False
        return rules.in_text or (rules.any and _embedded(value) is not None)

    def normalise(self, value: Any, *, told: list[Told] | None = None, leave_places: bool = False) -> Any:
        """Give the input without noise; what is handed in stays as it is. ``told`` collects what was found.

        With ``leave_places`` what would be taken out leaves a mark in its place, for templates that want it to be there.
        """
        walk = _Walk(self.rules, self._names, told, leave_places=leave_places)
        if len(self._names) > _NAMES_KNOWN:
            self._names.clear()
        if walk.wants_references:
            walk.find_references(value)
        result = walk.value(value, (), None, "")
        return "" if result is _GONE else result


class _Walk:
    """One input on its way."""

    def __init__(
        self, rules: NoiseRules, names: dict[str, Noise | None], told: list[Told] | None, *, leave_places: bool
    ) -> None:
        self._rules = rules
        self._names = names
        self._told = told
        self._leave_places = leave_places
        self.wants_references = rules.default or rules.ids
        self._random: set[str] = set()
        """Ids that are noise and random enough to be recognised wherever they stand."""
        self._numbers: dict[tuple[str, Any], int] = {}
        self._counts: dict[str, int] = {}

    # --- first: which values are ids ---------------------------------------------------------------------------------

    def find_references(self, value: Any, kind: Mapping[str, Noise] | None = None) -> None:
        if isinstance(value, list):
            for item in value:
                if isinstance(item, (dict, list)):
                    self.find_references(item, kind)
        elif isinstance(value, dict):
            own = self._kind(value) or kind
            for name, member in value.items():
                noise = self._noise(own, name, member)
                if noise in ("id", "token"):
                    self._random.update(
                        one for one in (member if isinstance(member, list) else (member,)) if _is_random(one)
                    )
                elif isinstance(member, (dict, list)):
                    self.find_references(member, kind_below(own, name))

    # --- then: the walk ----------------------------------------------------------------------------------------------

    def value(self, value: Any, path: tuple[Step, ...], kind: Mapping[str, Noise] | None, name: str) -> Any:
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, dict):
            return self._map(value, path, kind)
        if isinstance(value, list):
            return self._list(value, path, kind, name)
        return value

    def _map(self, members: dict[str, Any], path: tuple[Step, ...], kind: Mapping[str, Noise] | None) -> dict[str, Any]:
        own = self._kind(members) or kind
        result: dict[str, Any] = {}
        for name in sorted(members):
            at = (*path, name)
            found = self._member(name, members[name], at, own)
            if found is not _GONE:
                result[name] = found
            elif self._leave_places:
                result[name] = _MARK
        return result

    def _member(self, name: str, value: Any, at: tuple[Step, ...], kind: Mapping[str, Noise] | None) -> Any:
        rules = self._rules
        if rules.kept and at in rules.kept:
            return value
        if rules.ignored and any(matches(pattern, at) for pattern in rules.ignored):
            self._tell(at, "cache_ignore")
            return _GONE
        noise = self._noise(kind, name, value)
        if noise in ("id", "token"):
            self._tell(at, "id")
            if isinstance(value, list):
                return [self._numbered(name, one) for one in value]
            return self._numbered(name, value)
        if noise is not None:
            self._tell(at, noise)
            return _GONE
        if rules.default and name == "headers" and isinstance(value, (list, dict)):
            return self._headers(value, at)
        return self.value(value, at, kind_below(kind, name), name)

    def _list(self, items: list[Any], path: tuple[Step, ...], kind: Mapping[str, Noise] | None, name: str) -> list[Any]:
        rules = self._rules
        pairs = rules.default and name in ("queryString", "cookies", "params") and _are_pairs(items)
        kept: list[Any] = []
        for number, item in enumerate(items):
            at = (*path, number)
            if rules.ignored and any(matches(pattern, at) for pattern in rules.ignored):
                self._tell(at, "cache_ignore")
                continue
            if pairs and is_noise_parameter(item["name"], item["value"], rules.parameters):
                self._tell(at, "query parameter")
                continue
            if pairs and name == "cookies":
                item = self._cookie(item, at)
            found = self.value(item, at, kind, "")
            if found is not _GONE:
                kept.append(found)
        if pairs:
            return sorted(kept, key=lambda pair: str(pair.get("name")))
        by_rule = any(matches(pattern, path) for pattern in rules.unordered)
        by_name = rules.default and is_set_like(name) and all(isinstance(item, str) for item in items)
        if by_rule or by_name:
            ordered = sorted(kept, key=_order)
            if ordered != kept:
                self._tell(path, "order")
            return ordered
        return kept

    def _headers(self, headers: list[Any] | dict[str, Any], at: tuple[Step, ...]) -> Any:
        """Take HTTP headers: their names know no case, their order means nothing between names."""
        rows: list[tuple[Step, str, Any]]
        if isinstance(headers, dict):
            rows = [(name, name, headers[name]) for name in sorted(headers)]
        elif _are_pairs(headers):
            rows = [(number, header["name"], header["value"]) for number, header in enumerate(headers)]
        else:
            return self.value(headers, at, None, "")
        kept: list[list[Any]] = []
        for step, name, value in rows:
            here = (*at, step)
            lower = name.lower()
            if is_noise_header(lower):
                self._tell(here, "header")
            elif lower in ("cookie", "set-cookie") and isinstance(value, str):
                kept.append([lower, self._cookies(value, here)])
            else:
                kept.append([lower, self.value(value, here, None, "")])
        kept.sort(key=lambda row: str(row[0]))
        if isinstance(headers, dict):
            return dict(kept) if len({row[0] for row in kept}) == len(kept) else kept
        return [{"name": name, "value": value} for name, value in kept]

    def _cookie(self, cookie: dict[str, Any], at: tuple[Step, ...]) -> dict[str, Any]:
        shown = {name: value for name, value in cookie.items() if name != "expires"}
        if _is_secret(cookie["value"]):
            self._tell(at, "cookie")
            shown["value"] = _MARK
        return shown

    def _cookies(self, text: str, at: tuple[Step, ...]) -> str:
        parts = []
        for part in text.split(";"):
            name, equals, value = part.strip().partition("=")
            if name.lower() in ("expires", "max-age") or _is_secret(value):
                self._tell(at, "cookie")
                value = _MARK
            parts.append(f"{name}{equals}{value}")
        return "; ".join(parts)

    def _text(self, text: str, path: tuple[Step, ...]) -> Any:
        rules = self._rules
        if text in self._random:
            self._tell(path, "id")
            return self._numbered("", text)
        if rules.default:
            embedded = _embedded(text)
            if embedded is not None:
                if self.wants_references:
                    self.find_references(embedded)
                found = self.value(embedded, path, None, "")
                return json.dumps("" if found is _GONE else found, ensure_ascii=False, sort_keys=True)
            if text.startswith(("http://", "https://")):
                text = self._url(text, path)
            if path and ("\r" in text or text[-1:].isspace()):
                text = text.replace("\r\n", "\n").rstrip()
                self._tell(path, "blanks at the end")
        elif rules.parameters and text.startswith(("http://", "https://")):
            text = self._url(text, path)
        return self._inside(text, path) if rules.in_text else text

    def _inside(self, text: str, path: tuple[Step, ...]) -> str:
        """Apply the rules that look into free text."""
        rules = self._rules
        before = text
        if rules.timestamps:
            text = _MOMENTS.sub(_MARK, text)
        if rules.uuids:
            text = _UUIDS.sub(lambda match: self._numbered("", match[0].lower()), text)
        if rules.hashes:
            text = _HASHES.sub(lambda match: self._numbered("", match[0]), text)
        if text != before:
            self._tell(path, "inside text")
        if rules.whitespace:
            before, text = text, " ".join(text.split())
            if text != before:
                self._tell(path, "whitespace")
        return text

    def _url(self, url: str, path: tuple[Step, ...]) -> str:
        if "?" not in url or any(map(str.isspace, url)):
            return url
        address, _, rest = url.partition("?")
        query, hash_mark, fragment = rest.partition("#")
        kept = []
        for part in query.split("&"):
            name, _, value = part.partition("=")
            if is_noise_parameter(unquote_plus(name), value, self._rules.parameters):
                self._tell(path, f"query parameter {name[:40]}")
            elif part:
                kept.append(part)
        kept.sort(key=lambda part: part.partition("=")[0])
        return address + ("?" + "&".join(kept) if kept else "") + hash_mark + fragment

    def _kind(self, members: dict[str, Any]) -> Mapping[str, Noise] | None:
        return kind_of_map(members) if self._rules.default else None

    def _noise(self, kind: Mapping[str, Noise] | None, name: str, value: Any) -> Noise | None:
        rules = self._rules
        if rules.default:
            if kind is not None:
                noise = kind.get(name)
                if noise is not None and (is_known_kind(kind) or agrees(noise, value)):
                    return noise if not isinstance(value, dict) or noise == "measurement" else None
            if name in self._names:
                noise = self._names[name]
            else:
                noise = self._names[name] = noise_of_name(name)
            if noise is not None and agrees(noise, value):
                return noise
        if rules.ids and isinstance(value, (str, int, float)) and not isinstance(value, bool) and is_id_name(name):
            return "id"
        return None

    def _numbered(self, name: str, value: Any) -> Any:
        """Put a number in the place of an id: one for all fields if it is random enough, else one among those of its name."""
        if not isinstance(value, (str, int, float)):
            return self.value(value, (), None, "")
        space = "" if isinstance(value, str) and (not name or value in self._random) else name
        number = self._numbers.get((space, value))
        if number is None:
            number = self._counts[space] = self._counts.get(space, 0) + 1
            self._numbers[space, value] = number
        return f"{_MARK}{space}{number}"

    def _tell(self, path: Sequence[Step], rule: str) -> None:
        if self._told is not None:
            self._told.append(Told(written(path), rule))


def _is_random(value: Any) -> bool:
    return isinstance(value, str) and (is_token(value) or re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", value) is not None)


def _is_secret(value: str) -> bool:
    """Tell whether the value of a cookie is a session's and not a setting."""
    return len(value) >= 16 and any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and " " not in value


def _are_pairs(items: list[Any]) -> bool:
    return bool(items) and all(
        isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("value"), str)
        for item in items
    )


def _order(item: Any) -> str:
    return json.dumps(item, ensure_ascii=False, sort_keys=True)


def _embedded(text: str) -> Any:
    """Read text that is JSON of a map or list; None for any other, and for JSON that says something twice."""
    start = text[:64].lstrip()[:1]
    if start not in ("{", "[") or text.rstrip()[-1:] not in ("}", "]") or len(text) > _LONGEST_EMBEDDED:
        return None
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
