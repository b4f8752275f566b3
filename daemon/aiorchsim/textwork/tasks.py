"""What a prompt asks for: its instruction, the text it is about, and the task that the instruction names.

The instruction is the system message together with the beginning of the user's text (up to the first line that ends
in a colon, or its first paragraph or line) or, when that says nothing, its last line. Only there are task words
looked for, so that a page about "classification" is not classified. Understood: tags or keywords, summaries, one of
several labels; anything else is an open question.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

LONGEST_HEAD: Final = 600
"""Characters at the beginning of the user's text in which the instruction must end."""
MOST_LABELS: Final = 200


class Kind(Enum):
    """The kinds of work that can be asked for."""

    OPEN = "open"
    TAGS = "tags"
    SUMMARY = "summary"
    LABEL = "label"


@dataclass(frozen=True, slots=True)
class Task:
    """What to do with a text: `count` tags, `count` sentences, or the `count` best of `labels`."""

    kind: Kind = Kind.OPEN
    count: int = 1
    labels: tuple[str, ...] = ()


_NUMBER_WORDS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_HOW_MANY: Final = r"(?P<n>\d{1,3}|" + "|".join(_NUMBER_WORDS) + r")\s+(?:[\w-]+\s+){0,2}?"
_TAGS: Final = re.compile(r"\b(?:tags?|tagging|keywords?|key\s?phrases?|key terms?|topics?)\b", re.IGNORECASE)
_COUNTED_TAGS: Final = re.compile(
    r"\b" + _HOW_MANY + r"(?:tags?|keywords?|key\s?phrases?|key terms?|topics?)\b", re.IGNORECASE
)
_SUMMARY: Final = re.compile(
    r"\b(?:summari[sz]e[sd]?|summari[sz]ing|summary|summaries|tl;?dr|abstract|sum up)\b", re.IGNORECASE
)
_COUNTED_SENTENCES: Final = re.compile(r"\b" + _HOW_MANY + r"sentences?\b", re.IGNORECASE)
_LABELS: Final = re.compile(
    r"\b(?:one of(?: the following| these)?(?: (?:labels|categories|classes|options|topics|tags|words|values|intents))?"
    r"|choose (?:from|between)|labels|categories|classes|options"
    r"|classif(?:y|ied|ication)\b[^:\n.]{0,80}? (?:as|into|in)|either|answer with)"
    r"(?: are| is| (?:as|the) following)?\s*(?P<colon>:?)",
    re.IGNORECASE,
)
_QUOTES: Final = " \t\"'`“”‘’*.:"
_BULLET: Final = re.compile(r"\s*(?:[-*•]|\(?\w[.)])\s+(?P<label>.+)")
_LEADER: Final = re.compile(
    r"\s*(?:text|message|input|document|doc|page|article|passage|review|email|ticket|content|question|query|sentence)\s*:\s+",
    re.IGNORECASE,
)


def read_task(instruction: str) -> Task:
    """The task that an instruction names; an open one when it names none."""
    labels = find_labels(instruction)
    if labels:
        counted = _COUNTED_TAGS.search(instruction)
        return Task(Kind.LABEL, min(_number(counted["n"]), len(labels)) if counted else 1, labels)
    if _TAGS.search(instruction):
        counted = _COUNTED_TAGS.search(instruction)
        return Task(Kind.TAGS, _number(counted["n"]) if counted else 5)
    if _SUMMARY.search(instruction):
        counted = _COUNTED_SENTENCES.search(instruction)
        return Task(Kind.SUMMARY, _number(counted["n"]) if counted else 2)
    return Task()


def find_labels(instruction: str) -> tuple[str, ...]:
    """The labels to choose from that an instruction lists: in brackets, after a colon, as "a, b or c", as bullets; or
    none.
    """
    for found in _LABELS.finditer(instruction):
        labels = _listed(instruction[found.end() :], after_colon=bool(found["colon"]))
        if len(labels) >= 2:
            return labels
    return ()


def split_prompt(system: str, user: str) -> tuple[Task, str]:
    """The task of a prompt, and the text it is about (the user's text without its instruction)."""
    head, subject = split_head(user)
    task = read_task(head)
    if task.kind is not Kind.OPEN:
        return task, _without_leader(subject or user)
    body, _, last = user.rstrip().rpartition("\n")
    if body.strip() and len(last) <= LONGEST_HEAD:
        task = read_task(last)
        if task.kind is not Kind.OPEN:
            return task, _without_leader(body.strip())
    return read_task(system), _without_leader(user)


def split_head(user: str) -> tuple[str, str]:
    """The beginning of the user's text, where the instruction is, and the rest; the whole and nothing when it has one
    part.
    """
    text = user.lstrip()
    start = text[:LONGEST_HEAD]
    lines = start.split("\n")
    complete = len(text) <= LONGEST_HEAD
    seen = 0
    for position, line in enumerate(lines):
        whole = complete or position < len(lines) - 1
        if position and _LEADER.match(line):
            return text[:seen].strip(), text[seen:].strip()
        seen += len(line) + 1
        if whole and line.rstrip().endswith(":"):
            after = _past_labels(text, seen)
            return text[:after].strip(), text[after:].strip()
    if (gap := start.find("\n\n")) >= 0:
        return text[:gap].strip(), text[gap:].strip()
    if len(lines) > 1:
        return lines[0].strip(), text[len(lines[0]) :].strip()
    head, colon, subject = text.partition(": ")
    if colon and len(head) <= LONGEST_HEAD:
        sentence_end = _end_of_label_sentence(subject) if _LABELS.search(head) else 0
        return head + colon + subject[:sentence_end], subject[sentence_end:].strip()
    return text.strip(), ""


def _past_labels(text: str, position: int) -> int:
    """Where the list of labels ends that a line such as "Choose one of:" introduces; the same position when there is
    none.
    """
    introduction = text[:position].rstrip().rpartition("\n")[2]
    ends = [found.end() for found in _LABELS.finditer(introduction)]
    if not ends or ends[-1] < len(introduction):
        return position
    end = position
    bullets = 0
    while end < len(text):
        newline = text.find("\n", end)
        stop = len(text) if newline < 0 else newline + 1
        line = text[end:stop]
        if _BULLET.match(line) is None:
            if bullets == 0 and not line.strip():
                end = stop
                continue
            break
        bullets += 1
        end = stop
    if bullets:
        return end
    newline = text.find("\n", position)
    return position if newline < 0 else newline + 1


def _end_of_label_sentence(subject: str) -> int:
    end = re.search(r"[.;\n]\s|\n", subject)
    return end.end() if end else 0


def _listed(rest: str, *, after_colon: bool) -> tuple[str, ...]:
    rest = rest.lstrip(" \t")
    if rest[:1] in ("[", "(", "{"):
        closing = rest.find({"[": "]", "(": ")", "{": "}"}[rest[0]])
        return _labels(re.split(r"[,;|/]", rest[1:closing])) if closing > 0 else ()
    if rest.startswith("\n"):
        bullets: list[str] = []
        for line in rest.lstrip("\n").split("\n")[:MOST_LABELS]:
            bullet = _BULLET.match(line)
            if bullet is None:
                break
            bullets.append(bullet["label"])
        if bullets or not after_colon:
            return _labels(bullets)
        rest = rest.lstrip("\n")
    line = re.split(r"[.;:\n]|$", rest, maxsplit=1)[0]
    parts = re.split(r"[,|]|\s/\s", line)
    return _labels(parts[:-1] + re.split(r"\b(?:or|and)\b", parts[-1]))


def _labels(parts: list[str]) -> tuple[str, ...]:
    labels = [label for label in (part.strip(_QUOTES) for part in parts[:MOST_LABELS]) if label]
    if any(len(label) > 60 or label.count(" ") > 5 for label in labels):
        return ()  # these are clauses of a sentence, not labels
    return tuple(dict.fromkeys(labels))


def _without_leader(text: str) -> str:
    return text[leader.end() :] if (leader := _LEADER.match(text)) else text


def _number(written: str) -> int:
    word = written.lower()
    return max(1, min(50, int(word) if word.isdigit() else _NUMBER_WORDS.index(word) + 1))
