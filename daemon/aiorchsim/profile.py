"""The profile of a simulated provider: a TOML file, checked completely, every problem told at once.

`[sim]` holds what concerns the provider as a whole, each `[[models]]` one model. Every key has a default, so that an
empty profile is one model called "*" (which answers to any name) with a small latency and no limits. `aiorchsim
--print-profile` prints all keys with their meaning. Keys that both know are called as in `aiorch.toml`.
"""

import dataclasses
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from aiorchsim.faults import Fault

ANY_MODEL: Final = "*"
HEADER_MODES: Final = ("full", "retry_after", "none")
REPLAY_MISSING: Final = ("error", "compute")


class ProfileError(Exception):
    """A profile that cannot be used; `problems` holds one line for each thing that is wrong, with its place and
    remedy.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _key(
    default: Any,
    meaning: str,
    *,
    kind: type = float,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A key of the profile: default (None: may be absent), meaning with unit and consequence, type, bounds or
    choices.
    """
    facts = {"meaning": meaning, "kind": kind, "least": least, "above": above, "most": most, "choices": choices}
    return dataclasses.field(default=default, metadata=facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """One model of the provider, or all that have no entry of their own when its name is "*"."""

    name: str = _key(ANY_MODEL, 'what requests call the model; "*" answers to any name', kind=str)
    latency_s: float = _key(
        0.05, "seconds from the request to a whole answer, before what the next keys add", least=0, most=3600
    )
    latency_jitter_s: float = _key(
        0.0, "added to it: an even draw from minus to plus this many seconds", least=0, most=3600
    )
    latency_per_output_token_s: float = _key(
        0.0, "seconds for each token of the answer, streamed or not", least=0, most=60
    )
    first_token_s: float | None = _key(
        None, "seconds to the first token of a stream; latency_s when absent", least=0, most=3600
    )
    stream_chunk_tokens: int = _key(4, "tokens in one event of a stream", kind=int, least=1, most=10_000)
    requests_per_minute: int | None = _key(
        None, "requests let in a minute, as a token bucket; no limit when absent", kind=int, above=0
    )
    tokens_per_minute: int | None = _key(None, "prompt and answer tokens let in a minute, likewise", kind=int, above=0)
    burst_s: float = _key(10.0, "seconds' worth of these rates that may be used at once", above=0, most=3600)
    count_refused: bool = _key(False, "whether a request answered 429 uses up the limit of requests too", kind=bool)
    rate_limit_headers: str | None = _key(
        None, "what responses tell of the limits: as under [sim] when absent", kind=str, choices=HEADER_MODES
    )
    context_tokens: int | None = _key(
        None, "longest prompt; a longer one is answered 400 context_length_exceeded", kind=int, above=0
    )
    error_rate: float = _key(0.0, "share of requests answered 500, after their latency", least=0, most=1)
    fault: str | None = _key(None, "a named fault that all requests suffer", kind=str, choices=tuple(Fault))
    fault_rate: float = _key(1.0, "share of requests that suffer it", least=0, most=1)
    fault_first: int | None = _key(
        None, "only so many of the first requests suffer it; all when absent", kind=int, least=0
    )
    fault_retry_after_s: float = _key(1.0, "what the fault rate_limited says in retry-after", least=0, most=86_400)
    input_usd_per_1m: float = _key(0.0, "price of a million prompt tokens", least=0, most=1e6)
    output_usd_per_1m: float = _key(0.0, "price of a million answer tokens", least=0, most=1e6)
    quality: float = _key(
        1.0, "share of texts answered right; which ones follows from seed, model and text", least=0, most=1
    )
    embedding_dimensions: int = _key(256, "length of vectors when the request names none", kind=int, least=1, most=4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A whole provider."""

    seed: int = _key(0, "decides which answers are wrong, jitter, errors; --seed wins", kind=int)
    rate_limit_headers: str = _key(
        "full",
        "full: x-ratelimit-* on responses of a limited model and retry-after on 429; retry_after: the latter; none: neither",
        kind=str,
        choices=HEADER_MODES,
    )
    replay: str | None = _key(
        None,
        "a JSONL file, relative to this one, to answer from: {model, prompt, answer} and more (see replay)",
        kind=str,
    )
    replay_missing: str = _key(
        "error",
        "a prompt that the replay has no row for: error: 404; compute: answered as without a replay",
        kind=str,
        choices=REPLAY_MISSING,
    )
    api_keys: tuple[str, ...] = _key((), "bearer tokens to accept; any and none are accepted when empty", kind=tuple)
    max_body_bytes: int = _key(
        16 * 1024 * 1024, "largest request body; a larger one is answered 413", kind=int, least=1024, most=2**31
    )
    keep_alive_s: float = _key(0.0, "idle seconds after which a connection is closed; 0: never", least=0, most=86_400)
    models: tuple[ModelProfile, ...] = (ModelProfile(),)


def load(path: Path) -> Profile:
    """Read and check a profile. Raises ProfileError (all that is wrong with it) or OSError (it cannot be read)."""
    try:
        document = tomllib.loads(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ProfileError([f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ProfileError([f"{path}: not TOML: {error}"]) from error
    profile = read(document, where=str(path))
    if profile.replay is None:
        return profile
    return dataclasses.replace(profile, replay=str(path.parent / profile.replay))


def read(document: Mapping[str, Any], *, where: str = "profile") -> Profile:
    """Check a decoded profile. Raises ProfileError with every problem it has."""
    problems: list[str] = []
    sections = ("sim", "models")
    problems += [f"{key}: unknown section{_nearest(key, sections)}" for key in document if key not in sections]
    section = document.get("sim", {})
    if not isinstance(section, dict):
        problems.append("sim: must be a table: [sim]")
        section = {}
    profile = _record(Profile, section, "sim", problems)
    entries = document.get("models", [{}])
    if not (isinstance(entries, list) and entries and all(isinstance(entry, dict) for entry in entries)):
        problems.append("models: must be one or more tables, each begun with [[models]]")
        entries = []
    models = tuple(_record(ModelProfile, entry, f"models[{index}]", problems) for index, entry in enumerate(entries))
    names = [model.name for model in models]
    for index, name in enumerate(names):
        if name in names[:index]:
            problems.append(f'models[{index}].name: "{name}" has an entry already; give each model one')
    if problems:
        raise ProfileError([f"{where}: {problem}" for problem in problems])
    return dataclasses.replace(profile, models=models)


def explained() -> str:
    """A profile with every key at its default, commented: the reference manual."""
    lines = [
        "# A simulated provider. Every key is optional; a key that has no default is shown commented out.",
        "[sim]",
    ]
    lines += [line for field in dataclasses.fields(Profile) if field.name != "models" for line in _explained_key(field)]
    lines += ["", "# One table for each model.", "[[models]]"]
    lines += [line for field in dataclasses.fields(ModelProfile) for line in _explained_key(field)]
    return "\n".join(lines) + "\n"


_Record = TypeVar("_Record", Profile, ModelProfile)


def _record(record: type[_Record], table: Mapping[str, Any], where: str, problems: list[str]) -> _Record:
    fields = {field.name: field for field in dataclasses.fields(record) if field.name != "models"}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            problems.append(f"{where}.{key}: unknown key{_nearest(key, tuple(fields))}")
            continue
        problem = _problem(fields[key].metadata, value)
        if problem:
            problems.append(f"{where}.{key}: {problem}, got {_shown(value)}")
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    return record(**values)


def _problem(facts: Mapping[str, Any], value: Any) -> str:
    kind = facts["kind"]
    if kind is tuple:
        fine = isinstance(value, list) and all(isinstance(element, str) and element.isprintable() for element in value)
        return "" if fine else "must be an array of strings"
    if kind is bool:
        return "" if isinstance(value, bool) else "must be true or false"
    if kind is str:
        if not isinstance(value, str) or not value:
            return "must be a string that is not empty"
        choices = facts["choices"]
        return (
            f"must be one of {', '.join(choices)}{_nearest(value, choices)}" if choices and value not in choices else ""
        )
    allowed = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not math.isfinite(value):
        return "must be a whole number" if kind is int else "must be a number"
    if facts["least"] is not None and value < facts["least"]:
        return f"must be at least {facts['least']}"
    if facts["above"] is not None and value <= facts["above"]:
        return f"must be more than {facts['above']}; leave it out for no limit"
    if facts["most"] is not None and value > facts["most"]:
        return f"must be at most {facts['most']}"
    return ""


def _nearest(word: str, known: tuple[str, ...]) -> str:
    from difflib import get_close_matches

    if word == "prices" and "input_usd_per_1m" in known:
        return "; write input_usd_per_1m and output_usd_per_1m, as in aiorch.toml"
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _explained_key(field: "dataclasses.Field[Any]") -> list[str]:
    facts = field.metadata
    bounds = [
        f"{word} {facts[key]}"
        for key, word in (("least", "at least"), ("above", "more than"), ("most", "at most"))
        if facts[key] is not None
    ]
    if facts["choices"]:
        bounds.append(" | ".join(facts["choices"]))
    meaning = f"# {facts['meaning']}" + (f" ({', '.join(bounds)})" if bounds else "")
    if field.default is None:
        example = {int: "0", float: "0.0", str: '""'}[cast("type", facts["kind"])]
        return [meaning, f"# {field.name} = {example}"]
    return [meaning, f"{field.name} = {_toml(field.default)}"]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
    return "[]" if isinstance(value, tuple) else str(value)
