"""Equal things in one form: the one in which they were first seen.

Two maps are equal whatever the order of their names, and many languages have no order to keep: the same catalogue of tools is
written differently by each call. A provider's prompt cache knows a prompt by how it begins, letter by letter, and the tools
stand first. Sorting them would do, and take from whoever has an order the one that he meant (a model fills in arguments in the
order of a schema's properties). So the first form that an owner's thing came in is given for all that are equal to it, for as
long as it is in use: providers forget within an hour, too.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

KEPT_S: Final = 3600.0
"""A form that was not asked for so long is forgotten."""
MOST_FORMS: Final = 256
MOST_CHARACTERS: Final = 4_000_000
"""Of all forms together; what has a quarter of that by itself is given back as it came."""


@dataclass(slots=True)
class _Form:
    value: Any
    characters: int
    used_at: float


class FirstForms:
    """The forms known; pure, the time is handed in. Bounded: the one used longest ago goes first."""

    def __init__(self) -> None:
        self._forms: OrderedDict[tuple[Hashable, bytes], _Form] = OrderedDict()
        self._characters = 0

    def __len__(self) -> int:
        return len(self._forms)

    def settled(self, owner: Hashable, value: Any, now: float) -> Any:
        """Give what ``owner`` first had that is equal to ``value`` (as JSON, but for the order of names), or ``value`` itself."""
        try:
            written = json.dumps(value, sort_keys=True, check_circular=False)
        except (TypeError, ValueError, RecursionError):
            return value  # no JSON: whoever writes it will say so
        if len(written) > MOST_CHARACTERS // 4:
            return value
        place = owner, blake2b(written.encode(), digest_size=16).digest()
        form = self._forms.get(place)
        if form is not None and now - form.used_at <= KEPT_S:
            form.used_at = now
            self._forms.move_to_end(place)
            return form.value
        if form is not None:
            self._drop(place)
        self._forms[place] = _Form(value, len(written), now)
        self._characters += len(written)
        while len(self._forms) > MOST_FORMS or self._characters > MOST_CHARACTERS:
            self._drop(next(iter(self._forms)))
        return value

    def _drop(self, place: tuple[Hashable, bytes]) -> None:
        self._characters -= self._forms.pop(place).characters
