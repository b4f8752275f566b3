"""Rules by which calls suffer: each condition alone, and over real HTTP while the simulator runs."""

import random
import time

import pytest

from aiorchsim.fault_rules import FaultRule, FaultRules
from aiorchsim.process import SimulatorFailed

PLAIN = ("m", "*")


def suffering(calls, *rules, key="", names=PLAIN, seed=1):
    """Which of so many calls, one a second, suffer what."""
    live, chance = FaultRules(rules, 0.0), random.Random(seed)
    found = [live.suffered(names, key, float(second), chance) for second in range(calls)]
    return [None if one is None else one.fault.value for one in found]


def test_conditions_of_a_rule():
    assert suffering(2, FaultRule(fault="hang")) == ["hang", "hang"]
    assert suffering(3, FaultRule(fault="hang", first=1)) == ["hang", None, None]
    assert suffering(5, FaultRule(fault="hang", every=2)) == [None, "hang", None, "hang", None]
    assert suffering(5, FaultRule(fault="hang", after_s=1, for_s=2)) == [None, "hang", "hang", None, None]
    assert suffering(1, FaultRule(fault="hang", model="m")) == ["hang"]
    assert suffering(1, FaultRule(fault="hang", model="*")) == ["hang"]
    assert suffering(1, FaultRule(fault="hang", model="n")) == [None]
    assert suffering(1, FaultRule(fault="hang", key="sk-1")) == [None]
    assert suffering(1, FaultRule(fault="hang", key="sk-1"), key="sk-1") == ["hang"]
    by_chance = suffering(1000, FaultRule(fault="hang", rate=0.3))
    assert 250 < by_chance.count("hang") < 350


def test_the_first_rule_that_applies_is_suffered():
    rules = (FaultRule(fault="hang", first=1), FaultRule(fault="auth", first=1), FaultRule(fault="reset"))
    assert suffering(3, *rules) == ["hang", "auth", "reset"]


def test_a_fault_has_its_own_seconds_or_those_of_the_rule():
    rules = FaultRules([FaultRule(fault="rate_limited", first=1), FaultRule(fault="rate_limited", seconds=7)], 0.0)
    told = [rules.suffered(PLAIN, "", 0.0, random.Random(0)) for _ in range(2)]
    assert [one.seconds for one in told] == [1.0, 7]


def test_rules_change_while_it_runs_and_a_reset_brings_back_the_profiles(start, ask):
    simulator = start('[[models]]\nlatency_s = 0\n[[faults]]\nfault = "auth"\nmodel = "b"\n')
    asker = ask(simulator)
    assert [asker.chat(model=name).status for name in "ab"] == [200, 401]
    simulator.set_faults({"fault": "error_503", "model": "a", "for_s": 60})
    assert [asker.chat(model=name).status for name in "ab"] == [503, 200]
    (told,) = asker.request("GET", "/sim/faults").json["faults"]
    assert told == {"fault": "error_503", "model": "a", "rate": 1.0, "after_s": 0.0, "for_s": 60}
    simulator.set_faults()
    assert [asker.chat(model=name).status for name in "ab"] == [200, 200]
    simulator.reset()
    assert [asker.chat(model=name).status for name in "ab"] == [200, 401]


def test_a_window_of_time_ends_by_itself(quick, ask):
    quick.set_faults({"fault": "refuse", "for_s": 0.2})
    with pytest.raises(OSError):
        ask(quick).chat()
    deadline = time.monotonic() + 5
    while True:
        try:
            assert ask(quick).chat().status == 200
            break
        except OSError:
            assert time.monotonic() < deadline
    quick.set_faults()


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({}, "faults[0].fault: is missing"),
        ({"fault": "hangs"}, "did you mean hang?"),
        ({"fault": "hang", "modle": "m"}, "did you mean model?"),
        ({"fault": "hang", "first": -1}, "must be at least 0"),
        ({"fault": "hang", "for_s": "soon"}, "must be a number"),
    ],
)
def test_a_rule_that_is_none_is_refused_and_changes_nothing(quick, ask, rule, problem):
    with pytest.raises(SimulatorFailed) as caught:
        quick.set_faults(rule)
    assert problem in str(caught.value)
    assert ask(quick).request("GET", "/sim/faults").json == {"faults": []}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"faults": 1}', b'{"rules": []}'])
def test_what_is_no_list_of_rules(quick, ask, body):
    assert ask(quick).request("POST", "/sim/faults", body).status == 400


def test_one_dead_key_of_two_and_calls_by_key(start, ask):
    simulator = start('[sim]\napi_keys = ["sk-a", "sk-b"]\ndead_keys = ["sk-dead"]\n[[models]]\nlatency_s = 0\n')
    asker = ask(simulator)

    def status(key):
        return asker.chat(headers={"authorization": f"Bearer {key}"} if key else {}).status

    assert [status(key) for key in ("sk-a", "sk-b", "sk-dead", "sk-somebody-else", "sk", "")] == [200, 200, *[401] * 4]
    simulator.set_faults({"fault": "auth", "key": "sk-b"})
    assert [status(key) for key in ("sk-a", "sk-b")] == [200, 401]
    by_key = simulator.stats()["by_key"]
    assert {key: row["received"] for key, row in by_key.items()} == {
        "sk-a": 2, "sk-b": 2, "sk-dead": 1, "…else": 1, "(other)": 1, "(none)": 1,
    }  # fmt: skip
    assert by_key["sk-b"]["by_status"] == {"200": 1, "401": 1}


def test_a_provider_that_is_down_and_comes_back(start, ask, raw):
    simulator = start("[[models]]\nlatency_s = 0\n")
    kept = raw(simulator)
    simulator.take_down(0.3)
    began = time.monotonic()
    assert kept.recv(1) == b""  # or a reset: the connection is gone
    refused = 0
    while True:
        try:
            assert ask(simulator).chat().status == 200
            break
        except ConnectionRefusedError:
            refused += 1
        except OSError:
            pass
        assert time.monotonic() - began < 10
        time.sleep(0.02)
    assert refused
    assert time.monotonic() - began > 0.2


@pytest.mark.parametrize("for_s", [0, -1, 1e9, "1", True, None, float("nan")])
def test_how_long_it_is_down_is_a_number_of_seconds(quick, for_s):
    with pytest.raises(SimulatorFailed, match="for_s"):
        quick.take_down(for_s)
