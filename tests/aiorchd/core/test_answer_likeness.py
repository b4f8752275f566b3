"""When two answers say the same."""

from __future__ import annotations

from aiorchd.core.answer_likeness import answer_mark, prose_alike

PROSE = (
    "You can reset the password of your account on the settings page: open the menu, choose security, and press the "
    "button that says reset. A message with a link arrives within 5 minutes."
)


def test_short_answers_are_equal_but_for_form() -> None:
    assert answer_mark("Paris.", None, ()) == answer_mark("  paris ", None, ())
    assert answer_mark("Paris", None, ())[0] != answer_mark("Lyon", None, ())[0]
    assert not answer_mark("Paris", None, ())[1]


def test_data_is_compared_and_not_its_text() -> None:
    assert answer_mark('{"a":1, "b":2}', {"a": 1, "b": 2}, ()) == answer_mark("x", {"b": 2, "a": 1}, ())
    assert answer_mark("x", {"a": 1}, ())[0] != answer_mark("x", {"a": 2}, ())[0]


def test_ids_of_tool_calls_do_not_count() -> None:
    one = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    assert answer_mark("", None, [one]) == answer_mark("", None, [{**one, "id": "call_2"}])
    other = {**one, "function": {"name": "look", "arguments": '{"a":1}'}}
    assert answer_mark("", None, [one])[0] != answer_mark("", None, [other])[0]


def test_prose_must_be_very_near_in_every_way() -> None:
    assert answer_mark(PROSE, None, ())[1]
    reworded = PROSE.replace("A message with a link arrives", "You get a message with a link")
    assert prose_alike(PROSE, reworded, 0.98)
    assert not prose_alike(PROSE, reworded, 0.90)
    assert not prose_alike(PROSE, PROSE.replace("5", "50"), 0.99)
    assert not prose_alike(PROSE, PROSE.replace("You can", "You cannot"), 0.99)
    assert not prose_alike(PROSE, "Something else altogether, which has hardly one word in common with it.", 0.99)
    assert not prose_alike("word " * 1000, "word " * 1000, 1.0)  # too long to tell
