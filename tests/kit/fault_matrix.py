"""Every named fault of the simulator, plain and streamed, in each dialect, through a real daemon: what became of it.

One daemon, a simulator that suffers (the primary's provider) and one that does not (the fallback's). Each case is a model
of its own, so that cases know nothing of each other; all are asked side by side. What should come of each is written by
hand in `CASES`; `python tests/kit/fault_matrix.py` runs them and writes `docs/faults.md`.
"""

from __future__ import annotations

import socket
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import trio
from processes import ROOT, daemon

from aiorch import AsyncClient
from aiorch.errors import CallError
from aiorchsim.faults import Fault, fault_named
from aiorchsim.process import Simulator, start_simulator

PAGE: Final = ROOT / "docs" / "faults.md"
DIALECTS: Final = {"openai": "/v1", "anthropic": "/v1", "gemini": "/v1beta"}
WAYS: Final = ("plain", "streamed")
PROMPT: Final = (
    "Summarize in three sentences: Trio is a library for async I/O. It has nurseries and cancel scopes. A daemon keeps one "
    "connection pool for all processes of a host. Callers wait fairly and never fail with 429. Budgets are kept in a ledger, "
    "durable across kills. Streams end in an error when they break."
)
NOBODY: Final = "nobody_listens"
"""No fault of the simulator: a port at which nothing listens."""
ABREAST: Final = 24
TIMEOUT_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call.

    `sees`: "answer", "doubled answer", "empty answer", or the code of the error; `by`: who answered, primary or fallback. `asked`: requests
    that the two providers counted. `billed`: what the primary's provider bills, by its own count. `ours`: how the daemon's
    cost of the call compares with what both providers bill: same, more, less; estimated, when it is not known and what both bill
    lies between what is known and that with the estimate beside it; unknown when not even that.
    """

    sees: str = "answer"
    by: str | None = "fallback"
    asked: tuple[int, int] = (2, 1)
    billed: str = "nothing"
    ours: str = "same"


FINE: Final = Outcome(by="primary", asked=(1, 0), billed="1 whole")
RETRIED: Final = Outcome()
"""Asked again, then elsewhere."""
RETRIED_AT_A_COST: Final = replace(RETRIED, ours="estimated")
"""The same, and nobody said what the failed ones cost."""
ELSEWHERE: Final = Outcome(asked=(1, 1))
"""Not asked again."""
BROKEN_OFF: Final = Outcome("incomplete_stream", None, (1, 0), "1 part", "estimated")
"""Part of the answer was out."""


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, as the end of a model's name, and what should come of it; `but` where a dialect differs."""

    fault: str
    plain: Outcome
    streamed: Outcome
    but: dict[tuple[str, str], Outcome] = field(default_factory=dict)

    def expected(self, dialect: str, way: str) -> Outcome:
        """What should come of it."""
        return self.but.get((dialect, way)) or (self.plain if way == "plain" else self.streamed)

    @property
    def name(self) -> str:
        """The fault without its seconds."""
        return self.fault.partition("=")[0]


_NO_BLOCKS: Final = {
    ("anthropic", way): replace(FINE, sees="empty answer", billed="1 prompt") for way in WAYS
}  # an answer without any content is a legal one there
CASES: Final = (
    Case("rate_limited=0.2", RETRIED, RETRIED),
    Case("rate_limited=60", ELSEWHERE, ELSEWHERE),
    Case("rate_limited_no_hint", RETRIED, RETRIED),
    Case("skewed_clock", RETRIED, RETRIED),
    Case("quota_eaten", RETRIED, RETRIED),
    Case("no_credit", ELSEWHERE, ELSEWHERE, but={("gemini", way): RETRIED for way in WAYS}),  # as any 429 there
    Case("auth", ELSEWHERE, ELSEWHERE),
    Case("error_529", RETRIED, RETRIED),
    Case("error_500", RETRIED_AT_A_COST, RETRIED_AT_A_COST),
    Case("error_502", RETRIED_AT_A_COST, RETRIED_AT_A_COST),
    Case("error_503", RETRIED, RETRIED),
    Case("redirect", ELSEWHERE, ELSEWHERE),
    Case(NOBODY, replace(RETRIED, asked=(0, 1)), replace(RETRIED, asked=(0, 1))),
    Case("refuse", RETRIED_AT_A_COST, RETRIED_AT_A_COST),
    Case("reset", RETRIED_AT_A_COST, RETRIED_AT_A_COST),
    Case("hang", RETRIED_AT_A_COST, RETRIED_AT_A_COST),
    Case("hang=0.3", FINE, FINE),
    Case("slow_first_token=0.3", FINE, FINE),
    Case("slow_first_token=30", replace(RETRIED_AT_A_COST, billed="2 prompts"), replace(RETRIED_AT_A_COST, billed="2 prompts")),
    Case("slow_stream=0.05", FINE, FINE),
    Case("stall=0.3", FINE, FINE),
    Case("stall", replace(RETRIED_AT_A_COST, billed="2 parts"), BROKEN_OFF),
    Case("cut_stream", replace(RETRIED_AT_A_COST, billed="2 parts"), BROKEN_OFF),
    Case("ends_early", FINE, BROKEN_OFF),
    Case("truncated_json", replace(RETRIED_AT_A_COST, billed="2 wholes"), BROKEN_OFF),
    Case("malformed_line", FINE, FINE),
    Case("nonsense", replace(RETRIED_AT_A_COST, billed="2 wholes"), replace(RETRIED_AT_A_COST, billed="2 wholes")),
    Case("stream_error", RETRIED_AT_A_COST, BROKEN_OFF),
    Case("error_in_200", RETRIED_AT_A_COST, RETRIED_AT_A_COST),
    Case("wrong_content_type", RETRIED_AT_A_COST, RETRIED_AT_A_COST),
    Case("empty_choices", replace(RETRIED, billed="2 prompts"), replace(RETRIED, billed="2 prompts"), but=_NO_BLOCKS),
    Case("content_filter", replace(ELSEWHERE, billed="1 prompt"), replace(ELSEWHERE, billed="1 prompt")),
    Case("missing_usage", replace(FINE, ours="estimated"), replace(FINE, ours="estimated")),
    Case("duplicated_chunks", FINE, replace(FINE, sees="doubled answer")),
    Case("duplicated_end", FINE, FINE),
)  # fmt: skip


def each(dialects: tuple[str, ...]) -> Iterator[tuple[str, Case, str]]:
    """All cases: dialect, case, way."""
    return ((dialect, case, way) for dialect in dialects for case in CASES for way in WAYS)


def key_of(dialect: str, case: Case, way: str) -> str:
    """The name of one case's model."""
    return f"{dialect}-{case.fault.replace('=', '-').replace('.', '-')}-{way}"


def run(dialects: tuple[str, ...] = tuple(DIALECTS)) -> dict[tuple[str, str, str], Outcome]:
    """What became of every case, by dialect, fault and way."""
    with (
        tempfile.TemporaryDirectory(prefix="aiorch-faults-") as folder,
        start_simulator(_profile(dialects)) as primary,
        start_simulator("[[models]]\nlatency_s = 0.0\ninput_usd_per_1m = 10.0\noutput_usd_per_1m = 30.0\n") as fallback,
        socket.socket() as nobody,
    ):
        nobody.bind(("127.0.0.1", 0))  # bound and never listening: connections are refused
        config = _config(dialects, primary, fallback, nobody.getsockname()[1])
        with daemon(Path(folder), config, environment={"FAULTS_KEY": "sk-faults"}) as running:
            told = trio.run(_ask_all, running.socket, dialects)
            running.stop()
            with closing(sqlite3.connect(running.state / "metrics.db")) as recorded:
                ours = {
                    task: (cost_usd, known_usd, estimate_usd)
                    for task, cost_usd, known_usd, estimate_usd in recorded.execute(
                        "SELECT task, cost_usd, cost_known_usd, cost_estimate_usd FROM calls"
                    )
                }
        at = {"primary": primary.stats()["by_model"], "fallback": fallback.stats()["by_model"]}
    return {
        (dialect, case.fault, way): _outcome(key_of(dialect, case, way), told, at, ours)
        for dialect, case, way in each(dialects)
    }


def _profile(dialects: tuple[str, ...]) -> str:
    priced = "latency_s = 0.0\ninput_usd_per_1m = 10.0\noutput_usd_per_1m = 30.0\nstream_chunk_tokens = 2\n"
    limited = "requests_per_minute = 600\nburst_s = 0.5\n"
    text = f"[[models]]\n{priced}"
    for dialect, case, way in each(dialects):
        if case.name == "quota_eaten":
            text += f'[[models]]\nname = "{key_of(dialect, case, way)}"\n{priced}{limited}'
    return text


def _config(dialects: tuple[str, ...], primary: Simulator, fallback: Simulator, nobody: int) -> str:
    text = (
        "[retry]\nmax_attempts = 3\nbackoff_s = [0.02]\n"
        f"[timeouts]\nconnect_s = {TIMEOUT_S}\nfirst_byte_s = {TIMEOUT_S}\nidle_s = {TIMEOUT_S}\n"
    )
    for dialect in dialects:
        version = DIALECTS[dialect]
        for role, url in (
            ("primary", primary.url),
            ("fallback", fallback.url),
            ("nobody", f"http://127.0.0.1:{nobody}"),
        ):
            text += f'[providers.{dialect}-{role}]\ndialect = "{dialect}"\nbase_url = "{url}{version}"\napi_key_env = "FAULTS_KEY"\n'
    prices = "input_usd_per_1m = 10.0\noutput_usd_per_1m = 30.0\n"
    for dialect, case, way in each(dialects):
        key = key_of(dialect, case, way)
        role, suffix = ("nobody", "") if case.fault == NOBODY else ("primary", f"+{case.fault}")
        text += f'[[models]]\nname = "{key}"\nid = "{key}{suffix}"\nprovider = "{dialect}-{role}"\nfallback = ["{key}-2"]\n{prices}'
        text += f'[[models]]\nname = "{key}-2"\nid = "{key}"\nprovider = "{dialect}-fallback"\nfallback = []\n{prices}'
    return text


async def _ask_all(address: Path, dialects: tuple[str, ...]) -> dict[str, Any]:
    """Ask each case once: what its caller got, the text with the model's name, or the error."""
    told: dict[str, Any] = {}
    limit = trio.CapacityLimiter(ABREAST)

    async def ask(client: AsyncClient, key: str, way: str) -> None:
        options: dict[str, Any] = {"model": key, "task": key, "cache": "bypass", "timeout_s": 20}
        async with limit:
            try:
                if way == "plain":
                    reply = await client.complete(PROMPT, **options)
                    text = reply.text
                else:
                    stream = client.stream(PROMPT, **options)
                    text = "".join([piece async for piece in stream])
                    reply = stream.reply
                    assert reply.text == text, "the pieces are not the answer"
                told[key] = (text, reply.model)
            except CallError as error:
                told[key] = error

    async with AsyncClient(address) as client, trio.open_nursery() as nursery:
        for dialect, case, way in each(dialects):
            nursery.start_soon(ask, client, key_of(dialect, case, way), way)
    return told


def _outcome(key: str, told: dict[str, Any], at: dict[str, Any], ours: dict[str, Cost]) -> Outcome:
    from aiorchsim.textwork import answer, text_tokens

    whole = answer([{"role": "user", "content": PROMPT}]).text
    got = told[key]
    if isinstance(got, CallError):
        sees, by = got.code, None
    else:
        text, model = got
        sees = {whole: "answer", "": "empty answer", _doubled(whole): "doubled answer"}.get(
            text, f"something else: {text[:80]}"
        )
        by = {key: "primary", f"{key}-2": "fallback"}[model]
    none = {"received": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost_usd": 0.0}
    first, second = (at[role].get(key, none) for role in ("primary", "fallback"))
    prompts, rest = divmod(first["prompt_tokens"], text_tokens(PROMPT) + 7)
    assert rest == 0, first
    both_usd = first["cost_usd"] + second["cost_usd"]
    return Outcome(
        sees=sees,
        by=by,
        asked=(first["received"], second["received"]),
        billed=_billed(prompts, first["completion_tokens"], text_tokens(whole)),
        ours=_compared(ours[key], both_usd),
    )


def _doubled(text: str) -> str:
    return "".join(text[start : start + 8] * 2 for start in range(0, len(text), 8))


def _billed(prompts: int, said: int, whole: int) -> str:
    if not prompts:
        return "nothing" if not said else f"{said} tokens without a prompt"
    what = "prompt" if not said else "whole" if said == prompts * whole else "part"
    return f"{prompts} {what}{'s' if prompts > 1 else ''}"


Cost: TypeAlias = tuple[float | None, float | None, float | None]
"""What the daemon says of a call: all it cost, what of that is known, and the estimate beside it."""


def _compared(cost: Cost, theirs: float) -> str:
    ours, known_usd, estimate_usd = cost
    if ours is None:
        if known_usd is None or estimate_usd is None:
            return "unknown"
        return "estimated" if known_usd <= theirs + 1e-9 and theirs <= known_usd + estimate_usd else "wrongly estimated"
    if abs(ours - theirs) < 1e-9:
        return "same"
    return "more" if ours > theirs else "less"


def page(outcomes: dict[tuple[str, str, str], Outcome]) -> str:
    """The documentation: one line for each fault, more where ways or dialects differ."""
    lines = [_HEAD]
    for case in CASES:
        told = {way: _by_outcome(case, way, outcomes) for way in WAYS}
        for way in ("plain and streamed",) if told["plain"] == told["streamed"] else WAYS:
            same = told[way if way in told else "plain"]
            for outcome, dialects in same.items():
                lines.append(_line(case, way, "all" if len(same) == 1 else ", ".join(dialects), outcome))
    lines.append("\n## What they are\n\n| fault | what the provider does |\n| --- | --- |\n")
    lines += [f"| `{case.fault}` | {_meaning(case)} |\n" for case in CASES]
    return "".join(lines)


def _by_outcome(case: Case, way: str, outcomes: dict[tuple[str, str, str], Outcome]) -> dict[Outcome, list[str]]:
    """The dialects in which each outcome came."""
    same: dict[Outcome, list[str]] = {}
    for dialect in DIALECTS:
        same.setdefault(outcomes[dialect, case.fault, way], []).append(dialect)
    return same


def _line(case: Case, way: str, where: str, outcome: Outcome) -> str:
    first, second = outcome.asked
    seen = f"`{outcome.sees}`" if outcome.by is None else _SEEN[outcome.sees]
    again = {0: "never reached", 1: "once", 2: "twice"}.get(first, f"{first} times")
    where_to = {"primary": "primary", "fallback": "fallback", None: "–"}[outcome.by]
    assert second == (outcome.by == "fallback"), outcome
    return f"| `{case.fault}` | {way} | {where} | {seen} | {again} | {where_to} | {outcome.billed} | {_OURS[outcome.ours]} |\n"


def _meaning(case: Case) -> str:
    if case.fault == NOBODY:
        return "nothing listens at its port: the connection is refused"
    named = fault_named(case.fault)
    assert not isinstance(named, str)
    return f"{named.fault.meaning}{f' (here {named.seconds:g} s)' if '=' in case.fault else ''}"


_SEEN: Final = {
    "answer": "the answer",
    "doubled answer": "the answer, each piece twice: nothing in a stream tells a repeated piece from a new one",
    "empty answer": "an answer without text, which this provider may give",
}
_OURS: Final = {
    "same": "the same",
    "more": "more",
    "estimated": "an estimate",
}
_HEAD: Final = """\
# What becomes of each fault

Written by `make faults` from a run; each line is also a test (`tests/system/test_fault_matrix.py`), whose expectations are
written by hand. One daemon; a call to a model whose provider suffers the fault each time it is asked, and whose fallback is well;
at most three attempts, so two at the primary. How the daemon decides is in [failure.md](failure.md), what the simulator does
in [simulator.md](simulator.md).

| column | tells |
| --- | --- |
| caller sees | the answer, or the code of the error |
| primary asked | how often the primary's provider was sent the call, by its own count |
| answered by | who gave the answer |
| billed by the primary | what the primary's provider bills by its own count: the prompt, and the answer as far as it was sent |
| our cost | what the daemon says that the call cost, beside what both providers bill: the same, or, where an attempt ended without saying what it cost, unknown with an estimate beside what is known: both together are never less than what is billed, and what budgets count |

| fault | call | dialect | caller sees | primary asked | answered by | billed by the primary | our cost |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def missing() -> list[str]:
    """Faults that no case has."""
    return sorted({fault.value for fault in Fault} - {case.name for case in CASES})


if __name__ == "__main__":
    found = run()
    wrong = {
        (dialect, case.fault, way): (found[dialect, case.fault, way], case.expected(dialect, way))
        for dialect, case, way in each(tuple(DIALECTS))
        if found[dialect, case.fault, way] != case.expected(dialect, way)
    }
    for place, (got, wanted) in wrong.items():
        sys.stderr.write(f"{' '.join(place)}:\n  got      {got}\n  expected {wanted}\n")
    if wrong:
        sys.exit(1)
    PAGE.write_text(page(found), encoding="utf-8")
    sys.stdout.write(f"{PAGE}: {len(found)} cases\n")
