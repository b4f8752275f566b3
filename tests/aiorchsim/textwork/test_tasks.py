"""What a prompt asks for, and about which text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.textwork.tasks import Kind, Task, find_labels, read_task, split_prompt

PAGE = "asyncio is a library\nto write concurrent code"


@pytest.mark.parametrize(
    ("system", "user", "task", "subject"),
    [
        ("", f"Give three tags for this page:\n{PAGE}", Task(Kind.TAGS, 3), PAGE),
        ("", f"Give up to 7 short keywords.\n\n{PAGE}", Task(Kind.TAGS, 7), PAGE),
        ("", f"Tag this page\n{PAGE}", Task(Kind.TAGS, 5), PAGE),
        ("You tag pages. Reply with tags.", PAGE, Task(Kind.TAGS, 5), PAGE),
        ("Give two keywords", f"Text: {PAGE}", Task(Kind.TAGS, 2), PAGE),
        ("", f"Summarise in one sentence:\n{PAGE}", Task(Kind.SUMMARY, 1), PAGE),
        ("", f"{PAGE}\n\nWrite a summary.", Task(Kind.SUMMARY, 2), PAGE),
        ("", "tl;dr: It was long.", Task(Kind.SUMMARY, 2), "It was long."),
        ("", "Who are you?", Task(), "Who are you?"),
        ("", "", Task(), ""),
        (
            "",
            "Classify the message as one of:\n- billing\n- refund\n- other\n\nMessage: my money",
            Task(Kind.LABEL, 1, ("billing", "refund", "other")),
            "my money",
        ),
        (
            "",
            "Classify the text.\nLabels: spam, ham\nText: buy now",
            Task(Kind.LABEL, 1, ("spam", "ham")),
            "buy now",
        ),
        (
            "",
            "Classify the sentiment as positive, negative or neutral: I love it",
            Task(Kind.LABEL, 1, ("positive", "negative", "neutral")),
            "I love it",
        ),
    ],
)
def test_task_and_subject(system, user, task, subject):
    assert split_prompt(system, user) == (task, subject)


@pytest.mark.parametrize(
    ("instruction", "labels"),
    [
        ('Choose from ["sports", "politics"].', ("sports", "politics")),
        ("Categories: A | B | C", ("A", "B", "C")),
        ("Answer with yes or no.", ("yes", "no")),
        ("Is it one of the following labels: cold, warm and hot?", ("cold", "warm", "hot?")),
        ("Reply with exactly one of 'small talk', 'order', or 'complaint'", ("small talk", "order", "complaint")),
        ("Choose one of:\n1. red\n2. blue", ("red", "blue")),
        ("One of my friends said that this is a very long clause of a sentence, and so on.", ()),
        ("This is one of those days", ()),
        ("", ()),
    ],
)
def test_labels(instruction, labels):
    assert find_labels(instruction) == labels


def test_words_of_the_page_do_not_make_the_task():
    page = (
        "Tags and keywords\n\nThis page is about summaries, labels: a, b, c and classification as x or y."
        + "\nMore." * 200
    )
    task, subject = split_prompt("Answer.", f"Read this:\n{page}\nThat was all there is to read, and it was a lot.")
    assert task.kind is Kind.OPEN
    assert page in subject


@settings(deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_any_prompt_has_a_task(system, user):
    task, subject = split_prompt(system, user)
    assert task.count >= 1
    assert len(subject) <= len(user)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_instruction_can_be_read(instruction):
    task = read_task(instruction)
    assert (task.kind is Kind.LABEL) == bool(task.labels)
