"""Each provider: whether it answers the daemon, and whether it takes the daemon's key."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from aiorchctl.doctor.contact import Contact
from aiorchctl.doctor.finding import Finding, failed, not_checked, ok, warning
from aiorchctl.doctor.person import Person
from aiorchctl.quantities import seconds

PROVIDER: Final = "provider"
KEY: Final = "key"


def check_providers(contact: Contact, environ: Mapping[str, str], person: Person) -> Iterator[Finding]:
    """Tell what the daemon found by asking each for its list of models; without it, what is known of the keys."""
    rows = contact.inside.get("providers") if contact.inside is not None else None
    if isinstance(rows, list):
        for row in rows:
            yield from _found(row)
    elif contact.status is not None:
        yield from _from_status(contact)
    else:
        yield from _offline(environ, person)


def _found(row: Mapping[str, Any]) -> Iterator[Finding]:
    name, result, sentence = str(row.get("name")), row.get("result"), str(row.get("sentence"))
    facts = {key: row.get(key) for key in ("result", "status", "took_s", "listed", "base_url")}
    where = str(row.get("key_place") or "its place")
    if result == "simulated":
        yield ok(PROVIDER, sentence, subject=name, details=facts)
        return
    if result == "no_key":
        yield not_checked(PROVIDER, "nothing was sent without its key", subject=name, details=facts)
        yield failed(KEY, sentence, _provide(where), os.EX_CONFIG, subject=name)
        return
    if result == "unreachable":
        yield failed(
            PROVIDER,
            f"{name} cannot be reached: {sentence}",
            _reach(row),
            os.EX_UNAVAILABLE,
            subject=name,
            details=facts,
        )
        yield not_checked(KEY, "its provider cannot be reached", subject=name)
        return
    if result == "failed":
        yield failed(
            PROVIDER,
            sentence,
            f"Look whether {row.get('base_url')} is right, and what the provider says of its state and your account.",
            os.EX_UNAVAILABLE,
            subject=name,
            details=facts,
        )
        yield not_checked(KEY, "its provider answers with an error of its own", subject=name)
        return
    yield from _answering(name, row, facts)
    if result == "refused":
        yield failed(KEY, sentence, _provide(where), os.EX_CONFIG, subject=name)
    elif result == "unclear":
        yield not_checked(KEY, sentence, "Try a call: aiorchctl complete --cache bypass --model MODEL hi", subject=name)
    elif where == "none needed":
        yield ok(KEY, "none is named, and none is wanted", subject=name)
    else:
        yield ok(KEY, f"the one from {where} is taken", subject=name)


def _answering(name: str, row: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    missing = [str(model) for model in row.get("missing") or ()]
    took = row.get("took_s")
    speed = f" in {seconds(took)}" if isinstance(took, float) else ""
    if missing:
        yield warning(
            PROVIDER,
            f"{name} answers{speed}, and does not list {', '.join(missing)}",
            "Look whether `id` of [[models]] is what the provider calls it, and whether your account may use it.",
            subject=name,
            details={**facts, "missing": missing},
        )
    else:
        yield ok(PROVIDER, f"{row.get('base_url')} answers{speed}", subject=name, details=facts)


def _provide(where: str) -> str:
    if where.startswith("environment variable "):
        variable = where.removeprefix("environment variable ")
        return f"Set {variable} to the right key in the environment of the daemon, and restart it."
    if where.startswith("systemd credential "):
        name = where.removeprefix("systemd credential ")
        return f"Put the right key into the file of LoadCredential={name}:... in the unit, and restart the daemon."
    return "Name the key's place with api_key_env or api_key_credential."


def _reach(row: Mapping[str, Any]) -> str:
    base_url = row.get("base_url")
    return (
        f"Try `curl -sS {base_url}/models` as the daemon's user; look at base_url, the name service, the firewall, and "
        "HTTPS_PROXY and SSL_CERT_FILE of the daemon's environment."
    )


def _from_status(contact: Contact) -> Iterator[Finding]:
    """For those who are no administrators: what ``status`` says of keys."""
    problems: dict[str, Any] = {}
    for model in contact.told("models") or ():
        if isinstance(model, dict) and not model.get("simulated"):
            problems[str(model.get("provider"))] = model.get("key_problem")
    if not problems:
        yield not_checked(PROVIDER, contact.why_not_inside)
    for name, problem in problems.items():
        yield not_checked(
            PROVIDER, contact.why_not_inside, "Ask as an administrator: sudo aiorchctl doctor", subject=name
        )
        if problem:
            yield failed(KEY, str(problem), "An administrator has to mend it.", os.EX_CONFIG, subject=name)


def _offline(environ: Mapping[str, str], person: Person) -> Iterator[Finding]:
    """Without a daemon: a key in its environment cannot be seen from here, but this one can be looked at."""
    from aiorchd.config.load import load
    from aiorchd.config.places import PlaceError, find_config
    from aiorchd.config.problems import ConfigError

    try:
        place = find_config(None, environ, person.uid)
        loaded = load(None if place is None else place.path, environ)
    except (PlaceError, ConfigError):
        yield not_checked(PROVIDER, "there is no daemon to ask them, and no configuration that names them")
        return
    if loaded.simulated:
        yield ok(PROVIDER, "none is configured")
        return
    for name, provider in loaded.config.providers.items():
        yield not_checked(PROVIDER, "only the daemon asks providers, and none answers", subject=name)
        for variable in provider.api_keys_env or ([provider.api_key_env] if provider.api_key_env else []):
            if variable in environ:
                yield ok(KEY, f"{variable} is set here; whether it is taken is not known", subject=name)
                continue
            yield warning(
                KEY,
                f"{variable} is not set here: a daemon started from here would have no key",
                f"export {variable}=..., or set it in the unit of the daemon.",
                subject=name,
            )
        one = provider.api_key_credential
        for credential in provider.api_keys_credential or ([one] if one else []):
            yield not_checked(KEY, f"the systemd credential {credential} can only be seen by the daemon", subject=name)
