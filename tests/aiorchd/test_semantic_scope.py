"""What the semantic depth may look at, and within which bounds."""

from __future__ import annotations

from typing import Any

from harness import a_call

from aiorchd.config.schema import Config, Operation
from aiorchd.core.request_key import PolicyForm, policy_form
from aiorchd.pipeline.semantic_scope import semantic_scope


class Policies:
    """One model, which no process of the host answers for."""

    def __contains__(self, name: str) -> bool:
        return name == "small"

    def form(self, asked: str | None, allowed: tuple[str, ...] = ()) -> PolicyForm:
        return policy_form(asked, ())

    def may_ask_host(self, asked: str | None, allowed: tuple[str, ...]) -> bool:
        return False


CONFIG = Config(
    operations={
        "guessed": Operation(semantic=True),
        "exact": Operation(semantic=False),
        "documents": Operation(semantic=True, document_id="input.id"),
    }
)


def scope(**fields: Any) -> tuple[bytes, str] | None:
    return semantic_scope(CONFIG, Policies(), a_call(**fields))  # type: ignore[arg-type]


def test_an_operation_says_whether_its_answers_may_be_guessed() -> None:
    found = scope(operation="guessed")
    assert found is not None
    assert scope(operation="exact") is None
    assert scope(operation="documents") is None, "another version of a document is no nearly equal question"
    assert scope(operation="gone") is None


def test_what_must_be_equal_is_in_the_scope_and_the_question_is_not() -> None:
    asked = scope(request={"messages": [{"role": "user", "content": "What is Trio?"}]})
    other = scope(request={"messages": [{"role": "user", "content": "And curio?"}]})
    warmer = scope(request={"messages": [{"role": "user", "content": "What is Trio?"}], "max_tokens": 5})
    apart = scope(request={"messages": [{"role": "user", "content": "What is Trio?"}]}, partition="blue")
    assert asked is not None and other is not None and warmer is not None and apart is not None
    assert asked[0] == other[0]
    assert (asked[1], other[1]) == ("What is Trio?", "And curio?")
    assert len({asked[0], warmer[0], apart[0]}) == 3
