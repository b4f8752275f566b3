"""Which proxy a connection goes through, by the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY.

The rules are curl's and Go's where they agree: lower-case names win over upper-case ones; NO_PROXY is a comma-separated
list of ``*``, domains (with everything below them, a leading dot or ``*.`` changes nothing), addresses and networks,
each with an optional port. As in Go, this machine itself is never reached through a proxy.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from aiorchd.providers.transport.endpoint import Origin
from aiorchd.providers.transport.failures import Misconfigured

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, repr=False)
class Proxy:
    """A proxy that speaks HTTP, over TLS when its origin is secure. ``authorization`` is a secret."""

    origin: Origin
    authorization: bytes | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.origin.scheme}://{self.origin.host_and_port})"


@dataclass(frozen=True, slots=True)
class _Exception:
    """One entry of NO_PROXY."""

    domain: str | None = None
    network: _Network | None = None
    port: int | None = None

    def covers(self, origin: Origin, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
        if self.port is not None and self.port != origin.port:
            return False
        if self.network is not None:
            return address is not None and address in self.network
        return origin.host == self.domain or origin.host.endswith(f".{self.domain}")


class Proxies:
    """The proxies of one environment; reading it never fails, a proxy that cannot be used fails whoever needs it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        def variable(name: str) -> str:
            return (environ.get(name.lower()) or environ.get(name.upper()) or "").strip()

        everything = variable("all_proxy")
        # HTTP_PROXY in capitals is what a CGI script sees of a client's Proxy header: not to be believed there.
        plain = environ.get("http_proxy", "").strip() if "REQUEST_METHOD" in environ else variable("http_proxy")
        self._urls = {"http": plain or everything, "https": variable("https_proxy") or everything}
        entries = [entry.strip().lower() for entry in variable("no_proxy").split(",")]
        self._never = "*" in entries
        self._exceptions = [parsed for entry in entries if entry and (parsed := _exception(entry)) is not None]

    def route(self, origin: Origin) -> Proxy | None:
        """Find the proxy for an origin, None for a direct connection; raises `Misconfigured`."""
        url = self._urls[origin.scheme]
        if not url or self._never or origin.host == "localhost" or origin.host.endswith(".localhost"):
            return None
        address = _address(origin.host)
        if address is not None and address.is_loopback:
            return None
        if any(exception.covers(origin, address) for exception in self._exceptions):
            return None
        return _proxy(url)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


def _exception(entry: str) -> _Exception | None:
    """Read one entry; None for one that makes no sense, as curl and Go ignore it."""
    network = _network(entry)
    if network is not None:
        return _Exception(network=network)
    host, colon, port = entry.rpartition(":")
    if not colon:
        host, port = entry, ""
    elif not port.isdigit():
        return None
    number = int(port) if port else None
    network = _network(host)
    if network is not None:
        return _Exception(network=network, port=number)
    domain = host.removeprefix("*").removeprefix(".")
    return _Exception(domain=domain, port=number) if domain else None


def _proxy(url: str) -> Proxy:
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise Misconfigured("the proxy named in the environment has a malformed address") from error
    if parts.scheme not in ("http", "https"):
        raise Misconfigured(f"the environment names a proxy of the kind {parts.scheme[:10]}://, only http:// is spoken")
    if not host:
        raise Misconfigured("the proxy named in the environment has no host")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        authorization = b"Basic " + base64.b64encode(pair)
    return Proxy(Origin(parts.scheme, host, port or (443 if parts.scheme == "https" else 80)), authorization)
