"""A token bucket that is told the time, and can take back what was reserved too much.

Idea: the bucket holds at most ``burst`` tokens and gains ``rate_per_s`` of them each second. Whoever wants ``n`` takes
them, or learns how long it would have to wait. Nothing is ever promised for later: an attempt takes all it needs (a
permit, a request, its tokens) in one moment or takes nothing, so a refusal changes no state.

Source: golang.org/x/time/rate (time as an argument, a reservation as a value, limits that change without losing the level).
Two things differ. Go refuses ``n > burst`` for ever; here such a request may go when the bucket is full and leaves it in
debt, which the following ones wait out. And Go's ``CancelAt`` gives back "as much as possible"; here it is a promise:

    the level is that of a bucket charged, at the moment of each reservation, the amount it was settled to.

A plain ``level += rest`` (capped) breaks that: tokens that were held back while the bucket would otherwise have been
full are lost to the real bucket at the provider, and giving them back later means running into its limit. So the bucket
remembers how near to full it was since each reservation. With C(t) = rate t - charged(t), the level is
burst + C(t) - max C; a return of r to a reservation made at time s lifts all C from s on by r, and therefore lifts the
maximum by what exceeds it. The suffix maxima of C needed for that are kept as a stack of depths below the maximum.

Limits: rises of less than burst / `_FINENESS` between peaks are not told apart, so the level may be too high by that much;
beyond `_DEEPEST` peaks the closest are merged to the careful side, so less than due may come back. With the oversize
rule a window of t seconds grants at most rate t + max(burst, largest n).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

_EARLY_S: Final = 1e-6
"""A microsecond early is on time: a sleep of exactly the told delay must find its tokens in spite of rounding."""

_FINENESS: Final = 256.0
_DEEPEST: Final = 48


class Reservation(NamedTuple):
    """What `TokenBucket.reserve` says: ``granted`` with the tokens taken, or the seconds until it could be."""

    granted: bool
    delay_s: float
    amount: float
    number: int
    """Which reservation of this bucket it is, counted from 1; 0 when nothing was granted."""


class _Peak(NamedTuple):
    """A moment at which the bucket was fuller than at any later one: after how many reservations, how far from full."""

    after: int
    depth: float


class TokenBucket:
    """``rate_per_s`` tokens a second, at most ``burst`` at once; full in the beginning.

    All times are seconds on one monotonic clock; a time before the last one counts as the last one.
    """

    def __init__(self, rate_per_s: float, burst: float) -> None:
        _check(rate_per_s, burst)
        # This is all the mutable state.
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = burst
        self._updated_at = -math.inf
        self._count = 0
        self._risen = 0.0  # gained since the last peak was noted
        self._peaks = [_Peak(0, 0.0)]  # depths grow from left to right; the first is the maximum itself

    @property
    def rate_per_s(self) -> float:
        """Tokens gained a second."""
        return self._rate_per_s

    @property
    def burst(self) -> float:
        """The most it holds."""
        return self._burst

    def level(self, now: float) -> float:
        """Tell how many tokens there are; negative while in debt. Changes nothing."""
        if now <= self._updated_at:
            return self._level
        return min(self._burst, self._level + (now - self._updated_at) * self._rate_per_s)

    def delay_s(self, now: float, amount: float) -> float:
        """Tell how long until ``amount`` could be reserved if nothing else happens; 0 means now. Changes nothing."""
        missing = min(amount, self._burst) - self.level(now)
        if missing <= self._rate_per_s * _EARLY_S:
            return 0.0
        return missing / self._rate_per_s

    def reserve(self, now: float, amount: float) -> Reservation:
        """Take ``amount`` tokens now, or none of them and say when to come back.

        An amount over the burst is granted when the bucket is full and drives it into debt.
        """
        if amount < 0:
            raise ValueError(f"cannot reserve {amount} tokens")
        delay_s = self.delay_s(now, amount)
        if delay_s > 0.0:
            return Reservation(False, delay_s, amount, 0)
        self._advance(now)
        self._remember_peak_if_new()
        self._count += 1
        self._level -= amount
        return Reservation(True, 0.0, amount, self._count)

    def cancel(self, reservation: Reservation, now: float) -> None:
        """Undo a reservation whose tokens were not used at all. Call once, and not `settle` as well."""
        self.settle(reservation, 0.0, now)

    def settle(self, reservation: Reservation, actual: float, now: float) -> None:
        """Correct a reservation to the ``actual`` number of tokens used: the rest comes back, an excess is charged now.

        Call at most once for each reservation; one that was not granted is ignored.
        """
        if not reservation.granted:
            return
        if actual < 0:
            raise ValueError(f"cannot settle {actual} tokens")
        self._advance(now)
        back = reservation.amount - actual
        if back <= 0.0:
            self._remember_peak_if_new()
            self._level += back
            return
        self._remember_peak()  # the present moment is one of those since the reservation
        peaks = self._peaks
        first = len(peaks)
        while first and peaks[first - 1].after >= reservation.number:
            first -= 1
        # The peak at ``first`` is the fullest since the reservation: the maximum rises by what lifts it over the top.
        lost = max(0.0, back - peaks[first].depth)
        self._level = min(self._burst, self._level + back - lost)
        lifted = [_Peak(peak.after, peak.depth + lost - back) for peak in peaks[first:]]
        kept = peaks[:first]
        while kept and kept[-1].depth >= lifted[0].depth:  # all of them, when there is a new maximum
            kept.pop()
        self._peaks = kept + lifted

    def drain(self, now: float) -> None:
        """Empty the bucket, unless it is in debt: the provider said that it has nothing left.

        Reservations from before get nothing back any more: what the provider told already knows what they used.
        """
        self._advance(now)
        self._level = min(self._level, 0.0)
        self._start_over()

    def reconfigure(self, now: float, rate_per_s: float, burst: float) -> None:
        """Change the limits from now on. The level stays, cut to the new burst; reservations under way stay valid."""
        _check(rate_per_s, burst)
        self._advance(now)
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = min(self._level, burst)
        # What came before was measured against the old burst. From here on nothing was fuller than now.
        self._start_over()
        if self._level < burst:
            self._peaks = [_Peak(0, 0.0), _Peak(self._count, burst - self._level)]

    def _advance(self, now: float) -> None:
        """Let time pass."""
        if now > self._updated_at:
            level = self.level(now)
            self._risen += level - self._level
            self._level = level
            self._updated_at = now

    def _start_over(self) -> None:
        """The present moment is a new maximum: nothing from before can come back, nor rise above it."""
        self._peaks = [_Peak(self._count, 0.0)]
        self._risen = 0.0

    def _remember_peak_if_new(self) -> None:
        """Before a charge: note the present depth, unless it hardly differs from the last one noted."""
        if self._risen * _FINENESS >= self._burst:
            self._remember_peak()

    def _remember_peak(self) -> None:
        """Note the present depth; the bucket was never fuller after the ones that remain noted before it."""
        self._risen = 0.0
        depth = self._burst - self._level
        peaks = self._peaks
        while peaks and peaks[-1].depth >= depth:
            peaks.pop()
        peaks.append(_Peak(self._count, depth))
        if len(peaks) > _DEEPEST:
            # The deeper a peak, the less likely it ever matters: merge where the depths differ least in proportion.
            at = min(range(1, len(peaks) - 1), key=lambda index: peaks[index + 1].depth / peaks[index].depth)
            peaks[at : at + 2] = [_Peak(peaks[at + 1].after, peaks[at].depth)]


def _check(rate_per_s: float, burst: float) -> None:
    if not (0.0 < rate_per_s < math.inf and 0.0 < burst < math.inf):
        raise ValueError(f"a bucket needs a rate and a burst above 0, got {rate_per_s} a second and {burst}")
