"""Which beginnings of prompts come again soon, so that it pays to have a provider keep them.

Where a prompt cache has to be asked for, what is kept for the first time costs more than what is not kept at all (a quarter
more, at Anthropic), and a tenth when it is read. So the first of its kind asks for nothing, and the second, which proves
that there are such, does: somebody who never comes again pays nothing for it, and everybody after the second saves.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Final

WITHIN_S: Final = 300.0
"""As long as providers keep a beginning after its last use."""
MOST: Final = 1000


class Recurrence:
    """When beginnings were last seen, as hashes; the one seen longest ago is forgotten first. Pure, the time is handed in."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def comes_again(self, beginning: str, now: float) -> bool:
        """Take a beginning that is sent now; tell whether it was sent lately, too."""
        place = blake2b(beginning.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        before = self._seen.pop(place, None)
        self._seen[place] = now
        if len(self._seen) > MOST:
            self._seen.popitem(last=False)
        return before is not None and now - before < WITHIN_S
