"""Rate limits over real HTTP: enforced, told in headers, told in errors."""

import pytest

from aiorchsim.process import SimulatorFailed

LIMITED = "[[models]]\nlatency_s = 0\nrequests_per_minute = 6\nburst_s = 30\n"  # three at once, then one in ten seconds


def test_requests_a_minute(start, ask):
    asker = ask(start(LIMITED))
    told = []
    for _ in range(3):
        answered = asker.chat()
        assert answered.status == 200
        told.append(answered.headers["x-ratelimit-remaining-requests"])
        assert answered.headers["x-ratelimit-limit-requests"] == "6"
    assert told == ["2", "1", "0"]
    answered = asker.chat()
    assert answered.status == 429
    assert answered.error["type"] == "requests"
    assert answered.error["code"] == "rate_limit_exceeded"
    assert "Limit 6, Used 3, Requested 1. Please try again in " in answered.error["message"]
    assert 1 <= int(answered.headers["retry-after"]) <= 10
    assert 0 < int(answered.headers["retry-after-ms"]) <= 10_000
    assert answered.headers["x-ratelimit-remaining-requests"] == "0"


def test_who_waits_as_told_is_let_in(start, ask):
    asker = ask(
        start('[[models]]\nlatency_s = 0\nrequests_per_minute = 600\nburst_s = 0.1\n[[models]]\nname = "unlimited"\n')
    )
    for _ in range(1000):
        answered = asker.chat()
        if answered.status == 429:
            break
    assert answered.status == 429
    wait_s = int(answered.headers["retry-after-ms"]) / 1000
    assert asker.chat(model="unlimited", headers={"x-aiorchsim-latency-s": str(wait_s)}).status == 200
    assert asker.chat().status == 200


def test_tokens_a_minute(start, ask):
    asker = ask(start("[[models]]\nlatency_s = 0\ntokens_per_minute = 60\nburst_s = 60\n"))
    prompt = "Give one tag:\n" + "cats " * 20
    first = asker.chat(prompt)
    spent = first.json["usage"]["total_tokens"]
    assert first.headers["x-ratelimit-remaining-tokens"] == str(60 - spent)
    second = asker.chat(prompt)
    assert second.status == 429
    assert second.error["type"] == "tokens"
    huge = asker.chat("x" * 4000)
    assert huge.status == 429
    assert "Request too large" in huge.error["message"]
    assert "retry-after" not in huge.headers


@pytest.mark.parametrize(
    ("mode", "limits", "retry"), [("full", True, True), ("retry_after", False, True), ("none", False, False)]
)
@pytest.mark.parametrize("where", ["sim", "models"])
def test_what_is_told(start, ask, mode, limits, retry, where):
    key = f'rate_limit_headers = "{mode}"\n'
    profile = (f"[sim]\n{key}" if where == "sim" else "") + LIMITED + (key if where == "models" else "")
    asker = ask(start(profile))
    good = [asker.chat() for _ in range(3)][-1]
    refused = asker.chat()
    assert (good.status, refused.status) == (200, 429)
    for answered in (good, refused):
        assert any(name.startswith("x-ratelimit-") for name in answered.headers) is limits
    assert ("retry-after" in refused.headers and "retry-after-ms" in refused.headers) is retry
    assert ("try again" in refused.error["message"]) is retry
    assert "retry-after" not in good.headers


def test_models_without_limits_tell_nothing(quick, ask):
    assert not any(name.startswith("x-ratelimit") for name in ask(quick).chat().headers)


def test_models_have_limits_of_their_own_and_reset_fills_them(start, ask):
    simulator = start(
        LIMITED.replace("[[models]]", '[[models]]\nname = "a"') + '[[models]]\nname = "*"\nlatency_s = 0\n'
    )
    asker = ask(simulator)
    assert [asker.chat(model="a").status for _ in range(4)] == [200, 200, 200, 429]
    assert asker.chat(model="b").status == 200
    simulator.reset()
    assert asker.chat(model="a").status == 200
    assert simulator.stats()["calls"]["received"] == 1


def test_limits_change_while_it_runs(start, ask):
    simulator = start(LIMITED)
    asker = ask(simulator)
    for _ in range(3):
        assert asker.chat().status == 200
    simulator.set_limits(requests_per_minute=60_000)
    assert asker.chat().headers["x-ratelimit-limit-requests"] == "60000"
    simulator.set_limits(tokens_per_minute=1)
    refused = asker.chat()
    assert (refused.status, refused.error["type"]) == (429, "tokens")


def test_limits_that_cannot_be_are_refused(start):
    simulator = start('[[models]]\nname = "free"\n')
    with pytest.raises(SimulatorFailed, match="model: must be one of the profile that has limits"):
        simulator.set_limits(model="free", requests_per_minute=5)
    with pytest.raises(SimulatorFailed, match="requests_per_minute: must be a whole number above 0"):
        simulator.set_limits(requests_per_minute=0)
