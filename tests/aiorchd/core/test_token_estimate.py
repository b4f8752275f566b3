"""The estimate: about right, cheap, and not to be led astray by what callers send."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.token_estimate import TokenEstimator, prompt_tokens


def chat(*contents, **more):
    return {"messages": [{"role": "user", "content": content} for content in contents], **more}


@pytest.mark.parametrize(
    ("request_", "low", "high"),
    [
        (chat("word " * 400), 450, 600),
        (chat("Grüße aus Köln, " * 100), 380, 500),
        (chat("你好世界" * 100), 250, 500),
        (chat(""), 1, 10),
        (chat(*["hi"] * 100), 400, 600),
        (chat([{"type": "text", "text": "word " * 400}]), 450, 600),
        (chat([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]), 500, 1200),
        ({"input": ["word " * 400, "word " * 400]}, 900, 1100),
        ({"input": "word " * 400}, 450, 600),
        (chat("hi", tools=[{"function": {"name": "f" * 40, "description": "d" * 400}}]), 100, 160),
        (
            chat(
                "hi",
                output_schema={"type": "object", "properties": {f"name{k}": {"type": "string"} for k in range(40)}},
            ),
            150,
            400,
        ),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "x" * 4000}}]}]}, 990, 1100),
    ],
)
def test_about_right(request_, low, high):
    assert low <= prompt_tokens(request_) <= high


def test_pictures_count_flat_and_are_never_read():
    picture = "data:image/png;base64," + base64.b64encode(bytes(9_000_000)).decode()
    request = chat([{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": picture}}])
    assert prompt_tokens(request) < 1200


@pytest.mark.parametrize(
    "request_",
    [
        chat("ä" * 16_000_000),
        chat(*["x"] * 100_000),
        chat([{"type": "text", "text": "x"}] * 100_000),
        chat("x", tools=[[[]]] * 100_000),
        {"input": ["x"] * 100_000},
    ],
)
def test_size_costs_nothing(request_):
    began = time.process_time()
    tokens = prompt_tokens(request_)
    assert time.process_time() - began < 0.02
    assert tokens > 100 if "tools" not in request_ else tokens > 0


def test_very_many_messages_are_judged_by_the_first():
    assert prompt_tokens(chat(*["word " * 40] * 10_000)) == pytest.approx(540_000, rel=0.05)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["messages", "input", "tools", "output_schema", "extra", "max_tokens"]), plain))
def test_anything_gets_some_number(request_):
    assert 1 <= prompt_tokens(request_) <= 10_000_000
    assert 1 <= TokenEstimator().output_tokens("small", None, request_) <= 10_000_000


def test_the_allowed_answer_counts_else_what_is_usual():
    estimator = TokenEstimator()
    assert estimator.output_tokens("small", None, chat("x", max_tokens=50)) == 50
    assert estimator.output_tokens("small", None, chat("x", extra={"max_completion_tokens": 70})) == 70
    assert estimator.output_tokens("small", None, chat("x", max_tokens=10**30)) == 10_000_000
    assert estimator.output_tokens("small", None, chat("x", max_tokens=0)) == 257
    for _ in range(100):
        estimator.learn("small", None, 20)
    estimator.learn("large", None, 1000)
    assert estimator.output_tokens("small", None, chat("x")) == 21
    assert estimator.output_tokens("large", None, chat("x")) == 1001
    assert estimator.output_tokens("other", None, chat("x")) == 257


def test_an_average_that_moves_slowly():
    estimator = TokenEstimator()
    estimator.learn("small", None, 100)
    estimator.learn("small", None, 200)
    assert estimator.mean_outputs() == {"small": pytest.approx(110.0)}


def test_targets_that_are_gone_are_forgotten():
    estimator = TokenEstimator()
    estimator.learn("old", None, 10)
    estimator.learn("small", None, 10)
    estimator.keep_only(["small", "new"])
    assert set(estimator.mean_outputs()) == {"small"}
