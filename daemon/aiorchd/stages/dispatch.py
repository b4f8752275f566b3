"""The innermost stage: sends one attempt to its provider, and no longer than an attempt may take.

Providers translate everything foreign into the errors of the house; here only the time is kept, and the reply is
signed with the target that gave it.

Of a streamed answer the tokens are timed, too, and not only the bytes as in the transport: a provider that keeps the
connection warm and says nothing has fallen silent. One scope does it all; its deadline moves with each piece. The time in
which the caller takes a piece is not the provider's. An answer that is not streamed needs no scope here where the provider
itself bounds it as closely (`Provider.attempt_s`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio
from msgspec.structs import replace

from aiorch.errors import CallError, IncompleteStream, ProviderError
from aiorchd.calls.call import Attempt
from aiorchd.calls.ports import TIMEOUT_OF_ATTEMPT as ATTEMPT
from aiorchd.calls.ports import DeltaSink, Provider
from aiorchd.calls.reply import Reply
from aiorchd.calls.target import Target

DAY_S: Final = 86400.0
FIRST_TOKEN: Final = "timeouts.first_token_s"  # noqa: S105
IDLE: Final = "timeouts.idle_s"


@dataclass(frozen=True, slots=True)
class AttemptTimes:
    """How long one attempt may take, in seconds: from its start to its end, of a streamed one to its first token, and
    from each token to the next."""

    attempt_s: float
    first_token_s: float = DAY_S
    idle_s: float = DAY_S


@dataclass(frozen=True, slots=True)
class DispatchStatistics:
    """Attempts at the provider now; since this stage was built: sent, answered, failed, and of these how many took too long."""

    in_flight: int
    sent: int
    answered: int
    failed: int
    timed_out: int


class Dispatch:
    """Ask ``provider``, for no longer than ``times`` allow.

    A call whose own deadline comes first is ended by that one, which may still move on while the attempt runs: others join.
    Cancelling closes the connection to the provider. Leaves ``sent_at`` (Trio's clock) in the notes of the attempt.
    """

    def __init__(self, provider: Provider, times: AttemptTimes) -> None:
        self._provider = provider
        self._times = times
        self._now = trio.lowlevel.current_clock().current_time
        self._bounded = provider.attempt_s is not None and provider.attempt_s <= times.attempt_s
        self._in_flight = 0
        self._sent = self._answered = self._failed = self._timed_out = 0

    async def __call__(self, attempt: Attempt) -> Reply:
        """Send one attempt. Raises what the port `Provider` raises, `ProviderError` when it took too long."""
        call = attempt.call
        ask = self._provider.chat if call.kind == "chat" else self._provider.embed
        now = attempt.notes["sent_at"] = self._now()
        by_itself = self._bounded and call.sink is None
        self._in_flight += 1
        self._sent += 1
        try:
            reply = await ask(attempt) if by_itself else await self._within(attempt, ask, now + self._times.attempt_s)
        except CallError as error:
            self._failed += 1
            if by_itself and error.details.get("timeout") == ATTEMPT:
                raise self._too_long(attempt.target, None, None) from error
            raise
        finally:
            self._in_flight -= 1
        self._answered += 1
        return _signed(reply, attempt.target)

    async def _within(self, attempt: Attempt, ask: Callable[[Attempt], Awaitable[Reply]], expires_at: float) -> Reply:
        """Ask until ``expires_at``; of a streamed answer no longer than its next token may take."""
        call = attempt.call
        pulse: _Pulse | None = None
        with trio.CancelScope(deadline=expires_at) as scope:
            if call.sink is not None:
                pulse = _Pulse(call.sink, scope, self._times, expires_at)
                attempt = replace(attempt, call=replace(call, sink=pulse), alive=pulse.alive)
            return await ask(attempt)
        raise self._too_long(attempt.target, call.sink, pulse)  # nobody else ends this scope

    def statistics(self) -> DispatchStatistics:
        """Tell how many attempts are at the provider."""
        return DispatchStatistics(
            in_flight=self._in_flight,
            sent=self._sent,
            answered=self._answered,
            failed=self._failed,
            timed_out=self._timed_out,
        )

    def _too_long(self, target: Target, sink: DeltaSink | None, pulse: _Pulse | None) -> CallError:
        self._timed_out += 1
        which = ATTEMPT if pulse is None else pulse.awaited
        seconds = getattr(self._times, which.rpartition(".")[2])
        what = {
            ATTEMPT: f"did not finish its answer within {seconds:g} s",
            FIRST_TOKEN: f"sent no token within {seconds:g} s",
            IDLE: f"sent no token for {seconds:g} s in the middle of its answer",
        }[which]
        message = f"{target.name} {what} ({which})"
        details = {"timed_out": True, "timeout": which, "timeout_s": seconds}
        if sink is not None and sink.started:
            return IncompleteStream(message, stage="dispatch", details=details)
        return ProviderError(message, stage="dispatch", details=details)


class _Pulse:
    """Stands between a provider and the sink of a streamed call, and moves the deadline of the attempt with each piece."""

    def __init__(self, sink: DeltaSink, scope: trio.CancelScope, times: AttemptTimes, expires_at: float) -> None:
        self._sink = sink
        self._scope = scope
        self._times = times
        self._expires_at = expires_at
        self.awaited = FIRST_TOKEN
        """What is waited for now, by the name of its bound."""
        self._await(FIRST_TOKEN, times.first_token_s)

    @property
    def started(self) -> bool:
        """As the sink says."""
        return self._sink.started

    def alive(self) -> None:
        """The provider is at work, though there is nothing for the caller: a thought, the head of a message."""
        if self._sink.started:
            self._await(IDLE, self._times.idle_s)
        else:
            self._await(FIRST_TOKEN, self._times.first_token_s)

    async def send(self, *, text: str | None = None, tool_calls: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Pass a piece on."""
        self._scope.deadline, self.awaited = self._expires_at, ATTEMPT
        await self._sink.send(text=text, tool_calls=tool_calls)
        self._await(IDLE, self._times.idle_s)

    def _await(self, what: str, seconds: float) -> None:
        at = trio.current_time() + seconds
        self._scope.deadline, self.awaited = (at, what) if at < self._expires_at else (self._expires_at, ATTEMPT)


def _signed(reply: Reply, target: Target) -> Reply:
    """Put the name of the target on the reply; a provider knows only its own name for the model."""
    if (
        reply.model == target.name
        and reply.provider == target.provider
        and reply.provider_model
        and reply.simulated >= target.simulated
    ):
        return reply
    return replace(
        reply,
        model=target.name,
        provider=target.provider,
        provider_model=reply.provider_model or target.provider_model,
        simulated=reply.simulated or target.simulated,
    )
