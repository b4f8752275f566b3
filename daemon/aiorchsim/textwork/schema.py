"""A JSON value that is valid for a JSON Schema, with its content taken from a text.

Understood: type (one or several), enum, const, properties, required, additionalProperties, patternProperties,
minProperties, items, prefixItems, minItems, maxItems, uniqueItems, minLength, maxLength, pattern, format, minimum,
maximum, the exclusive bounds (numbers and draft 4's booleans), multipleOf, anyOf, oneOf (the first alternative),
allOf (merged), local $ref, boolean schemas. Not understood, and so perhaps violated: not, if, contains, dependencies,
remote references.

Names guide the content: `tags` gets keywords, `summary` sentences, `title` the beginning, `answer` the answer to the
question, an enumeration the member that shares most words with the text, a number one that stands in the text.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiorchsim.textwork.items import Item
from aiorchsim.textwork.patterns import NotUnderstood, matching
from aiorchsim.textwork.schema_reader import DEEPEST, SchemaReader, as_list, bounded_count, is_number, type_of
from aiorchsim.textwork.solve import classify, solve, summary, tags
from aiorchsim.textwork.tasks import Kind, Task
from aiorchsim.textwork.words import chance, clip, numbers, pick, sentences, words

OPTIONAL_DEPTH: Final = 5
"""Below this depth only what is required is written, so that recursive schemas come to an end."""
LONGEST_STRING: Final = 20_000

_TAG_NAMES: Final = frozenset(
    [
        "tag",
        "tags",
        "keyword",
        "keywords",
        "topic",
        "topics",
        "label",
        "labels",
        "category",
        "categories",
        "theme",
        "themes",
        "entity",
        "entities",
        "term",
        "terms",
    ]
)
_SUMMARY_NAMES: Final = frozenset(["summary", "abstract", "description", "overview", "gist", "tldr"])
_TITLE_NAMES: Final = frozenset(["title", "name", "headline", "subject", "heading"])
_ID_KEYS: Final = ("id", "item_id", "item", "key", "ref", "index", "number")
_ID_NAMES: Final = frozenset(_ID_KEYS)
_ANSWER_NAMES: Final = frozenset(
    ["", "answer", "result", "output", "value", "text", "content", "response", "reply", "reason"]
)
_NAME: Final = re.compile(r"(?<=[a-z,] )[A-Z][\w-]+(?: [A-Z][\w-]+){0,2}")
_DATE: Final = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_FORMATS: Final[Mapping[str, str]] = {
    "date": "2024-01-15",
    "time": "12:00:00Z",
    "date-time": "2024-01-15T12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "idn-email": "someone@example.com",
    "hostname": "example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "iri": "https://example.com/",
    "uri-reference": "/",
    "iri-reference": "/",
    "uri-template": "/{id}",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "regex": "a",
    "json-pointer": "/a",
    "relative-json-pointer": "0",
}


def value_for(schema: Any, task: Task, text: str, *, right: bool, name: str = "") -> Any:
    """A value for the schema, about the text; `name` is the property it will stand under, if any."""
    return _Writer(schema, task, text, right=right).value(schema, name, 0)


def value_for_items(schema: Any, task: Task, items: Sequence[Item], right: Mapping[str, bool]) -> Any:
    """A value for the schema in which each item's part is about that item alone.

    Items are placed, in this order of preference: into properties named by their ids; into the additional properties
    of an object that names none; into an array, with the id under `id` (or `item_id`, `key`, `index`, `number`) where
    its objects have that; or, failing these, into the first property in which that is possible. A schema with no such
    place is answered from the first item.
    """
    writers = {item.id: _Writer(schema, task, item.text, right=right[item.id]) for item in items}
    placed = _place(schema, items, writers, 0)
    return writers[items[0].id].value(schema, "", 0) if placed is _NOWHERE else placed


_NOWHERE: Final = object()


def _place(schema: Any, items: Sequence[Item], writers: Mapping[str, "_Writer"], depth: int) -> Any:
    first = writers[items[0].id]
    schema = first.reader.resolved(schema)
    if depth > 4 or not isinstance(schema, dict):
        return _NOWHERE
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    kind = type_of(schema)
    if kind == "object":
        if all(item.id in properties for item in items):
            extra = [key for key in properties if key not in writers]
            placed = {item.id: writers[item.id].value(properties[item.id], "answer", 1) for item in items}
            return placed | {key: first.value(properties[key], key, 1) for key in extra}
        rest = schema.get("additionalProperties", True)
        if not properties and rest is not False:
            return {
                item.id: writers[item.id].value({"type": "string"} if rest is True else rest, "answer", 1)
                for item in items
            }
        for key, inner in properties.items():
            placed = _place(inner, items, writers, depth + 1)
            if placed is not _NOWHERE:
                others = {other: first.value(sub, other, 1) for other, sub in properties.items() if other != key}
                return {other: placed if other == key else others[other] for other in properties}
    if kind == "array" and isinstance(schema.get("items"), dict | bool):
        return [_with_id(schema["items"], item, writers[item.id]) for item in items]
    return _NOWHERE


def _with_id(schema: Any, item: Item, writer: "_Writer") -> Any:
    value = writer.value(schema, "answer", 1)
    resolved = writer.reader.resolved(schema)
    if isinstance(value, dict) and isinstance(resolved, dict):
        key = next((name for name in _ID_KEYS if name in value), None)
        if key is not None:
            wanted = type_of(writer.reader.resolved(resolved.get("properties", {}).get(key, {})))
            value[key] = int(item.id) if wanted in ("integer", "number") and item.id.isdecimal() else item.id
    return value


class _Writer:
    """Writes one value. It holds what is known of one text, and counts values so that no schema asks for too much."""

    def __init__(self, root: Any, task: Task, text: str, *, right: bool) -> None:
        self.reader = SchemaReader(root)
        self._task = task
        self._text = text
        self._right = right
        self._numbers: list[float] | None = None
        self._tags: list[str] | None = None

    def value(self, schema: Any, name: str, depth: int, position: int | None = None) -> Any:
        """One value; `position` is its place in the array it is in, if any, so that neighbours differ."""
        self.reader.steps_left -= 1
        schema = self.reader.resolved(schema)
        if schema is True or schema == {}:
            return self._string({}, name, position)
        if not isinstance(schema, dict) or depth > DEEPEST or self.reader.steps_left < 0:
            return None
        if "const" in schema:
            return schema["const"]
        if isinstance(choices := schema.get("enum"), list) and choices:
            return self._choice(choices, name, position)
        match type_of(schema):
            case "object":
                return self._object(schema, depth, position)
            case "array":
                return self._array(schema, name, depth)
            case "integer":
                return self._number(schema, name, position, whole=True)
            case "number":
                return self._number(schema, name, position, whole=False)
            case "boolean":
                return (chance("boolean", name, position, self._text) < 0.5) == self._right
            case "null":
                return None
            case _:
                return self._string(schema, name, position)

    def _object(self, schema: dict[str, Any], depth: int, position: int | None) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = [key for key in as_list(schema.get("required")) if isinstance(key, str)]
        wanted = [key for key in properties if depth < OPTIONAL_DEPTH or key in required]
        value = {
            key: self.value(properties[key], key, depth + 1, position) for key in wanted if properties[key] is not False
        }
        patterns = schema.get("patternProperties")
        patterns = patterns if isinstance(patterns, dict) else {}
        rest = schema.get("additionalProperties", True)
        free: Any = {"type": "string"} if rest is True or rest is False else rest
        for key in required:
            if key not in value:
                inner = next((part for pattern, part in patterns.items() if _names(pattern, key)), free)
                value[key] = self.value(inner, key, depth + 1, position)
        least = bounded_count(schema.get("minProperties"), 0, 100)
        if not properties and not value and depth < OPTIONAL_DEPTH and rest is not False:
            least = max(least, 1)
        for pattern, part in patterns.items():
            if len(value) < max(least, 1) and depth < OPTIONAL_DEPTH:
                self._add_matching(value, pattern, part, depth)
        for turn in range(least + len(value)):
            if len(value) >= least or rest is False:
                break
            key = f"answer_{turn + 1}" if turn else "answer"
            value.setdefault(key, self.value(free, key, depth + 1, position))
        return value

    def _add_matching(self, value: dict[str, Any], pattern: str, schema: Any, depth: int) -> None:
        try:
            key = matching(pattern)
        except NotUnderstood:
            return
        value.setdefault(key, self.value(schema, key, depth + 1))

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        fixed = as_list(schema.get("prefixItems"))
        inner = schema.get("items", True)
        if isinstance(inner, list):  # the form before draft 2020-12
            fixed, inner = inner, schema.get("additionalItems", True)
        least = bounded_count(schema.get("minItems"), 0, 1_000)
        most = bounded_count(schema.get("maxItems"), 1_000, 1_000)
        usual = self._task.count if self._task.kind is Kind.TAGS else 3
        if name.lower() in _TAG_NAMES or self._task.kind is Kind.TAGS:
            usual = min(usual, len(self._ranked()))
        labelled = self._task.kind is Kind.LABEL and name.lower() in _TAG_NAMES | {""}
        usual = self._task.count if labelled else usual
        count = len(fixed) if inner is False else max(len(fixed), usual if depth < OPTIONAL_DEPTH else 0)
        count = min(max(count, least), most, max(self.reader.steps_left, 0))
        values = [self.value(fixed[position], name, depth + 1, position) for position in range(min(len(fixed), count))]
        if inner is not False:
            values += [self.value(inner, name, depth + 1, position) for position in range(len(values), count)]
        if schema.get("uniqueItems") is True:
            values = self._distinct(values, inner, name, depth, least)
        return values

    def _distinct(self, values: list[Any], inner: Any, name: str, depth: int, least: int) -> list[Any]:
        seen: dict[str, Any] = {}
        for value in values:
            seen.setdefault(json.dumps(value, sort_keys=True), value)
        for position in range(len(values), len(values) + 50):
            if len(seen) >= least or inner is False:
                break
            value = self.value(inner, name, depth + 1, position)
            seen.setdefault(json.dumps(value, sort_keys=True), value)
        return list(seen.values())

    def _choice(self, choices: list[Any], name: str, position: int | None) -> Any:
        labels = tuple(dict.fromkeys(choice for choice in choices if isinstance(choice, str)))
        if len(labels) == len(choices):
            ranked = classify(self._text, labels, len(labels), right=True)
            return ranked[((position or 0) + (0 if self._right else 1)) % len(ranked)]
        first = pick(len(choices), "choice", name, self._text) + (0 if self._right else 1)
        return choices[(first + (position or 0)) % len(choices)]

    def _number(self, schema: dict[str, Any], name: str, position: int | None, *, whole: bool) -> int | float:
        low, high = _bound(schema, "minimum", -math.inf), _bound(schema, "maximum", math.inf)
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        open_low = (above is True and low > -math.inf) or (is_number(above) and above >= low)
        open_high = (below is True and high < math.inf) or (is_number(below) and below <= high)
        low = max(low, float(above)) if is_number(above) else low
        high = min(high, float(below)) if is_number(below) else high
        step = schema.get("multipleOf")
        step = float(step) if is_number(step) and step > 0 else (1.0 if whole else 0.0)
        if whole and step and not step.is_integer():
            step = 1.0 if (1.0 / step).is_integer() else step * 10.0
        wanted = self._wanted_number(name, position, low, high)
        if step:
            return _multiple(wanted, step, low, high, (open_low, open_high), whole)
        wanted = min(max(wanted, low), high)
        if (wanted == low and open_low) or (wanted == high and open_high):
            span = high - low if math.isfinite(high - low) else 2.0
            wanted = low + span / 2 if math.isfinite(low) else high - span / 2
        return wanted

    def _wanted_number(self, name: str, position: int | None, low: float, high: float) -> float:
        if self._numbers is None:
            self._numbers = numbers(self._text)
        shift = (position or 0) + (0 if self._right else 1)
        inside = [number for number in self._numbers if low <= number <= high]
        if inside and not (low >= 0 and high <= 1):
            return inside[shift % len(inside)] + (0 if shift < len(inside) else shift)
        if math.isfinite(low) and math.isfinite(high) and (high - low) < 1e15:
            fraction = round(chance("number", name, shift, self._text), 2)
            return low + fraction * (high - low)
        return float(pick(100, "number", name, self._text) + shift)

    def _string(self, schema: dict[str, Any], name: str, position: int | None) -> str:
        if isinstance(pattern := schema.get("pattern"), str):
            try:
                return matching(pattern, position or 0)
            except NotUnderstood:
                return self._fitted(self._content(name, position), schema)
        if isinstance(form := schema.get("format"), str) and form in _FORMATS:
            found = _DATE.search(self._text) if form == "date" else None
            return found[0] if found and _is_date(found[0]) else _FORMATS[form]
        return self._fitted(self._content(name, position), schema)

    def _content(self, name: str, position: int | None) -> str:
        lowered = name.lower()
        if lowered in _SUMMARY_NAMES:
            return summary(self._text, 2, right=self._right)
        if lowered in _TITLE_NAMES:
            lines = sentences(self._text) or ["Untitled"]
            turn, place = divmod(position or 0, len(lines))
            title = clip(lines[place if self._right else -1 - place], 80)
            return f"{title} ({turn + 1})" if turn else title
        if lowered in _ID_NAMES:
            return f"{pick(16**8, 'id', self._text, position):08x}"
        if lowered in _ANSWER_NAMES and (position is None or lowered):
            return solve(self._task, self._text, right=self._right)
        if position is not None and self._task.kind is Kind.LABEL:
            ranked = classify(self._text, self._task.labels, len(self._task.labels), right=self._right)
            return ranked[position % len(ranked)]
        return self._mention(position, tag=lowered in _TAG_NAMES or position is not None)

    def _mention(self, position: int | None, *, tag: bool) -> str:
        """Something that the text speaks of: one of its tags, or a name in it where another thing than a tag is
        wanted.
        """
        ranked = self._ranked()
        names = [] if tag else _NAME.findall(self._text[:LONGEST_STRING])
        if names:
            return str(names[0 if self._right else -1])
        turn, place = divmod(position or 0, len(ranked))
        return ranked[place] if turn == 0 else f"{ranked[place]}-{turn + 1}"

    def _ranked(self) -> list[str]:
        if self._tags is None:
            self._tags = tags(self._text, 1_000, right=True)
            if not self._right:
                self._tags = self._tags[::-1] if len(self._tags) > 1 else tags(self._text, 1, right=False)
        return self._tags

    def _fitted(self, text: str, schema: dict[str, Any]) -> str:
        least = bounded_count(schema.get("minLength"), 0, LONGEST_STRING)
        most = bounded_count(schema.get("maxLength"), LONGEST_STRING, LONGEST_STRING)
        if len(text) < least:
            filler = " " + " ".join(words(self._text)[:50] or ["nothing"])
            text = (text + filler * (least // len(filler) + 1))[:least]
        if len(text) > most:
            text = text[:most]
        return text


def _multiple(
    wanted: float, step: float, low: float, high: float, open_ends: tuple[bool, bool], whole: bool
) -> int | float:
    if not math.isfinite(
        max(abs(wanted), abs(low) if math.isfinite(low) else 0.0, abs(high) if math.isfinite(high) else 0.0) / step
    ):
        return 0
    least = math.ceil(low / step - 1e-9) if math.isfinite(low) else -math.inf
    most = math.floor(high / step + 1e-9) if math.isfinite(high) else math.inf
    if open_ends[0] and math.isfinite(least) and least * step <= low:
        least += 1
    if open_ends[1] and math.isfinite(most) and most * step >= high:
        most -= 1
    turns = int(min(max(round(wanted / step), least), most))
    value = turns * step
    return int(value) if whole or value.is_integer() else value


def _bound(schema: dict[str, Any], key: str, default: float) -> float:
    bound = schema.get(key)
    return float(bound) if is_number(bound) else default


def _names(pattern: str, key: str) -> bool:
    """Whether a plain pattern such as ^x_ names the key; others are taken not to."""
    return pattern.startswith("^") and pattern[1:].isidentifier() and key.startswith(pattern[1:])


def _is_date(written: str) -> bool:
    month, day = int(written[5:7]), int(written[8:10])
    return 1 <= month <= 12 and 1 <= day <= 28
