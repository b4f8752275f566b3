"""Pages: plain and stable in a pipe, drawn on a terminal, and never steering it."""

import io
import re

from aiorchctl.page import Column, Fields, Paragraph, Table, Words, harmless, plain, show

PAGE = [
    Paragraph("one"),
    Paragraph(Words("two", "bad")),
    Fields([("name", "value"), ("longer name", "first\nsecond")], title="Facts"),
    Table(
        (Column("model"), Column("calls", right=True)), [("small", "1,234"), (Words("[bold]x", "good"), "5")], "Models"
    ),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_text_is_aligned_and_has_no_trailing_spaces():
    assert plain(PAGE) == (
        "one\n"
        "two\n"
        "\n"
        "Facts\n"
        "name         value\n"
        "longer name  first\n"
        "             second\n"
        "\n"
        "Models\n"
        "model    calls\n"
        "small    1,234\n"
        "[bold]x      5\n"
    )


def test_into_a_pipe_goes_plain_text():
    stream = io.StringIO()
    show(PAGE, stream)
    assert stream.getvalue() == plain(PAGE)


def test_a_terminal_gets_colour_and_the_same_words(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    show(PAGE, stream)
    drawn = stream.getvalue()
    assert "\x1b[1;31mtwo" in drawn
    for word in ("one", "Facts", "longer name", "second", "1,234", "[bold]x"):
        assert word in drawn


def drawn(page, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    show(page, stream)
    return [line.rstrip() for line in re.sub("\x1b\\[[0-9;]*m", "", stream.getvalue()).splitlines()]


WIDE = Table(
    [Column("key"), Column("says"), Column("calls", right=True), Column("dollars", right=True)],
    [["models.small.enabled", "a long sentence that may be folded", "1,234", "$0.0001"], ["x", "", "5", "$2"]],
)


def test_a_table_with_room_is_a_table(monkeypatch):
    assert drawn([WIDE], 100, monkeypatch)[0].split() == ["key", "says", "calls", "dollars"]


def test_on_a_narrower_terminal_prose_is_folded_and_names_and_numbers_are_not(monkeypatch):
    lines = drawn([WIDE], 60, monkeypatch)
    assert lines[0].split() == ["key", "says", "calls", "dollars"]
    assert any(line.startswith("models.small.enabled ") and line.endswith("$0.0001") for line in lines)
    assert len(lines) > 4
    assert max(map(len, lines)) <= 60


def test_without_room_for_columns_each_row_stands_for_itself(monkeypatch):
    assert drawn([WIDE], 50, monkeypatch) == [
        "key      models.small.enabled",
        "says     a long sentence that may be folded",
        "calls    1,234",
        "dollars  $0.0001",
        "",
        "key      x",
        "calls    5",
        "dollars  $2",
    ]


def test_what_comes_from_elsewhere_cannot_steer_the_terminal():
    attack = "a\x1b]0;owned\x07b\x9bc\r\x00\x7f"
    assert harmless(attack) == "a\N{REPLACEMENT CHARACTER}]0;owned" + "\N{REPLACEMENT CHARACTER}b" + (
        "\N{REPLACEMENT CHARACTER}c" + "\N{REPLACEMENT CHARACTER}" * 3
    )
    assert harmless("tabs\tand\nlines, ü and 漢") == "tabs\tand\nlines, ü and 漢"
    stream = Terminal()
    show([Paragraph(attack), Fields([("n\x1b", attack)]), Table([Column("c")], [[attack]])], stream)
    assert "\x1b]0" not in stream.getvalue()
    assert "\x07" not in stream.getvalue()


def test_line_breaks_do_not_break_a_table():
    assert plain([Table([Column("a"), Column("b")], [["x\ny", "z"]])]) == "a    b\nx y  z\n"
