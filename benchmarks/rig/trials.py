"""The trials that tests/system runs too, for longer here."""

from killing import FILES, kill_under_load
from live_editing import configuration, edit_under_load
from rapid_editing import Rapid, edit_rapidly

__all__ = ["FILES", "Rapid", "configuration", "edit_rapidly", "edit_under_load", "kill_under_load"]
