"""What two questions differ in, seen by their words: the half of likeness that vectors do not see.

Idea. A vector that is the mean of its words says the same of "from A to B" and "from B to A", and little of a digit, a
unit or a "not". So each question leaves a sketch: its words in order as 32-bit hashes (never the words), with numbers,
negators, question words and content words told apart. Comparing two sketches gives features for a learned model, and
one verdict that no model may overrule: `Difference.vetoed`, which holds when the questions differ in one of the ways that
change the meaning and leave the words nearly the same.

The lists are English. Of other languages numbers, order and substitution are seen, negators and opposites are not.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from zlib import crc32

MAX_WORDS: Final = 400
"""Longer questions have no sketch: a mean of so many words says nothing any more."""

_TOKEN: Final = re.compile(r"[+\-]?\d[\d.,:/]*\d|[+\-]?\d|[^\W\d_]+(?:['’][^\W\d_]+)*|[%°$€£¥<>=+*/^~-]")


def _hashed(words: str) -> frozenset[int]:
    return frozenset(crc32(word.encode()) for word in words.split())


_STOP_WORDS: Final = frozenset(
    (
        "a an the this that these those some any i me my mine we us our you your yours he him his she her it its they them "
        "their is am are was were be been being do does did doing have has had having can could will would shall should may "
        "might must of to in on at for from by with about as into onto and or but so if then than there here please kindly "
        "pls plz just really very also hey hi hello ok okay um uh well now want need like know tell let lets see get got give "
        "gimme show find explain say go going gonna wanna help thanks thank sure i'm i'd i'll i've it's that's there's let's "
        "you're what's who's where's how's when's whats hows what which who whom whose when where why how up out"
    ).split()
)
_NEGATORS: Final = frozenset(
    (
        "no not none never nobody nothing nowhere neither nor cannot cant dont doesnt didnt isnt arent wasnt werent wont "
        "wouldnt shouldnt couldnt hasnt havent hadnt aint mustnt neednt without "
        "except excluding besides unless hardly barely lacks lacking "
        "fail fails refuse avoid instead"
    ).split()
)
_QUESTION_WORDS: Final = frozenset("what which who whom whose when where why how".split())
_WH_CONTRACTED: Final[Mapping[str, str]] = {
    word + suffix: word for word in _QUESTION_WORDS for suffix in ("'s", "s", "'d", "'re", "'ll")
}
_NUMBER_WORDS: Final[Mapping[str, str]] = {
    word: str(value)
    for value, words in enumerate(
        (
            "zero . two,twice,second,double three,third,thrice,triple four,fourth five,fifth six,sixth seven,seventh "
            "eight,eighth nine,ninth ten,tenth eleven,eleventh twelve,twelfth thirteen fourteen fifteen sixteen seventeen "
            "eighteen nineteen twenty"
        ).split()
    )
    for word in words.split(",")
    if word != "."
} | {
    "thirty": "30",
    "forty": "40",
    "fifty": "50",
    "sixty": "60",
    "seventy": "70",
    "eighty": "80",
    "ninety": "90",
    "hundred": "100",
    "thousand": "1000",
    "million": "1000000",
    "billion": "1000000000",
    "half": "0.5",
    "quarter": "0.25",
    "dozen": "12",
    "first": "1st",
    "once": "1x",
}
_MEASURES: Final = frozenset(
    (
        "mm cm m km millimeter centimeter meter kilometer metre kilometre "
        "inch foot feet yard mile mg g kg gram kilogram ounce oz "
        "lb lbs pound ton tonne ml l liter litre gallon pint quart cup tablespoon teaspoon tbsp tsp celsius fahrenheit kelvin "
        "ms millisecond microsecond second minute hour day week weekday weekend month quarter year decade century am pm "
        "usd eur gbp jpy "
        "dollar euro yen peso rupee cent percent % ° $ € £ ¥ bit byte kb mb gb tb kib mib gib "
        "kilobyte megabyte gigabyte terabyte "
        "watt kilowatt volt amp hertz mhz ghz mph kph acre hectare monday tuesday wednesday thursday friday saturday sunday "
        "january february march april june july august september october november december spring summer autumn fall winter "
        "morning afternoon evening night noon midnight today tomorrow yesterday tonight daily weekly monthly yearly annual hourly"
    ).split()
)
_SYMBOLS: Final = frozenset("%°$€£¥<>=+*/^~-")
_OPPOSITES: Final = (
    "on off",
    "in,into,inside out,outside",
    "up,upward down,downward",
    "before,prior,earlier after,later,following",
    "above,over below,under,beneath",
    "more,most,greater,greatest less,least,fewer,fewest",
    "max,maximum,highest,largest,biggest,longest min,minimum,lowest,smallest,shortest",
    "high,higher low,lower",
    "big,bigger,large,larger small,smaller,little",
    "long,longer short,shorter",
    "fast,faster,fastest,quick slow,slower,slowest",
    "cheap,cheaper,cheapest,inexpensive expensive,pricey,costly",
    "best,better,good,great worst,worse,bad,poor",
    "hot,hotter,hottest,warm,warmer cold,colder,coldest,cool,cooler",
    "old,older,oldest new,newer,newest,young,younger",
    "first,earliest last,latest,final",
    "start,begin,resume stop,end,finish,halt,pause",
    "open,opening close,closing,shut",
    "enable,activate,allow,permit disable,deactivate,forbid,block,deny",
    "lock unlock",
    "install uninstall",
    "increase,raise,increasing decrease,lower,reduce,decreasing",
    "add,insert,include remove,delete,exclude,drop",
    "buy,purchase sell",
    "send,sent receive,received",
    "push pull",
    "import export",
    "upload download",
    "encrypt decrypt",
    "encode decode",
    "compress decompress,uncompress",
    "connect,attach disconnect,detach",
    "accept,approve reject,decline",
    "win,won lose,lost",
    "borrow,borrowed lend,lent",
    "deposit withdraw,withdrawal",
    "debit credit",
    "arrive,arrival,arriving depart,departure,leave,leaving",
    "male,man,men,boy,father,husband female,woman,women,girl,mother,wife",
    "left right",
    "north south",
    "east west",
    "true,correct,valid false,incorrect,invalid,wrong",
    "always never",
    "all,every,both none,neither",
    "safe,legal,possible,likely,happy,able unsafe,illegal,impossible,unlikely,unhappy,unable",
    "with without",
    "from,since to,until,till",
    "public private",
    "increase decrease",
    "gain,profit loss",
    "pass,succeed,success fail,failure",
    "hire,hired fire,fired",
    "mute unmute",
    "show hide",
    "many,multiple,plural single,singular",
    "synonym antonym",
    "ascending descending",
    "import,imports export,exports",
    "sunrise sunset",
    "input output",
    "read write",
    "encrypted unencrypted",
    "paid unpaid",
    "answer ask",
    "give take",
    "forward backward",
    "like,love dislike,hate",
)
_SIDES: Final[Mapping[int, tuple[int, int]]] = {
    crc32(word.encode()): (number, side)
    for number, pair in enumerate(_OPPOSITES)
    for side, words in enumerate(pair.split())
    for word in words.split(",")
}
_RELATIONS: Final = _hashed("to from than over before after versus vs until till for by into onto")
_RELATED_WORDS: Final = 3
"""So far from a relation a word may be to be a side of it."""
_STOP_HASHES: Final = frozenset(crc32(word.encode()) for word in _STOP_WORDS)
_DIRECTIONAL: Final = _hashed("from to since until till in out into inside outside on off with without up over")
"""Opposites that are also the smallest of words; they count only where nothing else of the sentence differs."""


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
    number = token if digits else _NUMBER_WORDS.get(token)
    if number is not None:
        hashed = crc32(number.replace(",", "").lstrip("+").encode())
        return hashed, hashed, _NUMBER
    stem = _stem(token)
    hashed = crc32(token.encode())
    negates = token in _NEGATORS or token.endswith("n't")
    measure = crc32(stem.encode()) if not negates and (token in _MEASURES or stem in _MEASURES) else None
    question_word = _WH_CONTRACTED.get(token, token if token in _QUESTION_WORDS else None)
    meant = None
    if token in _SYMBOLS:
        meant = hashed
    elif token not in _STOP_WORDS and token not in _NEGATORS and question_word is None:
        meant = crc32(stem.encode())
    if not negates and measure is None and question_word is None:
        return hashed, meant, None
    return hashed, meant, _More(False, negates, measure, crc32(question_word.encode()) if question_word else None)


_NUMBER: Final = _More(number=True)
_LISTED: Final[Mapping[str, tuple[int, int | None, _More | None]]] = {
    word: _read(word)
    for word in {*_NUMBER_WORDS, *_NEGATORS, *_MEASURES, *_SYMBOLS, *_STOP_WORDS, *_QUESTION_WORDS, *_WH_CONTRACTED}
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
    return hashed, meant, _More(measure=meant) if stem in _MEASURES else None


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
