"""Records on a file of their own, the writer played by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_values import StandingClock, StillWriter

from aiorchd.store.database import DatabaseFile
from aiorchd.store.metrics_schema import METRICS
from aiorchd.store.records import RecordBounds, Records


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def records(tmp_path: Path, clock: StandingClock) -> Iterator[Records]:
    file = DatabaseFile(tmp_path, METRICS, wall_clock=clock)
    file.open()
    yield Records(file, wall_clock=clock, writer=StillWriter(), bounds=RecordBounds())
    file.close()
