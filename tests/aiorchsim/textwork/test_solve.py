"""One text, one task, one answer: of the right form, and different when it is to be wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.textwork.solve import classify, solve, summary, tags
from aiorchsim.textwork.tasks import Kind, Task

PAGE = (
    "asyncio is a library to write concurrent code. asyncio is a foundation for servers. "
    "Servers use asyncio for connections. Cats sleep."
)
TASKS = st.sampled_from(
    [
        Task(),
        Task(Kind.TAGS, 1),
        Task(Kind.TAGS, 4),
        Task(Kind.SUMMARY, 1),
        Task(Kind.SUMMARY, 3),
        Task(Kind.LABEL, 1, ("positive", "negative", "neutral")),
        Task(Kind.LABEL, 2, ("a", "b", "c")),
        Task(Kind.LABEL, 2, ("a", "b")),
    ]
)


def test_tags_are_the_frequent_words_that_carry_meaning():
    assert tags(PAGE, 2, right=True) == ["asyncio", "servers"]
    assert tags("", 3, right=True) == ["untitled"]


def test_a_summary_consists_of_sentences_of_the_text_in_order():
    short = summary(PAGE, 2, right=True)
    assert short == "asyncio is a foundation for servers. Servers use asyncio for connections."


def test_labels_follow_the_words_of_the_text():
    labels = ("positive", "negative", "refund request")
    assert classify("I request a refund for this", labels, 1, right=True) == ["refund request"]
    assert classify("so negatively put", labels, 1, right=True) == ["negative"]
    ties = {classify(f"nothing of that {number}", labels, 1, right=True)[0] for number in range(40)}
    assert ties == set(labels)  # chance by text, not always the first


def test_open_questions_are_answered_from_their_own_words():
    assert solve(Task(), "What is 6*7?", right=True) == "42"
    assert solve(Task(), "What is 1/0?", right=True) == "undefined"
    assert solve(Task(), PAGE, right=True) == "About asyncio: asyncio is a library to write concurrent code."


@settings(deadline=None)
@given(
    TASKS,
    st.text(max_size=400)
    | st.sampled_from([PAGE, "miscellaneous", "untitled", "What is 2+2?", "What is 1/0?", "1e15 * 3 ="]),
)
def test_a_wrong_answer_differs_from_the_right_one(task, text):
    right = solve(task, text, right=True)
    wrong = solve(task, text, right=False)
    assert right
    assert wrong
    assert right != wrong
    assert solve(task, text, right=True) == right


@pytest.mark.parametrize("right", [True, False])
def test_a_label_is_always_one_of_the_labels(right):
    for number in range(20):
        assert solve(Task(Kind.LABEL, 1, ("x", "y")), f"text {number}", right=right) in ("x", "y")
    assert solve(Task(Kind.LABEL, 1, ("only",)), "text", right=right) == "only"
