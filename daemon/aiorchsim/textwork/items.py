"""Several questions in one prompt: finding them, so that each is answered from its own text alone.

Understood, in this order:
- elements with an id: `<item id="a7">text</item>` (any element name);
- JSON after the instruction: `[{"id": "a7", "text": "..."}, ...]`, or `{"a7": "text", ...}` when the instruction
  speaks of items;
- lines that begin with an id in brackets: `[a7] text`, `[id: a7] text`, or `Item a7: text`;
- numbered lines: `1. text`, `2) text`, `Question 3: text`.
The last two are several questions only when they follow the instruction directly and the instruction speaks of
several (each, every, these, the following, a plural), or when there is no instruction at all: a page that holds a
list is one page.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from aiorchsim.textwork.tasks import split_head

MOST_ITEMS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Item:
    """One of several questions: the id it must be answered under, and its text."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Batch:
    """A prompt that holds several questions: what is asked of each, the items in order, and whether their ids are 1,
    2, 3...
    """

    instruction: str
    items: tuple[Item, ...]
    numbered: bool


_ELEMENT: Final = re.compile(
    r"<(?P<tag>[A-Za-z][\w-]{0,30})\s{1,9}id\s{0,9}=\s{0,9}[\"']?(?P<id>[\w.:-]{1,64})[\"']?\s{0,9}>"
)
_KINDS: Final = (
    r"(?:item|question|document|doc|page|text|input|prompt|message|query|passage|problem|task|review|email|ticket)"
)
_NUMBERED: Final = re.compile(
    r"^[ \t]*(?:" + _KINDS + r"\s*)?[#(\[]?(?P<id>\d{1,4})[.):\]]+(?=\s)[ \t]*", re.IGNORECASE | re.MULTILINE
)
_BRACKETED: Final = re.compile(
    r"^[ \t]*\[(?:id\s*[:=]\s*)?(?P<id>[\w.-]{1,64})\][ \t:]*|^[ \t]*"
    + _KINDS
    + r"\s+(?P<named>[\w.-]{1,64})\s*:[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_SEVERAL: Final = re.compile(
    r"\b(?:each|every|all|both|these|following|several|separately|respectively|numbered|ids?|items|questions|documents|docs|pages|texts|inputs"
    r"|prompts|messages|queries|passages|problems|tasks|reviews|emails|tickets|sentences below|answers)\b",
    re.IGNORECASE,
)
_TEXT_KEYS: Final = ("text", "prompt", "question", "input", "content", "document", "message", "body")
_ID_KEYS: Final = ("id", "item_id", "key", "index", "number")


def find_items(text: str) -> Batch | None:
    """The questions of a prompt when it holds several, else None. Ids are unique: a doubled id makes it one
    question.
    """
    for find in (_elements, _json_items, _bracketed_lines, _numbered_lines):
        batch = find(text)
        if batch is not None and len({item.id for item in batch.items}) == len(batch.items) <= MOST_ITEMS:
            return batch
    return None


def _elements(text: str) -> Batch | None:
    items: list[Item] = []
    first = last = 0
    while opening := _ELEMENT.search(text, last):
        closing = f"</{opening['tag']}>"
        end = text.find(closing, opening.end())
        if end < 0:
            break
        if not items:
            first = opening.start()
        items.append(Item(opening["id"], text[opening.end() : end].strip()))
        last = end + len(closing)
    if not items:
        return None
    return Batch((text[:first] + "\n" + text[last:]).strip(), tuple(items), numbered=False)


def _json_items(text: str) -> Batch | None:
    opening = min((position for position in (text.find("["), text.find("{")) if position >= 0), default=-1)
    if opening < 0 or '"' not in text:
        return None
    decoder = json.JSONDecoder()
    for found in list(re.finditer(r"^[ \t]*(?=[\[{])", text, re.MULTILINE))[:20]:
        try:
            value, end = decoder.raw_decode(text, found.end())
        except (ValueError, RecursionError):
            continue
        around = text[: found.start()] + "\n" + text[end:]
        items = _items_of(value, _SEVERAL.search(around) is not None)
        if items:
            return Batch(around.strip(), items, numbered=False)
    return None


def _items_of(value: Any, several: bool) -> tuple[Item, ...]:
    if isinstance(value, list) and value and all(isinstance(element, dict) for element in value):
        key = next((key for key in _ID_KEYS if all(isinstance(element.get(key), str | int) for element in value)), None)
        if key is not None:
            return tuple(Item(str(element[key]), _text_of(element, key)) for element in value)
    if (
        several
        and isinstance(value, dict)
        and value
        and all(isinstance(element, str | dict) for element in value.values())
    ):
        return tuple(
            Item(identity, element if isinstance(element, str) else _text_of(element, ""))
            for identity, element in value.items()
        )
    return ()


def _text_of(element: dict[str, Any], id_key: str) -> str:
    for key in _TEXT_KEYS:
        if isinstance(element.get(key), str):
            return str(element[key])
    return json.dumps({key: value for key, value in element.items() if key != id_key}, ensure_ascii=False)


def _bracketed_lines(text: str) -> Batch | None:
    found = list(_BRACKETED.finditer(text))
    if len(found) < 2 or all((match["id"] or match["named"]).isdigit() for match in found):
        return None
    return _lines(text, found, [match["id"] or match["named"] for match in found], numbered=False)


def _numbered_lines(text: str) -> Batch | None:
    found: list[re.Match[str]] = []
    for match in _NUMBERED.finditer(text):
        number = int(match["id"])
        if number == (int(found[-1]["id"]) + 1 if found else number if number in (0, 1) else -1):
            found.append(match)
    if len(found) < 2:
        return None
    return _lines(text, found, [match["id"] for match in found], numbered=True)


def _lines(text: str, found: list[re.Match[str]], ids: list[str], *, numbered: bool) -> Batch | None:
    before = text[: found[0].start()].strip()
    if before and not (_SEVERAL.search(before) and (before == split_head(text)[0] or "\n" not in before)):
        return None
    ends = [match.start() for match in found[1:]] + [len(text)]
    items = tuple(
        Item(identity, text[match.end() : end].strip()) for identity, match, end in zip(ids, found, ends, strict=True)
    )
    return Batch(before, items, numbered=numbered)
