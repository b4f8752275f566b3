"""Who may begin, when more calls come than one event loop gets done: a few in each of its turns, by turns, and nobody too late.

An event loop with too much to do has its queue where nobody sees it: it begins all that it reads, everything it has begun
takes longer, and in the end it works only on what nobody waits for any more. So what is read stands in a line that can be
seen. ``at_once`` may begin in each turn of the loop. That needs no measure of how fast the machine is: in the same turn as
much of what began before goes on and ends, and a turn takes as long as that takes. The loop is never idle while somebody
stands in line, and reads, hits and refusals wait for one short turn at most. On a machine so slow that such a turn would be
long, fewer begin in each.

Those in line stand by flow (connection), and flows take turns (round robin: Nagle, "On packet switches with infinite
storage", RFC 970), so one that sends thousands at once lengthens its own wait. Whoever would begin too late is better told
so at once than after having waited (Nichols & Jacobson, "Controlling Queue Delay", ACM Queue 10(5), 2012: what matters of a
queue is how long one stands in it, not how many do). Here that is foretold: those before it times what one takes to begin,
which is measured from turn to turn while somebody waits (exponentially weighted). A burst on an idle machine is let in; of
a load that stays, what can be done is let in, and the line stays as short as its callers' patience asks.

Limits: the forecast is wrong while the speed of the machine changes, for a few turns; one who stands in line is not
turned away later. Only flows that could begin something are counted: what waits for its own connection's other calls is
nobody else's burden.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

FlowT = TypeVar("FlowT")

AT_ONCE: Final = 4
"""Some milliseconds of work in all, on a machine of today."""
_TURN_S: Final = 0.012
"""What a turn may take before fewer begin in it: whoever is read from or refused waits for one or two."""
_SMOOTHING: Final = 0.1
_FIRST_GUESS_S: Final = 0.001
_LEAST_S: Final = 1e-9


class StartLine(Generic[FlowT]):
    """Of each flow only how many wait; what waits is the flow's to keep, first come first served."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        # This is all the mutable state.
        self._at_once = at_once
        self._waiting: dict[FlowT, int] = {}
        """Who could begin something, in the order of their turns."""
        self._total = 0
        self._begun = 0
        self._round_at: float | None = None
        self._each_s = _FIRST_GUESS_S
        self._room = at_once

    def __len__(self) -> int:
        return self._total

    @property
    def each_s(self) -> float:
        """How long it takes from one begin to the next while somebody waits, smoothed."""
        return self._each_s

    @property
    def room(self) -> int:
        """How many may begin in a turn as fast as things go now: ``at_once``, or fewer."""
        return self._room

    def begin(self) -> bool:
        """Begin something without standing in line, if nobody does and this turn of the loop has room."""
        if self._total or self._begun >= self._room:
            return False
        self._begun += 1
        return True

    @property
    def wants_round(self) -> bool:
        """Whether `round` is due in the next turn of the loop: somebody waits, or this turn's room is used up."""
        return self._total > 0 or self._begun >= self._room

    def stand(self, flow: FlowT, number: int) -> None:
        """Say how many of a flow wait that could begin now; a flow that did not wait comes after the others."""
        self._total += number - self._waiting.get(flow, 0)
        if number:
            self._waiting[flow] = number
        else:
            self._waiting.pop(flow, None)

    def wait_s(self, ahead: int) -> float:
        """Foretell how long one would wait who came now, with so many of its own flow before it."""
        before = min(self._total, (ahead + 1) * (len(self._waiting) + 1) - 1)
        return before * self._each_s

    def round(self, now: float) -> Iterator[FlowT]:
        """Begin a turn of the loop: give the flows that may begin one each, the same one again where there are few. The taker
        begins one and tells by `stand` how many are left before it asks for the next."""
        if self._round_at is not None and self._begun:
            took_s = (now - self._round_at) / self._begun
            self._each_s += _SMOOTHING * (took_s - self._each_s)
            self._room = max(1, min(self._at_once, round(_TURN_S / max(self._each_s, _LEAST_S))))
        self._begun = 0
        while self._waiting and self._begun < self._room:
            flow = next(iter(self._waiting))
            number = self._waiting.pop(flow)
            self._waiting[flow] = number
            self._begun += 1
            yield flow
        # What is measured is a turn that began as many as it might, and at whose end somebody still waited.
        self._round_at = now if self._waiting else None
