"""Keys of providers: where they are found, and how they stay out of every text.

The TOML only names a place; the key itself is read from there, checked, and held so that nothing prints it by accident.
A missing key is not an error of the configuration: the provider is built, its calls fail with ``provider_auth`` and the
sentence found here, and ``status`` and the log tell it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn, Protocol

HIDDEN: Final = "[hidden]"

_LARGEST_KEY_BYTES: Final = 64 * 1024

_SECRET = re.compile(
    r"""
      \b(?:sk|gsk|xai)[-_][A-Za-z0-9_-]{8,}                # OpenAI and those who copied its form, Groq, xAI
    | \b(?:pk|rk|hf|gh[pousr]|glpat|pplx|r8|nvapi|fw|tgp|dop)[-_](?=[A-Za-z0-9_-]*[0-9A-Z])[A-Za-z0-9_-]{16,}
    | \bAIza[A-Za-z0-9_-]{20,}                             # Google
    | \bAKIA[A-Z0-9]{12,}                                  # AWS
    | \beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?   # a JSON web token
    """,
    re.VERBOSE,
)
_CREDENTIALS = re.compile(r"(?i)\b(bearer|basic)(\s+|%20)[A-Za-z0-9+/._~=-]{6,}")
_NAMED = re.compile(
    r"""(?ix)
    ( (?:authorization|api[-_]?keys?|x-api-key|access[-_]?token|auth[-_]?token|client[-_]?secret|password|passwd|secret)
      ["']? \s* [=:] \s* )
    (?! \s ) (?: "(?:[^"\\]|\\.)*" | '[^']*' | (?!bearer\b|basic\b|\[hidden\])[^\s,;&}"']+ )
    """
)
_USERINFO = re.compile(r"(?<=://)[^/\s@]*:[^/\s@]*(?=@)")


def redact(text: str) -> str:
    """Replace whatever looks like a secret: known prefixes of keys, credentials after ``Bearer``, values after names
    like ``api_key=``, passwords in addresses. Errs on the side of hiding.
    """
    text = _SECRET.sub(HIDDEN, text)
    text = _CREDENTIALS.sub(rf"\1\2{HIDDEN}", text)
    text = _NAMED.sub(rf"\1{HIDDEN}", text)
    return _USERINFO.sub(HIDDEN, text)


def looks_secret(value: str) -> bool:
    """Tell whether a value is probably a secret that was put into the wrong place."""
    return redact(value) != value


def names_secret(name: str) -> bool:
    """Tell whether a header or key of this name carries a secret."""
    plain = name.lower().replace("-", "").replace("_", "")
    if plain in {"authorization", "proxyauthorization", "cookie", "auth", "key"}:
        return True
    if plain.endswith("tokens"):  # counts of them
        return False
    return any(part in plain for part in ("apikey", "token", "secret", "password", "credential", "accesskey"))


class KeyPlaces(Protocol):
    """As much of a provider's section as says where its keys are."""

    @property
    def api_key_env(self) -> str | None:
        """One environment variable."""
        ...

    @property
    def api_keys_env(self) -> Sequence[str]:
        """Several."""
        ...

    @property
    def api_key_credential(self) -> str | None:
        """One systemd credential."""
        ...

    @property
    def api_keys_credential(self) -> Sequence[str]:
        """Several."""
        ...


class ProviderKey:
    """What was found for one provider. Printing or packing it never shows the key; `reveal` is the one way out.

    ``place`` names where it was looked for, for `status`. ``problem`` is empty, or a sentence that says why there is no
    key although one is named: for the log, for `status`, and for the callers of that provider's models.
    """

    __slots__ = ("_value", "place", "problem")

    def __init__(self, value: str | None, place: str, problem: str = "") -> None:
        self._value = value
        self.place = place
        self.problem = problem

    def reveal(self) -> str | None:
        """Give the key itself, to be wrapped for the one header it goes into; None where none is needed or none was
        found.
        """
        return self._value

    def __repr__(self) -> str:
        return f"ProviderKey(place={self.place!r}, problem={self.problem!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a provider's key is not written anywhere")


def find_keys(provider: KeyPlaces, environ: Mapping[str, str]) -> dict[str, ProviderKey]:
    """Fetch the keys of one provider, by what their places are called; one that is called nothing where none is needed.
    Reads files: not for the loop.
    """
    variables = provider.api_keys_env or ((provider.api_key_env,) if provider.api_key_env is not None else ())
    if variables:
        return {name: find_key(name, None, environ) for name in variables}
    credential = provider.api_key_credential
    credentials = provider.api_keys_credential or ((credential,) if credential is not None else ())
    if credentials:
        return {name: find_key(None, name, environ) for name in credentials}
    return {"": find_key(None, None, environ)}


def find_key(env_name: str | None, credential_name: str | None, environ: Mapping[str, str]) -> ProviderKey:
    """Fetch one provider's key from the environment or from systemd's credentials. Reads a file: not for the loop."""
    if env_name is not None:
        return _from_environment(env_name, environ)
    if credential_name is not None:
        return _from_credential(credential_name, environ)
    return ProviderKey(None, "none needed")


def _from_environment(name: str, environ: Mapping[str, str]) -> ProviderKey:
    place = f"environment variable {name}"
    value = environ.get(name)
    if value is None:
        return ProviderKey(
            None, place, f"the {place}, which should hold the key, is not set: set it for the daemon and restart it"
        )
    return _checked(value, place)


def _from_credential(name: str, environ: Mapping[str, str]) -> ProviderKey:
    place = f"systemd credential {name}"
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return ProviderKey(
            None,
            place,
            f"there is no {place}: the daemon was not started with LoadCredential={name}:/path/of/the/key "
            "($CREDENTIALS_DIRECTORY is not set)",
        )
    try:
        descriptor = os.open(Path(directory, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return ProviderKey(None, place, f"the {place} is not a regular file")
            content = os.read(descriptor, _LARGEST_KEY_BYTES + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return ProviderKey(
            None, place, f"there is no {place}: add LoadCredential={name}:/path/of/the/key to the unit and restart it"
        )
    except OSError as error:
        return ProviderKey(None, place, f"the {place} cannot be read: {error.strerror}")
    if len(content) > _LARGEST_KEY_BYTES:
        return ProviderKey(None, place, f"the {place} is larger than any key: name a file that holds only the key")
    return _checked(content.decode("utf-8", "replace"), place)


def _checked(value: str, place: str) -> ProviderKey:
    """Refuse what cannot be a key; a header made of it would be malformed or would smuggle another."""
    value = value.strip(" \t\r\n")  # editors and `echo` end files with a line break
    if not value:
        return ProviderKey(None, place, f"the {place}, which should hold the key, is empty")
    if "\n" in value or "\r" in value:
        return ProviderKey(None, place, f"the {place} holds several lines: it must hold the key alone")
    if not (value.isascii() and value.isprintable()):
        return ProviderKey(None, place, f"the {place} holds characters that no key has")
    return ProviderKey(value, place)
