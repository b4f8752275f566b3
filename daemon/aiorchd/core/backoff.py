"""How long to wait before asking again: a given schedule, then doubling to a cap, with jitter; a hint is a floor.

    base(k)  = schedule[k], and beyond its end the last entry doubled each time, at most ``cap_s``
    delay(k) = max(base(k) * (1 + jitter * (2 u - 1)), retry_after),  u uniform in [0, 1)

Jitter keeps callers that failed together from coming back together (Brooker, "Exponential Backoff and Jitter", AWS
Architecture Blog, 2015). The provider's hint is never undercut: coming early meets the same closed door, and some
providers count the knock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


class Backoff:
    """A schedule of waits in seconds; immutable. ``uniform`` gives random numbers in [0, 1) and is the only chance in it.

    ``cap_s`` bounds what the doubling reaches, not the schedule itself and not a provider's hint.
    """

    def __init__(
        self,
        schedule_s: Sequence[float] = (0.5, 1.0, 2.0),
        *,
        uniform: Callable[[], float],
        cap_s: float = 30.0,
        jitter: float = 0.25,
    ) -> None:
        if any(not 0.0 <= wait_s < math.inf for wait_s in schedule_s):
            raise ValueError(f"waits must be 0 or more seconds, got {list(schedule_s)}")
        if not 0.0 <= jitter <= 1.0:
            raise ValueError(f"jitter is a share between 0 and 1, got {jitter}")
        self._schedule_s = tuple(schedule_s)
        self._cap_s = cap_s
        self._jitter = jitter
        self._uniform = uniform

    def base_s(self, failures: int) -> float:
        """Tell the wait after so many failures in a row (1 is the first), without jitter."""
        if failures < 1:
            raise ValueError(f"there is no wait before the first failure, got {failures}")
        if not self._schedule_s:
            return 0.0
        if failures <= len(self._schedule_s):
            return self._schedule_s[failures - 1]
        last_s = self._schedule_s[-1]
        doublings = min(failures - len(self._schedule_s), 64)
        return max(last_s, min(last_s * 2.0**doublings, self._cap_s))

    def delay_s(self, failures: int, retry_after_s: float | None = None) -> float:
        """Tell how long to wait after so many failures in a row, given what the provider said."""
        delay_s = self.base_s(failures) * (1.0 + self._jitter * (2.0 * self._uniform() - 1.0))
        if retry_after_s is not None and retry_after_s > delay_s:
            return retry_after_s
        return delay_s
