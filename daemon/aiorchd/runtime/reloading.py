"""Reads the configuration again when its file changes, when it is told to, and on SIGHUP; keeps the last good one.

Whoever asks gets a verdict: accepted and in force as generation N, unchanged, or refused and why. Verdicts are kept for
``status``. A file that vanishes or is empty while the daemon runs is more likely a slip or half a write than a wish:
the configuration in force stays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import trio

from aiorchd.config.compare import Changes, changes
from aiorchd.config.load import Loaded, load
from aiorchd.config.problems import ConfigError, Problem
from aiorchd.runtime.logs import Log
from aiorchd.runtime.watch import FileWatch

Result: TypeAlias = Literal["accepted", "unchanged", "refused"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one look at the file. ``at`` is wall time; ``generation`` is the one in force afterwards.

    ``pending`` names keys whose new value waits for a restart. ``trigger`` is ``start``, ``file``, ``signal`` or ``call``.
    """

    at: float
    trigger: str
    result: Result
    generation: int
    problems: tuple[Problem, ...] = ()
    changed: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """Give the plain map that ``status`` and ``config.reload`` show."""
        return {
            "at": self.at,
            "trigger": self.trigger,
            "result": self.result,
            "generation": self.generation,
            "problems": [problem.to_wire() for problem in self.problems],
            "changed": list(self.changed),
            "restart_needed": list(self.pending),
            "warnings": [problem.to_wire() for problem in self.warnings],
        }


@dataclass(frozen=True, slots=True)
class ReloadStatistics:
    """How many looks at the file were accepted, unchanged and refused since the start."""

    accepted: int
    unchanged: int
    refused: int


class Reloading:
    """Owns which configuration is in force. ``apply`` puts an accepted one in force and gives its generation number; if
    it raises `ConfigError`, the configuration was sound in itself and cannot be used on this host, and nothing changed.
    ``on_verdict`` is told every verdict, once it holds.
    """

    def __init__(
        self,
        loaded: Loaded,
        generation: int,
        *,
        path: Path | None,
        environ: Mapping[str, str],
        apply: Callable[[Loaded, Changes], Awaitable[int]],
        wall_clock: Callable[[], float],
        log: Log,
        on_verdict: Callable[[Verdict], None] = lambda _: None,
    ) -> None:
        self._path = path
        self._environ = environ
        self._apply = apply
        self._wall_clock = wall_clock
        self._log = log
        self._on_verdict = on_verdict
        self._one_at_a_time = trio.Lock()
        self._at_start = loaded
        self._loaded = loaded
        self._generation = generation
        self._pending: tuple[str, ...] = ()
        self._counts = {"accepted": 0, "unchanged": 0, "refused": 0}
        self._verdict = Verdict(wall_clock(), "start", "accepted", generation, warnings=loaded.warnings)

    @property
    def loaded(self) -> Loaded:
        """What is in force."""
        return self._loaded

    @property
    def verdict(self) -> Verdict:
        """The last one."""
        return self._verdict

    def statistics(self) -> ReloadStatistics:
        """Count the verdicts."""
        return ReloadStatistics(**self._counts)

    async def reload(self, trigger: str) -> Verdict:
        """Look at the file now and put it in force if it is sound and different."""
        async with self._one_at_a_time:
            self._verdict = verdict = await self._look(trigger)
            self._counts[verdict.result] += 1
            if verdict.result == "refused":
                for problem in verdict.problems:
                    self._log.error("configuration refused, the last good one stays", problem=str(problem))
            elif verdict.result == "accepted":
                self._log.info(
                    "configuration in force",
                    generation=verdict.generation,
                    changed=" ".join(verdict.changed) or "nothing that matters",
                    restart_needed=" ".join(verdict.pending) or None,
                )
                for problem in verdict.warnings:
                    self._log.warning("configuration", problem=str(problem))
            self._on_verdict(verdict)
            return verdict

    async def follow(self, watch: FileWatch) -> None:
        """Reload at every change of the file, for ever."""
        while True:
            change = await watch.changed()
            if change.present:
                await self.reload("file")
            else:
                self._log.warning("the configuration file is gone; the last good one stays", path=str(change.path))

    async def _look(self, trigger: str) -> Verdict:
        now = self._wall_clock()
        if self._path is None:
            return Verdict(
                now, trigger, "unchanged", self._generation, pending=self._pending, warnings=self._loaded.warnings
            )
        try:
            loaded = await trio.to_thread.run_sync(partial(load, self._path, self._environ))
            if loaded.fingerprint == self._loaded.fingerprint:
                return Verdict(
                    now, trigger, "unchanged", self._generation, pending=self._pending, warnings=self._loaded.warnings
                )
            if loaded.empty:
                raise ConfigError(
                    [
                        Problem(
                            str(self._path),
                            "",
                            None,
                            "is empty, which looks like half a write.",
                            "Write at least one key; to run on the built-in defaults, restart without a file.",
                        )
                    ]
                )
            changed = changes(self._loaded.config, loaded.config)
            self._generation = await self._apply(loaded, changed)
        except ConfigError as error:
            return Verdict(now, trigger, "refused", self._generation, problems=error.problems, pending=self._pending)
        self._loaded = loaded
        # Against what the process started with: a key set back to that needs no restart any more.
        self._pending = changes(self._at_start.config, loaded.config).restart
        return Verdict(
            now,
            trigger,
            "accepted",
            self._generation,
            changed=(*changed.live, *changed.restart),
            pending=self._pending,
            warnings=loaded.warnings,
        )
