"""Limits say what is wrong with them."""

import math

import pytest

from aiorchd.providers.transport import PoolLimits, Timeouts


@pytest.mark.parametrize("name", ["connect_s", "first_byte_s", "idle_s", "attempt_s"])
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_timeouts_are_above_zero(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Timeouts(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_connections", 0),
        ("max_streams", 0),
        ("max_head_bytes", 0),
        ("max_body_bytes", 0),
        ("max_keepalive", -1),
        ("idle_s", 0),
        ("idle_s", math.nan),
    ],
)
def test_pool_limits_are_sensible(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        PoolLimits(**{name: value})


def test_no_limit_at_all_may_be_wished_for() -> None:
    assert Timeouts(attempt_s=math.inf).attempt_s == math.inf
    assert PoolLimits(max_keepalive=0).max_keepalive == 0
