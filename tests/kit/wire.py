"""Servers for tests of the way to providers: real sockets, real TLS, and as hostile as a test wants.

::

    async def answer(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nhi")

    async with raw_server(answer) as server:
        ... server.port, server.requests, server.connections
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import trio
import trustme

Handler = Callable[["Wire"], Awaitable[None]]


@dataclass
class Request:
    """One HTTP/1.1 request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


class Wire:
    """The server's end of one connection, in raw bytes."""

    def __init__(self, stream: trio.abc.Stream, base: trio.SocketStream, server: RawServer) -> None:
        self.stream = stream
        self.base = base
        self.server = server
        self.buffer = b""

    async def read_until(self, mark: bytes) -> bytes:
        """Read up to and with ``mark``; what came after it stays. `EOFError` when the client closes first."""
        while mark not in self.buffer:
            await self._read_more()
        before, _, self.buffer = self.buffer.partition(mark)
        return before + mark

    async def read_exactly(self, count: int) -> bytes:
        """Read so many bytes."""
        while len(self.buffer) < count:
            await self._read_more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    async def read_request(self) -> Request:
        """Read a whole request and count it."""
        head = (await self.read_until(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
        request = Request(line, headers, await self.read_exactly(int(headers.get("content-length", "0"))))
        self.server.requests.append(request)
        return request

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self.stream.send_all(data)

    async def closed_by_client(self) -> None:
        """Wait until the client closes or resets the connection."""
        try:
            while await self.stream.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            pass

    def close(self) -> None:
        """Close in the orderly way (FIN)."""
        self.base.socket.close()

    def reset(self) -> None:
        """Close with a reset (RST)."""
        self.base.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.base.socket.close()

    async def _read_more(self) -> None:
        data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError
        self.buffer += bytes(data)


@dataclass
class RawServer:
    """A running server and what it saw. Open connections are ``alive``."""

    port: int
    host: str = "127.0.0.1"
    scheme: str = "http"
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    alive: int = 0

    def url(self, path: str = "/", host: str | None = None) -> str:
        return f"{self.scheme}://{host or self.host}:{self.port}{path}"


@asynccontextmanager
async def raw_server(
    handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[RawServer]:
    """Serve every connection with ``handler``; the connection is closed when it returns, or when the client leaves it."""
    [listener] = await trio.open_tcp_listeners(0, host=host, backlog=512)
    server = RawServer(listener.socket.getsockname()[1], scheme="http" if tls is None else "https")

    async def serve(base: trio.SocketStream) -> None:
        server.connections += 1
        server.alive += 1
        stream: trio.abc.Stream = base
        try:
            if tls is not None:
                stream = trio.SSLStream(base, tls, server_side=True, https_compatible=True)
                await stream.do_handshake()
            await handler(Wire(stream, base, server))
        except (EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            base.socket.close()
            server.alive -= 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        try:
            yield server
        finally:
            nursery.cancel_scope.cancel()


def http(body: bytes = b"{}", status: int = 200, **headers: str) -> bytes:
    """One whole HTTP/1.1 answer; underscores in names of headers are hyphens."""
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Status\r\n{lines}\r\n".encode() + body


def answering(*answers: bytes) -> Handler:
    """A handler that gives these answers to the requests of a connection in turn, the last one for ever."""

    async def handler(wire: Wire) -> None:
        left = list(answers)
        while True:
            await wire.read_request()
            await wire.send(left.pop(0) if len(left) > 1 else left[0])

    return handler


# --- TLS -------------------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority of our own."""

    def __init__(self, folder: str) -> None:
        self._ca = trustme.CA()
        self.file = f"{folder}/authority.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def server_context(self, *names: str, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
        """A context for a server with these names."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._ca.issue_cert(*names).configure_cert(context)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    @contextmanager
    def files(self, *names: str) -> Iterator[tuple[str, str]]:
        """Certificate and key in files, for servers that want such."""
        issued = self._ca.issue_cert(*names)
        with issued.private_key_pem.tempfile() as key, issued.cert_chain_pems[0].tempfile() as certificate:
            yield certificate, key


# --- a proxy ---------------------------------------------------------------------------------------------------------


@dataclass
class ProxyLog:
    """What a proxy was asked for."""

    asked: list[Request] = field(default_factory=list)
    tunnels: int = 0


@asynccontextmanager
async def connect_proxy(
    names: dict[str, int], *, authorization: str | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[RawServer, ProxyLog]]:
    """An HTTP proxy: CONNECT to hosts of ``names`` (each a port on this machine), and plain forwarding of whole requests."""
    log = ProxyLog()

    async def handler(wire: Wire) -> None:
        request = await wire.read_request()
        log.asked.append(request)
        if authorization is not None and request.headers.get("proxy-authorization") != authorization:
            await wire.send(http(b"", 407))
            return
        connect = request.line.startswith("CONNECT ")
        where = request.target if connect else request.target.split("/")[2]
        host = where.rpartition(":")[0] or where
        if host not in names:
            await wire.send(http(b"", 502))
            return
        other = await trio.open_tcp_stream("127.0.0.1", names[host])
        try:
            if connect:
                await wire.send(b"HTTP/1.1 200 Connection established\r\nproxy-agent: test\r\n\r\n")
                log.tunnels += 1
            else:
                path = "/" + request.target.split("/", 3)[3]
                head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(request.body)}\r\n\r\n"
                await other.send_all(head.encode() + request.body)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_copy, wire.stream, other, nursery.cancel_scope)
                nursery.start_soon(_copy, other, wire.stream, nursery.cancel_scope)
        finally:
            other.socket.close()

    async with raw_server(handler, tls=tls) as server:
        yield server, log


async def _copy(source: trio.abc.Stream, sink: trio.abc.Stream, scope: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some(65536):
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()
