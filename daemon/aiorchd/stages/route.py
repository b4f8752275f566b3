"""Chooses the target of a call, and the next one when that fails.

The chain is what the caller asked for (else the first enabled model), then the configured fallbacks, each once. One
budget of attempts and one deadline hold for the whole chain; a retry at one target leaves at least one attempt for each
target that is still to come, and no wait for one of them is begun that would take more than half of the time left while
another could be asked. Which errors go on to the next target is written in `calls.outcome`. Once content has
reached the caller there is no way back: the call ends as an incomplete stream.

Above this stage there are calls, below it attempts at one target.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import trio

from aiorch.errors import CallError, ContextExceeded, IncompleteStream, NoModels, UnknownModel
from aiorchd.calls.call import Attempt, AttemptBudget, Call
from aiorchd.calls.journal import AttemptRecord
from aiorchd.calls.outcome import REFUSED_BY_US, judge
from aiorchd.calls.ports import Service
from aiorchd.calls.reply import Reply
from aiorchd.calls.target import Target
from aiorchd.core.token_estimate import TokenEstimator, prompt_tokens

_NAME_CHARACTERS: Final = 100
_NAMES_SHOWN: Final = 10
_SURELY_TOO_LONG: Final = 2.0
"""A prompt guessed at more than twice the context is too long whatever the tokenizer; below that the provider decides."""


@dataclass(frozen=True, slots=True)
class RouteStatistics:
    """Calls inside now; since this stage was built: how often another target was asked instead, calls that failed along the
    whole chain, and answers by target."""

    inside: int
    fallbacks: int
    failed: int
    answered_by: Mapping[str, int]


class Route:
    """Send each call down the stack of its target, and along ``fallback`` when that fails.

    ``stacks`` holds what leads to each target, by its name; ``targets`` the enabled ones in the order of the configuration,
    ``disabled`` the names of the others. ``max_attempts`` bounds what is sent for one call in all. ``estimator`` is shared by
    all generations.
    """

    def __init__(
        self,
        stacks: Mapping[str, Service[Attempt]],
        targets: Sequence[Target],
        *,
        estimator: TokenEstimator,
        max_attempts: int,
        fallback: Sequence[str] = (),
        disabled: Sequence[str] = (),
    ) -> None:
        self._stacks = stacks
        self._targets = {target.name: target for target in targets}
        missing = self._targets.keys() - stacks.keys()
        if missing:
            raise ValueError(f"no stack for {sorted(missing)}")
        self._estimator = estimator
        self._max_attempts = max_attempts
        self._fallback = tuple(self._targets[name] for name in fallback if name in self._targets)
        self._disabled = frozenset(disabled)
        self._chains = {target.name: self._chain(target) for target in targets}
        # This is all the mutable state.
        self._inside = self._fallbacks = self._failed = 0
        self._answered_by = dict.fromkeys(self._targets, 0)

    async def __call__(self, call: Call) -> Reply:
        """Answer ``call`` by the first target of its chain that can.

        Raises `UnknownModel` and `NoModels`; otherwise the most telling error of the chain, with the attempts in its details.
        """
        chain = self._chain_of(call)
        self._inside += 1
        try:
            result = await self._along(chain, call)
        finally:
            self._inside -= 1
        if isinstance(result, Reply):
            return result
        self._failed += 1
        try:
            raise result
        finally:
            del result  # its traceback refers to this frame: no cycle that would keep the prompt

    def statistics(self) -> RouteStatistics:
        """Tell who is inside and who answered."""
        return RouteStatistics(
            inside=self._inside,
            fallbacks=self._fallbacks,
            failed=self._failed,
            answered_by=dict(self._answered_by),
        )

    async def _along(self, chain: tuple[Target, ...], call: Call) -> Reply | CallError:
        """Ask one target after the other, until one answers or nothing more may be tried."""
        budget = AttemptBudget(self._max_attempts)
        prompt = prompt_tokens(call.request)
        before = _Spent.of(call)
        failures = _Failures(call)
        last = len(chain) - 1
        for position, target in enumerate(chain):
            budget.held_back = last - position
            result = await self._ask(call, target, prompt, budget, last=position == last)
            if isinstance(result, Reply):
                return self._finished(call, target, result, before)
            failures.add(target, result)
            if call.sink is not None and call.sink.started:
                return failures.in_the_middle(result)
            if position == last or budget.left <= 0 or not judge(result).fall_back:
                break
            self._go_on(call, target, result, chain[position + 1])
        return failures.most_telling()

    async def _ask(
        self, call: Call, target: Target, prompt: int, budget: AttemptBudget, *, last: bool
    ) -> Reply | CallError:
        """Send the call to one target. While others are still to come, waiting for it may take half of the time left."""
        if target.context_tokens is not None and prompt > _SURELY_TOO_LONG * target.context_tokens:
            return ContextExceeded(
                f"the prompt has some {prompt} tokens, {target.name} takes {target.context_tokens}", stage="route"
            )
        output = self._estimator.output_tokens(target.name, call.request) if call.kind == "chat" else 0
        now = trio.current_time()
        attempt = Attempt(
            call=call,
            target=target,
            number=len(call.journal.attempts) + 1,
            estimated_tokens=prompt + output,
            start_by=call.deadline if last else now + (call.deadline - now) / 2,
            budget=budget,
        )
        try:
            return await self._stacks[target.name](attempt)
        except CallError as error:
            return error

    def _finished(self, call: Call, target: Target, reply: Reply, before: _Spent) -> Reply:
        """Learn from the answer, and write on it what it took: itself and the failures on the way to it, without an earlier
        answer that was no good."""
        usage = reply.usage
        if usage is not None and not usage.estimated and call.kind == "chat":
            self._estimator.learn(target.name, usage.output + usage.reasoning)
        self._answered_by[target.name] += 1
        spent = _Spent.of(call)
        failed = [attempt for attempt in call.journal.attempts[before.attempts :] if attempt.code is not None]
        # An answer that was withheld is paid for like any other.
        lost_usd = sum(attempt.cost_usd or 0.0 for attempt in failed)
        return replace(
            reply,
            cost_usd=None if reply.cost_usd is None else reply.cost_usd + lost_usd,
            attempts=spent.attempts - before.attempts,
            queue_s=spent.queue_s - before.queue_s,
            provider_s=spent.provider_s - before.provider_s,
        )

    def _go_on(self, call: Call, failed: Target, error: CallError, following: Target) -> None:
        self._fallbacks += 1
        call.journal.fallbacks += 1
        now = trio.current_time()
        call.journal.note(now, "route", f"{failed.name}: {error.code}; asking {following.name} instead")

    def _chain(self, first: Target | None) -> tuple[Target, ...]:
        """The first target and the fallbacks, each once."""
        names = dict.fromkeys(target.name for target in ((first, *self._fallback) if first else self._fallback))
        return tuple(self._targets[name] for name in names)

    def _chain_of(self, call: Call) -> tuple[Target, ...]:
        """Find the targets to ask, in order; at least one. Those whose answer to this call was no good come last."""
        chain = self._usual_chain_of(call)
        if call.avoid:
            chain = tuple(sorted(chain, key=lambda target: target.name in call.avoid))
        return chain

    def _usual_chain_of(self, call: Call) -> tuple[Target, ...]:
        if not self._targets:
            raise NoModels("no AI models available for routing: none is configured and enabled", stage="route")
        if call.model is None:
            return self._chains[next(iter(self._targets))]
        chain = self._chains.get(call.model)
        if chain is not None:
            return chain
        if call.model in self._disabled and self._fallback:
            self._fallbacks += 1
            call.journal.fallbacks += 1
            now = trio.current_time()
            call.journal.note(now, "route", f"{call.model} is switched off; asking {self._fallback[0].name} instead")
            return self._chain(None)
        raise self._unknown(call.model)

    def _unknown(self, name: str) -> UnknownModel:
        """Say what could have been meant."""
        shown = name if len(name) <= _NAME_CHARACTERS else name[:_NAME_CHARACTERS] + "…"
        known = list(self._targets)
        if name in self._disabled:
            message = f"the model {shown!r} is switched off."
        else:
            message = f"there is no model {shown!r}"
            near = difflib.get_close_matches(name[:_NAME_CHARACTERS], [*known, *self._disabled], n=3)
            message += f", did you mean {' or '.join(near)}?" if near else "."
        message += f" Models: {', '.join(known[:_NAMES_SHOWN])}{' …' if len(known) > _NAMES_SHOWN else ''}"
        message += " (aiorchctl models list)"
        return UnknownModel(message, stage="route", details={"models": known[:_NAMES_SHOWN]})


class _Spent(NamedTuple):
    """What a call had taken by some moment."""

    attempts: int
    queue_s: float
    provider_s: float

    @classmethod
    def of(cls, call: Call) -> _Spent:
        """Read it off the journal."""
        journal = call.journal
        return cls(len(journal.attempts), journal.queue_s, journal.provider_s)


class _Failures:
    """What went wrong along the chain of one call."""

    def __init__(self, call: Call) -> None:
        self._journal = call.journal
        self._seen = len(call.journal.attempts)
        self._errors: list[CallError] = []
        self._told: list[dict[str, Any]] = []

    def add(self, target: Target, error: CallError) -> None:
        """Note that a target failed: its attempts, or that it was never sent to."""
        records = self._journal.attempts[self._seen :]
        self._seen += len(records)
        self._told += [_plain(record) for record in records]
        if not records:
            unsent = {"model": target.name, "provider": target.provider, "sent": False}
            self._told.append({**unsent, "code": error.code, "message": error.message})
        self._errors.append(error)

    def in_the_middle(self, error: CallError) -> CallError:
        """Part of the answer is out: whatever ended it, the caller has half an answer and must know."""
        if not isinstance(error, IncompleteStream):
            details = {**error.details, "cause": error.code}
            incomplete = IncompleteStream(f"the answer broke off: {error.message}", stage=error.stage, details=details)
            incomplete.__cause__ = error
            error = incomplete
        error.details["attempts"] = self._told
        return error

    def most_telling(self) -> CallError:
        """Choose the error to raise: what a provider said before what we refused ourselves, what may pass before what
        stays (asking again can help then), the later one before the earlier."""
        chosen = max(
            enumerate(self._errors),
            key=lambda each: (each[1].code not in REFUSED_BY_US, each[1].retryable, each[0]),
        )[1]
        if chosen.retryable and chosen.retry_after_s is None:
            waits = [
                error.retry_after_s for error in self._errors if error.retryable and error.retry_after_s is not None
            ]
            chosen.retry_after_s = min(waits, default=None)
        chosen.details["attempts"] = self._told
        return chosen


def _plain(record: AttemptRecord) -> dict[str, Any]:
    told = {
        "model": record.model,
        "provider": record.provider,
        "code": record.code,
        "message": record.message,
        "status": record.status,
    }
    return {name: value for name, value in told.items() if value is not None}
