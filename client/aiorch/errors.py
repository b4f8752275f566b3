"""Every way a call can fail, one class per wire code.

::

    AiorchError
    ├── CallError                  the daemon answered with an error; ``code`` says which
    │   ├── InvalidRequest         invalid_request     400  mend the request
    │   ├── Unauthorized           unauthorized        401
    │   ├── Forbidden              forbidden           403  your user may not do this
    │   ├── UnknownMethod          unknown_method      404
    │   ├── UnknownOperation       unknown_operation   404
    │   ├── UnknownModel           unknown_model       404
    │   ├── NoModels               no_models           503  nothing is configured or enabled
    │   ├── TooLarge               too_large           413
    │   ├── ValidationFailed       validation_failed   422  the answer broke its schema
    │   ├── RateLimited            rate_limited        429
    │   ├── BudgetExceeded         budget_exceeded     429
    │   ├── Overloaded             overloaded          503  the daemon sheds load
    │   ├── DeadlineExceeded       deadline_exceeded   504
    │   ├── ProviderError          provider_error      502
    │   ├── ProviderAuth           provider_auth       502  the daemon's key was refused
    │   ├── IncompleteStream       incomplete_stream   502  part of an answer was delivered
    │   ├── ContextExceeded        context_exceeded    400  longer than the model takes
    │   ├── ContentFiltered        content_filtered    422
    │   ├── NotFound               not_found           404
    │   ├── StorageError           storage             503
    │   ├── Cancelled              cancelled           499
    │   ├── GoingAway              going_away          503  the daemon is stopping
    │   ├── HostError              host_error          502  a function in a host process failed
    │   └── InternalError          internal            500
    ├── Unreachable                no daemon answers at the socket
    ├── ConnectionLost             the connection broke after the request was sent
    └── ProtocolError
        ├── LocalProtocolError     this side tried to send what the wire cannot carry
        └── RemoteProtocolError    the other side sent what is not MessagePack-RPC
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class AiorchError(Exception):
    """Whatever this library raises on purpose."""


class CallError(AiorchError):
    """The daemon's answer to a request was an error.

    ``retryable`` says whether the same request may succeed later, ``retry_after_s`` how long to wait at least (None:
    not known), ``stage`` which part of the daemon decided it, ``details`` whatever else is known, all plain data.
    Subclasses fix ``code``; the base class itself carries codes that this release does not know.
    """

    code: str = "internal"
    http_status: ClassVar[int] = 500
    retryable_by_default: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
        stage: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = self.retryable_by_default if retryable is None else retryable
        self.retry_after_s = retry_after_s
        self.stage = stage
        self.details = details if details is not None else {}

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def again(self) -> CallError:
        """Make a fresh equal error: one exception object raised to several waiters would collect all their tracebacks."""
        other = type(self)(
            self.message,
            retryable=self.retryable,
            retry_after_s=self.retry_after_s,
            stage=self.stage,
            details=dict(self.details),
        )
        other.code = self.code
        return other

    def to_wire(self) -> dict[str, Any]:
        """Give the map form, for connections whose ``hello`` asked for ``errors: "map"``."""
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "retry_after_s": self.retry_after_s,
            "stage": self.stage,
            "details": self.details,
        }


class InvalidRequest(CallError):
    """The request is wrong in itself; the message names the field and the remedy."""

    code = "invalid_request"
    http_status = 400


class Unauthorized(CallError):
    """The caller did not show who it is."""

    code = "unauthorized"
    http_status = 401


class Forbidden(CallError):
    """The caller is known and may not do this."""

    code = "forbidden"
    http_status = 403


class UnknownMethod(CallError):
    """The daemon has no such method."""

    code = "unknown_method"
    http_status = 404


class UnknownOperation(CallError):
    """The configuration has no such operation."""

    code = "unknown_operation"
    http_status = 404


class UnknownModel(CallError):
    """The configuration has no such model."""

    code = "unknown_model"
    http_status = 404


class NoModels(CallError):
    """No AI models available for routing."""

    code = "no_models"
    http_status = 503


class TooLarge(CallError):
    """A frame, prompt or input is over its limit."""

    code = "too_large"
    http_status = 413


class ValidationFailed(CallError):
    """The model's answer does not satisfy the schema that was asked for."""

    code = "validation_failed"
    http_status = 422


class RateLimited(CallError):
    """The provider (or a configured limit) said not now."""

    code = "rate_limited"
    http_status = 429
    retryable_by_default = True


class BudgetExceeded(CallError):
    """The money allowed is spent."""

    code = "budget_exceeded"
    http_status = 429


class Overloaded(CallError):
    """The daemon or the provider has more work than it can finish in time."""

    code = "overloaded"
    http_status = 503
    retryable_by_default = True


class DeadlineExceeded(CallError):
    """The call's time ran out."""

    code = "deadline_exceeded"
    http_status = 504
    retryable_by_default = True


class ProviderError(CallError):
    """The provider failed: refused, broke off, or answered nonsense."""

    code = "provider_error"
    http_status = 502
    retryable_by_default = True


class ProviderAuth(CallError):
    """The provider refused the daemon's key."""

    code = "provider_auth"
    http_status = 502


class IncompleteStream(CallError):
    """Part of a streamed answer was delivered, then it failed: what was received is not the whole answer."""

    code = "incomplete_stream"
    http_status = 502
    retryable_by_default = True


class ContextExceeded(CallError):
    """The prompt is longer than the model can take."""

    code = "context_exceeded"
    http_status = 400


class ContentFiltered(CallError):
    """The provider's filter withheld the answer."""

    code = "content_filtered"
    http_status = 422


class NotFound(CallError):
    """There is no such request, job or entry."""

    code = "not_found"
    http_status = 404


class StorageError(CallError):
    """The daemon's disk failed where the call needed it."""

    code = "storage"
    http_status = 503
    retryable_by_default = True


class Cancelled(CallError):
    """The call was cancelled by its caller."""

    code = "cancelled"
    http_status = 499


class GoingAway(CallError):
    """The daemon is stopping and takes no new calls."""

    code = "going_away"
    http_status = 503
    retryable_by_default = True


class HostError(CallError):
    """A function in a host process, called back by the daemon, failed."""

    code = "host_error"
    http_status = 502


class InternalError(CallError):
    """A defect in the daemon; its log has the traceback."""

    code = "internal"
    http_status = 500


class Unreachable(AiorchError):
    """No daemon answers at the socket. The message says what was tried and what to do; ``tried`` holds (socket, reason)."""

    def __init__(self, message: str, *, tried: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.tried = tried


class ConnectionLost(AiorchError):
    """The connection broke while an answer was awaited; the request may or may not have been carried out."""


class ProtocolError(AiorchError):
    """What was sent or received is not MessagePack-RPC as ``docs/protocol.md`` has it."""


class LocalProtocolError(ProtocolError):
    """This side tried to send what the wire cannot carry."""


class RemoteProtocolError(ProtocolError):
    """The other side sent malformed or oversized data; the connection cannot go on.

    ``events`` are the messages of the same chunk that came whole before the one at fault.
    """

    events: Sequence[Any] = ()


CALL_ERRORS: tuple[type[CallError], ...] = (
    InvalidRequest,
    Unauthorized,
    Forbidden,
    UnknownMethod,
    UnknownOperation,
    UnknownModel,
    NoModels,
    TooLarge,
    ValidationFailed,
    RateLimited,
    BudgetExceeded,
    Overloaded,
    DeadlineExceeded,
    ProviderError,
    ProviderAuth,
    IncompleteStream,
    ContextExceeded,
    ContentFiltered,
    NotFound,
    StorageError,
    Cancelled,
    GoingAway,
    HostError,
    InternalError,
)
"""The closed set, in the order of the documents."""


def error_from_wire(error: Any) -> CallError:
    """Turn either wire form, ``[0, "code: message"]`` or the map, into the exception of its code; never raises."""
    details: dict[str, Any] = {}
    retryable: bool | None = None
    retry_after_s: float | None = None
    stage: str | None = None
    if isinstance(error, dict):
        code, message = str(error.get("code", "internal")), str(error.get("message", ""))
        retryable = error["retryable"] if isinstance(error.get("retryable"), bool) else None
        wait = error.get("retry_after_s")
        retry_after_s = float(wait) if isinstance(wait, (int, float)) else None
        stage = error["stage"] if isinstance(error.get("stage"), str) else None
        details = error["details"] if isinstance(error.get("details"), dict) else {}
    else:
        text = str(error[1]) if isinstance(error, (list, tuple)) and len(error) > 1 else str(error)
        code, colon, message = text.partition(": ")
        if not colon or not code.replace("_", "").isalnum():
            code, message = "internal", text
    for known in CALL_ERRORS:
        if known.code == code:
            return known(message, retryable=retryable, retry_after_s=retry_after_s, stage=stage, details=details)
    unknown = CallError(message, retryable=retryable, retry_after_s=retry_after_s, stage=stage, details=details)
    unknown.code = code
    return unknown
