"""What can go wrong between here and a provider, and the one place where it becomes an `aiorch.errors.ProviderError`.

The connections raise what the operating system, Trio and the TLS library raise, and the few faults defined here.
`FOREIGN` names all of that; `explain` turns any of it into a sentence that says what happened, in which phase, at which
host. Sentences hold no header, no body and no part of an address but the host.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import trio

from aiorch.errors import ProviderError
from aiorchd.providers.transport.endpoint import Origin

Phase: TypeAlias = Literal["connecting", "sending", "waiting", "reading"]
"""How far a request had come: nothing sent; being sent; sent and not answered; being answered."""

_DOING: Final[Mapping[str, str]] = {
    "connecting": "while connecting",
    "sending": "while the request was being sent",
    "waiting": "before answering",
    "reading": "in the middle of its answer",
}


class Fault(Exception):
    """A failure that this package found itself; its text completes «host …»."""

    retryable = True


class PeerClosed(Fault):
    """The other end closed the connection where an answer, or the rest of one, was due."""


class Malformed(Fault):
    """What came back is not HTTP, or breaks its rules."""


class AnswerTooLarge(Fault):
    """The answer is over a limit of `PoolLimits`."""

    retryable = False


class StreamReset(Fault):
    """The other end gave up on one HTTP/2 stream or on the connection; ``unprocessed`` when it says nothing was done."""

    def __init__(self, text: str, *, unprocessed: bool) -> None:
        super().__init__(text)
        self.unprocessed = unprocessed


class Unsendable(Fault):
    """The request cannot be put into HTTP: a header holds characters that must not be sent."""

    retryable = False


class ProxyFault(Fault):
    """The proxy would not or could not pass the connection on."""


class Misconfigured(Fault):
    """The environment names a proxy or certificates that cannot be used."""

    retryable = False


FOREIGN: Final = (Fault, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""Everything a connection may raise besides cancellation (`ssl.SSLError` is an `OSError`)."""


def explain(error: BaseException, *, origin: Origin, phase: Phase) -> ProviderError:
    """Say in one sentence what happened; ``details`` carry ``phase``, ``host`` and whether anything was ``sent``."""
    sentence, retryable = _sentence(error, origin, phase)
    return ProviderError(sentence, retryable=retryable, details=_details(origin, phase))


def timed_out(seconds: float, *, origin: Origin, phase: Phase, in_total: bool) -> ProviderError:
    """Make the error for a deadline of `Timeouts` that passed; ``in_total`` when it was the one over everything."""
    host = origin.host_and_port
    if in_total:
        sentence, key = f"the answer of {host} was not complete after {seconds:g} s", "timeouts.attempt_s"
    elif phase == "connecting":
        sentence, key = f"could not connect to {host} within {seconds:g} s", "timeouts.connect_s"
    elif phase == "reading":
        sentence, key = f"{host} went silent for {seconds:g} s in the middle of its answer", "timeouts.idle_s"
    else:
        sentence, key = f"{host} did not begin to answer within {seconds:g} s", "timeouts.first_byte_s"
    details = {**_details(origin, phase), "timed_out": True, "timeout": key, "timeout_s": seconds}
    return ProviderError(f"{sentence} ({key})", details=details)


def _details(origin: Origin, phase: Phase) -> dict[str, object]:
    return {"phase": phase, "host": origin.host_and_port, "sent": phase != "connecting"}


def _sentence(error: BaseException, origin: Origin, phase: Phase) -> tuple[str, bool]:
    host = origin.host_and_port
    if isinstance(error, ProxyFault | Misconfigured):
        return f"{host} cannot be reached: {error}", error.retryable
    if isinstance(error, Fault):
        return f"{host} {error}", error.retryable
    cause = _root(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        # A wrong certificate does not mend itself, and asking again would only tell more of us to whoever answers.
        return f"the certificate of {host} was not accepted: {_certificate_reason(cause)}", False
    if isinstance(cause, ssl.SSLError):
        return f"TLS with {host} failed {_DOING[phase]}: {_tls_reason(cause)}", True
    if isinstance(cause, socket.gaierror):
        return f"the name {origin.host} cannot be resolved: {cause.strerror or 'unknown reason'}", True
    if isinstance(cause, ConnectionRefusedError):
        return f"nothing listens at {host} (connection refused)", True
    if isinstance(cause, ConnectionResetError | BrokenPipeError):
        return f"{host} reset the connection {_DOING[phase]}", True
    if isinstance(cause, OSError):
        return f"the connection to {host} failed {_DOING[phase]}: {cause.strerror or type(cause).__name__}", True
    return f"the connection to {host} broke {_DOING[phase]}", True


def _root(error: BaseException) -> BaseException:
    """Find what Trio wrapped: a broken stream's cause, or the last of several failed addresses."""
    for _ in range(8):
        cause = error.__cause__
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[-1]
        if cause is None or not isinstance(cause, OSError):
            break
        error = cause
    return error


def _certificate_reason(error: ssl.SSLCertVerificationError) -> str:
    reason = error.verify_message or "it cannot be verified"
    if "unable to get local issuer" in reason or "self-signed" in reason or "self signed" in reason:
        reason += " (if it is signed by an authority of your own, name that in SSL_CERT_FILE or SSL_CERT_DIR)"
    return reason


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLEOFError):
        return "the other end closed the connection"
    if error.reason == "WRONG_VERSION_NUMBER":
        return "the other end does not speak TLS; should the address begin with http://?"
    return (error.reason or error.strerror or "unknown reason").lower().replace("_", " ")
