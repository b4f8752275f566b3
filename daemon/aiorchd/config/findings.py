"""Gathering of everything that is wrong or doubtful, so that it is told at once, with the place of each thing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiorchd.config.lines import Lines, Path
from aiorchd.config.problems import MOST_PROBLEMS, Problem, dotted

ENVIRONMENT: Final = "environment"


class Findings:
    """Problems and warnings of one reading. ``origins`` names the environment variable that set a path, where one did."""

    def __init__(self, file: str, lines: Lines, origins: Mapping[Path, str]) -> None:
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

    @property
    def full(self) -> bool:
        """Whether further problems are only counted: then nothing need be spent on finding remedies."""
        return len(self._problems) >= MOST_PROBLEMS

    def problems(self) -> tuple[Problem, ...]:
        """All problems in the order of the file, those of the environment last."""
        told = sorted(self._problems, key=_position)
        if self._untold:
            told.append(Problem(self._file, "", None, f"and {self._untold} more problems."))
        return tuple(told)

    def warnings(self) -> tuple[Problem, ...]:
        """All warnings, likewise."""
        return tuple(sorted(self._warnings, key=_position))

    def _at(self, path: Path, sentence: str, remedy: str) -> Problem:
        for length in range(len(path), 0, -1):
            variable = self._origins.get(path[:length])
            if variable is not None:
                return Problem(ENVIRONMENT, variable, None, sentence, remedy)
        return Problem(self._file, dotted(path), self._lines.line(path), sentence, remedy)


def _position(problem: Problem) -> tuple[bool, int]:
    return problem.file == ENVIRONMENT, problem.line or 0
