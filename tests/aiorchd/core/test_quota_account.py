"""The quota account: two buckets taken together, and a closed door that holds for everybody."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.quota_account import QuotaAccount, QuotaLevels


def test_without_limits_everything_goes():
    account = QuotaAccount()
    assert account.delay_s(0.0, 1e9) == 0.0
    grant = account.take(0.0, 1e9)
    account.settle(grant, 1.0, 1.0)
    account.cancel(grant, 1.0)
    assert account.levels(1.0) == QuotaLevels(None, None, 0.0)


def test_the_scarcer_quota_decides():
    account = QuotaAccount(60, 6000, burst_s=10)  # 1 request and 100 tokens a second, 10 and 1 000 at once
    account.take(0.0, 990)
    assert account.delay_s(0.0, 10) == 0.0
    assert account.delay_s(0.0, 60) == pytest.approx(0.5)  # tokens
    for _ in range(9):
        account.take(0.0, 0)
    assert account.delay_s(0.0, 10) == pytest.approx(1.0)  # requests
    assert account.earliest_s(0.0, 3) == pytest.approx(3.0)


def test_settling_corrects_tokens_and_keeps_the_request():
    account = QuotaAccount(60, 6000, burst_s=10)
    grant = account.take(0.0, 600)
    account.settle(grant, 100, 0.0)
    assert account.levels(0.0) == QuotaLevels(9.0, 900.0, 0.0)


def test_cancelling_gives_both_back():
    account = QuotaAccount(60, 6000, burst_s=10)
    account.cancel(account.take(0.0, 600), 0.0)
    assert account.levels(0.0) == QuotaLevels(10.0, 1000.0, 0.0)


def test_the_share_is_that_of_the_scarcer_quota():
    account = QuotaAccount(60, 6000)
    assert account.share_s(50) == 1.0
    assert account.share_s(500) == 5.0
    assert QuotaAccount(None, 6000).share_s(0) == 0.01
    assert QuotaAccount(120).share_s(10**6) == 0.5
    assert QuotaAccount().share_s(10**6) == 1.0


def test_a_small_limit_still_lets_one_through():
    account = QuotaAccount(3)
    assert account.delay_s(0.0, 0) == 0.0
    account.take(0.0, 0)
    assert account.delay_s(0.0, 0) == pytest.approx(20.0)


def test_closed_for_everybody_until_the_later_end():
    account = QuotaAccount(600)
    assert account.close(0.0, 10.0)
    assert not account.close(1.0, 3.0)  # a shorter word does not shorten the longer one
    assert account.delay_s(4.0, 0) == pytest.approx(6.0)
    assert account.earliest_s(4.0, 1) == pytest.approx(6.0)
    assert account.close(5.0, 20.0)
    assert account.levels(5.0).closed_s == 20.0
    assert account.delay_s(25.0, 0) == 0.0


def test_a_closed_door_means_empty_buckets():
    account = QuotaAccount(60, 6000, burst_s=10)
    account.close(0.0, 2.0)
    assert account.levels(2.0) == QuotaLevels(2.0, 200.0, 0.0)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan])
def test_no_information_is_ignored(seconds):
    account = QuotaAccount(60)
    assert not account.close(0.0, seconds)
    assert account.levels(0.0) == QuotaLevels(6.0, None, 0.0)


@pytest.mark.parametrize("seconds", [1e9, math.inf])
def test_nobody_is_shut_out_for_ever(seconds):
    account = QuotaAccount()
    account.close(0.0, seconds)
    assert account.delay_s(0.0, 0) == 3600.0


def test_limits_come_change_and_go():
    account = QuotaAccount(60, None, burst_s=10)
    grant = account.take(0.0, 500)
    account.reconfigure(0.0, 120, 6000, 10)
    assert account.levels(0.0) == QuotaLevels(9.0, 1000.0, 0.0)
    account.settle(grant, 100, 0.0)  # was never charged
    assert account.levels(0.0).tokens == 1000.0
    grant = account.take(0.0, 500)
    account.reconfigure(0.0, None, None)
    account.settle(grant, 100, 0.0)
    assert account.levels(0.0) == QuotaLevels(None, None, 0.0)


def test_the_same_limits_again_change_nothing():
    account = QuotaAccount(60, 6000, burst_s=10)
    grant = account.take(0.0, 500)
    account.reconfigure(0.0, 60, 6000, 10)
    account.settle(grant, 0, 0.0)
    assert account.levels(0.0).tokens == 1000.0


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 2000), st.booleans()), max_size=50))
def test_no_delay_means_that_it_can_be_taken(steps):
    account = QuotaAccount(60, 6000, burst_s=10)
    now = 0.0
    for pause, tokens, close in steps:
        now += pause
        if close:
            account.close(now, pause)
        delay_s = account.delay_s(now, tokens)
        now += delay_s
        assert account.delay_s(now, tokens) == 0.0
        grant = account.take(now, tokens)
        assert grant.requests[1].granted
        assert grant.tokens[1].granted
