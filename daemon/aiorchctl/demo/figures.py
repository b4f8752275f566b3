"""What the demonstration found: the table, the comparison of answers, and the oracle that knew all calls in advance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aiorchctl.demo.rounds import Round
from aiorchctl.page import Cell, Column, Page, Paragraph, Table, Words
from aiorchctl.quantities import count, money, seconds, share, size

ENOUGH_OF_ORACLE: Final = 0.98
"""What the daemon must reach of the oracle's savings for the demonstration to succeed."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """Knows all calls in advance: it asks the provider once for each page that was not answered before.

    The daemon is measured by every request it sent, refused ones included.
    """

    asked: int
    needed: int
    received: int

    @property
    def would_save(self) -> int:
        """Calls that it saves."""
        return self.asked - self.needed

    @property
    def saved(self) -> int:
        """Calls that the daemon saved."""
        return self.asked - self.received

    @property
    def reached(self) -> float:
        """The daemon's part of that; 1 is all, also where there was nothing to save."""
        return self.saved / self.would_save if self.would_save else 1.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the daemon took over both of its lives: CPU seconds, and the largest resident memory in bytes."""

    cpu_s: float
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Three rounds over the same draws: without the daemon, through it, and again after its restart."""

    pages: int
    hosts: int
    threads: int
    direct: Round
    first: Round
    again: Round
    footprint: Footprint
    total_s: float

    @property
    def distinct(self) -> int:
        """Pages that were drawn at least once."""
        return len(self.direct.answers)

    @property
    def first_oracle(self) -> Oracle:
        """The oracle of the round on an empty cache."""
        return Oracle(self.first.asked, self.distinct, self.first.received)

    @property
    def again_oracle(self) -> Oracle:
        """The oracle of the round on the warm cache: it needs nothing."""
        return Oracle(self.again.asked, 0, self.again.received)

    def equal(self, through: Round) -> tuple[int, int]:
        """Count calls whose answer is the one that this page got directly, and pages all of whose answers are."""
        calls = pages = 0
        for page, answers in through.answers.items():
            direct = set(self.direct.answers.get(page, ()))
            fits = [len(direct) == 1 and answer in direct for answer in answers]
            calls += sum(fits)
            pages += all(fits)
        return calls, pages

    @property
    def answers_equal(self) -> bool:
        """Whether every answer through the daemon is the one the provider gives."""
        return all(self.equal(through) == (through.asked, self.distinct) for through in (self.first, self.again))

    @property
    def good(self) -> bool:
        """Whether the demonstration shows what it promises."""
        enough = all(oracle.reached >= ENOUGH_OF_ORACLE for oracle in (self.first_oracle, self.again_oracle))
        return self.answers_equal and enough

    def to_json(self) -> dict[str, Any]:
        """Give the exact figures."""
        return {
            "ok": self.good,
            "pages": self.pages,
            "distinct_pages": self.distinct,
            "hosts": self.hosts,
            "threads_per_host": self.threads,
            "rounds": {
                "direct": self._round(self.direct),
                "aiorchd": self._round(self.first, self.first_oracle),
                "aiorchd_restarted": self._round(self.again, self.again_oracle),
            },
            "daemon": {"cpu_s": self.footprint.cpu_s, "rss_bytes": self.footprint.rss_bytes},
            "total_s": self.total_s,
        }

    def _round(self, one: Round, oracle: Oracle | None = None) -> dict[str, Any]:
        told: dict[str, Any] = {
            "asked": one.asked,
            "provider_received": one.received,
            "provider_calls": one.provider_calls,
            "rate_limited": one.refused,
            "saved": one.saved,
            "how": one.how,
            "elapsed_s": one.elapsed_s,
            "wait_p50_s": one.wait_p50_s,
            "wait_p95_s": one.wait_p95_s,
            "cost_usd": one.cost_usd,
        }
        if oracle is not None:
            calls, pages = self.equal(one)
            told |= {
                "accounted_usd": one.accounted_usd,
                "saved_usd": one.saved_usd,
                "answers_equal": calls,
                "pages_equal": pages,
                "oracle": {"would_save": oracle.would_save, "saved": oracle.saved, "reached": oracle.reached},
            }
        return told

    def page(self) -> Page:
        """Tell it to a person."""
        rounds = (self.direct, self.first, self.again)
        columns = (
            Column(""),
            *(Column(name, right=True) for name in ("directly", "through aiorchd", "after a restart")),
        )
        rows: list[tuple[Cell, ...]] = [
            ("calls asked", *(count(one.asked) for one in rounds)),
            ("calls the provider answered", *(Words(count(one.provider_calls), "strong") for one in rounds)),
            ("saved", "–", *(Words(f"{count(r.saved)} ({share(r.saved, r.asked)})", "good") for r in rounds[1:])),
            ("  from the cache", "–", *(count(r.how.get("exact", 0)) for r in rounds[1:])),
            ("  joined to an equal call", "–", *(count(r.how.get("coalesced", 0)) for r in rounds[1:])),
            (
                "refused by the provider (429)",
                *(Words(count(r.refused), "bad" if r.refused else "plain") for r in rounds),
            ),
            ("seconds", *(f"{one.elapsed_s:.1f}" for one in rounds)),
            ("wait for an answer, median", *(seconds(one.wait_p50_s) for one in rounds)),
            ("  95 of 100 within", *(seconds(one.wait_p95_s) for one in rounds)),
            ("money", *(money(one.cost_usd) for one in rounds)),
            ("answers equal to direct ones", "–", *(self._equal_cell(one) for one in rounds[1:])),
        ]
        title = f"{self.hosts} host processes, {self.threads} threads each, tag {self.distinct} pages of documentation"
        return [
            Table(columns, rows, title),
            Paragraph(self._oracle_words("An oracle that knew all calls in advance would save", self.first_oracle)),
            Paragraph(self._oracle_words("On the warm cache it would save", self.again_oracle)),
            Paragraph(
                Words(
                    f"Calls, refusals and money are the provider's own count (aiorchsim). aiorchd took "
                    f"{seconds(self.footprint.cpu_s)} of CPU and {size(self.footprint.rss_bytes)} of memory; "
                    f"all of this took {seconds(self.total_s)}.",
                    "quiet",
                )
            ),
            self._comparison(),
        ]

    def _equal_cell(self, one: Round) -> Cell:
        calls, pages = self.equal(one)
        fine = (calls, pages) == (one.asked, self.distinct)
        return Words(
            f"all {count(calls)}" if fine else f"{count(calls)} of {count(one.asked)}", "good" if fine else "bad"
        )

    def _comparison(self) -> Paragraph:
        if self.answers_equal:
            words = f"On each of the {count(self.distinct)} pages, every answer through aiorchd is the direct one."
            return Paragraph(Words(words, "good"))
        pages = min(self.equal(through)[1] for through in (self.first, self.again))
        words = (
            f"The answers differ on {count(self.distinct - pages)} of {count(self.distinct)} pages: this is a defect."
        )
        return Paragraph(Words(words, "bad"))

    @staticmethod
    def _oracle_words(begin: str, oracle: Oracle) -> Words:
        enough = oracle.reached >= ENOUGH_OF_ORACLE
        text = (
            f"{begin} {count(oracle.would_save)} of {count(oracle.asked)} calls; aiorchd saved {count(oracle.saved)}: "
            f"{share(oracle.saved, oracle.would_save)} of it."
        )
        if not enough:
            text += f" It should reach {ENOUGH_OF_ORACLE:.0%}."
        return Words(text, "good" if enough else "bad")
