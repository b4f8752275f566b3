"""A key shows itself to nobody but the code that sends it."""

from __future__ import annotations

import copy
import json
import pickle
import traceback

import pytest

from aiorchd.providers.secret import MissingKey, Secret


def test_it_is_not_shown() -> None:
    secret = Secret("sk-hunter2\n")
    assert secret.reveal() == "sk-hunter2"
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r}",
        f"{secret}",
        repr([secret]),
        repr({"key": secret}),
    ]
    assert not any("hunter2" in text for text in shown)
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert copy.deepcopy(secret) is secret
    assert copy.copy(secret) is secret
    assert not hasattr(secret, "__dict__")


def test_it_is_taken_out_of_texts() -> None:
    assert Secret("hunter2").redact("wrong key hunter2, not hunter2!") == "wrong key [key], not [key]!"


@pytest.mark.parametrize("value", ["", " \n", "hunter2\r\nx: y", "hunter2é", "hunter2\0", "hunter2\x7f"])
def test_what_cannot_be_a_key_is_refused_without_being_repeated(value: str) -> None:
    with pytest.raises(ValueError) as caught:
        Secret(value)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception_only(caught.value))


def test_a_missing_key_says_where_it_was_looked_for() -> None:
    assert MissingKey("the variable X is not set").where == "the variable X is not set"
