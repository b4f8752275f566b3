"""The profile of a simulated provider: a TOML file, checked completely, every problem told at once.

`[sim]` holds what concerns the provider as a whole, each `[[models]]` one model, each `[[faults]]` a rule by which calls
suffer. Every key has a default, so that an
empty profile is one model called "*" (which answers to any name) with a small latency and no limits. `aiorchsim
--print-profile` prints all keys with their meaning. Keys that both know are called as in `aiorch.toml`.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiorchsim.fault_rules import FaultRule, read_rules
from aiorchsim.faults import Fault
from aiorchsim.keys import explained_key, key, nearest, read_record
from aiorchsim.textwork.together import BatchFault, Weakness

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """One model of the provider, or all that have no entry of their own when its name is "*"."""

    name: str = key(ANY_MODEL, 'what requests call the model; "*" answers to any name', kind=str)
    latency_s: float = key(
        0.05, "seconds from the request to a whole answer, before what the next keys add", least=0, most=3600
    )
    latency_jitter_s: float = key(
        0.0, "added to it: an even draw from minus to plus this many seconds", least=0, most=3600
    )
    latency_per_output_token_s: float = key(
        0.0, "seconds for each token of the answer, streamed or not", least=0, most=60
    )
    first_token_s: float | None = key(
        None, "seconds to the first token of a stream; latency_s when absent", least=0, most=3600
    )
    stream_chunk_tokens: int = key(4, "tokens in one event of a stream", kind=int, least=1, most=10_000)
    requests_per_minute: int | None = key(
        None, "requests let in a minute, as a token bucket; no limit when absent", kind=int, above=0
    )
    tokens_per_minute: int | None = key(None, "prompt and answer tokens let in a minute, likewise", kind=int, above=0)
    burst_s: float = key(10.0, "seconds' worth of these rates that may be used at once", above=0, most=3600)
    count_refused: bool = key(False, "whether a request answered 429 uses up the limit of requests too", kind=bool)
    rate_limit_headers: str | None = key(
        None, "what responses tell of the limits: as under [sim] when absent", kind=str, choices=HEADER_MODES
    )
    context_tokens: int | None = key(
        None, "longest prompt; a longer one is answered 400 context_length_exceeded", kind=int, above=0
    )
    error_rate: float = key(0.0, "share of requests answered 500, after their latency", least=0, most=1)
    fault: str | None = key(None, "a named fault that all requests suffer", kind=str, choices=tuple(Fault))
    fault_rate: float = key(1.0, "share of requests that suffer it", least=0, most=1)
    fault_first: int | None = key(
        None, "only so many of the first requests suffer it; all when absent", kind=int, least=0
    )
    fault_retry_after_s: float = key(1.0, "what the fault rate_limited says in retry-after", least=0, most=86_400)
    input_usd_per_1m: float = key(0.0, "price of a million prompt tokens", least=0, most=1e6)
    output_usd_per_1m: float = key(0.0, "price of a million answer tokens", least=0, most=1e6)
    cache_read_usd_per_1m: float | None = key(
        None,
        "price of a million prompt tokens that the prompt cache gave; input_usd_per_1m when absent",
        least=0,
        most=1e6,
    )
    cache_write_usd_per_1m: float | None = key(
        None,
        "price of a million that it kept for five minutes (Anthropic); input_usd_per_1m when absent",
        least=0,
        most=1e6,
    )
    cache_write_1h_usd_per_1m: float | None = key(
        None, "price of a million that it kept for an hour; cache_write_usd_per_1m when absent", least=0, most=1e6
    )
    quality: float = key(
        1.0, "share of texts answered right; which ones follows from seed, model and text", least=0, most=1
    )
    batch_loss: float = key(
        0.0,
        "many items asked in one prompt: share of their answers that get wrong with each further item",
        least=0,
        most=1,
    )
    batch_unharmed: int = key(1, "so many items may stand in one prompt before batch_loss begins", kind=int, least=1)
    batch_fault: str | None = key(
        None, "what comes out of form in the answer to many items", kind=str, choices=tuple(BatchFault)
    )
    batch_fault_rate: float = key(
        1.0,
        "share of prompts with more than one item that suffer it; which ones follows from their texts",
        least=0,
        most=1,
    )
    embedding_dimensions: int = key(256, "length of vectors when the request names none", kind=int, least=1, most=4096)

    def weakness(self) -> Weakness:
        """How much worse it is at many items in one prompt."""
        fault = None if self.batch_fault is None else BatchFault(self.batch_fault)
        return Weakness(self.batch_loss, self.batch_unharmed, fault, self.batch_fault_rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A whole provider."""

    seed: int = key(0, "decides which answers are wrong, jitter, errors; --seed wins", kind=int)
    rate_limit_headers: str = key(
        "full",
        "full: x-ratelimit-* on responses of a limited model and retry-after on 429; retry_after: the latter; none: neither",
        kind=str,
        choices=HEADER_MODES,
    )
    replay: str | None = key(
        None,
        "a JSONL file, relative to this one, to answer from: {model, prompt, answer} and more (see replay)",
        kind=str,
    )
    replay_missing: str = key(
        "error",
        "a prompt that the replay has no row for: error: 404; compute: answered as without a replay",
        kind=str,
        choices=REPLAY_MISSING,
    )
    api_keys: tuple[str, ...] = key((), "API keys to accept; any and none are accepted when empty", kind=tuple)
    max_body_bytes: int = key(
        16 * 1024 * 1024, "largest request body; a larger one is answered 413", kind=int, least=1024, most=2**31
    )
    keep_alive_s: float = key(0.0, "idle seconds after which a connection is closed; 0: never", least=0, most=86_400)
    dead_keys: tuple[str, ...] = key((), "keys that are answered as wrong ones, even when any is accepted", kind=tuple)
    models: tuple[ModelProfile, ...] = (ModelProfile(),)
    faults: tuple[FaultRule, ...] = ()

    def all_faults(self) -> tuple[FaultRule, ...]:
        """The rules under [[faults]], then those that `fault` of a model means."""
        return self.faults + tuple(
            FaultRule(
                fault=model.fault,
                model=model.name,
                rate=model.fault_rate,
                first=model.fault_first,
                seconds=model.fault_retry_after_s if model.fault == Fault.RATE_LIMITED else None,
            )
            for model in self.models
            if model.fault is not None
        )


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
    sections = ("sim", "models", "faults")
    problems += [f"{key}: unknown section{nearest(key, sections)}" for key in document if key not in sections]
    section = document.get("sim", {})
    if not isinstance(section, dict):
        problems.append("sim: must be a table: [sim]")
        section = {}
    profile = read_record(Profile, section, "sim", problems)
    entries = document.get("models", [{}])
    if not (isinstance(entries, list) and entries and all(isinstance(entry, dict) for entry in entries)):
        problems.append("models: must be one or more tables, each begun with [[models]]")
        entries = []
    models = tuple(
        read_record(ModelProfile, entry, f"models[{index}]", problems) for index, entry in enumerate(entries)
    )
    names = [model.name for model in models]
    for index, name in enumerate(names):
        if name in names[:index]:
            problems.append(f'models[{index}].name: "{name}" has an entry already; give each model one')
    faults = read_rules(document.get("faults", []), "faults", problems)
    if problems:
        raise ProfileError([f"{where}: {problem}" for problem in problems])
    return dataclasses.replace(profile, models=models, faults=faults)


def explained() -> str:
    """A profile with every key at its default, commented: the reference manual."""
    lines = [
        "# A simulated provider. Every key is optional; a key that has no default is shown commented out.",
        "[sim]",
    ]
    lines += [line for field in dataclasses.fields(Profile) if field.metadata for line in explained_key(field)]
    lines += ["", "# One table for each model.", "[[models]]"]
    lines += [line for field in dataclasses.fields(ModelProfile) for line in explained_key(field)]
    lines += ["", "# One table for each rule by which calls suffer a fault; every condition that it names has to hold."]
    lines += ["# [[faults]]"]
    lines += [
        line if line.startswith("#") else f"# {line}"
        for field in dataclasses.fields(FaultRule)
        for line in explained_key(field)
    ]
    return "\n".join(lines) + "\n"
