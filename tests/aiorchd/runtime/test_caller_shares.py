"""Flows and weights of callers: by user, by unit, live."""

from __future__ import annotations

from pathlib import Path

from harness import a_caller

from aiorchd.config.load import load_text
from aiorchd.runtime.caller_shares import CallerShares


def config(text):
    return load_text(text.encode(), Path("aiorch.toml"), {}).config


def test_users_and_units():
    shares = CallerShares(
        config('[callers.root]\nweight = 4\n[callers.1005]\nweight = 0.5\n[callers."web.service"]\nweight = 2')
    )
    assert shares.share_of(a_caller(0)) == (0, 4.0)
    assert shares.share_of(a_caller(1005)) == (1005, 0.5)
    assert shares.share_of(a_caller(1006)) == (1006, 1.0)
    assert shares.share_of(a_caller(1006, unit="web.service")) == ("web.service", 2.0)
    shares.reconfigure(config("[callers.1006]\nper_day_usd = 1"))
    assert shares.share_of(a_caller(1006, unit="web.service")) == (1006, 1.0)
