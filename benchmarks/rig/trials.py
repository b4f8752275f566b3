"""The trials that tests/system runs too, for longer here."""

from killing import FILES, kill_under_load
from live_editing import configuration, edit_under_load

__all__ = ["FILES", "configuration", "edit_under_load", "kill_under_load"]
