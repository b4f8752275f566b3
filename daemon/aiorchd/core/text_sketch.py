"""What two questions differ in, seen by their words: the half of likeness that vectors do not see.

Idea. A vector that is the mean of its words says the same of "from A to B" and "from B to A", and little of a digit, a
unit or a "not". So each question leaves a sketch: its words in order as 32-bit hashes (never the words), with numbers,
negators, question words and content words told apart. Comparing two sketches gives features for a learned model, and
one verdict that no model may overrule: `Difference.vetoed`, which holds when the questions differ in one of the ways that
change the meaning and leave the words nearly the same.

The lists are English (`core.english_words`). Of other languages numbers, order and substitution are seen, negators and opposites
are not.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from zlib import crc32

from aiorchd.core.english_words import (
    DIRECTIONAL,
    MEASURES,
    NEGATORS,
    NUMBER_WORDS,
    OPPOSITES,
    QUESTION_WORDS,
    RELATIONS,
    STOP_WORDS,
    SYMBOLS,
    WH_CONTRACTED,
)

MAX_WORDS: Final = 400
"""Longer questions have no sketch: a mean of so many words says nothing any more."""

_TOKEN: Final = re.compile(r"[+\-]?\d[\d.,:/]*\d|[+\-]?\d|[^\W\d_]+(?:['’][^\W\d_]+)*|[%°$€£¥<>=+*/^~-]")


def _hashed(words: Iterable[str]) -> frozenset[int]:
    return frozenset(crc32(word.encode()) for word in words)


_SIDES: Final[Mapping[int, tuple[int, int]]] = {
    crc32(word.encode()): (number, side)
    for number, pair in enumerate(OPPOSITES)
    for side, words in enumerate(pair.split())
    for word in words.split(",")
}
_RELATIONS: Final = _hashed(RELATIONS)
_RELATED_WORDS: Final = 3
"""So far from a relation a word may be to be a side of it."""
_STOP_HASHES: Final = _hashed(STOP_WORDS)
_DIRECTIONAL: Final = _hashed(DIRECTIONAL)
_SUFFIXES: Final = ("ing", "ed", "s")


class _More(NamedTuple):
    """What few words are."""

    number: bool = False
    negates: bool = False
    measure: int | None = None
    question_word: int | None = None


def _stem(word: str) -> str:
    if not word.endswith(_SUFFIXES):
        return word
    if len(word) > 3 and word.endswith("'s"):
        word = word[:-2]
    for suffix, least in (("ies", 5), ("ing", 6), ("ed", 5), ("es", 5), ("s", 4)):
        if word.endswith(suffix) and len(word) >= least and not word.endswith("ss"):
            if suffix == "ies":
                return word[:-3] + "y"
            cut = word[: -len(suffix)]
            if suffix in ("ing", "ed") and len(cut) > 3 and cut[-1] == cut[-2]:
                return cut[:-1]
            return cut if suffix != "es" or cut.endswith(("s", "x", "z", "ch", "sh")) else word[:-1]
    return word


def _read(token: str) -> tuple[int, int | None, _More | None]:
    """Give the hash of a word, that of its stem where it is content, and what else it is, where it is anything else."""
    digits = not token.isalpha() and any(map(str.isdigit, token))
    number = token if digits else NUMBER_WORDS.get(token)
    if number is not None:
        hashed = crc32(number.replace(",", "").lstrip("+").encode())
        return hashed, hashed, _NUMBER
    stem = _stem(token)
    hashed = crc32(token.encode())
    negates = token in NEGATORS or token.endswith("n't")
    measure = crc32(stem.encode()) if not negates and (token in MEASURES or stem in MEASURES) else None
    question_word = WH_CONTRACTED.get(token, token if token in QUESTION_WORDS else None)
    meant = None
    if token in SYMBOLS:
        meant = hashed
    elif token not in STOP_WORDS and token not in NEGATORS and question_word is None:
        meant = crc32(stem.encode())
    if not negates and measure is None and question_word is None:
        return hashed, meant, None
    return hashed, meant, _More(False, negates, measure, crc32(question_word.encode()) if question_word else None)


_NUMBER: Final = _More(number=True)
_LISTED: Final[Mapping[str, tuple[int, int | None, _More | None]]] = {
    word: _read(word)
    for word in {*NUMBER_WORDS, *NEGATORS, *MEASURES, *SYMBOLS, *STOP_WORDS, *QUESTION_WORDS, *WH_CONTRACTED}
}
"""Of every word that stands in a list above."""


def _read_unlisted(token: str) -> tuple[int, int | None, _More | None]:
    """Do the same for a word that stands in no list; most are content and nothing else."""
    if not token.isalpha():
        return _read(token)
    hashed = crc32(token.encode())
    stem = _stem(token)
    if stem == token:
        return hashed, hashed, None
    meant = crc32(stem.encode())
    return hashed, meant, _More(measure=meant) if stem in MEASURES else None


class TextSketch(NamedTuple):
    """The words of a question as hashes: all in order, the stems of content words in order (numbers among them), numbers
    in order, measures, the number of negators, and question words."""

    words: tuple[int, ...]
    content: tuple[int, ...]
    numbers: tuple[int, ...]
    measures: frozenset[int]
    negators: int
    question_words: frozenset[int]

    def to_bytes(self) -> bytes:
        """Pack it for the disk."""
        measures, question_words = sorted(self.measures), sorted(self.question_words)
        lengths = len(self.words), len(self.content), len(self.numbers), len(measures), len(question_words)
        return struct.pack(
            f"<6H{sum(lengths)}I",
            *lengths,
            self.negators,
            *self.words,
            *self.content,
            *self.numbers,
            *measures,
            *question_words,
        )

    @classmethod
    def from_bytes(cls, packed: bytes) -> TextSketch:
        """Read one. Raises ValueError for what is none."""
        try:
            words, content, numbers, measures, question_words, negators = struct.unpack_from("<6H", packed)
            # From here on: where each part ends.
            content += words
            numbers += content
            measures += numbers
            question_words += measures
            flat = struct.unpack_from(f"<{question_words}I", packed, 12)
        except struct.error as error:
            raise ValueError("not a sketch of a text") from error
        return cls(
            flat[:words],
            flat[words:content],
            flat[content:numbers],
            frozenset(flat[numbers:measures]),
            negators,
            frozenset(flat[measures:]),
        )


def sketch(text: str) -> TextSketch | None:
    """Sketch a question; None when it has no words or too many."""
    tokens = _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold().replace("’", "'"))
    if not tokens or len(tokens) > MAX_WORDS:
        return None
    words: list[int] = []
    content: list[int] = []
    numbers: list[int] = []
    measures: set[int] = set()
    question_words: set[int] = set()
    negators = 0
    for token in tokens:
        hashed, meant, more = _LISTED.get(token) or _read_unlisted(token)
        words.append(hashed)
        if meant is not None:
            content.append(meant)
        if more is not None:
            negators += more.negates
            if more.number:
                numbers.append(hashed)
            if more.measure is not None:
                measures.add(more.measure)
            if more.question_word is not None:
                question_words.add(more.question_word)
    return TextSketch(
        tuple(words), tuple(content), tuple(numbers), frozenset(measures), negators, frozenset(question_words)
    )


class Difference(NamedTuple):
    """How two questions differ. Shares are 0 to 1; ``least_content`` and ``most_content`` count content words that only one
    of them has, of the side with fewer and with more; ``length_ratio`` is the shorter by the longer."""

    token_jaccard: float
    bigram_jaccard: float
    numbers_differ: bool
    """Their numbers, or both have units or dates, and not the same."""
    negation_differs: bool
    question_words_differ: bool
    least_content: int
    most_content: int
    length_ratio: float
    opposite: bool
    """One has a word where the other has its opposite."""
    reordered: bool
    """Content words that both have stand in another order: all the same ones, or two on the two sides of a relation."""
    substituted: bool
    """They are the same but for one place, where each has content words of its own."""

    @property
    def vetoed(self) -> str | None:
        """Say why the answer to one must not be given to the other, whatever any model says; None when nothing does."""
        if self.numbers_differ:
            return "a number or a unit differs"
        if self.negation_differs:
            return "one of them negates"
        if self.opposite:
            return "one says the opposite of a word of the other"
        if self.reordered:
            return "the same words stand in another order"
        if self.substituted:
            return "they differ in one thing that they are about"
        return None


def difference(one: TextSketch, other: TextSketch) -> Difference:
    """Compare two questions; symmetric."""
    one_words, other_words = set(one.words), set(other.words)
    one_content, other_content = set(one.content), set(other.content)
    only_one, only_other = one_content - other_content, other_content - one_content
    lengths = sorted((len(one.words), len(other.words)))
    one_middle, other_middle = _middles(one.words, other.words)
    apart = len(one_words ^ other_words)
    return Difference(
        token_jaccard=_jaccard(one_words, other_words),
        bigram_jaccard=_jaccard(_bigrams(one.words), _bigrams(other.words)),
        numbers_differ=sorted(one.numbers) != sorted(other.numbers)
        or (bool(one.measures) and bool(other.measures) and one.measures != other.measures),
        negation_differs=one.negators != other.negators,
        question_words_differ=one.question_words != other.question_words,
        least_content=min(len(only_one), len(only_other)),
        most_content=max(len(only_one), len(only_other)),
        length_ratio=lengths[0] / lengths[1],
        opposite=_opposed(one_words - other_words, other_words - one_words, small_too=apart <= 2),
        reordered=(not only_one and not only_other and _reordered(one.content, other.content))
        or (apart == 0 and _reordered(one.words, other.words))
        or _turned(one.words, other.words),
        substituted=bool(only_one)
        and bool(only_other)
        and max(len(one_middle), len(other_middle)) <= max(3, lengths[1] // 3)
        and 2 * max(len(one_middle), len(other_middle)) <= lengths[1],
    )


def _jaccard(one: set[Any], other: set[Any]) -> float:
    union = len(one | other)
    return len(one & other) / union if union else 1.0


def _bigrams(words: tuple[int, ...]) -> set[tuple[int, int]]:
    return set(zip((0, *words), (*words, 0), strict=True))


def _middles(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Leave out what they begin with and end with alike."""
    shorter = min(len(one), len(other))
    start = 0
    while start < shorter and one[start] == other[start]:
        start += 1
    end = 0
    while end < shorter - start and one[-1 - end] == other[-1 - end]:
        end += 1
    return one[start : len(one) - end], other[start : len(other) - end]


def _reordered(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    shared = {word for word in set(one) & set(other) if one.count(word) == 1 and other.count(word) == 1}
    return len(shared) > 1 and [word for word in one if word in shared] != [word for word in other if word in shared]


def _turned(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Tell whether two words stand before and after a relation in one, and after and before a relation in the other."""
    if _RELATIONS.isdisjoint(one):  # mostly
        return False
    pairs = _related(one)
    return bool(pairs) and any((after, before) in pairs for before, after in _related(other))


def _related(words: tuple[int, ...]) -> set[tuple[int, int]]:
    return {
        (before, after)
        for place, word in enumerate(words)
        if word in _RELATIONS
        for before in words[max(0, place - _RELATED_WORDS) : place]
        for after in words[place + 1 : place + 1 + _RELATED_WORDS]
        if before != after and before not in _STOP_HASHES and after not in _STOP_HASHES
    }


def _opposed(only_one: Iterable[int], only_other: set[int], *, small_too: bool) -> bool:
    wanted = set()
    for word in only_one:
        side = _SIDES.get(word)
        if side is not None and (small_too or word not in _DIRECTIONAL):
            wanted.add((side[0], 1 - side[1]))
    return bool(wanted) and any(
        _SIDES.get(word) in wanted and (small_too or word not in _DIRECTIONAL) for word in only_other
    )
