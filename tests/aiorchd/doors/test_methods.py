"""What the methods about the daemon take, and who may call them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aiorch.errors import InvalidRequest
from aiorchd.doors.methods import _Doctor, method_table
from aiorchd.runtime.host_models import HostModels


class House:
    """Played by hand: keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        async def answer(*arguments: Any) -> Any:
            self.asked.append((name, *arguments))
            return {"answer": name}

        return answer


QUESTIONS: Any = SimpleNamespace(complete=None, embed=None)


def test_who_may_call_what() -> None:
    table = method_table(QUESTIONS, House(), HostModels(), lambda: QUESTIONS)
    admins = {name for name, row in table.items() if row.admin_only}
    assert {"cache.clear", "config.get", "config.reload", "doctor"} <= admins
    assert admins.isdisjoint(
        {
            "hello",
            "ping",
            "complete",
            "embed",
            "models.list",
            "models.register",
            "models.remove",
            "stats",
            "status",
            "explain",
        }
    )


async def test_doctor_has_a_time_limit() -> None:
    house = House()
    doctor = _Doctor(house)
    assert await doctor(SimpleNamespace(params=[])) == {"answer": "doctor"}
    await doctor(SimpleNamespace(params=[{"provider_timeout_s": 2}]))
    assert house.asked == [("doctor", 10.0), ("doctor", 2.0)]


@pytest.mark.parametrize("timeout_s", [0, -1, 61, True, "5", float("nan")])
async def test_doctor_refuses_other_limits(timeout_s: Any) -> None:
    with pytest.raises(InvalidRequest, match="provider_timeout_s: must be a number"):
        await _Doctor(House())(SimpleNamespace(params=[{"provider_timeout_s": timeout_s}]))
