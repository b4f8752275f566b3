"""The verdict of the demonstration: equal answers, and what an oracle would save."""

import dataclasses

from aiorchctl.demo.figures import Figures, Footprint, Oracle
from aiorchctl.demo.rounds import Round
from aiorchctl.page import plain

DIRECT = Round(
    asked=8,
    received=11,
    refused=3,
    cost_usd=0.8,
    elapsed_s=20.0,
    how={"direct": 8},
    accounted_usd=None,
    saved_usd=None,
    wait_p50_s=0.1,
    wait_p95_s=4.5,
    answers={0: ["a", "a", "a"], 1: ["b", "b", "b"], 2: ["c", "c"]},
)
FIRST = dataclasses.replace(
    DIRECT,
    received=3,
    refused=0,
    cost_usd=0.3,
    elapsed_s=1.5,
    how={"miss": 3, "exact": 4, "coalesced": 1},
    accounted_usd=0.3,
    saved_usd=0.5,
    wait_p50_s=0.001,
    wait_p95_s=0.12,
)
AGAIN = dataclasses.replace(FIRST, received=0, cost_usd=0.0, elapsed_s=0.2, how={"exact": 8}, wait_p95_s=0.002)
FIGURES = Figures(
    pages=3,
    hosts=2,
    threads=4,
    direct=DIRECT,
    first=FIRST,
    again=AGAIN,
    footprint=Footprint(0.75, 50 * 1024 * 1024),
    total_s=25.0,
)

SHOWN = """\
2 host processes, 4 threads each, tag 3 pages of documentation
                               directly  through aiorchd  after a restart
calls asked                           8                8                8
calls the provider answered           8                3                0
saved                                 –       5 (62.5 %)        8 (100 %)
  from the cache                      –                4                8
  joined to an equal call             –                1                0
refused by the provider (429)         3                0                0
seconds                            20.0              1.5              0.2
wait for an answer, median       100 ms             1 ms             1 ms
  95 of 100 within               4.50 s           120 ms             2 ms
money                             $0.80            $0.30               $0
answers equal to direct ones          –            all 8            all 8

An oracle that knew all calls in advance would save 5 of 8 calls; aiorchd saved 5: 100 % of it.
On the warm cache it would save 8 of 8 calls; aiorchd saved 8: 100 % of it.
Calls, refusals and money are the provider's own count (aiorchsim). aiorchd took 750 ms of CPU and 50 MiB of memory; \
all of this took 25.0 s.
On each of the 3 pages, every answer through aiorchd is the direct one.
"""


def test_the_table():
    assert plain(FIGURES.page()) == SHOWN


def test_all_is_good():
    assert FIGURES.good
    told = FIGURES.to_json()
    assert told["ok"] is True
    assert told["distinct_pages"] == 3
    assert told["rounds"]["direct"]["rate_limited"] == 3
    assert told["rounds"]["direct"]["provider_calls"] == 8
    assert told["rounds"]["aiorchd"]["oracle"] == {"would_save": 5, "saved": 5, "reached": 1.0}
    assert told["rounds"]["aiorchd_restarted"]["answers_equal"] == 8


def test_an_answer_that_differs_fails_it():
    answers = {**FIRST.answers, 2: ["c", "x"]}
    figures = dataclasses.replace(FIGURES, first=dataclasses.replace(FIRST, answers=answers))
    assert figures.equal(figures.first) == (7, 2)
    assert not figures.good
    shown = plain(figures.page())
    assert "7 of 8" in shown
    assert shown.endswith("The answers differ on 1 of 3 pages: this is a defect.\n")


def test_direct_answers_that_differ_among_themselves_prove_nothing():
    answers = {**DIRECT.answers, 2: ["c", "x"]}
    assert not dataclasses.replace(FIGURES, direct=dataclasses.replace(DIRECT, answers=answers)).good


def test_a_page_that_was_never_asked_directly_is_not_equal():
    answers = {0: ["a", "a", "a"], 1: ["b", "b", "b"], 7: ["c", "c"]}
    assert not dataclasses.replace(FIGURES, first=dataclasses.replace(FIRST, answers=answers)).good


def test_the_oracle_counts_every_request_sent():
    assert Oracle(asked=800, needed=150, received=163).reached == 0.98
    below = dataclasses.replace(FIGURES, again=dataclasses.replace(AGAIN, received=1))
    assert below.again_oracle.reached == 0.875
    assert below.answers_equal
    assert not below.good
    assert "87.5 % of it. It should reach 98%." in plain(below.page())


def test_refused_requests_count_against_the_daemon():
    figures = dataclasses.replace(FIGURES, first=dataclasses.replace(FIRST, received=4, refused=1))
    assert figures.first.provider_calls == 3
    assert figures.first_oracle.saved == 4
    assert not figures.good
