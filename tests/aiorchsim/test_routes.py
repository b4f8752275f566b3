"""Deciding, without a server: whatever is asked, there is a plan, and the account is right."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.faults import Fault
from aiorchsim.http1 import Request
from aiorchsim.profile import read
from aiorchsim.responses import Ending
from aiorchsim.routes import respond
from aiorchsim.simulation import MOST_REMEMBERED, Simulation
from aiorchsim.statistics import Outcome


def simulation(**model):
    return Simulation(read({"models": [{"latency_s": 0, **model}]}), seed=1, replay=None, now=0.0)


def post(body, path="/v1/chat/completions", headers=None, method="POST"):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(method, path, "", headers or {}, body, 1, keep_alive=True)


def chat(prompt="What is 6*7?", **more):
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], **more}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "system", "tool", "assistant"]) | JSON,
        "content": st.text(max_size=40) | JSON,
        "tool_calls": JSON,
    },
)
TOOL = st.fixed_dictionaries(
    {"type": st.just("function"), "function": st.fixed_dictionaries({"name": st.text(max_size=5), "parameters": JSON})}
)
ASKED = st.fixed_dictionaries(
    {"model": st.just("m") | JSON},
    optional={
        "messages": st.lists(MESSAGE, max_size=3) | JSON,
        "input": st.text(max_size=30) | st.lists(st.text(min_size=1, max_size=9), max_size=3) | JSON,
        "stream": st.booleans() | JSON,
        "stream_options": st.just({"include_usage": True}) | JSON,
        "response_format": st.builds(lambda schema: {"type": "json_schema", "json_schema": {"schema": schema}}, JSON)
        | JSON,
        "tools": st.lists(TOOL | JSON, max_size=2) | JSON,
        "tool_choice": st.just("required") | JSON,
        "stop": JSON,
        "n": st.integers(0, 3) | JSON,
        "max_tokens": st.integers(0, 9) | JSON,
        "dimensions": st.integers(0, 9) | JSON,
        "encoding_format": st.sampled_from(["float", "base64"]) | JSON,
    },
)


@settings(deadline=None, max_examples=300)
@given(ASKED, st.sampled_from(["/v1/chat/completions", "/v1/embeddings"]), st.sampled_from([None, *Fault]))
def test_any_json_gets_a_plan_and_one_account(asked, path, fault):
    provider = simulation(requests_per_minute=60_000)
    headers = {} if fault is None else {"x-aiorchsim-fault": fault.value}
    plan = respond(provider, post(asked, path, headers), 0.0, 1_700_000_000)
    assert plan.call is not None
    plan.call.end(plan.outcome, plan.status)
    calls = provider.statistics.snapshot(0.0)["calls"]
    assert (calls["received"], calls["in_flight"], calls[plan.outcome.value]) == (1, 0, 1)
    if fault is None and plan.status == 200:
        if plan.pieces is None:
            json.loads(plan.body)
        else:
            for piece in plan.pieces[:-1]:
                json.loads(piece.data.removeprefix(b"data: "))
            assert plan.pieces[-1].data == b"data: [DONE]\n\n"
            assert sum(piece.tokens for piece in plan.pieces) > 0
    if fault is None and plan.status != 200:
        assert set(json.loads(plan.body)["error"]) == {"message", "type", "param", "code"}


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused(body):
    plan = respond(simulation(), post(body), 0.0, 0)
    assert plan.status in (400, 404)
    assert plan.outcome is Outcome.ERRORS


def test_streamed_tokens_add_up_to_the_usage():
    for more in ({}, {"n": 2}, {"max_tokens": 3}):
        plain = respond(simulation(), post(chat("Who was the first man on the moon?", **more)), 0.0, 0)
        streamed = respond(simulation(), post(chat("Who was the first man on the moon?", stream=True, **more)), 0.0, 0)
        assert streamed.pieces is not None
        assert sum(piece.tokens for piece in streamed.pieces) == plain.completion_tokens
        assert plain.completion_tokens == json.loads(plain.body)["usage"]["completion_tokens"]
        assert plain.prompt_tokens == streamed.prompt_tokens == json.loads(plain.body)["usage"]["prompt_tokens"]


def test_what_is_remembered_is_the_same_as_what_is_worked_out():
    provider = simulation()
    first = respond(provider, post(chat()), 0.0, 5)
    again = respond(provider, post(chat()), 0.0, 5)
    assert json.loads(first.body) | {"id": ""} == json.loads(again.body) | {"id": ""}
    for number in range(MOST_REMEMBERED + 10):
        respond(provider, post(chat(f"What is {number}+1?")), 0.0, 5)
    assert json.loads(respond(provider, post(chat()), 0.0, 5).body)["choices"] == json.loads(first.body)["choices"]


def test_chat_and_embeddings_of_one_body_are_kept_apart():
    provider = simulation()
    body = {**chat(), "input": "x"}
    assert "choices" in json.loads(respond(provider, post(body), 0.0, 0).body)
    assert "data" in json.loads(respond(provider, post(body, "/v1/embeddings"), 0.0, 0).body)


def test_the_time_of_pieces_follows_the_tokens():
    provider = simulation(first_token_s=1.0, latency_per_output_token_s=0.1, stream_chunk_tokens=2)
    plan = respond(provider, post(chat("Who was the first man on the moon?", stream=True)), 0.0, 0)
    assert plan.delay_s == 1.0
    assert plan.pieces is not None
    elapsed = 0.0
    for piece in plan.pieces:
        elapsed += piece.tokens * 0.1
        assert piece.after_s == pytest.approx(elapsed)
    whole = respond(provider, post(chat("Who was the first man on the moon?")), 0.0, 0)
    assert whole.delay_s == pytest.approx(whole.completion_tokens * 0.1)


def test_jitter_stays_within_its_bounds_and_follows_the_seed():
    def delays():
        provider = simulation(latency_s=0.5, latency_jitter_s=0.2)
        return [respond(provider, post(chat(f"{number}")), 0.0, 0).delay_s for number in range(200)]

    first = delays()
    assert first == delays()
    assert 0.3 <= min(first) < 0.33
    assert 0.67 < max(first) <= 0.7
    assert all(
        delay >= 0
        for delay in (respond(simulation(latency_jitter_s=5), post(chat()), 0.0, 0).delay_s for _ in range(20))
    )


def test_a_reset_brings_back_the_beginning():
    provider = simulation(latency_s=0.5, latency_jitter_s=0.2, requests_per_minute=6, burst_s=30)

    def plans():
        return [(plan.status, plan.delay_s) for plan in (respond(provider, post(chat()), 0.0, 0) for _ in range(5))]

    first = plans()
    assert [status for status, _ in first] == [200, 200, 200, 429, 429]
    provider.reset(0.0)
    assert plans() == first


def test_a_hang_has_no_end_and_a_cut_one_does():
    assert respond(simulation(fault="hang"), post(chat()), 0.0, 0).ending is Ending.NEVER
    assert respond(simulation(fault="cut_stream"), post(chat()), 0.0, 0).ending is Ending.CUT


def test_redirects_cannot_be_made_to_carry_headers():
    plan = respond(simulation(), post(chat(), "/v1/models", {"x-aiorchsim-fault": "redirect"}, "GET"), 0.0, 0)
    assert plan.status == 302
    assert plan.header_lines.count(b"\r\n") == 2  # location and request id
