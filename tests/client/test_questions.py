"""What the typed methods put on the wire."""

from __future__ import annotations

import math
from typing import Any

import pytest

import aiorch
from aiorch import questions
from aiorch.questions import Question
from aiorch.reply import Embedding, Reply


def test_none_is_not_sent() -> None:
    options = {"model": None, "temperature": 0, "tags": [], "stop": None}
    question = questions.complete("complete", "hi", options, None)
    assert (question.method, question.arguments) == ("complete", {"prompt": "hi", "temperature": 0, "tags": []})
    assert questions.complete("complete", None, {"messages": [{}]}, None).arguments == {"messages": [{}]}
    assert questions.plain("x.y", {"a": 0, "b": None}, None).arguments == {"a": 0}


def test_a_wrong_option_is_refused_as_python_does() -> None:
    for name in ("complete", "stream"):
        with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword argument 'temprature'$"):
            questions.complete(name, "hi", {"temprature": None}, None)
    with pytest.raises(TypeError, match="'prompt'"):
        questions.embed(["a"], {"prompt": "x"}, None)


def test_vectors_travel_as_bytes() -> None:
    question = questions.embed(["a", "b"], {"dimensions": 3}, None)
    assert question.arguments == {"input": ["a", "b"], "dimensions": 3, "encoding": "bytes"}
    assert questions.embed("one", {}, None).arguments["input"] == ["one"]
    assert isinstance(question.parse({"vectors": []}), Embedding)


def test_retries_and_keys_stay_with_the_question() -> None:
    question = questions.complete("complete", "hi", {"retries": 2, "key": "k"}, None)
    assert (question.retries, question.keyed, question.arguments) == (2, True, {"prompt": "hi", "key": "k"})
    assert isinstance(question.parse({}), Reply)


@pytest.mark.parametrize(
    ("options", "default", "told", "patience"),
    [
        ({}, None, None, math.inf),
        ({"timeout_s": 2.0}, None, 2.0, 3.0),
        ({"timeout_s": 2.0}, 9.0, 2.0, 3.0),
        ({}, 9.0, 9.0, 10.0),
        ({"timeout_s": -5}, None, -5, 1.0),
        ({"timeout_s": math.nan}, None, None, 1.0),
        ({"timeout_s": "soon"}, None, "soon", math.inf),
    ],
)
def test_timeouts(options: dict[str, Any], default: float | None, told: Any, patience: float) -> None:
    """The daemon is told, and given a second more; nonsense is its to refuse."""
    question = questions.complete("complete", "hi", options, default)
    if told is not None:
        assert question.arguments.get("timeout_s") == told
    assert question.patience_s(1.0) == patience


def test_methods_that_carry_no_timeout_are_given_up_in_time() -> None:
    assert questions.status(2.0).patience_s(1.0) == 2.0
    assert "timeout_s" not in questions.status(2.0).arguments
    assert questions.plain("status", {}, 2.0).patience_s(1.0) == 2.0
    assert questions.plain("complete", {"timeout_s": 4}, 2.0).patience_s(1.0) == 5.0


@pytest.mark.parametrize(
    ("question", "method", "arguments"),
    [
        (questions.ping(None), "ping", {}),
        (questions.status(None), "status", {}),
        (questions.stats(3600.0, "model", None, None), "stats", {"since": 3600.0, "by": "model"}),
        (questions.explain("r", None), "explain", {"request_id": "r"}),
        (questions.models_list(None), "models.list", {}),
        (questions.cache_stats(None), "cache.stats", {}),
        (questions.cache_clear(None, None), "cache.clear", {}),
        (questions.cache_forget(None, "t", None, None), "cache.forget", {"tag": "t"}),
        (questions.config_get("cache.ttl_s", None), "config.get", {"key": "cache.ttl_s"}),
        (questions.config_layers(None), "config.get", {"layers": True}),
        (questions.config_reload(None), "config.reload", {}),
        (questions.config_override("cache.ttl_s", 5, None), "config.override", {"key": "cache.ttl_s", "value": 5}),
        (questions.config_override("x", None, None), "config.override", {"key": "x", "value": None}),
        (questions.config_reset(None, None), "config.reset", {}),
        (questions.config_reset("cache", None), "config.reset", {"key": "cache"}),
    ],
)
def test_every_method(question: Question[Any], method: str, arguments: dict[str, Any]) -> None:
    assert (question.method, question.arguments) == (method, arguments)


def test_results_of_the_wrong_kind_are_the_daemons_fault() -> None:
    for question in (questions.status(None), questions.cache_clear(None, None), questions.models_list(None)):
        with pytest.raises(aiorch.RemoteProtocolError, match="the result must be a"):
            question.parse("text")
    assert questions.cache_clear(None, None).parse({"removed": 3}) == 3
