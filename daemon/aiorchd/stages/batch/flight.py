"""One batch and those on board: it gathers, leaves, and lands.

The call for all is made in a task of the stage's nursery. A passenger who leaves harms nobody; the last one to leave cancels
it and stays until it has unwound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import trio

from aiorch.errors import CallError
from aiorchd.calls.batching import BatchLearned, BatchScope
from aiorchd.calls.bill import Bill
from aiorchd.calls.call import Call
from aiorchd.calls.journal import Journal
from aiorchd.calls.reply import Reply, Usage
from aiorchd.core.batch_departure import latest_of
from aiorchd.core.batch_form import Common, common_parts, fits
from aiorchd.core.same_question import question_form

_USUAL_MARGIN: Final = 1.5
"""Where nobody bounds an answer, room for one that is longer than usual."""


@dataclass(slots=True, eq=False)
class Item:
    """A question in the batch, and whoever asks it; an answer, or what was wrong with it."""

    text: str
    passengers: list[Passenger]
    answer: Any = None
    answered: bool = False
    wrong: str | None = None


@dataclass(slots=True, eq=False)
class Passenger:
    """One call on board. ``parked`` is its task while it waits. ``checks`` tells that it is asked alone, too."""

    call: Call
    item: Item
    came_at: float
    parked: trio.lowlevel.Task | None = None
    checks: bool = False
    pays: bool = False
    """Whether the account of the attempts is in its journal."""
    accounted: bool = False
    usage: Usage | None = None
    cost_usd: float | None = None
    bill: Bill | None = None

    def wake(self) -> None:
        """Let its task go on, if it waits."""
        task, self.parked = self.parked, None
        if task is not None:
            trio.lowlevel.reschedule(task)


class Flight:
    """Questions that gather, and then fly."""

    def __init__(self, scope: BatchScope, name: str, learned: BatchLearned, now: float) -> None:
        self.scope = scope
        self.name = name
        self.learned = learned
        self.opened_at = now
        self.on_board: dict[Passenger, None] = {}
        """In order of boarding."""
        self.size = 0
        """How many different questions were asked, once it has left."""
        self.why: str | None = None
        """Why it leaves; None while it gathers."""
        self.changed = trio.Event()
        """Somebody boarded, or it is to leave."""
        self.cancel = trio.CancelScope()
        self.departed_at = now
        self.journal: Journal | None = None
        self.landed = False
        self.abandoned = False
        """Whether everybody has left, so that it was called off."""
        self.reply: Reply | None = None
        self.error: CallError | None = None
        self._characters = 0
        self._left: Callable[[], NoReturn] | None = None
        """Raises the cancellation of the last passenger, who waits for it to unwind."""

    # --- while it gathers

    @property
    def latest(self) -> float:
        """When it must have left for the sake of a passenger's own time."""
        usual_s = self.learned.usual_s
        return min(latest_of(each.came_at, each.call.deadline, usual_s) for each in self.on_board)

    def takes(self, scope: BatchScope) -> bool:
        """Tell whether another question fits in."""
        return fit(scope, self.learned, self._characters + len(scope.text), len(self.on_board) + 1)

    def board(self, call: Call, text: str, now: float) -> Passenger:
        """Take another call on board."""
        passenger = Passenger(call, Item(text, []), now)
        passenger.item.passengers.append(passenger)
        self._characters += len(text)
        self.on_board[passenger] = None
        call.journal.note(now, "batch", f"waits for others to be asked together with, in the batch {self.name}")
        self.changed.set()
        return passenger

    def depart(self, why: str) -> None:
        """Let nobody board any more, and let it leave."""
        if self.why is None:
            self.why = why
        self.changed.set()

    # --- in a passenger's own task

    async def ride(self, passenger: Passenger) -> None:
        """Wait until the passenger is woken: by the landing, or to ask alone, too. A passenger that is cancelled leaves; the
        last one calls the flight off and waits until that has unwound."""
        if self.landed:
            return
        passenger.parked = trio.lowlevel.current_task()

        def leave(raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
            if self._leaves_last(passenger):
                self._left = raise_cancel
                return trio.lowlevel.Abort.FAILED  # the landing wakes us
            passenger.parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)
        if self._left is not None and not passenger.item.answered:
            self._left()
        # An answer that came while leaving is paid for, so it is taken.

    async def leave(self, passenger: Passenger) -> None:
        """Let a passenger who does not ride leave, whatever ends it; returns when what it leaves behind has unwound."""
        if passenger in self.on_board and self._leaves_last(passenger):
            passenger.parked = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    def _leaves_last(self, passenger: Passenger) -> bool:
        """Let a passenger leave; unless it is the last: then the flight is called off, and it has to wait for that."""
        if len(self.on_board) > 1:
            del self.on_board[passenger]
            passenger.item.passengers.remove(passenger)
            if self.why is None:
                self._characters -= len(passenger.item.text)
            return False
        self.abandoned = True
        self.depart("everybody has left")
        self.cancel.cancel()
        return True

    # --- at its end

    def land(self) -> None:
        """Wake everybody; one of those who are on board gets the account."""
        self.landed = True
        self.depart("")
        on_board = list(self.on_board)
        payer = next((each for each in on_board if not each.checks), on_board[0] if on_board else None)
        if payer is not None:
            payer.pays = True
        self.on_board.clear()
        for each in on_board:
            # Nobody asks any more who shares a question, and circles of calls would be kept until they are looked for.
            each.item.passengers.clear()
            each.wake()

    def take_account(self, passenger: Passenger) -> None:
        """Put the account of the attempts into the journal of the passenger, if it is the one for whom it is meant."""
        if passenger.pays and not passenger.accounted and self.journal is not None:
            passenger.accounted = True
            passenger.call.journal.take_over(self.journal)


def fit(scope: BatchScope, learned: BatchLearned, characters: int, items: int) -> bool:
    """Tell whether so many items, of so many characters together, fit into what the model takes and gives."""
    usual = (learned.answer_tokens or 0.0) * _USUAL_MARGIN
    return fits(
        characters,
        items,
        answer_tokens=scope.max_tokens if scope.max_tokens is not None else usual,
        context_tokens=scope.context_tokens,
        output_tokens=scope.output_tokens,
    )


def different(passengers: list[Passenger]) -> tuple[Common, list[Item]]:
    """Find what the prompts have in common, and put together those whose own parts ask the same. Who bypasses the cache asks
    for an answer of its own."""
    common = common_parts([each.item.text for each in passengers])
    items: dict[str, Item] = {}
    texts: list[str] = []
    for each, text in zip(passengers, common.texts, strict=True):
        form = f"\n\n{each.call.id}" if each.call.cache == "bypass" else question_form(text)
        item = items.setdefault(form, each.item)
        if item is each.item:
            texts.append(text)
        else:
            item.passengers.append(each)
            each.item = item
    return Common(common.head, common.tail, tuple(texts)), list(items.values())
