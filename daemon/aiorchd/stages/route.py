"""Chooses the target of a call, and the next one when that fails.

The chain is what the caller asked for (else the first enabled model), then its fallbacks, each once; after a prompt that
was too long or an answer that was withheld, the fallbacks for that (`core.fallback_chains`). One budget of attempts and one
deadline hold for the whole chain; a retry at one target leaves at least one attempt for each target that is still to come,
and no wait for one of them is begun that would take more than half of the time left while another could be asked. Which
errors go on to the next target is written in `calls.outcome`. A target whose breaker is open refuses and is passed over;
before a call fails, the least bad of those is asked after all. Once content has reached the caller there is no way back:
the call ends as an incomplete stream.

Above this stage there are calls, below it attempts at one target.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

import msgspec
import trio
from msgspec.structs import replace

from aiorch.errors import CallError, ContextExceeded, NoModels, UnknownModel
from aiorchd.calls.bill import Bill
from aiorchd.calls.call import Attempt, AttemptBudget, Call
from aiorchd.calls.failures import Failures
from aiorchd.calls.journal import AttemptRecord
from aiorchd.calls.outcome import judge
from aiorchd.calls.ports import Service
from aiorchd.calls.reply import Reply
from aiorchd.calls.target import Target
from aiorchd.core.fallback_chains import FallbackChains, FallbackKind
from aiorchd.core.prompt_size import PromptSize, prompt_size
from aiorchd.core.token_estimate import TokenEstimator

_NAME_CHARACTERS: Final = 100
_NAMES_SHOWN: Final = 10
_SURELY_TOO_LONG: Final = 2.0
"""A prompt guessed at more than twice the context is too long whatever the tokenizer; below that the provider decides."""


@dataclass(frozen=True, slots=True)
class RouteStatistics:
    """Calls inside now; since this stage was built: how often another target was asked instead, in all and by what for
    (``failure``, ``context_window``, ``content_filter``, ``switched_off``), how often a target was asked although its breaker
    was open because there was nobody else, calls that failed along the whole chain, and answers by target."""

    inside: int
    fallbacks: int
    failed: int
    answered_by: Mapping[str, int]
    fallbacks_by_kind: Mapping[str, int]
    forced: int


class _Way(msgspec.Struct, eq=False):
    """How far a call has come along its chain: who is asked now and who after that, and what it had taken before."""

    name: str
    remaining: tuple[str, ...]
    budget: AttemptBudget
    size: PromptSize
    attempts: int
    queue_s: float
    provider_s: float
    forced: bool = False
    asked: list[str] = []
    shut: dict[str, float] = {}
    """Targets that were passed over because their breaker is open, and how bad they are."""
    failures: Failures | None = None


class Route:
    """Send each call down the stack of its target, and along its chain when that fails.

    ``stacks`` holds what leads to each target, by its name; ``targets`` the enabled ones in the order of the configuration,
    ``disabled`` the names of the others, ``chains`` who is asked after whom. ``max_attempts`` bounds what is sent for one call
    in all. ``estimator`` is shared by all generations.
    """

    def __init__(
        self,
        stacks: Mapping[str, Service[Attempt]],
        targets: Sequence[Target],
        *,
        estimator: TokenEstimator,
        max_attempts: int,
        chains: FallbackChains | None = None,
        disabled: Sequence[str] = (),
    ) -> None:
        self._stacks = stacks
        self._targets = {target.name: target for target in targets}
        missing = self._targets.keys() - stacks.keys()
        if missing:
            raise ValueError(f"no stack for {sorted(missing)}")
        self._estimator = estimator
        self._max_attempts = max_attempts
        self._now = trio.lowlevel.current_clock().current_time
        self._chains = chains if chains is not None else FallbackChains(tuple(self._targets))
        self._disabled = frozenset(disabled)
        self._usual = {name: self._chains.usual(name) for name in (*self._targets, *self._disabled)}
        # This is all the mutable state.
        self._inside = self._failed = self._forced = 0
        self._fallbacks: dict[str, int] = dict.fromkeys(get_args(FallbackKind), 0)
        self._answered_by = dict.fromkeys(self._targets, 0)

    async def __call__(self, call: Call) -> Reply:
        """Answer ``call`` by the first target of its chain that can.

        Raises `UnknownModel` and `NoModels`; otherwise the most telling error of the chain, with the attempts in its details.
        """
        chain = self._usual_chain_of(call)
        if call.avoid:  # whose answer to this call was no good comes last
            chain = tuple(sorted(chain, key=lambda name: name in call.avoid))
        journal = call.journal
        way = _Way(
            chain[0],
            chain[1:],
            AttemptBudget(self._max_attempts),
            prompt_size(call.request),
            len(journal.attempts),
            journal.queue_s,
            journal.provider_s,
        )
        self._inside += 1
        try:
            while True:
                try:
                    reply = await self._stacks[way.name](self._attempt(call, way))
                    return self._finished(call, way, reply)
                except CallError as error:
                    failure = self._after(call, way, error)
                if failure is not None:
                    self._failed += 1
                    raise failure
        finally:
            self._inside -= 1
            failure = None
            del way  # tracebacks of its errors refer to this frame: no cycle that would keep the prompt

    def statistics(self) -> RouteStatistics:
        """Tell who is inside and who answered."""
        return RouteStatistics(
            inside=self._inside,
            fallbacks=sum(self._fallbacks.values()),
            failed=self._failed,
            answered_by=dict(self._answered_by),
            fallbacks_by_kind=dict(self._fallbacks),
            forced=self._forced,
        )

    def _attempt(self, call: Call, way: _Way) -> Attempt:
        """Make an attempt at the next target. While others are still to come, waiting for it may take half of the time left."""
        target, prompt, remaining = self._targets[way.name], way.size.guessed_tokens, way.remaining
        if target.context_tokens is not None and prompt > _SURELY_TOO_LONG * target.context_tokens:
            del way  # it holds the error, whose traceback refers to this frame: no cycle that would keep the prompt
            raise ContextExceeded(
                f"the prompt has some {prompt} tokens, {target.name} takes {target.context_tokens}", stage="route"
            )
        output = self._estimator.output_tokens(target.name, call.task, call.request) if call.kind == "chat" else 0
        start_by = call.deadline
        alternatives: tuple[Target, ...] = ()
        way.budget.held_back = len(remaining)
        if remaining:
            now = self._now()
            start_by = now + (start_by - now) / 2
            alternatives = tuple([self._targets[each] for each in remaining])
        return Attempt(
            call=call,
            target=target,
            number=call.journal.next_number(),
            estimated_tokens=prompt + output,
            estimated_output_tokens=output,
            messages_bound=way.size.messages_bound,
            start_by=start_by,
            alternatives=alternatives,
            forced=way.forced,
            budget=way.budget,
        )

    def _after(self, call: Call, way: _Way, error: CallError) -> CallError | None:
        """Go on to the next target after an error; gives what to raise where there is none."""
        name = way.name
        if way.failures is None:
            way.failures = Failures(call.journal, way.attempts)
        failures = way.failures
        failures.add(self._targets[name], error)
        way.asked.append(name)
        if call.sink is not None and call.sink.started:
            return failures.in_the_middle(error)
        if error.details.get("reason") == "breaker":
            way.shut[name] = float(error.details.get("failure_rate", 1.0))
        if way.forced or way.budget.left <= 0 or not judge(error).fall_back:
            return failures.most_telling()
        kind, following = self._chains.after(name, error.code, way.remaining, way.asked)
        if call.models:  # nobody else may answer it, whatever went wrong
            following = tuple(one for one in following if one in call.models)
        way.remaining = following[1:]
        if following:
            way.name = following[0]
            self._go_on(call, f"{name}: {error.code}", way.name, kind)
        elif way.shut:
            way.name, way.forced = min(way.shut, key=lambda each: way.shut[each]), True
            self._forced += 1
            note = f"nobody else is left: asking {way.name} although its breaker is open"
            call.journal.note(self._now(), "route", note)
        else:
            return failures.most_telling()
        return None

    def _finished(self, call: Call, way: _Way, reply: Reply) -> Reply:
        """Learn from the answer, and write on it what it took: itself and the failures on the way to it, without an earlier
        answer that was no good."""
        journal, usage, name = call.journal, reply.usage, way.name
        if journal.hedges and reply.model in self._targets:  # a second try may have answered instead, at another target
            name = reply.model
        if usage is not None and not usage.estimated and call.kind == "chat":
            self._estimator.learn(name, call.task, usage.output + usage.reasoning)
        self._answered_by[name] += 1
        records = journal.attempts[way.attempts :] if way.attempts else journal.attempts
        bill = _bill(records, reply)
        return replace(
            reply,
            cost_usd=None if reply.cost_usd is None else bill.known_usd,
            bill=bill,
            attempts=len(records),
            queue_s=journal.queue_s - way.queue_s,
            provider_s=journal.provider_s - way.provider_s,
        )

    def _go_on(self, call: Call, why: str, following: str, kind: FallbackKind) -> None:
        self._fallbacks[kind] += 1
        journal = call.journal
        journal.fallbacks += 1
        journal.context_fallbacks += kind == "context_window"
        journal.filter_fallbacks += kind == "content_filter"
        what = "" if kind in ("failure", "switched_off") else f" ({kind.replace('_', ' ')} fallback)"
        journal.note(self._now(), "route", f"{why}; asking {following} instead{what}")

    def _usual_chain_of(self, call: Call) -> tuple[str, ...]:
        """Find the targets to ask, in order; at least one."""
        if not self._targets:
            raise NoModels("no AI models available for routing: none is configured and enabled", stage="route")
        if call.models:
            return self._chain_of_allowed(call)
        if call.model is None:
            return self._usual[next(iter(self._targets))]
        chain = self._usual.get(call.model)
        if not chain:
            raise self._unknown(call.model)
        if self._disabled and call.model in self._disabled:
            self._go_on(call, f"{call.model} is switched off", chain[0], "switched_off")
        return chain

    def _chain_of_allowed(self, call: Call) -> tuple[str, ...]:
        names = call.models if call.model is None else tuple(dict.fromkeys((call.model, *call.models)))
        chain = tuple(name for name in names if name in self._targets)
        if not chain:
            raise NoModels(
                f"none of the models that the operation {call.operation} allows is enabled: {', '.join(names[:_NAMES_SHOWN])}",
                stage="route",
            )
        if call.model is not None and call.model in self._disabled:
            self._go_on(call, f"{call.model} is switched off", chain[0], "switched_off")
        return chain

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


def _bill(records: Sequence[AttemptRecord], reply: Reply) -> Bill:
    """Add up what the attempts for an answer cost. One that was withheld is paid for like any other, and of who was cut off
    nobody knows."""
    only = records[0] if len(records) == 1 else None
    if only is not None and only.code is None and only.cost_usd is not None:  # as nearly always
        return Bill(only.cost_usd)
    bill = Bill.of((attempt.cost_usd, attempt.cost_estimate_usd) for attempt in records)
    if all(attempt.code is not None for attempt in records):  # nobody below keeps a journal
        bill = bill.plus(Bill.of([(reply.cost_usd, None)]))
    return bill
