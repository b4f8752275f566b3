"""Structured inputs as tools make them, the same ones with other noise, and pairs that differ in meaning.

Three kinds: entries of systemd's journal (``journalctl -o json``, fields as in systemd.journal-fields(7)), entries of an HTTP
archive (HAR 1.2, with the fields that browsers add), and git's own log of repositories that git makes here, as JSON by
``--pretty``. Noise is what comes out differently when the same thing happens again or is fetched again.
"""

from __future__ import annotations

import copy
import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNITS = ("nginx.service", "sshd.service", "cron.service", "postgresql.service", "web.service")
MESSAGES = (
    "Started {unit}.",
    "{unit}: Main process exited, code=exited, status={n}/FAILURE",
    "connection from 10.0.0.{n} port 22 accepted",
    "connection from 10.0.0.{n} port 22 refused",
    "checkpoint complete: wrote {n} buffers",
    "out of memory: killed process of {unit}",
    "GET /items/{n} took too long",
    "disk usage at {n}%",
    "user {n} is not allowed",
    "user {n} is allowed",
)


def hexadecimal(rng: random.Random, digits: int) -> str:
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


def uuid(rng: random.Random) -> str:
    text = hexadecimal(rng, 32)
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def moment(rng: random.Random) -> str:
    return f"2026-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}.{rng.randint(0, 999):03}Z"


def shuffled(members: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    names = list(members)
    rng.shuffle(names)
    return {name: members[name] for name in names}


# --- systemd's journal


def journal_entry(number: int) -> dict[str, Any]:
    unit = UNITS[number % len(UNITS)]
    return {
        "MESSAGE": MESSAGES[number // len(UNITS) % len(MESSAGES)].format(unit=unit, n=number),
        "PRIORITY": str(3 + number % 4),
        "SYSLOG_FACILITY": "3",
        "SYSLOG_IDENTIFIER": unit.removesuffix(".service"),
        "_COMM": unit.removesuffix(".service"),
        "_EXE": f"/usr/sbin/{unit.removesuffix('.service')}",
        "_CMDLINE": f"/usr/sbin/{unit.removesuffix('.service')} --worker {number % 7}",
        "_SYSTEMD_UNIT": unit,
        "_SYSTEMD_SLICE": "system.slice",
        "_SYSTEMD_CGROUP": f"/system.slice/{unit}",
        "_HOSTNAME": f"host{number % 3}",
        "_MACHINE_ID": f"{1 + number % 3:032x}",
        "_UID": str(number % 2 * 33),
        "_GID": "0",
        "_TRANSPORT": "journal",
        "_RUNTIME_SCOPE": "system",
        "_CAP_EFFECTIVE": "1ffffffffff",
    }


def noisy_journal_entry(number: int, rng: random.Random) -> dict[str, Any]:
    at = rng.randint(1_700_000_000_000_000, 1_790_000_000_000_000)
    pid = str(rng.randint(2, 4_000_000))
    boot = hexadecimal(rng, 32)
    return shuffled(
        {
            **journal_entry(number),
            "__CURSOR": f"s={hexadecimal(rng, 32)};i={hexadecimal(rng, 6)};b={boot};m={hexadecimal(rng, 8)};t={hexadecimal(rng, 13)}",
            "__REALTIME_TIMESTAMP": str(at),
            "__MONOTONIC_TIMESTAMP": str(rng.randint(10**6, 10**11)),
            "__SEQNUM": str(rng.randint(1, 10**7)),
            "__SEQNUM_ID": hexadecimal(rng, 32),
            "_SOURCE_REALTIME_TIMESTAMP": str(at - rng.randint(1, 9999)),
            "_BOOT_ID": boot,
            "_PID": pid,
            "SYSLOG_PID": pid,
            "SYSLOG_TIMESTAMP": "Nov 28 05:10:11 ",
            "_SYSTEMD_INVOCATION_ID": hexadecimal(rng, 32),
            "_STREAM_ID": hexadecimal(rng, 32),
        },
        rng,
    )


# --- HTTP archives


def archive_entry(number: int) -> dict[str, Any]:
    failed = number % 4 == 0
    url = f"https://shop{number % 3}.example/api/v1/items/{number}?page={number % 5}&sort={'name' if number % 2 else 'price'}"
    return {
        "_resourceType": "xhr",
        "request": {
            "method": ("GET", "POST", "DELETE")[number % 3],
            "url": url,
            "httpVersion": "HTTP/2",
            "headers": [
                {"name": "Accept", "value": "application/json"},
                {"name": "User-Agent", "value": "Mozilla/5.0 (X11; Linux x86_64)"},
            ],
            "queryString": [
                {"name": "page", "value": str(number % 5)},
                {"name": "sort", "value": "name" if number % 2 else "price"},
            ],
            "cookies": [{"name": "lang", "value": "en"}],
            "bodySize": 0,
        },
        "response": {
            "status": 500 if failed else 200,
            "statusText": "Internal Server Error" if failed else "OK",
            "httpVersion": "HTTP/2",
            "headers": [
                {"name": "content-type", "value": "application/json"},
                {"name": "cache-control", "value": "no-store"},
            ],
            "content": {
                "size": 27,
                "mimeType": "application/json",
                "text": f'{{"item": {number}, "stock": {number % 9}}}',
            },
            "redirectURL": "",
            "bodySize": 27,
        },
    }


def noisy_archive_entry(number: int, rng: random.Random) -> dict[str, Any]:
    entry = archive_entry(number)
    request, response = entry["request"], entry["response"]
    tracking = f"utm_source=mail{rng.randint(1, 9)}&_={rng.randint(10**12, 10**13 - 1)}&gclid={hexadecimal(rng, 20)}"
    request["url"] += f"&{tracking}"
    request["queryString"] += [
        {"name": "utm_source", "value": "mail"},
        {"name": "_", "value": str(rng.randint(10**12, 10**13 - 1))},
    ]
    session = hexadecimal(rng, 32)
    request["headers"] += [
        {"name": "X-Request-Id", "value": uuid(rng)},
        {"name": "traceparent", "value": f"00-{hexadecimal(rng, 32)}-{hexadecimal(rng, 16)}-01"},
        {"name": "If-None-Match", "value": f'"{hexadecimal(rng, 16)}"'},
        {"name": "Cookie", "value": f"lang=en; sid={session}a1"},
    ]
    request["cookies"].append({"name": "sid", "value": f"{session}a1", "expires": moment(rng)})
    request["headersSize"] = rng.randint(300, 900)
    response["headers"] += [
        {"name": "date", "value": "Sat, 28 Nov 2026 05:10:11 GMT"},
        {"name": "etag", "value": f'W/"{hexadecimal(rng, 16)}"'},
        {"name": "cf-ray", "value": f"{hexadecimal(rng, 16)}-FRA"},
        {"name": "age", "value": str(rng.randint(0, 9999))},
    ]
    response["headersSize"] = rng.randint(300, 900)
    response["_transferSize"] = rng.randint(300, 900)
    for side in (request, response):
        rng.shuffle(side["headers"])
    rng.shuffle(request["queryString"])
    return shuffled(
        {
            **entry,
            "startedDateTime": moment(rng),
            "time": rng.uniform(5, 900),
            "timings": {
                name: rng.uniform(0, 100) for name in ("blocked", "dns", "connect", "ssl", "send", "wait", "receive")
            },
            "connection": str(rng.randint(1, 99999)),
            "pageref": f"page_{rng.randint(1, 9)}",
            "_requestId": f"{rng.randint(1, 9999)}.{rng.randint(1, 9999)}",
            "cache": {},
        },
        rng,
    )


# --- git's log

_PRETTY = (
    '{"commit": "%H", "abbreviated_commit": "%h", "tree": "%T", "parents": "%P", "subject": "%s", '
    '"author": {"name": "%aN", "email": "%aE", "date": "%aI"}, '
    '"committer": {"name": "%cN", "email": "%cE", "date": "%cI"}}'
)
VERBS = ("add", "remove", "rename", "fix", "revert")


def git_log(folder: Path, rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Let git make the same history once more (other moments, so other hashes throughout), and tell it."""
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True, capture_output=True)
    stream = []
    for number in range(count):
        at = f"{1_700_000_000 + rng.randint(0, 80_000_000)} +0000"
        name = f"Ann{number % 4}"
        subject = f"{VERBS[number % 5]} the column price_{number} of table {number % 7}"
        content = f"{number}\n"
        stream.append(
            f"commit refs/heads/main\nauthor {name} <{name}@example.org> {at}\ncommitter {name} <{name}@example.org> {at}\n"
            f"data {len(subject)}\n{subject}\nM 100644 inline file{number % 3}\ndata {len(content)}\n{content}\n"
        )
    git = ["git", "-C", str(folder)]
    subprocess.run([*git, "fast-import", "--quiet"], input="".join(stream), text=True, check=True, capture_output=True)
    pretty = f"--pretty=format:{_PRETTY}"
    log = subprocess.run([*git, "log", "--reverse", pretty, "main"], text=True, check=True, capture_output=True).stdout
    return [json.loads(line) for line in log.splitlines()]


# --- all together


def noisy_inputs(folder: Path, *, distinct: int, requests: int, seed: int) -> list[tuple[str, dict[str, Any]]]:
    """Give so many inputs of so many distinct ones, each with noise of its own, in any order; with what each one is."""
    rng = random.Random(seed)
    each = distinct // 3
    logs: list[list[dict[str, Any]]] = []
    made: list[tuple[str, dict[str, Any]]] = []
    for number in range(requests):
        which = number % distinct
        kind, place = divmod(which, each)
        again = number // distinct
        if kind == 0:
            made.append((f"journal {place}", noisy_journal_entry(place, rng)))
        elif kind == 1:
            made.append((f"archive {place}", noisy_archive_entry(place, rng)))
        else:
            while len(logs) <= again:
                logs.append(git_log(folder / f"repository{len(logs)}", rng, each))
            made.append((f"git {place}", logs[again][place]))
    rng.shuffle(made)
    return made


Change = Callable[[dict[str, Any], int], None]


def _set(*path: Any, to: Callable[[Any, int], Any]) -> Change:
    def change(entry: dict[str, Any], number: int) -> None:
        place: Any = entry
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to(place[path[-1]], number)

    return change


def _digit(text: str, number: int) -> str:
    """Change one digit, or add one."""
    for at, character in enumerate(text):
        if character.isdigit():
            return f"{text[:at]}{(int(character) + 1 + number % 8) % 10}{text[at + 1 :]}"
    return f"{text} 1"


def _header(side: str, name: str, value: str) -> Change:
    def change(entry: dict[str, Any], number: int) -> None:
        entry[side]["headers"] = [one for one in entry[side]["headers"] if one["name"].lower() != name.lower()]
        entry[side]["headers"].append({"name": name, "value": f"{value}{number}"})

    return change


JOURNAL_CHANGES: tuple[Change, ...] = (
    _set("MESSAGE", to=_digit),
    _set("MESSAGE", to=lambda text, _: f"not {text}"),
    _set("PRIORITY", to=lambda text, _: str(int(text) % 7 + 1)),
    _set("_SYSTEMD_UNIT", to=lambda text, _: f"other-{text}"),
    _set("_HOSTNAME", to=lambda text, _: f"{text}b"),
    _set("_MACHINE_ID", to=_digit),
    _set("_UID", to=lambda text, _: str(int(text) + 1)),
    _set("_CMDLINE", to=_digit),
    _set("SYSLOG_IDENTIFIER", to=lambda text, _: text.upper()),
    lambda entry, number: entry.update({"EXIT_STATUS": str(number)}),
)
ARCHIVE_CHANGES: tuple[Change, ...] = (
    _set("request", "method", to=lambda text, _: "PUT"),
    _set("request", "url", to=lambda text, _: text.replace("/items/", "/orders/")),
    _set("request", "url", to=lambda text, _: text.replace("page=", "page=1")),
    _set("request", "url", to=lambda text, _: text.replace("shop", "api")),
    _set("response", "status", to=lambda status, number: status + 1 + number % 3),
    _set("response", "content", "text", to=lambda text, _: text.replace('"stock": ', '"stock": 1')),
    _set("response", "content", "mimeType", to=lambda text, _: "text/html"),
    _set("response", "content", "size", to=lambda size, number: size * 10 + number),
    _header("request", "Authorization", "Bearer user"),
    _header("response", "content-type", "text/html; v="),
)
GIT_CHANGES: tuple[Change, ...] = (
    _set("subject", to=_digit),
    _set("subject", to=lambda text, _: f"do not {text}"),
    _set("subject", to=lambda text, _: text.replace("the", "no")),
    _set("author", "name", to=lambda text, _: f"{text} B"),
    _set("author", "email", to=lambda text, _: f"b{text}"),
    _set("committer", "name", to=lambda text, _: f"{text} B"),
    _set("subject", to=lambda text, _: f"Revert {text}"),
    _set("author", "name", to=_digit),
    lambda entry, number: entry.update({"files": number}),
    lambda entry, number: entry.update({"body": f"Fixes #{number}"}),
)


def pairs_that_differ(folder: Path, *, count: int, seed: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Give pairs of inputs whose noise differs and besides one thing that means something."""
    rng = random.Random(seed)
    each = count // 3
    first, second = (git_log(folder / f"pair{number}", rng, each) for number in range(2))
    pairs = []
    for number in range(each):
        for kind, changes in enumerate((JOURNAL_CHANGES, ARCHIVE_CHANGES, GIT_CHANGES)):
            if kind == 0:
                one, other = noisy_journal_entry(number, rng), noisy_journal_entry(number, rng)
            elif kind == 1:
                one, other = noisy_archive_entry(number, rng), noisy_archive_entry(number, rng)
            else:
                one, other = first[number], copy.deepcopy(second[number])
            changes[number % len(changes)](other, number)
            pairs.append((one, other))
    return pairs
