"""Questions that are the same but for how they are written, as far as that can be seen without knowing what they are about.

Two plain sentences are the same when they differ in case, blanks and the mark at their end alone. Nothing else is folded:
not a number, a sign, a unit, a word or its order, a mark within. A word in capitals among others that are not (``US``, ``AIDS``)
keeps them, and a question mark is left out only after a word that asks anyway. Anything that is not one plain sentence
(several lines, code, JSON, addresses) is the same only when it is equal.
"""

from __future__ import annotations

import re
from typing import Final

_LONGEST: Final = 300
_PLAIN: Final = re.compile(r"[\w .,;:!?'’()%°$€£+–-]+")
_ASKING: Final = frozenset(
    (
        "what which who whom whose when where why how is are was were do does did can could will would shall should may has have"
    ).split()
)


def question_form(text: str) -> str:
    """Give a form that is equal for texts that ask the same."""
    if len(text) > _LONGEST:
        return text
    words = text.split()
    sentence = " ".join(words)
    if "\n" in text.strip() or not _PLAIN.fullmatch(sentence):
        return text
    shouted = sentence.isupper()
    folded = [word if len(word) > 1 and word.isupper() and not shouted else word.casefold() for word in words]
    form = " ".join(folded)
    bare = form.rstrip(".!? ")
    if "?" in form[len(bare) :] and folded[0] not in _ASKING:
        return f"\n{bare}?"
    # A line break stands in no plain sentence, so that no form is another text.
    return f"\n{bare}" if bare else text
