"""Where a request goes: read from a URL once, when a provider is built, and not again per request."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

_DEFAULT_PORTS = (("http", 80), ("https", 443))


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom a connection can serve. ``http2`` is part of it, since it decides what the two ends agree to speak.

    ``host`` is lower-case ASCII (IDNA), an IPv6 address without brackets.
    """

    scheme: str
    host: str
    port: int
    http2: bool = False

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme == "https"

    @property
    def host_and_port(self) -> str:
        """``host:port``, as `CONNECT` and people want it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """``host`` with the port where it is not the usual one: the value of the Host header."""
        if (self.scheme, self.port) in _DEFAULT_PORTS:
            return f"[{self.host}]" if ":" in self.host else self.host
        return self.host_and_port


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An origin and the target of the request line."""

    origin: Origin
    target: bytes

    @classmethod
    def parse(cls, url: str, *, http2: bool = False) -> Endpoint:
        """Read an absolute http or https URL.

        Raises `ValueError` with a sentence that never repeats the URL: it may hold a password.
        """
        if any(character.isspace() or not character.isprintable() for character in url):
            raise ValueError("the URL holds white space or control characters")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ValueError("the URL has a malformed host or port") from error
        if parts.scheme not in ("http", "https"):
            raise ValueError("the URL must begin with http:// or https://")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the URL holds a user name or password; name the key with api_key_env instead")
        if parts.fragment:
            raise ValueError("the URL ends in a #fragment, which is never sent")
        origin = Origin(parts.scheme, _ascii_host(host), port or dict(_DEFAULT_PORTS)[parts.scheme], http2)
        target = quote(parts.path or "/", safe="/:@!$&'()*+,;=-._~%")
        if parts.query:
            target += "?" + quote(parts.query, safe="/:@!$&'()*+,;=-._~%?")
        return cls(origin, target.encode("ascii"))


def _ascii_host(host: str) -> str:
    if not host:
        raise ValueError("the URL names no host")
    if host.isascii():
        return host.lower()
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise ValueError("the host of the URL cannot be written in ASCII") from error
