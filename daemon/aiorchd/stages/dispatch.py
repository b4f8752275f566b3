"""The innermost stage: sends one attempt to its provider, and no longer than an attempt may take.

Providers translate everything foreign into the errors of the house; here only the time is kept, and the reply is
signed with the target that gave it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import trio

from aiorch.errors import CallError, IncompleteStream, ProviderError
from aiorchd.calls.call import Attempt
from aiorchd.calls.ports import Provider
from aiorchd.calls.reply import Reply
from aiorchd.calls.target import Target


@dataclass(frozen=True, slots=True)
class DispatchStatistics:
    """Attempts at the provider now; since this stage was built: sent, answered, failed, and of these how many took too long."""

    in_flight: int
    sent: int
    answered: int
    failed: int
    timed_out: int


class Dispatch:
    """Ask ``provider``, for at most ``timeout_s`` seconds an attempt, from its start to the end of its answer.

    A call whose own deadline comes first is ended by that one, which may still move on while the attempt runs: others join.
    Cancelling closes the connection to the provider.
    """

    def __init__(self, provider: Provider, *, timeout_s: float) -> None:
        self._provider = provider
        self._timeout_s = timeout_s
        self._in_flight = 0
        self._sent = self._answered = self._failed = self._timed_out = 0

    async def __call__(self, attempt: Attempt) -> Reply:
        """Send one attempt. Raises what the port `Provider` raises, `ProviderError` when it took too long."""
        call = attempt.call
        ask = self._provider.chat if call.kind == "chat" else self._provider.embed
        expires_at = trio.current_time() + self._timeout_s
        reply: Reply | None = None
        self._in_flight += 1
        self._sent += 1
        try:
            with trio.CancelScope(deadline=expires_at):
                reply = await ask(attempt)
            if reply is None:  # nobody else ends this scope
                raise self._too_long(attempt)
        except CallError:
            self._failed += 1
            raise
        finally:
            self._in_flight -= 1
        self._answered += 1
        return _signed(reply, attempt.target)

    def statistics(self) -> DispatchStatistics:
        """Tell how many attempts are at the provider."""
        return DispatchStatistics(
            in_flight=self._in_flight,
            sent=self._sent,
            answered=self._answered,
            failed=self._failed,
            timed_out=self._timed_out,
        )

    def _too_long(self, attempt: Attempt) -> CallError:
        self._timed_out += 1
        message = f"{attempt.target.name} did not finish its answer within {self._timeout_s:g} s"
        details = {"timeout_s": self._timeout_s}
        if attempt.call.sink is not None and attempt.call.sink.started:
            return IncompleteStream(message, stage="dispatch", details=details)
        return ProviderError(message, stage="dispatch", details=details)


def _signed(reply: Reply, target: Target) -> Reply:
    """Put the name of the target on the reply; a provider knows only its own name for the model."""
    provider_model = reply.provider_model or target.provider_model
    simulated = reply.simulated or target.simulated
    mine = (target.name, target.provider, provider_model, simulated)
    if (reply.model, reply.provider, reply.provider_model, reply.simulated) == mine:
        return reply
    return replace(
        reply, model=target.name, provider=target.provider, provider_model=provider_model, simulated=simulated
    )
