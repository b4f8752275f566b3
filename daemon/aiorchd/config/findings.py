"""Gathering of everything that is wrong or doubtful, so that it is told at once, with the place of each thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from aiorchd.config.lines import Lines, Path
from aiorchd.config.problems import MOST_PROBLEMS, Problem, dotted

ENVIRONMENT: Final = "environment"
OVERRIDE: Final = "override"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from that is not in the file: ``place`` is ``environment``, ``override`` or a profile, and
    ``name`` what it is called there.
    """

    place: str
    name: str


class Findings:
    """Problems and warnings of one reading. ``origins`` tells of the paths that something else than the file has set."""

    def __init__(self, file: str, lines: Lines, origins: Mapping[Path, Origin]) -> None:
        self._file = file
        self._lines = lines
        self._origins = origins
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []
        self._untold = 0

    def wrong(self, path: Path, sentence: str, remedy: str = "") -> None:
        """Note a problem at a path; with any the configuration is refused."""
        if len(self._problems) >= MOST_PROBLEMS:
            self._untold += 1
        else:
            self._problems.append(self._at(path, sentence, remedy))

    def doubtful(self, path: Path, sentence: str, remedy: str = "") -> None:
        """Note what is allowed and probably not meant."""
        if len(self._warnings) < MOST_PROBLEMS:
            self._warnings.append(self._at(path, sentence, remedy))

    def wrong_variable(self, variable: str, sentence: str, remedy: str = "") -> None:
        """Note a problem with an environment variable that has no place in the schema."""
        self._problems.append(Problem(ENVIRONMENT, variable, None, sentence, remedy))

    def doubtful_at(self, origin: Origin, sentence: str, remedy: str = "") -> None:
        """Note what is allowed and without effect, of something that is not in the file."""
        self._warnings.append(Problem(origin.place, origin.name, None, sentence, remedy))

    def doubtful_still(self, problem: Problem, remedy: str) -> None:
        """Note what would be a problem, and is none for now."""
        if len(self._warnings) < MOST_PROBLEMS:
            self._warnings.append(replace(problem, remedy=f"{problem.remedy} {remedy}".lstrip()))

    @property
    def full(self) -> bool:
        """Whether further problems are only counted: then nothing need be spent on finding remedies."""
        return len(self._problems) >= MOST_PROBLEMS

    def problems(self) -> tuple[Problem, ...]:
        """All problems in the order of the file, those from elsewhere last."""
        told = sorted(self._problems, key=self._position)
        if self._untold:
            told.append(Problem(self._file, "", None, f"and {self._untold} more problems."))
        return tuple(told)

    def warnings(self) -> tuple[Problem, ...]:
        """All warnings, likewise."""
        return tuple(sorted(self._warnings, key=self._position))

    def _position(self, problem: Problem) -> tuple[bool, int]:
        return problem.file != self._file, problem.line or 0

    def _at(self, path: Path, sentence: str, remedy: str) -> Problem:
        for length in range(len(path), 0, -1):
            origin = self._origins.get(path[:length])
            if origin is not None:
                return Problem(origin.place, origin.name, None, sentence, remedy)
        return Problem(self._file, dotted(path), self._lines.line(path), sentence, remedy)
