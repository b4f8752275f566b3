"""Named faults, by header and by profile, as a client sees them and as the statistics count them."""

import http.client
import json
import socket
import time

import pytest

from aiorchsim.faults import NONSENSE, Fault


def by(fault):
    return {"x-aiorchsim-fault": fault}


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("error_500", 500, None),
        ("error_503", 503, "server_is_overloaded"),
        ("auth", 401, "invalid_api_key"),
        ("rate_limited", 429, "rate_limit_exceeded"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_instead_of_an_answer(quick, ask, fault, status, code, stream):
    answered = ask(quick).chat(headers=by(fault), stream=stream)
    assert answered.status == status
    assert answered.headers["content-type"] == "application/json"
    assert answered.error["code"] == code
    assert ("retry-after" in answered.headers) == (status == 429)


def test_a_redirect_leads_elsewhere_and_following_it_is_counted(quick, ask):
    quick.reset()
    answered = ask(quick).chat(headers=by("redirect"))
    assert answered.status == 302
    assert answered.headers["location"] == f"http://localhost:{quick.port}/sim/redirected/v1/chat/completions"
    assert quick.stats()["redirects_followed"] == 0
    assert ask(quick).request("POST", "/sim/redirected/v1/chat/completions", b"{}").status == 404
    assert quick.stats()["redirects_followed"] == 1


def test_nonsense(quick, ask):
    assert ask(quick).chat(headers=by("nonsense")).body == NONSENSE
    streamed = ask(quick).chat(headers=by("nonsense"), stream=True)
    assert streamed.status == 200
    assert b"[DONE]" not in streamed.body
    with pytest.raises(ValueError):
        json.loads(streamed.body.removeprefix(b"data: "))


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_in_the_middle(quick, ask, stream):
    whole = ask(quick).chat(stream=stream)
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(quick).chat(headers=by("cut_stream"), stream=stream)
    assert 0 < len(caught.value.partial) < len(whole.body)
    assert b"[DONE]" not in caught.value.partial


@pytest.mark.parametrize("fault", ["refuse", "reset"])
def test_a_closed_connection(quick, ask, fault):
    wanted = ConnectionResetError if fault == "reset" else http.client.RemoteDisconnected
    with pytest.raises(wanted) as caught:
        ask(quick).chat(headers=by(fault))
    assert isinstance(caught.value, http.client.RemoteDisconnected) == (fault == "refuse")


def test_an_error_within_a_stream(quick, ask):
    answered = ask(quick).chat("Who was the first man on the moon?", headers=by("stream_error"), stream=True)
    assert answered.status == 200
    *events, last = answered.events
    assert json.loads(last)["error"]["type"] == "server_error"
    assert "[DONE]" not in events
    assert json.loads(events[0])["choices"]
    assert ask(quick).chat(headers=by("stream_error")).status == 500


@pytest.mark.parametrize("stream", [False, True])
def test_a_slow_answer_is_whole_in_the_end(quick, ask, stream):
    began = time.monotonic()
    slow = ask(quick).chat(headers=by("slow_stream"), stream=stream)
    assert time.monotonic() - began > 0.4
    whole = ask(quick).chat(stream=stream)
    assert slow.status == 200
    assert len(slow.body) == len(whole.body)


def test_a_hang_lasts_until_the_client_leaves(quick, raw):
    quick.reset()
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
    client = raw(quick)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nx-aiorchsim-fault: hang\r\nContent-Length: %d\r\n\r\n"
    client.sendall(head % len(body) + body)
    quick.wait_until(lambda stats: stats["calls"]["in_flight"] == 1)
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.shutdown(socket.SHUT_RDWR)
    stats = quick.wait_until(lambda stats: stats["calls"]["in_flight"] == 0)
    assert stats["calls"]["abandoned"] == 1
    assert stats["faults"] == {"hang": 1}


def test_an_unknown_fault_is_refused_with_the_nearest(quick, ask):
    answered = ask(quick).chat(headers=by("hangs"))
    assert answered.status == 400
    assert "Did you mean hang?" in answered.error["message"]
    answered = ask(quick).chat(headers=by("zzz"))
    assert all(fault.value in answered.error["message"] for fault in Fault)


@pytest.mark.parametrize("latency", ["-1", "x", "nan", "1e9", ""])
def test_a_latency_that_is_none_is_refused(quick, ask, latency):
    answered = ask(quick).chat(headers={"x-aiorchsim-latency-s": latency})
    assert answered.status == 400


def test_latency_by_header(quick, ask):
    began = time.monotonic()
    answered = ask(quick).chat(headers={"x-aiorchsim-latency-s": "0.1"})
    assert 0.1 <= time.monotonic() - began < 1
    assert answered.headers["openai-processing-ms"] == "100"


def test_faults_of_the_profile_for_the_first_calls_only(start, ask):
    simulator = start('[[models]]\nlatency_s = 0\nfault = "error_503"\nfault_first = 2\n')
    asker = ask(simulator)
    assert [asker.chat().status for _ in range(4)] == [503, 503, 200, 200]
    simulator.reset()
    assert [asker.chat().status for _ in range(3)] == [503, 503, 200]


def test_faults_and_errors_by_chance_follow_the_seed(start, ask):
    def statuses(seed, key):
        asker = ask(start(f"[[models]]\nlatency_s = 0\nfault_retry_after_s = 7.5\n{key}", seed=seed))
        return [asker.chat().status for _ in range(60)]

    for key, status in (('fault = "rate_limited"\nfault_rate = 0.5\n', 429), ("error_rate = 0.5\n", 500)):
        first = statuses(1, key)
        assert set(first) == {200, status}
        assert 15 <= first.count(status) <= 45
        assert first == statuses(1, key)
        assert first != statuses(2, key)


def test_the_fault_rate_limited_says_when_to_come_back(start, ask):
    answered = ask(start('[[models]]\nfault = "rate_limited"\nfault_retry_after_s = 7.5\n')).chat()
    assert answered.headers["retry-after"] == "8"
    assert answered.headers["retry-after-ms"] == "7500"


def test_each_fault_is_counted_once_and_nothing_stays_in_flight(start, ask):
    simulator = start("[[models]]\nlatency_s = 0\ninput_usd_per_1m = 1.0\n")
    for fault in Fault:
        if fault is Fault.HANG:
            continue
        try:
            ask(simulator).chat(headers=by(fault.value), stream=True)
        except (OSError, http.client.HTTPException):
            pass
    stats = simulator.wait_until(lambda stats: stats["calls"]["in_flight"] == 0)
    assert stats["faults"] == {fault.value: 1 for fault in Fault if fault is not Fault.HANG}
    calls = stats["calls"]
    assert calls["received"] == len(Fault) - 1
    assert calls["answered"] == 1  # the slow one
    assert calls["rate_limited"] == 1
    assert calls["errors"] == calls["received"] - 2
    assert calls["abandoned"] == 0
    begun = ("cut_stream", "nonsense", "slow_stream", "stream_error")
    assert stats["tokens"]["prompt"] == 10 * len(begun)
    assert stats["cost_usd"] == pytest.approx(10 * len(begun) / 1e6)
