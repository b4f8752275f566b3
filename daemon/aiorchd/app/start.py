"""From the command line to a running daemon, or to one sentence and an exit code that say why not."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import MutableMapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Final

import trio

from aiorch.errors import CallError, InternalError, NoModels, StorageError
from aiorchd.app.clock import MonotonicClock
from aiorchd.app.life import Launch, live
from aiorchd.app.listening import Listening
from aiorchd.app.options import parser
from aiorchd.app.places import Places
from aiorchd.app.refusal import stay
from aiorchd.config.load import Loaded, load
from aiorchd.config.places import Place, PlaceError, find_config, find_socket, find_state
from aiorchd.config.problems import ConfigError
from aiorchd.doors.listener import SocketInUseError, SocketPathError
from aiorchd.runtime.descriptors import raise_limit
from aiorchd.runtime.logs import Log, logging_to
from aiorchd.runtime.memory import keep_one_heap
from aiorchd.runtime.notify import Inherited, Notifier, take_descriptors, take_notifier, take_watchdog_s
from aiorchd.runtime.watch import FileWatch
from aiorchd.store.errors import StateError

_REASONS: Final = (ConfigError, PlaceError, SocketPathError, SocketInUseError, StateError)


def start(arguments: Sequence[str], environ: MutableMapping[str, str]) -> int:
    """Run the daemon until it is told to stop. Returns 0, 64 usage, 70 internal, 75 try again, 77 not permitted or 78
    configuration.
    """
    options = parser().parse_args(arguments)
    descriptors = take_descriptors(environ, os.getpid())
    notifier = take_notifier(environ)
    watchdog_s = take_watchdog_s(environ, os.getpid())
    raise_limit()
    keep_one_heap()
    with logging_to(environ=environ) as logging, closing(notifier), ExitStack() as resources:
        log = Log("")
        listening: Listening | None = None
        watch: FileWatch | None = None
        try:
            try:
                config = find_config(options.config, environ, os.getuid())
                path = None if config is None else config.path
                if options.check:
                    return _told(load(path, environ))
                places = _places(options, environ, config, descriptors)
                listening = resources.enter_context(Listening(places))
                places = replace(places, socket=replace(places.socket, path=listening.path))
                # Watched before it is read, so that no edit falls between the two.
                watch = None if path is None else resources.enter_context(closing(FileWatch(path)))
                launch = Launch(
                    places=places,
                    listening=listening,
                    loaded=load(path, environ),
                    watch=watch,
                    environ=environ,
                    notifier=notifier,
                    watchdog_s=watchdog_s,
                    logging=logging,
                )
                return trio.run(live, launch, clock=MonotonicClock(), strict_exception_groups=True)
            except BaseExceptionGroup as group:
                raise _single(group) from None
        except KeyboardInterrupt:
            return 0
        except _REASONS as reason:
            code = _say_why(reason, log, notifier)
            if options.check or not notifier.active:
                return code
            # By whatever started it, it is started again, over and over.
            return _stay(_last_words(reason), listening, watch, log, code)


def _say_why(reason: Exception, log: Log, notifier: Notifier) -> int:
    """Turn a reason not to run into its sentence and exit code."""
    if isinstance(reason, ConfigError):
        for problem in reason.problems:
            log.error("configuration refused", problem=str(problem))
        notifier.status(f"configuration refused: {reason.problems[0]}")
        return reason.exit_code
    log.error(str(reason))
    notifier.status(str(reason))
    if isinstance(reason, PlaceError | StateError):
        return reason.exit_code
    return os.EX_TEMPFAIL if isinstance(reason, SocketInUseError) else os.EX_USAGE


def _last_words(reason: Exception) -> CallError:
    """Say to clients why there is no daemon."""
    if isinstance(reason, ConfigError):
        return NoModels(f"the daemon cannot start, its configuration is refused: {reason.problems[0]}")
    kind = StorageError if isinstance(reason, StateError) else InternalError
    return kind(f"the daemon cannot start: {reason}")


def _stay(words: CallError, listening: Listening | None, watch: FileWatch | None, log: Log, code: int) -> int:
    try:
        changed = trio.run(stay, words, None if listening is None else listening.socket, watch)
    except KeyboardInterrupt:
        return code
    log.info("ends, to be started again", because="the file has changed" if changed else None)
    return code


def _single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Take a lone error out of the groups that nurseries wrap around it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _places(
    options: argparse.Namespace,
    environ: MutableMapping[str, str],
    config: Place | None,
    descriptors: tuple[Inherited, ...],
) -> Places:
    uid = os.getuid()
    return Places(
        config=config,
        socket=find_socket(options.socket, environ, uid, inherited=bool(descriptors)),
        state=find_state(options.state_dir, environ, uid),
        descriptor=descriptors[0].descriptor if descriptors and options.socket is None else None,
    )


def _told(loaded: Loaded) -> int:
    """Answer ``--check``: problems raise before this is reached."""
    for warning in loaded.warnings:
        sys.stdout.write(f"warning: {warning}\n")
    where = "built-in defaults" if loaded.path is None else str(loaded.path)
    models = ", ".join(model.name for model in loaded.config.models if model.enabled) or "none enabled"
    sys.stdout.write(f"{where}: fine; models: {models}\n")
    return 0
