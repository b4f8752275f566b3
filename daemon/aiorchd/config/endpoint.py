"""Whether a provider's address, the places of its key and its headers can be used, and hold no secret themselves."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from aiorchd.config.findings import Findings
from aiorchd.config.lines import Path
from aiorchd.config.schema import WITHOUT_ADDRESS, Provider
from aiorchd.config.secrets import looks_secret, names_secret

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\Z")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_BEFORE: Final = "Only what comes before /chat/completions, /messages or /models belongs here."
_API_VERSION = re.compile(r"[A-Za-z0-9._-]+\Z")
_STRUCTURED_OUTPUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("json_schema", "json_object", "none"),
    "anthropic": ("json_schema", "tool", "none"),
    "gemini": ("json_schema", "json_object", "none"),
}
_OWN_HEADERS: Final = frozenset(
    "host content-length content-type content-encoding transfer-encoding accept-encoding connection te upgrade".split()
)


def check_provider(path: Path, provider: Provider, findings: Findings) -> None:
    """Note everything about one provider that cannot work or would show a secret."""
    if provider.dialect in WITHOUT_ADDRESS:
        if provider.base_url is not None:
            why = WITHOUT_ADDRESS[provider.dialect]
            findings.wrong((*path, "base_url"), f"the {provider.dialect} dialect has no address: {why}.")
    elif provider.base_url is not None:
        _base_url((*path, "base_url"), provider, findings)
    elif provider.address is None:
        findings.wrong(
            path,
            '"base_url" is missing: the dialect openai needs it.',
            'For instance base_url = "https://api.openai.com/v1"',
        )
    _of_the_dialect(path, provider, findings)
    _key_places(path, provider, findings)
    for name, value in provider.headers.items():
        _header((*path, "headers", name), name, value, findings)


def _of_the_dialect(path: Path, provider: Provider, findings: Findings) -> None:
    """Refuse what the dialect does not know: a setting that is ignored misleads."""
    dialect = provider.dialect
    for name, usual in (("max_tokens_field", "auto"), ("embedding_encoding", "base64")):
        if getattr(provider, name) != usual and dialect != "openai":
            findings.wrong((*path, name), f"is a setting of the dialect openai; the dialect {dialect} has none.")
    known = _STRUCTURED_OUTPUTS.get(dialect, ())
    if provider.structured_output not in known and dialect not in WITHOUT_ADDRESS:
        findings.wrong(
            (*path, "structured_output"),
            f'the dialect {dialect} has no "{provider.structured_output}".',
            "It has " + ", ".join(f'"{one}"' for one in known) + ".",
        )
    if provider.api_version is not None and not _API_VERSION.match(provider.api_version):
        findings.wrong((*path, "api_version"), "is not a version.", 'It looks like "2024-10-21".')


def _base_url(path: Path, provider: Provider, findings: Findings) -> None:
    """Refuse what is no plain address of an HTTP server; the sentence never repeats it, for it may hold a password."""
    url = provider.base_url or ""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname
    except ValueError:
        findings.wrong(path, "is not an address.", 'It looks like "https://api.example.com/v1".')
        return
    if url != url.strip() or not url.isprintable() or " " in url:
        findings.wrong(path, "holds blanks or control characters.")
    elif parts.scheme not in ("http", "https"):
        findings.wrong(path, "must begin with https:// or http://.")
    elif not host or port == 0:
        findings.wrong(path, "names no host or no usable port.", 'It looks like "https://api.example.com/v1".')
    elif parts.username is not None or parts.password is not None:
        findings.wrong(
            path,
            "holds a user or password.",
            "Secrets are never written in this file: use api_key_env or api_key_credential.",
        )
    elif parts.query or parts.fragment or url.endswith(("?", "#")):
        findings.wrong(path, "must end before ? and #.", _BEFORE)
    elif parts.path.rstrip("/").endswith(("/chat/completions", "/embeddings", "/messages", "/models")):
        findings.wrong(path, "names a single method of the provider.", _BEFORE)
    elif parts.scheme == "http" and _keyed(provider) and not _is_near(host):
        findings.doubtful(
            path, "the key goes over the network in the clear.", "Use https:// where the provider has it."
        )


def _keyed(provider: Provider) -> bool:
    return any(getattr(provider, name) for name in _KEY_PLACES)


def _is_near(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_KEY_PLACES: Final = ("api_key_env", "api_keys_env", "api_key_credential", "api_keys_credential")


def _key_places(path: Path, provider: Provider, findings: Findings) -> None:
    """The most likely mistake is to write the key itself where its place belongs; it must not be shown then."""
    given = [name for name in _KEY_PLACES if getattr(provider, name) not in (None, ())]
    for name in given:
        value = getattr(provider, name)
        if isinstance(value, str):
            _key_place((*path, name), name, value, findings)
            continue
        seen: set[str] = set()
        for number, one in enumerate(value):
            _key_place((*path, name, number), name, one, findings)
            if one in seen:
                findings.wrong((*path, name, number), "is named twice.")
            seen.add(one)
    for name in given[1:]:
        findings.wrong((*path, name), f"stands beside {given[0]}; one of the two says where the key is.")
    if provider.dialect in WITHOUT_ADDRESS and given:
        findings.doubtful(path, f"the {provider.dialect} dialect needs no key; the one named is never looked for.")


def _key_place(path: Path, name: str, value: str, findings: Findings) -> None:
    if name.endswith("_env"):
        shape, what, remedy = _VARIABLE, "an environment variable", 'Write the name, for instance "OPENAI_API_KEY"'
    else:
        shape, what, remedy = _CREDENTIAL, "a systemd credential", "Write the NAME of LoadCredential=NAME:/path"
    if looks_secret(value):
        findings.wrong(path, "looks like the key itself.", f"{remedy}; and change that key.")
    elif not shape.match(value):
        findings.wrong(path, f"is not the name of {what}.", f"{remedy}, never the key itself.")


def _header(path: Path, name: str, value: str, findings: Findings) -> None:
    if not _HEADER_NAME.match(name):
        findings.wrong(path, "is not the name of a header.")
    elif names_secret(name) or looks_secret(value):
        findings.wrong(
            path,
            "is a header that carries a secret.",
            "The key's own header is made from api_key_env or api_key_credential.",
        )
    elif name.lower() in _OWN_HEADERS:
        findings.wrong(path, "is a header that the transport sets itself.")
    elif not (value.isascii() and value.isprintable()):
        findings.wrong(path, "holds characters that no header may hold.")
