"""How many extra requests a target may be sent: a share of the calls it gets, from a bucket that is finite.

A client that answers every failure with another request sends a failing provider several times its usual load, at the
worst moment. So each call pays a little into a bucket, each extra request takes one out, and when the bucket is empty a
failure is not answered by another request:

    balance(0) = most
    a call:      balance = min(most, balance + share)
    with time:   balance = min(most, balance + most * seconds / 60)
    an extra:    allowed if balance >= 1, and then balance = balance - 1

Over a time of ``t`` seconds with ``n`` calls there are never more than ``most + share * n + most * t / 60`` extra requests.
The part that comes with time is there for who calls seldom: a call an hour could never save up for its own retry.

After Finagle's ``RetryBudget`` (Twitter, 2016), which has the same three parts. The same bucket bounds retries and hedges.
"""

from __future__ import annotations


class RetryBudget:
    """The bucket of one target: ``share`` of the calls it gets, at most ``most`` saved up. Starts full.

    In ``refill_s`` seconds an empty one fills by itself; infinity leaves that part out.
    """

    def __init__(self, share: float, most: float, *, refill_s: float = 60.0) -> None:
        self._check(share, most)
        self._refill_s = refill_s
        self._share = share
        self._most = most
        self._balance = most
        self._at: float | None = None

    def call(self, now: float) -> None:
        """A call came, which is no extra request."""
        if self._balance >= self._most:  # as nearly always: there is nothing to be saved up
            self._at = now
            return
        self._refill(now)
        self._balance = min(self._most, self._balance + self._share)

    def take(self, now: float) -> bool:
        """Take one extra request out, if there is one."""
        self._refill(now)
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True

    def give_back(self) -> None:
        """Put back one that was taken and came to nothing."""
        self._balance = min(self._most, self._balance + 1.0)

    def left(self, now: float) -> float:
        """Tell how many may be taken now."""
        self._refill(now)
        return self._balance

    def reconfigure(self, share: float, most: float) -> None:
        """Change the bounds live; what is saved up stays, as far as it is allowed."""
        self._check(share, most)
        if most > self._most and self._balance >= self._most:
            self._balance = most
        self._share, self._most = share, most
        self._balance = min(self._balance, most)

    def _refill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            self._balance = min(self._most, self._balance + self._most * (now - self._at) / self._refill_s)
        self._at = now

    @staticmethod
    def _check(share: float, most: float) -> None:
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"a share is between 0 and 1, got {share}")
        if not most >= 0.0:
            raise ValueError(f"a bucket holds 0 or more, got {most}")
