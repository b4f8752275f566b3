"""From whatever went wrong to a sentence, a map for machines, and an exit code of sysexits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiorch
from aiorchctl.quantities import seconds

EXIT_CODES: Final[Mapping[str, int]] = {
    "invalid_request": os.EX_USAGE,
    "unknown_method": os.EX_USAGE,
    "unknown_operation": os.EX_USAGE,
    "unknown_model": os.EX_USAGE,
    "not_found": os.EX_USAGE,
    "too_large": os.EX_USAGE,
    "context_exceeded": os.EX_USAGE,
    "unauthorized": os.EX_NOPERM,
    "forbidden": os.EX_NOPERM,
    "no_models": os.EX_CONFIG,
    "provider_auth": os.EX_CONFIG,
}
"""For the daemon's error codes that have one of their own. The others: 75 when trying again may help, else 70; a budget's
depends on whose it is."""


EXIT_MEANINGS: Final[Mapping[int, str]] = {
    os.EX_OK: "It is done.",
    os.EX_USAGE: "The command line or the request is wrong; a call cannot keep to its own cost limit.",
    os.EX_NOINPUT: "A file to read from is not there.",
    os.EX_UNAVAILABLE: "No daemon answers.",
    os.EX_SOFTWARE: "It failed.",
    os.EX_CANTCREAT: "A file cannot be written.",
    os.EX_TEMPFAIL: "It failed, and trying again later may help; a budget is used up until it begins anew.",
    os.EX_NOPERM: "It is not permitted.",
    os.EX_CONFIG: "The configuration is wrong, lacks what is needed, or allows a call too little money.",
    130: "Ctrl-C ended it.",
}
"""What the program's exit codes mean, whichever command; a command with a meaning of its own says so itself."""


OWN_CODES: Final[Mapping[str, str]] = {
    "usage": "the command line is wrong",
    "input": "a file to read from is not there",
    "unreachable": "no daemon answers; `tried` says where",
    "connection_lost": "the daemon went away in the middle",
    "protocol": "what answers is no aiorchd that can be understood",
    "config": "a configuration is wrong; `problems` says all of it",
    "no_file": "there is no configuration file",
    "not_found": "a file sets no such key",
    "exists": "a file is there already",
    "cannot_write": "a file cannot be written",
    "layout": "an edit would lose the layout of the file",
    "declined": "whoever was asked said no",
    "forbidden": "a file or directory is not yours to write",
    "foreign": "a unit was written or changed by somebody else",
    "hidden": "the service could not see the programs where they are",
    "not_installed": "the programs do not run where they are",
    "units_missing": "the installation lacks its units",
    "trial": "the call that was tried failed",
    "demo": "the demonstration failed",
}
"""Codes of errors that are the command line's own, beside those of the protocol."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told of an error: ``sentence`` to a person, ``details`` to a machine."""

    exit_code: int
    sentence: str
    details: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Give the map that goes to standard error with ``--json``."""
        return {**self.details, "exit_code": self.exit_code}


class Failed(Exception):
    """A command failed for a reason of its own that it can name."""

    def __init__(self, code: str, sentence: str, exit_code: int, **details: Any) -> None:
        super().__init__(sentence)
        self.failure = Failure(exit_code, sentence, {"code": code, "message": sentence, **details})


def failure_of(error: aiorch.AiorchError) -> Failure:
    """Tell what a client's error means to whoever typed the command."""
    if isinstance(error, aiorch.CallError):
        return _refused(error)
    if isinstance(error, aiorch.Unreachable):
        sentence = unreachable_sentence(error.tried)
        tried = [{"socket": socket, "reason": reason} for socket, reason in error.tried]
        return Failure(os.EX_UNAVAILABLE, sentence, _details("unreachable", sentence, retryable=True, tried=tried))
    if isinstance(error, aiorch.ConnectionLost):
        sentence = f"{error}. The daemon may have carried it out; look with `aiorchctl status`, then try again."
        return Failure(os.EX_TEMPFAIL, sentence, _details("connection_lost", str(error), retryable=True))
    return Failure(os.EX_SOFTWARE, str(error), _details("protocol", str(error)))


def unreachable_sentence(tried: Sequence[tuple[str, str]], *, uid: int | None = None) -> str:
    """Say which sockets were tried and what to do about it."""
    uid = os.getuid() if uid is None else uid
    places = " and ".join(f"{socket} ({reason})" for socket, reason in tried) or "any socket"
    begin = f"no daemon answers at {places}."
    if any("permission denied" in reason for _, reason in tried):
        return f"{begin} Join the group of the socket, or name your own daemon's with --socket PATH."
    return f"{begin} {how_to_start(uid)} `aiorchctl doctor` looks for the cause."


def how_to_start(uid: int) -> str:
    """Say how a user gets a daemon that answers."""
    service = "systemctl start aiorchd.socket" if uid == 0 else "systemctl --user start aiorchd.socket"
    return f"Start it with `aiorchd &` or `{service}`, or name another socket with --socket PATH."


def _refused(error: aiorch.CallError) -> Failure:
    otherwise = os.EX_TEMPFAIL if error.retryable else os.EX_SOFTWARE
    exit_code = EXIT_CODES.get(error.code, otherwise)
    if error.code == "budget_exceeded":
        exit_code = _out_of_money(error)
    sentence = str(error)
    if error.retry_after_s and (error.retryable or exit_code == os.EX_TEMPFAIL):
        sentence += f" (try again in {seconds(error.retry_after_s)})"
    return Failure(exit_code, sentence, error.to_wire())


def _out_of_money(error: aiorch.CallError) -> int:
    """A budget begins anew, or others give back what they hold; the limit of the one call stays, whose it is mends it."""
    if error.retryable or error.retry_after_s is not None:
        return os.EX_TEMPFAIL
    return os.EX_CONFIG if error.details.get("limit_of") == "configuration" else os.EX_USAGE


def _details(code: str, message: str, *, retryable: bool = False, **more: Any) -> dict[str, Any]:
    return {"code": code, "message": message, "retryable": retryable, **more}
