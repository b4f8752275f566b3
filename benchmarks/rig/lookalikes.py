"""Questions that look like another and mean something else, and questions that mean the same: made by rules, from any list.

A base question is taken from the list when a rule fits it. The rules, in the order in which they take turns:

adversarial
    reversed   two names around a direction or a comparison change places ("from A to B", "A to B", "A than B", "A or B")
    negated    "not" after the first auxiliary verb, "don't" before an imperative, "without" for "with"
    digit      one digit of a number becomes another one (of a number in words: another number)
    unit       a unit, day, month or currency becomes another one of its kind
    entity     a place, language, food, person or thing of a closed list becomes another one of its list

paraphrase
    one or two of: a polite frame, a greeting, thanks; "what is" for "what's" and back; "how do i" for "how can i"; a filler;
    "please" at the end. None changes a word that says what is asked.
"""

import random
import re
from dataclasses import dataclass
from typing import Final

_FAMILIES: Final = tuple(
    words.split()
    for words in (
        "monday tuesday wednesday thursday friday saturday sunday",
        "january february march april june july august september october november december",
        "dollars euros pounds yen pesos rupees",
        "miles kilometers feet meters inches yards",
        "minutes hours seconds days weeks months years",
        "ounces grams kilograms cups liters gallons tablespoons teaspoons",
        "morning evening afternoon",
    )
)
_ENTITIES: Final = tuple(
    words.split()
    for words in (
        "spanish french german italian japanese chinese portuguese korean russian english swahili turkish",
        "france germany spain italy japan china mexico canada brazil england ireland thailand india egypt",
        "paris london boston chicago denver seattle dallas miami atlanta houston phoenix orlando tokyo rome madrid",
        "pizza pasta chicken beef rice soup salad lasagna tacos cake bread eggs spaghetti",
        "visa mastercard discover amex",
        "checking savings",
        "toyota honda ford chevy",
        "alarm timer reminder",
        "mom dad sister brother john bob mike sarah jenny",
        "texas california florida ohio utah nevada",
        "water gas electric cable internet phone",
        "birthday christmas easter thanksgiving",
        "credit debit",
        "breakfast lunch dinner",
    )
)
_NUMBERS: Final = "two three four five six seven eight nine ten eleven twelve".split()
_AUXILIARY: Final = re.compile(
    r"\b(is|are|was|were|do|does|did|can|could|should|would|will|has|have)\b( (?:i|you|we|they|he|she|it|my|the|there)\b)?"
)
_REVERSALS: Final = (
    re.compile(r"\bfrom (?P<a>\w+) to (?P<b>\w+)"),
    re.compile(r"\b(?P<a>\w{4,}) to (?P<b>\w{4,})$"),
    re.compile(r"\b(?P<a>\w{3,}) (?:than|versus|vs|over|before|after) (?:a |the )?(?P<b>\w{3,})"),
)
_IMPERATIVE: Final = re.compile(
    r"^(?:please )?(set|turn|play|call|text|send|tell|show|give|book|order|add|remove|cancel|pay|make|find|read|start|stop|"
    r"change|remind|transfer|schedule|freeze|report|block|put|use|open|check|update|delete|roll|flip|spell|translate|convert|track)\b"
)


@dataclass(frozen=True)
class LookAlike:
    """A question made of ``base`` by ``rule``."""

    base: str
    text: str
    rule: str


def adversarial(questions: list[str], count: int, seed: int) -> list[LookAlike]:
    """Make so many, an equal share by each rule as far as the questions allow."""
    return _made(
        questions,
        count,
        seed,
        (("reversed", _reverse), ("negated", _negate), ("digit", _digit), ("unit", _unit), ("entity", _entity)),
    )


def paraphrases(questions: list[str], count: int, seed: int) -> list[LookAlike]:
    """Make so many."""
    return _made(questions, count, seed, (("paraphrase", _paraphrase),))


def _made(questions: list[str], count: int, seed: int, rules) -> list[LookAlike]:
    rng = random.Random(seed)
    shuffled = list(questions)
    rng.shuffle(shuffled)
    known, used, found = set(questions), set(), []
    places = {name: iter(shuffled) for name, _ in rules}
    while len(found) < count and places:
        for name, rule in rules:
            if name not in places or len(found) >= count:
                continue
            for base in places[name]:
                text = None if base in used else rule(base, rng)
                if text and text != base and text not in known:
                    used.add(base)
                    known.add(text)
                    found.append(LookAlike(base, text, name))
                    break
            else:
                del places[name]
    return found


def _reverse(text: str, rng: random.Random) -> str | None:
    for pattern in _REVERSALS:
        match = pattern.search(text)
        if match and match["a"] != match["b"]:
            a, b = match.span("a"), match.span("b")
            return text[: a[0]] + match["b"] + text[a[1] : b[0]] + match["a"] + text[b[1] :]
    return None


def _negate(text: str, rng: random.Random) -> str | None:
    if re.search(r"\b(not|no|never|without|\w+n't)\b", text):
        return None
    match = _IMPERATIVE.match(text)
    if match:
        return text[: match.start(1)] + "don't " + text[match.start(1) :]
    match = _AUXILIARY.search(text)
    if match:
        return text[: match.end()] + " not" + text[match.end() :]
    return re.sub(r"\bwith\b", "without", text, count=1)


def _digit(text: str, rng: random.Random) -> str | None:
    digits = [match.start() for match in re.finditer(r"\d", text)]
    if digits:
        place = rng.choice(digits)
        return text[:place] + rng.choice([d for d in "123456789" if d != text[place]]) + text[place + 1 :]
    return _swap(text, rng, (_NUMBERS,))


def _unit(text: str, rng: random.Random) -> str | None:
    return _swap(text, rng, _FAMILIES)


def _entity(text: str, rng: random.Random) -> str | None:
    return _swap(text, rng, _ENTITIES)


def _swap(text: str, rng: random.Random, families) -> str | None:
    words = text.split()
    places = [(n, family) for n, word in enumerate(words) for family in families if word in family]
    if not places:
        return None
    number, family = rng.choice(places)
    words[number] = rng.choice([word for word in family if word not in words])
    return " ".join(words)


_FRAMES: Final = (
    "please {}",
    "{} please",
    "hi, {}",
    "hey, {}",
    "{}, thanks",
    "ok, {}",
    "um, {}",
    "well, {}",
    "so {}",
    "hello, {}, thank you",
)
_TURNS: Final = (
    (r"\bwhat's\b", "what is"),
    (r"\bwhat is\b", "what's"),
    (r"\bhow do i\b", "how can i"),
    (r"\bhow can i\b", "how do i"),
    (r"\bcan you\b", "could you"),
    (r"\bcould you\b", "can you"),
    (r"\bi'm\b", "i am"),
    (r"\bi am\b", "i'm"),
    (r"\bi need to\b", "i want to"),
    (r"\bi want to\b", "i'd like to"),
    (r"\btell me\b", "let me know"),
    (r"\bwhere's\b", "where is"),
    (r"\bi would like\b", "i'd like"),
)


def _paraphrase(text: str, rng: random.Random) -> str | None:
    turned = text
    for pattern, instead in _TURNS:
        if re.search(pattern, text):
            turned = re.sub(pattern, instead, text, count=1)
            break
    if turned == text or rng.random() < 0.5:
        turned = rng.choice(_FRAMES).format(turned)
    return turned
