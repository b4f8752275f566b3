"""A store in a directory of its own, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from store_values import StandingClock

from aiorchd.store.opening import Store, open_store


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


Opener = Callable[..., AbstractAsyncContextManager[Store]]


@pytest.fixture
def opened(state_dir: Path, clock: StandingClock) -> Opener:
    """Open the store: ``async with opened() as store``. It gathers for a hundredth of a second."""

    def opener(**options: Any) -> AbstractAsyncContextManager[Store]:
        return open_store(
            state_dir, **{"release": "1.0", "wall_clock": clock, "flush_s": 0.01, "retry_s": 0.05, **options}
        )

    return opener
