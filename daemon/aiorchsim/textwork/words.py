"""Words, sentences and repeatable chance: what all the other text work is made of."""

import re
from hashlib import blake2b
from typing import Final

LONGEST_TEXT: Final = 20_000
"""Characters of one text that are looked at; what comes after them does not change its answer."""

_WORD: Final = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|\n")
_NUMBER: Final = re.compile(r"(?<![\w.])(?<!\d-)-?\d++(?:\.\d++)?+(?!-\d)(?![\w.]*\w)")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")

_STOP_WORD_LINES: Final = (
    "a about above after again against all also am an and any are aren't as at be because been before being below",
    "between both but by can can't cannot could did do does doesn't doing don't down during each else even ever",
    "every few for from further get gets give given gives go had has have having he her here hers herself him",
    "himself his how however i if in into is isn't it it's its itself just let like made make makes many may me",
    "might more most much must my myself no nor not now of off on once one only or other others our ours",
    "ourselves out over own per please same she should since so some still such than that the their theirs them",
    "themselves then there these they this those three through thus to too two under until up upon us use used",
    "uses using very via was we were what when where whether which while who whom whose why will with within",
    "without would yet you your yours yourself yourselves",
)
STOP_WORDS: Final = frozenset(" ".join(_STOP_WORD_LINES).split())


def words(text: str) -> list[str]:
    """The words of a text in order, lower-case; numbers count as words, underscores part them."""
    return _WORD.findall(text[:LONGEST_TEXT].lower())


def content_words(text: str) -> list[str]:
    """The words that carry meaning: at least three letters, no stop words, no bare numbers."""
    return [word for word in words(text) if len(word) > 2 and word not in STOP_WORDS and not word.isdigit()]


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, stripped, none of them empty."""
    return [part for part in (piece.strip() for piece in _SENTENCE_END.split(text[:LONGEST_TEXT])) if part]


def numbers(text: str) -> list[float]:
    """The numbers that stand alone in a text, in order."""
    return [float(found) for found in _NUMBER.findall(_THOUSANDS.sub("", text[:LONGEST_TEXT]))]


def clip(text: str, characters: int) -> str:
    """The beginning of a text on one line, at most so many characters, cut between words where that is possible."""
    line = " ".join(text[: characters * 4].split())
    if len(line) <= characters:
        return line
    return line[: characters + 1].rpartition(" ")[0] or line[:characters]


def chance(*parts: object) -> float:
    """A number in [0, 1) that looks random and depends on nothing but the parts."""
    return _digest(parts) / 2**64


def pick(count: int, *parts: object) -> int:
    """One of range(count), as repeatable as `chance`."""
    return _digest(parts) % count


def _digest(parts: tuple[object, ...]) -> int:
    material = "\0".join([str(part) for part in parts]).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(material, digest_size=8).digest(), "little")
