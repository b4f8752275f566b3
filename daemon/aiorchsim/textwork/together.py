"""One question asked about many items in one prompt, as somebody does who saves calls; each answered as if it stood alone.

The user's text has what the items share and then one JSON document, `{"items": [{"id": "…", "text": "…"}, …]}`. The
answer is `{"answers": [{"id": "…", "answer": …}, …]}`, whether a schema asks for that, a tool, or words alone. An item
is answered exactly as the question that one gets by putting its text in the document's place (or in that of `TEXT_MARK`,
where what they share goes on behind it), under the system text without what is said there about items and answers: so an
answer that belongs to another item can be told from its own.

A model may be worse at this (`Weakness`): a share of the answers wrong that would be right alone, growing with the
number of items, and answers that are out of form. Which, follows from the seed, the model's name and the texts; not
from the ids, nor from the order.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from aiorchsim.textwork.words import chance, pick

MOST_ITEMS: Final = 1_000
TEXT_MARK: Final = "[text]"

_DOCUMENT: Final = re.compile(r"\{\s*\"items\"\s*:\s*\[")
_ABOUT_ITEMS: Final = re.compile(r"\"(?:items|answers)\"|`(?:items|answers)`")


class BatchFault(StrEnum):
    """What a model gets wrong about the form of many answers."""

    DROPS_ITEM = "drops_item"
    DOUBLES_ID = "doubles_id"
    INVENTS_ID = "invents_id"
    SWAPS_ANSWERS = "swaps_answers"
    CUTS_JSON = "cuts_json"


@dataclass(frozen=True, slots=True)
class Weakness:
    """By how much a model is worse when it is asked many things at once."""

    loss: float = 0.0
    """Share of the answers that get wrong with each further item."""
    unharmed: int = 1
    """So many items can stand together without any loss."""
    fault: BatchFault | None = None
    fault_rate: float = 1.0
    """Share of the prompts with more than one item that suffer `fault`."""

    def lost(self, items: int) -> float:
        """The share of so many items' answers that are wrong for standing together."""
        return min(1.0, self.loss * max(0, items - self.unharmed))


SOUND: Final = Weakness()


@dataclass(frozen=True, slots=True)
class Spoiled:
    """What standing together did to so many items: how many answers got wrong by it, and the fault of form, if any."""

    items: int
    harmed: int = 0
    fault: BatchFault | None = None


@dataclass(frozen=True, slots=True)
class Together:
    """A prompt with many items: `system` without what is said there about them, what stands `before` and `after` the text
    of each, the ids and texts in order, and whether each answer was said to be a string.
    """

    system: str
    before: str
    after: str
    items: tuple[tuple[str, str], ...]
    strings: bool = False

    def alone(self, text: str) -> str:
        """The user's text of the question about one item."""
        return f"{self.before}{text}{self.after}"


def read_together(system: str, user: str) -> Together | None:
    """The items of a prompt that has them in one document; None when it has none, or an id twice."""
    decoder = json.JSONDecoder()
    for found in reversed(list(_DOCUMENT.finditer(user))[-20:]):
        try:
            value, end = decoder.raw_decode(user, found.start())
        except (ValueError, RecursionError):
            continue
        items = _items(value)
        if items:
            system, form = _parted(system)
            before, after = _around(user[: found.start()], user[end:])
            return Together(system, before, after, items, "string" in form)
    return None


def answer_schema(schema: Any) -> Any:
    """The schema of one answer in a schema of many: None when it is no such schema, {} when any answer will do."""
    try:
        listed = schema["properties"]["answers"]["items"]["properties"]
        inner = listed["answer"] if "id" in listed else None
    except (KeyError, TypeError):
        return None
    if not isinstance(inner, dict):
        return None if inner is None else {}
    shared = {key: schema[key] for key in ("$defs", "definitions") if isinstance(schema.get(key), dict)}
    return {**shared, **inner} if inner else {}


def answer_together(
    together: Together, alone: Callable[[str, bool], Any], weakness: Weakness, salt: Sequence[object]
) -> tuple[str, Spoiled]:
    """The JSON of all answers. `alone` answers the question about one item: its user's text, and whether it has to be
    wrong; `salt` is what the model's chance depends on besides the texts.
    """
    count = len(together.items)
    lost = weakness.lost(count)
    answers: list[dict[str, Any]] = []
    harmed = 0
    for identity, text in together.items:
        wrong = lost > 0 and chance("together", *salt, text) < lost
        harmed += wrong
        answers.append({"id": identity, "answer": alone(together.alone(text), wrong)})
    texts = sorted(text for _, text in together.items)
    fault = weakness.fault
    if fault is None or count < 2 or chance("form", *salt, *texts) >= weakness.fault_rate:
        return _json(answers), Spoiled(count, harmed)
    first = pick(count, "place", *salt, *texts)
    return _out_of_form(answers, fault, first), Spoiled(count, harmed, fault)


def _out_of_form(answers: list[dict[str, Any]], fault: BatchFault, first: int) -> str:
    second = (first + 1) % len(answers)
    one, other = answers[first], answers[second]
    match fault:
        case BatchFault.DROPS_ITEM:
            del answers[first]
        case BatchFault.DOUBLES_ID:
            answers.insert(first + 1, {"id": one["id"], "answer": other["answer"]})
        case BatchFault.INVENTS_ID:
            answers[first] = {"id": f"{one['id']}x", "answer": one["answer"]}
        case BatchFault.SWAPS_ANSWERS:
            one["answer"], other["answer"] = other["answer"], one["answer"]
        case BatchFault.CUTS_JSON:
            whole = _json(answers)
            return whole[: len(whole) * 2 // 3]
    return _json(answers)


def _items(value: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    listed = value.get("items")
    if len(value) != 1 or not isinstance(listed, list) or not 0 < len(listed) <= MOST_ITEMS:
        return ()
    items: dict[str, str] = {}
    for one in listed:
        if not (
            isinstance(one, dict)
            and one.keys() == {"id", "text"}
            and isinstance(one["id"], str)
            and isinstance(one["text"], str)
            and one["id"] not in items
        ):
            return ()
        items[one["id"]] = one["text"]
    return tuple(items.items())


def _parted(system: str) -> tuple[str, str]:
    """The system text up to the first paragraph that speaks of items or answers by the names they have in the JSON, and
    the rest.
    """
    paragraphs = system.split("\n\n")
    for place, paragraph in enumerate(paragraphs):
        if _ABOUT_ITEMS.search(paragraph):
            return "\n\n".join(paragraphs[:place]), "\n\n".join(paragraphs[place:])
    return system, ""


def _around(before: str, after: str) -> tuple[str, str]:
    """What stands before and after each text, given what does so around the document."""
    head, mark, tail = before.rpartition(TEXT_MARK)
    if mark:
        return head, tail.removesuffix("\n\n") + after
    if before.endswith((" \n", "\t\n")):  # the document was put on a line of its own
        before = before[:-1]
    return before, after


def _json(answers: list[dict[str, Any]]) -> str:
    return json.dumps({"answers": answers}, ensure_ascii=False)
