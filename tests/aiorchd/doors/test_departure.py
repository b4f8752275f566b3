"""In which order connections end when the daemon stops."""

from __future__ import annotations

from aiorchd.doors.departure import Departure


def test_it_is_quiet_when_nobody_is_worked_for() -> None:
    departure, told = Departure(), []
    assert departure.quiet
    departure.expect(("a", "b"))
    departure.expect(("a",))
    departure.when_quiet("b", lambda: told.append("b"))
    departure.when_quiet("b", lambda: told.append("b again"))
    departure.when_quiet("c", lambda: told.append("c"))
    departure.done("a")
    assert not departure.quiet
    assert told == []
    departure.done("b")
    assert departure.quiet
    assert told == ["b again", "c"], "each session once"
    departure.done("b")
    assert told == ["b again", "c"]


def test_one_that_is_not_known_changes_nothing() -> None:
    departure = Departure()
    departure.expect("a")
    departure.done("z")
    assert not departure.quiet


def test_what_is_done_then_may_ask_and_say_so_again() -> None:
    departure, told = Departure(), []

    def act() -> None:
        told.append(departure.quiet)
        departure.done("host")

    departure.expect(("caller",))
    departure.when_quiet("host", act)
    departure.done("caller")
    assert told == [True]
