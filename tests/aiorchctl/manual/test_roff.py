"""Manual pages as roff: what its readers would take for a request, an escape or a dash stays text."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from aiorchctl.manual.everything import documents
from aiorchctl.manual.page import Heading, Lines, ManualPage, Prose, Terms
from aiorchctl.manual.roff import roff

HARD = ManualPage(
    "hard",
    7,
    "what is hard to write",
    (
        Heading("Two words"),
        Prose("It's `--option` and \\back, a well-known word -x ~/home ^C."),
        Prose(".request at the beginning"),
        Lines((".hidden", "'quoted", "  indented -1", "")),
        Terms((("-o, --output FILE", "`a` then b"),)),
        Prose("word " * 30),
    ),
)


def test_nothing_is_taken_for_a_request_or_an_escape():
    lines = roff(HARD).splitlines()
    assert "It\\(aqs \\fB\\-\\-option\\fR and \\eback, a well-known word \\-x \\(ti/home \\(haC." in lines
    assert "\\&.request at the beginning" in lines
    assert "\\&.hidden" in lines
    assert "\\(aqquoted" in lines
    assert "  indented \\-1" in lines
    assert "\\fB\\-o, \\-\\-output FILE\\fR" in lines
    assert '.SH "TWO WORDS"' in lines


def test_prose_is_wrapped():
    assert max(map(len, roff(HARD).splitlines())) <= 80


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="needs mandoc")
@pytest.mark.parametrize("name", [*(name for name in documents() if name.startswith("man/")), "hard"])
def test_mandoc_has_nothing_to_say(name):
    text = roff(HARD) if name == "hard" else documents()[name]
    ran = subprocess.run(["mandoc", "-Tlint"], input=text, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("", "")


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
@pytest.mark.parametrize("name", [*(name for name in documents() if name.startswith("man/")), "hard"])
def test_groff_has_nothing_to_say(name):
    text = roff(HARD) if name == "hard" else documents()[name]
    ran = subprocess.run(
        ["groff", "-ww", "-K", "utf8", "-man", "-Tutf8"], input=text, capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
    assert ran.stdout
