"""Open a connection: name look-up, TCP, a proxy's CONNECT, TLS.

Everything here may be cancelled at any point and then leaves no socket behind.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import Final

import h11
import trio

from aiorchd.providers.transport.bare import bare_cancellation
from aiorchd.providers.transport.endpoint import Origin
from aiorchd.providers.transport.failures import ProxyFault
from aiorchd.providers.transport.proxy import Proxy
from aiorchd.providers.transport.tcp_stream import TcpStream
from aiorchd.providers.transport.tls import TlsContexts

# A provider may think for minutes without a byte while a firewall forgets the connection, or a machine on the way may
# die without a word. Probes after half a minute keep the first alive and find out about the second; data that nobody
# acknowledges for half a minute ends the connection too, where the kernel would try for a quarter of an hour.
_KEEPALIVE_IDLE_S: Final = 30
_KEEPALIVE_INTERVAL_S: Final = 10
_KEEPALIVE_COUNT: Final = 3
_UNACKNOWLEDGED_MS: Final = 30_000

_CONNECT_HEAD_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class Line:
    """An open connection: the stream to speak on, the TCP connection and the socket below it, and whether HTTP/2 is spoken.

    ``forwarder`` is the proxy that passes single requests on, where there is no tunnel through it.
    """

    stream: trio.abc.Stream
    tcp: TcpStream
    socket: trio.SocketStream
    http2: bool = False
    forwarder: Proxy | None = None


async def dial(origin: Origin, proxy: Proxy | None, tls: TlsContexts) -> Line:
    """Connect to an origin; raises what `failures.FOREIGN` lists."""
    first = origin if proxy is None else proxy.origin
    try:
        with bare_cancellation():
            base = await trio.open_tcp_stream(first.host, first.port)
    except OSError as error:
        if proxy is not None:
            raise ProxyFault(f"the proxy {first.host_and_port} does not answer") from error
        raise
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(base.socket.close)
        _keep_alive(base)
        stream: trio.abc.Stream = (tcp := TcpStream(base))
        if proxy is not None:
            if proxy.origin.secure:
                stream, _ = await _start_tls(stream, proxy.origin.host, tls, ("http/1.1",))
            if origin.secure or origin.http2:
                await _tunnel(stream, origin, proxy)
                proxy = None
        # Without TLS nothing is negotiated: who configures http2 for http:// says that the server knows.
        http2 = origin.http2
        if origin.secure:
            protocols = ("h2", "http/1.1") if origin.http2 else ("http/1.1",)
            stream, protocol = await _start_tls(stream, origin.host, tls, protocols)
            http2 = protocol == "h2"
        on_failure.pop_all()
    return Line(stream, tcp, base, http2, proxy)


def _keep_alive(base: trio.SocketStream) -> None:
    with contextlib.suppress(OSError):  # an answer may already have broken the connection; the next step will tell
        base.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        base.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
        base.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_S)
        base.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_COUNT)
        base.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)


async def _start_tls(
    stream: trio.abc.Stream, host: str, tls: TlsContexts, protocols: tuple[str, ...]
) -> tuple[trio.abc.Stream, str | None]:
    context = await tls.get(protocols)
    # ``https_compatible``: HTTP says itself where an answer ends, and most servers close without TLS's own goodbye.
    secured = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    await secured.do_handshake()
    inner = secured.selected_alpn_protocol()  # Trio forwards it to the ssl module
    return secured, inner if isinstance(inner, str) else None


async def _tunnel(stream: trio.abc.Stream, origin: Origin, proxy: Proxy) -> None:
    """Ask an HTTP proxy to pass the connection on, as RFC 9110 section 9.3.6 has it."""
    where = proxy.origin.host_and_port
    headers = [(b"host", origin.host_and_port.encode())]
    if proxy.authorization is not None:
        headers.append((b"proxy-authorization", proxy.authorization))
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_CONNECT_HEAD_BYTES)
    request = h11.Request(method=b"CONNECT", target=origin.host_and_port.encode(), headers=headers)
    await stream.send_all((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise ProxyFault(f"the proxy {where} does not speak HTTP") from error
        if event is h11.NEED_DATA:
            data = await stream.receive_some(_CONNECT_HEAD_BYTES)
            if not data:
                raise ProxyFault(f"the proxy {where} closed the connection")
            connection.receive_data(bytes(data))
        elif isinstance(event, h11.Response):
            break
    if event.status_code == 407:
        raise ProxyFault(f"the proxy {where} wants a user name and password (407)")
    if not 200 <= event.status_code < 300:
        raise ProxyFault(f"the proxy {where} refused to connect ({event.status_code})")
    if connection.trailing_data[0]:
        raise ProxyFault(f"the proxy {where} sent data of its own into the connection")
