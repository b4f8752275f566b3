"""Live progress: a moving line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol, TextIO

from aiorchctl.demo.rounds import Standing
from aiorchctl.quantities import count

_LINE_EVERY_S: Final = 3.0


class Stage(Protocol):
    """One thing that is going on."""

    def count(self, done: int) -> None:
        """Tell how much is done."""
        ...

    def standing(self, standing: Standing) -> None:
        """Tell how far a round has come."""
        ...


class Progress(Protocol):
    """Where progress is told."""

    @contextmanager
    def stage(self, what: str, total: int) -> Iterator[Stage]:
        """Begin a stage; it ends with the block."""
        ...


def progress_on(stream: TextIO) -> Progress:
    """Choose how to tell progress on a stream."""
    return _Moving(stream) if stream.isatty() else _Lines(stream)


class _Lines:
    """A line at the beginning, now and then, and at the end of each stage."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextmanager
    def stage(self, what: str, total: int) -> Iterator[Stage]:
        self.say(f"{what} …")
        stage = _LineStage(self, total)
        yield stage
        self.say(f"  {stage.last}")

    def say(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


class _LineStage:
    def __init__(self, lines: _Lines, total: int) -> None:
        self._lines = lines
        self._total = total
        self._said_at = time.monotonic()
        self.last = "nothing"

    def count(self, done: int) -> None:
        self.last = f"{count(done)} of {count(self._total)}"
        self._sometimes()

    def standing(self, standing: Standing) -> None:
        self.last = (
            f"{standing.elapsed_s:5.1f} s: {count(standing.answered)} of {count(self._total)} answered; "
            f"{_provider(standing)}"
        )
        self._sometimes()

    def _sometimes(self) -> None:
        now = time.monotonic()
        if now - self._said_at >= _LINE_EVERY_S:
            self._said_at = now
            self._lines.say(f"  {self.last}")


class _Moving:
    """Bars that move, by rich."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextmanager
    def stage(self, what: str, total: int) -> Iterator[Stage]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description:<18}", markup=False),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[told]}", style="dim", markup=False),
        )
        console = Console(file=self._stream, highlight=False)
        with Progress(*columns, console=console, refresh_per_second=8) as progress:
            yield _Bar(progress, progress.add_task(what, total=total, told=""))


class _Bar:
    def __init__(self, progress: Any, task: Any) -> None:
        self._progress = progress
        self._task = task

    def count(self, done: int) -> None:
        self._progress.update(self._task, completed=done)

    def standing(self, standing: Standing) -> None:
        self._progress.update(self._task, completed=standing.answered, told=_provider(standing))


def _provider(standing: Standing) -> str:
    refused = f", {count(standing.refused)} refused" if standing.refused else ""
    return f"provider: {count(standing.provider_calls)}{refused}"
