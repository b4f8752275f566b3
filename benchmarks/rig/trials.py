"""The trials that tests/system runs too, for longer here."""

from damaging import Story as Damaged
from damaging import make as make_state
from damaging import start_on_each
from damaging import trials as damaged_trials
from full_disk import fill_under_load, on_a_small_disk
from full_disk import why_not as full_disk_why_not
from killing import FILES, kill_under_load
from live_editing import configuration, edit_under_load
from malformed import PECULIAR, Thrown, ask_peculiarly, kinds, throw
from rapid_editing import WAYS, Rapid, edit_rapidly

__all__ = [
    "FILES",
    "PECULIAR",
    "WAYS",
    "Damaged",
    "Rapid",
    "Thrown",
    "ask_peculiarly",
    "configuration",
    "damaged_trials",
    "edit_rapidly",
    "edit_under_load",
    "fill_under_load",
    "full_disk_why_not",
    "kill_under_load",
    "kinds",
    "make_state",
    "on_a_small_disk",
    "start_on_each",
    "throw",
]
