"""Whom to trust: the system's certificate authorities, or those that SSL_CERT_FILE and SSL_CERT_DIR name."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import trio

from aiorchd.providers.transport.failures import Misconfigured


class TlsContexts:
    """Builds a context when first needed and keeps it: loading the system's authorities takes tens of milliseconds,
    so it happens in a thread, and not at all where every provider is plain HTTP.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._cafile = environ.get("SSL_CERT_FILE") or None
        self._capath = environ.get("SSL_CERT_DIR") or None
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._lock = trio.Lock()

    async def get(self, protocols: tuple[str, ...]) -> ssl.SSLContext:
        """Give the context that offers these protocols (ALPN); raises `Misconfigured`."""
        context = self._contexts.get(protocols)
        if context is None:
            async with self._lock:
                context = self._contexts.get(protocols)
                if context is None:
                    context = await trio.to_thread.run_sync(self._build, protocols)
                    self._contexts[protocols] = context
        return context

    def _build(self, protocols: tuple[str, ...]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._cafile is None and self._capath is None:
            context.load_default_certs()
        else:
            try:
                context.load_verify_locations(self._cafile, self._capath)
            except OSError as error:
                named = " and ".join(
                    name for name, value in (("SSL_CERT_FILE", self._cafile), ("SSL_CERT_DIR", self._capath)) if value
                )
                reason = error.strerror or "not a certificate"
                raise Misconfigured(f"what {named} names cannot be read as certificates ({reason})") from error
        context.set_alpn_protocols(list(protocols))
        return context
