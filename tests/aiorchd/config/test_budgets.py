"""Budgets as people type them: what is wrong is refused with its key, what is unlikely is doubted."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from aiorchd.config.load import Loaded, load_text
from aiorchd.config.problems import ConfigError

FILE = Path("/etc/aiorch/aiorch.toml")
ME = pwd.getpwuid(os.getuid()).pw_name


def loaded(text: str) -> Loaded:
    return load_text(text.encode(), FILE, {})


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    return [str(problem).replace(str(FILE), "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[budget]\nper_day_usd = 0\n", ":2: budget.per_day_usd: must be a number from 0.001 to 10000000 (US dollars), not 0."),
        ("[budget]\nper_day_usd = -5\n", "not -5."),
        ("[budget]\nper_month_usd = 1e300\n", "must be a number from 0.001 to 10000000"),
        ("[budget]\nper_month_usd = nan\n", "must be a number from 0.001 to 10000000"),
        ('[budget]\nper_day_usd = "20"\n', 'not "20".'),
        ("[budget]\nper_day = 20\n", 'Did you mean "per_day_usd"?'),
        ('[budget]\non_exhausted = "stop"\n', 'must be one of "refuse", "cheapest", "cache_only"'),
        ('[budget]\ntimezone = "Mars/Olympus"\n', 'this host knows no time zone "Mars/Olympus".'),
        ('[budget]\ntimezone = "../../etc/passwd"\n', "this host knows no time zone"),
        ("[budget]\nassumed_usd_per_1m = 0\n", "budget.assumed_usd_per_1m: must be a number from 0.001"),
        ("[routing]\ncost_limit_usd = 0\n", "routing.cost_limit_usd: must be a number from"),
        ("[callers]\nper_day_usd = 5\n", "callers.per_day_usd: stands in [callers] itself"),
        ("callers = 5\n", "callers: must be tables [callers.NAME], not 5."),
        ("[callers.nobody-of-this-name]\nper_day_usd = 5\n", 'this host knows no user "nobody-of-this-name", and it is no name of a unit.'),
        ("[callers.web.service]\nper_day_usd = 5\n", '[callers."web.service"]'),
        (f"[callers.{ME}]\nper_day_usd = 5\n[callers.{os.getuid()}]\nper_day_usd = 6\n", "is the same user as"),
        (f"[callers.{ME}]\nper_dya_usd = 5\n", 'Did you mean "per_day_usd"?'),
        ('[[models]]\nname = "a"\nprovider = "p"\ntier_input_usd_per_1m = 5\ninput_usd_per_1m = 3\n[providers.p]\ndialect = "simulated"\n', "has no tier_above_tokens beside it"),
        ('[[models]]\nname = "a"\nprovider = "p"\ntier_above_tokens = 5\ninput_usd_per_1m = 3\n[providers.p]\ndialect = "simulated"\n', "has no tier price beside it"),
        ('[[models]]\nname = "a"\nprovider = "p"\ntier_above_tokens = 5\ntier_input_usd_per_1m = 3\n[providers.p]\ndialect = "simulated"\n', "has no input_usd_per_1m beside it"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, told: str) -> None:
    found = problems(text)
    assert len(found) == 1, found
    assert told in found[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[budget]\nper_day_usd = 20\nper_month_usd = 10\n", "20 a day is more than the month's 10."),
        ('[budget]\non_exhausted = "cheapest"\n', "there is no budget that could be exhausted."),
        (f"[budget]\nper_day_usd = 5\n[callers.{ME}]\nper_day_usd = 6\n", "6 is more than the budget of all, 5, and never reached."),
    ],
)  # fmt: skip
def test_what_is_doubted(text: str, told: str) -> None:
    [warning] = loaded(text).warnings
    assert told in str(warning)


def test_what_is_right_is_taken() -> None:
    text = f"""
[budget]
per_day_usd = 20.0
per_month_usd = 200
on_exhausted = "cache_only"
timezone = "Europe/Berlin"
[callers.{ME}]
per_day_usd = 5
[callers."web.service"]
per_month_usd = 50
"""
    found = loaded(text)
    assert not found.warnings
    assert found.config.budget.per_day_usd == 20
    assert found.config.callers["web.service"].per_month_usd == 50
