"""Reads the configuration again when its file changes, when it is told to, and on SIGHUP; keeps the last good one.

Whoever asks gets a verdict: accepted and in force as generation N, unchanged, or refused and why. Verdicts are kept for
``status``. A file that vanishes or is empty while the daemon runs is more likely a slip or half a write than a wish:
the configuration in force stays.

Overrides are laid over what is in force, not over what the file holds by now: a broken file is no obstacle to them, and
they are no reason to read a file that nobody has finished. Their verdicts go to whoever asked; the one kept for
``status`` is about the file.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import trio

from aiorchd.config.compare import Changes, changes
from aiorchd.config.findings import OVERRIDE
from aiorchd.config.load import Loaded, load, load_text
from aiorchd.config.operations import Material, mark_of
from aiorchd.config.overrides import Overrides, to_wire, with_override, without_override
from aiorchd.config.problems import ConfigError, Problem, dotted
from aiorchd.config.reading import read_guarded
from aiorchd.runtime.logs import Log
from aiorchd.runtime.watch import FileWatch

_LOOK_AT_FILES_S: Final = 1.0
_SETTLE_S: Final = 0.1

Result: TypeAlias = Literal["accepted", "unchanged", "refused"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one look at the file, or of an override. ``at`` is wall time; ``generation`` is the one in force
    afterwards.

    ``pending`` names keys whose new value waits for a restart. ``trigger`` is ``start``, ``file``, ``signal``, ``call``,
    ``override`` or ``reset``.
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
    ``on_verdict`` is told every verdict about the file, once it holds. ``rotated`` names the keys of the configuration in
    force whose secrets are others than when it was put in force; a reload then puts it in force again.
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
        rotated: Callable[[], Awaitable[tuple[str, ...]]] | None = None,
    ) -> None:
        self._path = path
        self._environ = environ
        self._apply = apply
        self._wall_clock = wall_clock
        self._log = log
        self._on_verdict = on_verdict
        self._rotated = rotated
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
        """The last one about the file."""
        return self._verdict

    @property
    def pending(self) -> tuple[str, ...]:
        """Keys whose value in force waits for a restart."""
        return self._pending

    def overrides(self) -> dict[str, Any]:
        """The overrides in force, by dotted key, in the order in which they came."""
        return to_wire(self._loaded.overrides)

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
            elif trigger == "signal":  # whoever sends one sees nothing but the log
                self._log.info("configuration unchanged", generation=verdict.generation)
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

    async def follow_files(self) -> None:
        """Reload when a file that the configuration names (a schema) has another content, for ever. They are looked at every
        second, by their status, and read only where that is another; half a write gets a tenth of a second to end.
        """
        seen: dict[Path, tuple[int, ...] | None] = {}
        while True:
            await trio.sleep(_LOOK_AT_FILES_S)
            materials = self._loaded.materials
            named = any(material.files for material in materials.values())
            if named and await trio.to_thread.run_sync(_are_changed, materials, seen):
                await trio.sleep(_SETTLE_S)
                await trio.to_thread.run_sync(_are_changed, materials, seen)  # what the reload finds is no news later
                await self.reload("file")

    async def override(self, key: str, value: Any, *, by: str) -> Verdict:
        """Set a key over everything else until it is reset or the process ends; ``by`` is for the log."""
        return await self._change_overrides("override", partial(with_override, key=key, value=value), by)

    async def reset(self, key: str | None, *, by: str) -> Verdict:
        """Take an override away, those below a section, or (None) all; what lies below comes into force again."""
        return await self._change_overrides("reset", partial(without_override, key=key), by)

    async def _change_overrides(self, trigger: str, change: Callable[..., Overrides], by: str) -> Verdict:
        async with self._one_at_a_time:
            loaded = self._loaded
            # What is embedded is not in the file: it has no place for an override.
            config = None if loaded.simulated else loaded.config
            providers = () if config is None else tuple(config.providers)
            models = () if config is None else tuple(model.name for model in config.models)
            callers = () if config is None else tuple(config.callers)
            operations = () if config is None else tuple(config.operations)
            try:
                overrides = change(
                    loaded.overrides, providers=providers, models=models, callers=callers, operations=operations
                )
                if list(overrides.items()) == list(loaded.overrides.items()):
                    return self._unchanged(trigger)
                found = await trio.to_thread.run_sync(
                    partial(
                        load_text,
                        loaded.content,
                        self._path,
                        self._environ,
                        overrides=overrides,
                        before=loaded.materials,
                    )
                )
                verdict = await self._put_in_force(trigger, found)
            except ConfigError as error:
                for problem in error.problems:
                    self._log.warning(f"{trigger} refused", by=by, problem=str(problem))
                return self._refused(trigger, error)
            self._log.info(
                f"{trigger} in force",
                by=by,
                generation=verdict.generation,
                changed=" ".join(verdict.changed) or "nothing that matters",
                restart_needed=" ".join(verdict.pending) or None,
            )
            self._verdict = replace(self._verdict, generation=verdict.generation, pending=verdict.pending)
            self._on_verdict(self._verdict)
            return verdict

    async def _look(self, trigger: str) -> Verdict:
        try:
            if self._path is None:
                return await self._put_rotated_in_force(trigger)
            loaded = await trio.to_thread.run_sync(
                partial(
                    load,
                    self._path,
                    self._environ,
                    overrides=self._loaded.overrides,
                    before=self._loaded.materials,
                )
            )
            if loaded.fingerprint == self._loaded.fingerprint:
                return await self._put_rotated_in_force(trigger)
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
            return await self._put_in_force(trigger, loaded)
        except ConfigError as error:
            return self._refused(trigger, error)

    async def _put_in_force(self, trigger: str, loaded: Loaded) -> Verdict:
        changed = changes(self._loaded.config, loaded.config)
        files = _changed_files(self._loaded, loaded)
        self._generation = await self._apply(loaded, changed)
        self._loaded = loaded
        # Against what the process started with: a key set back to that needs no restart any more.
        self._pending = changes(self._at_start.config, loaded.config).restart
        return Verdict(
            self._wall_clock(),
            trigger,
            "accepted",
            self._generation,
            changed=(*changed.live, *changed.restart, *files),
            pending=self._pending,
            warnings=loaded.warnings,
        )

    async def _put_rotated_in_force(self, trigger: str) -> Verdict:
        """The file says what it said before; the secrets that it names may be others."""
        rotated = () if self._rotated is None else await self._rotated()
        if not rotated:
            return self._unchanged(trigger)
        verdict = await self._put_in_force(trigger, self._loaded)
        return replace(verdict, changed=rotated)

    def _unchanged(self, trigger: str) -> Verdict:
        warnings = self._loaded.warnings
        return Verdict(
            self._wall_clock(), trigger, "unchanged", self._generation, pending=self._pending, warnings=warnings
        )

    def _refused(self, trigger: str, error: ConfigError) -> Verdict:
        problems = error.problems
        if trigger not in ("override", "reset"):
            problems = tuple(_resettable(problem) for problem in problems)
        return Verdict(
            self._wall_clock(), trigger, "refused", self._generation, problems=problems, pending=self._pending
        )


def _are_changed(materials: Mapping[str, Material], seen: dict[Path, tuple[int, ...] | None]) -> bool:
    """Tell whether a file is not what its operation was made of; ``seen`` is what was looked at before."""
    changed = False
    for file in [file for material in materials.values() for file in material.files]:
        try:
            status = file.path.stat()
            look: tuple[int, ...] | None = (
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
                status.st_mode,
                status.st_uid,
            )
        except OSError:
            look = None
        if file.path in seen and seen[file.path] == look:
            continue
        seen[file.path] = look
        try:
            changed = mark_of(read_guarded(file.path, frozenset({os.geteuid()}))) != file.mark or changed
        except ConfigError:
            changed = True  # the reload says why
    return changed


def _changed_files(old: Loaded, new: Loaded) -> list[str]:
    """Name the keys that say the same as before of files that do not."""
    before = {
        (name, file.key, file.path): file.mark for name, material in old.materials.items() for file in material.files
    }
    return [
        dotted(("operations", name, file.key))
        for name, material in new.materials.items()
        for file in material.files
        if before.get((name, file.key, file.path), file.mark) != file.mark
    ]


def _resettable(problem: Problem) -> Problem:
    """An override that was fine may not fit a new file; whoever wrote that file may not know of it."""
    if problem.file != OVERRIDE:
        return problem
    reset = f"Take the override away: aiorchctl config reset {problem.key}"
    return replace(problem, remedy=f"{problem.remedy} {reset}".strip())
