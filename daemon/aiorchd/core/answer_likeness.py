"""Whether two answers say the same.

Short and structured answers are the same when they are equal: text without regard to case, blanks and a full stop at its
end, data as canonical JSON would have it. Prose is never written twice alike; of two long texts it is asked that their
vectors are very near, that they share most of their words, and that they differ in no number, unit, negation or opposite.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from aiorchd.core.text_sketch import difference, sketch

PROSE_CHARACTERS: Final = 120
"""Longer texts are prose."""
PROSE_COSINE: Final = 0.95
PROSE_JACCARD: Final = 0.6


def answer_mark(text: str, data: Any, tool_calls: Sequence[Mapping[str, Any]]) -> tuple[bytes, bool]:
    """Give 16 bytes that are equal for answers that are equal, and whether others may say the same all the same: prose."""
    structured = data is not None or bool(tool_calls)
    said = "" if structured else " ".join(text.split()).casefold().rstrip(".! ")
    if structured:
        calls = [call.get("function") for call in tool_calls]  # their ids are new each time
        form = json.dumps([said, data, calls], sort_keys=True, ensure_ascii=True, default=str)
    else:
        form = f"[{json.dumps(said)}, null, []]"  # the same, without an encoder of its own
    return blake2b(form.encode(), digest_size=16).digest(), not structured and len(said) > PROSE_CHARACTERS


def prose_alike(one: str, other: str, cosine: float) -> bool:
    """Tell whether two long texts, the vectors of which have this cosine, say the same. Errs towards no."""
    if cosine < PROSE_COSINE:
        return False
    first, second = sketch(one), sketch(other)
    if first is None or second is None:
        return False
    found = difference(first, second)
    return (
        found.token_jaccard >= PROSE_JACCARD
        and not found.numbers_differ
        and not found.negation_differs
        and not found.opposite
        and not found.substituted
    )
