"""Pages: plain and stable in a pipe, drawn on a terminal, and never steering it."""

import io

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
