"""Words, sentences, numbers and repeatable chance."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.textwork.words import chance, clip, content_words, numbers, pick, sentences, words


def test_words_are_lower_case_and_keep_their_inner_marks():
    assert words("Don't read_file the State-of-the-art API v2!") == [
        "don't", "read", "file", "the", "state-of-the-art", "api", "v2",
    ]  # fmt: skip


def test_content_words_leave_out_what_carries_no_meaning():
    assert content_words("The cat is on 42 mats, with a hat") == ["cat", "mats", "hat"]


def test_sentences_end_at_marks_and_lines():
    assert sentences("One. Two!  Three?\n\nFour\n  five 3.5 six ") == ["One.", "Two!", "Three?", "Four", "five 3.5 six"]


def test_numbers_stand_alone():
    assert numbers("It costs 80,000 or -3.5, not v2 or 1.2.3 on 2024-01-05; 7.") == [80000.0, -3.5, 7.0]


@settings(deadline=None)
@given(st.text())
def test_every_text_has_words_and_sentences_without_white_space_around(text):
    assert all(word == word.strip() and word for word in words(text))
    assert all(sentence == sentence.strip() and sentence for sentence in sentences(text))
    assert all(isinstance(number, float) for number in numbers(text))


@settings(deadline=None)
@given(st.text(), st.integers(1, 50))
def test_clip_is_short_and_on_one_line(text, characters):
    clipped = clip(text, characters)
    assert len(clipped) <= characters
    assert "\n" not in clipped


def test_chance_depends_on_its_parts_only_and_is_even():
    assert chance("a", 1) == chance("a", 1)
    assert chance("a", 1) != chance("a", 2)
    draws = [chance("even", number) for number in range(4000)]
    assert all(0 <= draw < 1 for draw in draws)
    assert 0.47 < sum(draws) / len(draws) < 0.53
    assert {pick(3, number) for number in range(50)} == {0, 1, 2}


def test_nothing_takes_long_on_nasty_text():
    nasty = ["1" * 300_000, " " * 300_000, "(" * 300_000, "1.1." * 80_000, "a-" * 150_000, "\n" * 300_000]
    began = time.process_time()
    for text in nasty:
        words(text)
        sentences(text)
        numbers(text)
    assert time.process_time() - began < 2.0
