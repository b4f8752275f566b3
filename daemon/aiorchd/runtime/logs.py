"""What the daemon says: one line for each thing that happened, an event and fields, on stderr.

::

    <6>reload: accepted generation=3 changed=retry.max_attempts            under systemd, which adds the time itself
    2026-03-01T09:30:00.123Z info reload: accepted generation=3            in a pipe or file
    09:30:00 reload: accepted generation=3                                 on a terminal, in colour

The standard library's `logging` carries it: Trio and the HTTP library have imported it anyway, their own messages come
out in the same form, levels of areas are a matter of its tree of loggers, and a line that is filtered costs one cached
look. Any room may log with ``logging.getLogger("aiorchd.AREA")``, and with fields by a `Log` that it is handed.

Every line passes through `redact` and through the list of keys in use; control characters are escaped, so that what a
client sends cannot forge a line.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal, TextIO, TypeAlias

from aiorchd.config.secrets import HIDDEN, redact

Style: TypeAlias = Literal["journal", "plain", "terminal"]

ROOT: Final = "aiorchd"
LIBRARIES: Final = "libraries"
"""The area that stands for everything which is not ours."""

_LONGEST_VALUE: Final = 1000
_SHORTEST_HIDDEN: Final = 6
_FIELDS: Final = "aiorch_fields"
_LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_COLOURS: Final[Mapping[int, str]] = {
    logging.DEBUG: "\x1b[2m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[31m",
}
_DIM: Final = "\x1b[2m"
_PLAIN: Final = "\x1b[0m"


class Log:
    """Says what happens in one area. The event is a fixed word or sentence; what varies goes into the fields."""

    __slots__ = ("_logger",)

    def __init__(self, area: str) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{area}" if area else ROOT)

    def debug(self, event: str, /, **fields: Any) -> None:
        """A decision, for whoever looks for the cause of something."""
        self._say(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """Something worth knowing on a normal day."""
        self._say(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Something is not as it should be, and the daemon goes on without it."""
        self._say(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """Something failed that somebody has to look after."""
        self._say(logging.ERROR, event, fields)

    def exception(self, event: str, /, **fields: Any) -> None:
        """The same with the traceback of the exception being handled."""
        if self._logger.isEnabledFor(logging.ERROR):
            self._logger.error(event, exc_info=sys.exc_info(), extra={_FIELDS: fields})

    def enabled_for(self, level: Literal["debug", "info", "warning", "error"]) -> bool:
        """Whether a line of this level would come out: for fields that are costly to make."""
        return self._logger.isEnabledFor(_LEVELS[level])

    def _say(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={_FIELDS: fields})


class Logging:
    """The daemon's log while it is set up: its levels, its secrets, and how many lines could not be written."""

    def __init__(self, handler: _LineHandler) -> None:
        self._handler = handler
        self._areas: tuple[str, ...] = ()

    @property
    def lost(self) -> int:
        """Lines that stderr did not take."""
        return self._handler.lost

    def set_levels(self, level: str, areas: Mapping[str, str] | None = None) -> None:
        """Let pass what is at least this grave, in single areas by their own level; takes effect at once."""
        areas = areas or {}
        logging.getLogger(ROOT).setLevel(_LEVELS[level])
        logging.getLogger().setLevel(_LEVELS[areas.get(LIBRARIES, "warning")])
        for area in self._areas:
            if area not in areas:
                logging.getLogger(f"{ROOT}.{area}").setLevel(logging.NOTSET)
        self._areas = tuple(area for area in areas if area != LIBRARIES)
        for area in self._areas:
            logging.getLogger(f"{ROOT}.{area}").setLevel(_LEVELS[areas[area]])

    def hide(self, secrets: Iterable[str]) -> None:
        """Keep these values out of every line from now on; replaces those given before."""
        # Longest first: a key that contains another one is hidden whole. Very short ones would eat ordinary words.
        self._handler.hidden = tuple(
            sorted({secret for secret in secrets if len(secret) >= _SHORTEST_HIDDEN}, key=len, reverse=True)
        )


@contextmanager
def logging_to(
    stream: TextIO | None = None, *, style: Style | None = None, environ: Mapping[str, str] | None = None
) -> Iterator[Logging]:
    """Set the process's logging up, to stderr unless told otherwise, and put back what was there afterwards."""
    stream = sys.stderr if stream is None else stream
    handler = _LineHandler(stream, style or choose_style(stream, os.environ if environ is None else environ))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    owner = Logging(handler)
    owner.set_levels("info")
    try:
        yield owner
    finally:
        owner.set_levels("info")
        logging.getLogger(ROOT).setLevel(logging.NOTSET)
        root.removeHandler(handler)
        root.setLevel(level)


def choose_style(stream: TextIO, environ: Mapping[str, str]) -> Style:
    """Find out where the lines go: to the journal when systemd says that this very stream does, else a terminal or not."""
    try:
        status = os.fstat(stream.fileno())
        if environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}":
            return "journal"
        if stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb":
            return "terminal"
    except (OSError, ValueError):
        pass  # not a real file, or closed
    return "plain"


class _LineHandler(logging.Handler):
    """Writes one record as one line (its traceback as further ones)."""

    def __init__(self, stream: TextIO, style: Style) -> None:
        super().__init__()
        self._stream = stream
        self._style = style
        self.hidden: tuple[str, ...] = ()
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        lines = [self._line(record)]
        if record.exc_info and record.exc_info[0] is not None:
            trace = logging.Formatter().formatException(record.exc_info)
            lines += ["  " + _printable(self._cleaned(line)) for line in trace.splitlines()]
        if self._style == "journal":
            prefix = f"<{_priority(record.levelno)}>"
            lines = [prefix + line for line in lines]
        try:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: closed
            self.lost += 1

    def _line(self, record: logging.LogRecord) -> str:
        area = record.name.removeprefix(f"{ROOT}.")
        try:
            words = [_printable(record.getMessage())]
        except (TypeError, ValueError, KeyError):  # a library's message and its arguments do not fit each other
            words = [_printable(str(record.msg))]
        fields: Mapping[str, Any] = getattr(record, _FIELDS, {})
        words += [f"{name}={self._value(value)}" for name, value in fields.items() if value is not None]
        said = self._cleaned(" ".join(words))
        if self._style == "journal":
            return f"{area}: {said}"
        if self._style == "plain":
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            return f"{stamp}.{int(record.msecs):03d}Z {record.levelname.lower()} {area}: {said}"
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"{_DIM}{stamp}{_PLAIN} {_COLOURS.get(record.levelno, '')}{area}: {said}{_PLAIN}"

    def _value(self, value: Any) -> str:
        """One field as logfmt: bare where that is unambiguous, else in quotes."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float):
            return f"{value:.6g}"
        text = str(value)
        if len(text) > _LONGEST_VALUE:  # cleaned before it is cut: half a key is a key's half
            text = self._cleaned(text[: 10 * _LONGEST_VALUE])[:_LONGEST_VALUE] + "..."
        text = _printable(text)
        if text and not any(character in ' "=' for character in text):
            return text
        return '"' + text.replace('"', '\\"') + '"'

    def _cleaned(self, text: str) -> str:
        for secret in self.hidden:
            text = text.replace(secret, HIDDEN)
        return redact(text)


def _priority(level: int) -> int:
    """The kernel's number for a level, as sd-daemon(3) has it."""
    if level >= logging.ERROR:
        return 3
    if level >= logging.WARNING:
        return 4
    return 6 if level >= logging.INFO else 7


def _printable(text: str) -> str:
    """Escape what would begin a new line, move the cursor or confuse a reader of the log."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
