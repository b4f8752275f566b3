"""Named faults, by header and by profile, as a client sees them and as the statistics count them."""

import http.client
import json
import re
import socket
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from aiorchsim.faults import NONSENSE, STREAMS_ONLY, Fault


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


ENDLESS = (Fault.HANG, Fault.STALL)
WHOLE = (
    Fault.SLOW_STREAM, Fault.SLOW_FIRST_TOKEN, Fault.QUOTA_EATEN, Fault.MALFORMED_LINE, Fault.CONTENT_FILTER,
    Fault.MISSING_USAGE, Fault.DUPLICATED_CHUNKS, Fault.DUPLICATED_END,
)  # fmt: skip
LIMITED = (Fault.RATE_LIMITED, Fault.RATE_LIMITED_NO_HINT, Fault.SKEWED_CLOCK, Fault.NO_CREDIT)
FREE = (
    *LIMITED, Fault.REFUSE, Fault.RESET, Fault.ERROR_500, Fault.ERROR_502, Fault.ERROR_503, Fault.ERROR_529, Fault.AUTH,
    Fault.REDIRECT, Fault.WRONG_CONTENT_TYPE, Fault.ERROR_IN_200,
)  # fmt: skip


def test_each_fault_is_counted_once_and_nothing_stays_in_flight(start, ask):
    simulator = start("[[models]]\nlatency_s = 0\ninput_usd_per_1m = 1.0\n")
    suffered = [fault for fault in Fault if fault not in ENDLESS]
    for fault in suffered:
        try:
            ask(simulator).chat(headers=by(fault.value), stream=True)
        except (OSError, http.client.HTTPException):
            pass
    stats = simulator.wait_until(lambda stats: stats["calls"]["in_flight"] == 0)
    assert stats["faults"] == {fault.value: 1 for fault in suffered}
    calls = stats["calls"]
    assert calls["received"] == len(suffered)
    assert calls["answered"] == len(WHOLE)
    assert calls["rate_limited"] == len(LIMITED)
    assert calls["errors"] == calls["received"] - len(WHOLE) - len(LIMITED)
    assert calls["abandoned"] == 0
    begun = [fault for fault in suffered if fault not in FREE]
    assert stats["tokens"]["prompt"] == 10 * len(begun)
    assert stats["cost_usd"] == pytest.approx(10 * len(begun) / 1e6)
    assert stats["left"] == []


MOON = "Who was the first man on the moon?"


def test_a_stall_holds_half_an_answer_until_the_client_leaves_which_is_told_with_its_time(quick, raw):
    quick.reset()
    client = raw(quick)
    body = json.dumps({"model": "m+stall", "stream": True, "messages": [{"role": "user", "content": MOON}]}).encode()
    client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    got = b""
    while b"delta" not in got:
        got += client.recv(65536)
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):
        while True:
            got += client.recv(65536)
    assert b"[DONE]" not in got
    left = time.monotonic()
    client.close()
    stats = quick.wait_until(lambda stats: stats["calls"]["in_flight"] == 0)
    (gone,) = stats["left"]
    assert (gone["model"], gone["while"]) == ("m", "answering")
    assert 0 <= gone["at_s"] - left < 1
    assert gone["after_s"] >= 0.05


def test_pauses_of_so_many_seconds_end(quick, ask):
    for fault in ("stall=0.1", "hang=0.1", "slow_first_token=0.1"):
        for stream in (False, True):
            began = time.monotonic()
            whole = ask(quick).chat(MOON, model=f"m+{fault}", stream=stream)
            assert 0.1 <= time.monotonic() - began < 1
            assert whole.status == 200
            assert (whole.events[-1] == "[DONE]") if stream else whole.text
    assert ask(quick).chat(headers=by("error_500=1")).status == 400
    assert ask(quick).chat(headers=by("stall=-1")).status == 400


def test_the_end_of_a_models_name_is_a_fault_only_where_one_is_called_so(quick, ask):
    assert ask(quick).chat(model="m+error_503").status == 503
    assert ask(quick).chat(model="m+plus").json["model"] == "m+plus"
    assert ask(quick).chat(model="m+stall=x").status == 200
    assert ask(quick).chat(model="m+missing_usage").json["model"] == "m+missing_usage"


def test_what_is_in_an_answer(quick, ask):
    assert "usage" not in ask(quick).chat(headers=by("missing_usage")).json
    assert ask(quick).chat(headers=by("empty_choices")).json["choices"] == []
    (choice,) = ask(quick).chat(headers=by("content_filter")).json["choices"]
    assert choice["finish_reason"] == "content_filter"
    assert "error" in ask(quick).chat(headers=by("error_in_200")).json
    with pytest.raises(ValueError):
        json.loads(ask(quick).chat(headers=by("truncated_json")).body)
    quick.reset()
    for fault in STREAMS_ONLY:  # a whole answer does not suffer them, and they are not counted
        assert ask(quick).chat(headers=by(fault.value)).text == "42"
    assert quick.stats()["faults"] == {}
    for fault in ("empty_choices", "content_filter"):  # what is not said is not billed
        assert ask(quick).chat(headers=by(fault)).json["usage"]["completion_tokens"] == 0
    assert quick.stats()["tokens"]["completion"] == len(STREAMS_ONLY)


def test_what_is_in_a_stream(quick, ask):
    def streamed(fault):
        return ask(quick).chat(MOON, headers=by(fault), stream=True, stream_options={"include_usage": True})

    def said(events):
        chunks = [json.loads(event) for event in events if event != "[DONE]"]
        return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])

    whole = streamed("slow_first_token=0").events
    assert not any("total_tokens" in event for event in streamed("missing_usage").events)
    doubled = streamed("duplicated_chunks").events
    assert len(said(doubled)) == 2 * len(said(whole))
    ended = streamed("duplicated_end").events
    assert said(ended) == said(whole)
    assert ended.count("[DONE]") == 2
    assert len([event for event in ended if "total_tokens" in event]) == 2
    broken = streamed("malformed_line").events
    assert len(broken) == len(whole) + 1
    early = streamed("ends_early")
    assert early.status == 200
    assert "[DONE]" not in early.events
    truncated = streamed("truncated_json").body
    assert truncated.startswith(b"data: ")
    assert not truncated.endswith(b"\n\n")
    (error,) = streamed("error_in_200").events
    assert json.loads(error)["error"]["type"] == "server_error"
    empty = streamed("empty_choices").events
    assert said(empty) == ""
    assert empty[-1] == "[DONE]"


def test_a_clock_that_is_ahead_is_ahead_in_all_it_tells(quick, ask):
    answered = ask(quick).chat(headers=by("skewed_clock=5"))
    assert answered.status == 429
    told = parsedate_to_datetime(answered.headers["retry-after"])
    assert (told - parsedate_to_datetime(answered.headers["date"])).total_seconds() == 5
    assert 3500 < told.timestamp() - time.time() < 3700


def test_a_page_of_html_where_json_was_due(quick, ask):
    for fault, status in (("error_502", 502), ("wrong_content_type", 200)):
        answered = ask(quick).chat(headers=by(fault))
        assert answered.status == status
        assert answered.headers["content-type"].startswith("text/html")


def test_a_quota_eaten_by_somebody_else(start, ask):
    asker = ask(start("[[models]]\nlatency_s = 0\nrequests_per_minute = 60\nburst_s = 10\n"))
    assert asker.chat().headers["x-ratelimit-remaining-requests"] == "9"
    eaten = asker.chat(headers=by("quota_eaten"))
    assert eaten.status == 429
    assert eaten.headers["x-ratelimit-remaining-requests"] == "0"
    assert float(eaten.headers["retry-after-ms"]) <= 1000


def test_the_manual_tells_every_fault():
    manual = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    told = manual.split("## Faults", 1)[1].split("## While", 1)[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", told, re.MULTILINE)
    assert rows == [(fault.value, fault.meaning) for fault in Fault]
