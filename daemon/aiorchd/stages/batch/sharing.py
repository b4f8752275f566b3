"""What the call for all took, divided between those on board; and each one's reply out of it.

Usage and cost are divided to the last token; what is asked alone besides is its passenger's own. The attempts are told by
one of them alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from aiorchd.calls.bill import Bill
from aiorchd.calls.reply import Reply, Usage, with_cost_of
from aiorchd.core.batch_form import answer_text
from aiorchd.core.shares import exact_shares, parts_of
from aiorchd.stages.batch.flight import Flight, Passenger

_FRAME_CHARACTERS = 40
"""What stands around each question and each answer."""


def share(flight: Flight, usage: Usage | None, cost_usd: float | None, bill: Bill | None) -> None:
    """Divide what the flight took between those who are on board."""
    on_board = list(flight.on_board)
    if not on_board:
        return
    asked = [float(len(each.item.text) + _FRAME_CHARACTERS) / len(each.item.passengers) for each in on_board]
    answered = [float(len(str(each.item.answer)) + _FRAME_CHARACTERS) / len(each.item.passengers) for each in on_board]
    counts = usage if usage is not None else Usage(0, 0, 0, 0, 0)
    inputs = (counts.input, counts.cache_read, counts.cache_write, counts.cache_write_1h)
    parts = parts_of(inputs, (counts.output, counts.reasoning), cost_usd, asked, answered)
    for each, part in zip(on_board, parts, strict=True):
        if usage is not None:
            (fresh, read, written, hourly), (said, thought) = part.inputs, part.outputs
            each.usage = Usage(fresh, read, written, said, thought, usage.estimated, hourly)
        each.cost_usd = part.cost
    if bill is not None:
        weights = [sum(part.inputs) + sum(part.outputs) + 1.0 for part in parts]
        guesses: Sequence[float | None] = [None] * len(parts)
        if bill.estimate_usd is not None:
            guesses = exact_shares(bill.estimate_usd, weights)
        known = [part.cost for part in parts] if cost_usd == bill.known_usd else exact_shares(bill.known_usd, weights)
        for each, known_usd, guess in zip(on_board, known, guesses, strict=True):
            # Of attempts that nobody told the cost of, everybody is told.
            each.bill = Bill(known_usd or 0.0, bill.unknown, guess)


def share_failure(flight: Flight) -> None:
    """Divide what the attempts of a flight without an answer took."""
    assert flight.journal is not None
    lost = Bill.of((attempt.cost_usd, attempt.cost_estimate_usd) for attempt in flight.journal.attempts)
    share(flight, Usage(0, 0, 0, 0, 0), lost.known_usd, lost)


def reply_from(flight: Flight, passenger: Passenger) -> Reply:
    """Address an answer out of the batch to the one who asked. The calls that were made are told by one of them alone."""
    whole = flight.reply
    assert whole is not None
    return Reply(
        text=answer_text(passenger.item.answer, structured=flight.scope.structured),
        finish_reason="stop",
        model=whole.model,
        provider=whole.provider,
        provider_model=whole.provider_model,
        simulated=whole.simulated,
        usage=passenger.usage,
        cost_usd=passenger.cost_usd,
        bill=passenger.bill,
        batched=True,
        attempts=_attempts_of(flight, passenger),
        queue_s=flight.departed_at - passenger.came_at + whole.queue_s,
        provider_s=whole.provider_s,
    )


def with_share(flight: Flight, passenger: Passenger, reply: Reply) -> Reply:
    """Add what the batch took to an answer that was asked for alone."""
    flown = flight.journal
    if flown is None or not flight.landed or (flight.error is not None and passenger.cost_usd is None):
        return reply
    summed = with_cost_of(
        reply,
        usage=passenger.usage,
        cost_usd=passenger.cost_usd,
        bill=passenger.bill,
        attempts=_attempts_of(flight, passenger),
    )
    queue_s = summed.queue_s + flight.departed_at - passenger.came_at
    if passenger.checks:  # both were under way at the same time
        return replace(summed, queue_s=queue_s)
    return replace(summed, queue_s=queue_s + flown.queue_s, provider_s=summed.provider_s + flown.provider_s)


def _attempts_of(flight: Flight, passenger: Passenger) -> int:
    """Count the calls that were made for the batch, for the one of its passengers who tells them."""
    if not passenger.pays:
        return 0
    if flight.reply is not None:
        return flight.reply.attempts
    return 0 if flight.journal is None else len(flight.journal.attempts)
