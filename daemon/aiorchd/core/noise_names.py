"""Which fields of structured data are noise by what they are called: the default rules of the normalised depth.

Idea. A value is taken for noise when its name *and* its form say so, or when the map it stands in is of a kind whose fields are
known: an entry of systemd's journal, of an HTTP archive (HAR), of a list of git's commits, or a record of a log. Names of
things (``customer_id``, ``order_id``), plain numbers under ``id``, dates without a time of day, and moments that are somebody's
intention (``due_at``, ``expires_at``) are meaning, and so is everything that is not listed: a missed saving costs a call, a
wrong one answers the wrong question.

Sources: systemd.journal-fields(7), the HAR 1.2 specification, git-log(1), W3C Trace Context; for query parameters the lists
that browsers strip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeAlias

Noise: TypeAlias = Literal["moment", "id", "token", "measurement", "address"]
"""A moment of observation; the id of a request or a process; one that counts only where it is a UUID or the like; how long
something took; where a record stands. What is an id stays told apart from others of its name in the same input."""

_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")

_IDS: Final = frozenset(
    (
        "request_id req_id x_request_id requestid trace_id traceid span_id spanid parent_span_id correlation_id "
        "correlationid x_correlation_id session_id sessionid connection_id conn_id invocation_id nonce csrf_token "
        "xsrf_token csrfmiddlewaretoken authenticity_token idempotency_key traceparent tracestate etag request_uuid"
    ).split()
)
_TOKENS: Final = frozenset(
    "id uuid guid uid event_id message_id log_id run_id execution_id record_id batch_id delivery_id".split()
)
_MOMENTS: Final = frozenset(
    (
        "timestamp time_stamp ts fetched_at fetched retrieved_at crawled_at scraped_at downloaded_at "
        "captured_at collected_at recorded_at logged_at observed_at received_at seen_at last_seen last_seen_at "
        "accessed_at last_accessed last_accessed_at requested_at queried_at generated_at exported_at processed_at "
        "ingested_at indexed_at created_at updated_at modified_at last_modified last_updated event_time log_time "
        "request_time received_time time_local time_iso8601 started_date_time"
    ).split()
)
_JOURNAL: Final[Mapping[str, Noise]] = {
    "__CURSOR": "address",
    "__SEQNUM": "address",
    "__SEQNUM_ID": "address",
    "__REALTIME_TIMESTAMP": "moment",
    "__MONOTONIC_TIMESTAMP": "moment",
    "_SOURCE_REALTIME_TIMESTAMP": "moment",
    "_SOURCE_MONOTONIC_TIMESTAMP": "moment",
    "_SOURCE_BOOTTIME_TIMESTAMP": "moment",
    "SYSLOG_TIMESTAMP": "moment",
    "COREDUMP_TIMESTAMP": "moment",
    "SYSLOG_RAW": "address",
    "_BOOT_ID": "id",
    "_PID": "id",
    "SYSLOG_PID": "id",
    "OBJECT_PID": "id",
    "COREDUMP_PID": "id",
    "TID": "id",
    "THREAD_ID": "id",
    "_SYSTEMD_INVOCATION_ID": "id",
    "INVOCATION_ID": "id",
    "USER_INVOCATION_ID": "id",
    "_AUDIT_SESSION": "id",
    "_AUDIT_ID": "id",
    "_SYSTEMD_SESSION": "id",
    "SESSION_ID": "id",
    "_STREAM_ID": "id",
    "JOB_ID": "id",
}
_ARCHIVE: Final[Mapping[str, Noise]] = {
    "startedDateTime": "moment",
    "time": "measurement",
    "timings": "measurement",
    "pageTimings": "measurement",
    "connection": "id",
    "pageref": "id",
    "_requestId": "id",
    "_connectionId": "id",
    "_request_id": "id",
}
_MESSAGE: Final[Mapping[str, Noise]] = {"headersSize": "measurement", "_transferSize": "measurement"}
_KEPT_BY_BROWSER: Final[Mapping[str, Noise]] = {
    "lastAccess": "moment",
    "hitCount": "measurement",
    "eTag": "id",
    "expires": "moment",
}
_COMMIT_HASHES: Final = ("commit", "hash", "sha", "oid", "id", "commit_hash", "commit_id", "revision")
_COMMIT: Final[Mapping[str, Noise]] = {
    **dict.fromkeys(_COMMIT_HASHES, "id"),
    **dict.fromkeys(
        (
            "abbreviated_commit abbreviated_hash abbrev_hash abbrev short_hash short_sha short tree abbreviated_tree "
            "tree_hash parent parents abbreviated_parents parent_hashes"
        ).split(),
        "id",
    ),
    **dict.fromkeys(
        (
            "date time timestamp author_date authored_date author_time author_timestamp committer_date commit_date "
            "committed_date committer_time commit_time commit_timestamp committer_timestamp"
        ).split(),
        "moment",
    ),
}
_SIGNATURE: Final[Mapping[str, Noise]] = dict.fromkeys(("date", "time", "timestamp", "when"), "moment")
_LOG: Final[Mapping[str, Noise]] = {
    **dict.fromkeys(("time", "t", "datetime", "asctime"), "moment"),
    **dict.fromkeys(("pid", "tid", "process", "process_id", "thread_id", "thread", "seq", "sequence"), "id"),
}
_LEVELS: Final = frozenset(("level", "severity", "loglevel", "log_level", "levelname"))
_SAID: Final = frozenset(("message", "msg"))
_COMMIT_WORDS: Final = frozenset(
    "message subject body title author author_name author_email committer committer_name sanitized_subject_line".split()
)

_HEADERS: Final = frozenset(
    (
        "date age expires last-modified etag if-none-match if-modified-since x-request-id x-correlation-id x-trace-id "
        "x-amzn-requestid x-amzn-trace-id x-amz-request-id x-amz-id-2 x-amz-cf-id x-b3-traceid x-b3-spanid "
        "x-b3-parentspanid traceparent tracestate cf-ray x-runtime x-response-time x-timer x-served-by x-cache-hits "
        "server-timing x-varnish x-github-request-id x-vercel-id x-fastly-request-id x-guploader-uploadid x-csrf-token "
        "x-xsrf-token report-to nel sec-websocket-key sec-websocket-accept"
    ).split()
)
_PARAMETERS: Final = (
    "utm_*", "gclid", "gclsrc", "dclid", "gbraid", "wbraid", "fbclid", "msclkid", "yclid", "twclid", "ttclid", "li_fat_id",
    "igshid", "mc_cid", "mc_eid", "_ga", "_gl", "_hsenc", "_hsmi", "vero_id", "oly_anon_id", "oly_enc_id", "wickedid",
    "cachebuster", "cache_buster", "cachebust", "nocache", "no_cache", "request_id", "requestid", "trace_id", "nonce",
    "csrf_token", "session_id", "sessionid", "phpsessid", "jsessionid", "correlation_id",
)  # fmt: skip
_COUNTED_PARAMETERS: Final = frozenset(
    ("_", "_t", "t", "ts", "cb", "rnd", "rand", "random", "timestamp", "v_t", "bust")
)
"""Only with a number of ten digits and more, or a fraction: the clock, or chance."""

_SET_LIKE: Final = frozenset("tags labels keywords categories topics scopes roles groups permissions".split())

_UUID: Final = re.compile(r"(?i)[{]?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}[}]?")
_RANDOM: Final = re.compile(r"(?=.*[0-9])(?:[0-9a-f]{16,128}|[0-9A-F]{16,128}|[0-7][0-9A-HJKMNP-TV-Z]{25})")
"""Hexadecimal, or a ULID; a number of sixteen digits is none (see `is_token`)."""
_HASH: Final = re.compile(r"[0-9a-f]{7,64}")
_MOMENT_TEXT: Final = re.compile(
    r"""(?xi)
      \d{4}-\d\d-\d\d [T\ _] \d\d:\d\d (:\d\d ([.,]\d+)?)? (\ ?(Z|UTC|GMT|[+-]\d\d:?\d\d))?
    | \d{4}/\d\d/\d\d \ \d\d:\d\d:\d\d ([.,]\d+)?
    | ((mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\ )?
      \d{1,2} [\ /-] [a-z]{3} [\ /-] \d{4} [\ :] \d\d:\d\d (:\d\d)? (\ ([A-Z]{1,5}|[+-]\d{4}))?
    | (mon|tue|wed|thu|fri|sat|sun)\ [a-z]{3}\ +\d{1,2}\ \d\d:\d\d:\d\d (\ [A-Z]{1,5})? \ \d{4} (\ [+-]\d{4})?
    | [a-z]{3}\ +\d{1,2}\ \d\d:\d\d:\d\d
    """
)
_EPOCHS: Final = ((10**9, 10**10), (10**12, 10**13), (10**15, 10**16), (10**18, 10**19))
"""Seconds, milliseconds, microseconds and nanoseconds since 1970, from 2001 on."""


def plain_name(name: str) -> str:
    """Write a name in one way: ``startedDateTime``, ``X-Request-Id`` and ``@timestamp`` as words with ``_`` between."""
    return "_".join(word for word in _WORD.split(name) if word).lower()


def noise_of_name(name: str) -> Noise | None:
    """Tell what a field of this name holds in any map, if that is noise; its form must agree (see `agrees`)."""
    plain = plain_name(name)
    if plain in _IDS:
        return "id"
    if plain in _MOMENTS:
        return "moment"
    return "token" if plain in _TOKENS else None


def kind_of_map(members: Mapping[str, Any]) -> Mapping[str, Noise] | None:
    """Recognise what a map is, by its members: gives the noise of its kind, or None."""
    if "__REALTIME_TIMESTAMP" in members or "__CURSOR" in members:
        return _JOURNAL
    if "startedDateTime" in members:
        return {**_ARCHIVE, "id": "id"} if "pageTimings" in members else _ARCHIVE
    if "headersSize" in members and "headers" in members:
        return _MESSAGE
    if "hitCount" in members and "lastAccess" in members:
        return _KEPT_BY_BROWSER
    if not _COMMIT_WORDS.isdisjoint(members):
        for name in _COMMIT_HASHES:
            value = members.get(name)
            if isinstance(value, str) and 7 <= len(value) <= 64 and _HASH.fullmatch(value):
                return _COMMIT
    if not _SAID.isdisjoint(members) and not _LEVELS.isdisjoint(members):
        return _LOG
    return None


def kind_below(kind: Mapping[str, Noise] | None, name: str) -> Mapping[str, Noise] | None:
    """Tell what a map inside a known one is by its place there."""
    return _SIGNATURE if kind is _COMMIT and name in ("author", "committer", "tagger") else None


def is_known_kind(kind: Mapping[str, Noise] | None) -> bool:
    """Tell whether the kind alone decides: in a log's record the form of the value must agree, too."""
    return kind is not None and kind is not _LOG


def agrees(noise: Noise, value: Any) -> bool:
    """Tell whether the form of a value fits what its name says."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return False
    if noise == "moment":
        return is_moment(value)
    if noise == "token":
        return isinstance(value, str) and is_token(value)
    return not isinstance(value, str) or (0 < len(value) <= 200 and not any(map(str.isspace, value)))


def is_moment(value: Any) -> bool:
    """Tell whether a value is a date with a time of day, or a number of seconds and so on since 1970."""
    if isinstance(value, str):
        if value.isascii() and value.replace(".", "", 1).isdigit() and len(value) <= 30:
            return _is_epoch(float(value))
        return len(value) <= 64 and _MOMENT_TEXT.fullmatch(value.strip()) is not None
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _is_epoch(float(value))


def _is_epoch(number: float) -> bool:
    return any(low <= number < high for low, high in _EPOCHS)


def is_token(text: str) -> bool:
    """Tell whether a text is a UUID, a ULID, or hexadecimal of 16 digits and more that is no plain number."""
    if not 16 <= len(text) <= 128 or text.isdigit():
        return False
    return _UUID.fullmatch(text) is not None or _RANDOM.fullmatch(text) is not None


def is_noise_header(name: str) -> bool:
    """Tell whether an HTTP header says nothing of what was asked or answered."""
    return name.lower() in _HEADERS


def is_noise_parameter(name: str, value: str, further: tuple[str, ...] = ()) -> bool:
    """Tell whether a query parameter of a URL does not change what it means; ``further`` are patterns of names."""
    lower = name.lower()
    if any(fnmatchcase(lower, pattern) for pattern in _PARAMETERS) or any(fnmatchcase(name, one) for one in further):
        return True
    return lower in _COUNTED_PARAMETERS and re.fullmatch(r"\d{10,20}|0\.\d{6,}|[0-9a-f]{16,64}", value) is not None


def is_set_like(name: str) -> bool:
    """Tell whether a list of this name has no order that means anything."""
    return plain_name(name) in _SET_LIKE


def is_id_name(name: str) -> bool:
    """Tell whether a field is called id, or ends in it."""
    plain = plain_name(name)
    return plain in ("id", "uuid", "guid") or plain.endswith(("_id", "_uuid", "_guid"))
