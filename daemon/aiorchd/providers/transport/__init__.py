"""The one way to providers: HTTP/1.1 with h11 and HTTP/2 with h2 on Trio. HTTP libraries are imported only here.

Why not a client library: measured by ``benchmarks/transport.py`` against the same server, 64 callers, CPU per request:
httpx2 as it comes 523 us, httpx2 over a free list of connections 409, httpcore2's connections without the client 267,
h11 bare 178, this transport 225 with everything it does; at 256 callers httpx2 reaches 1 327 requests a second and this
4 656. And httpcore2's HTTP/2 does not tell the server when a call is cancelled, loses an answer that comes before the
request was read, breaks off what is under way when a server sends GOAWAY, and lets one request's timeout fail the others
on its connection. The figures and the whole reasoning are in ``docs/transport.md``.

`open_transport` gives a `Transport`; `Transport.request` and `Transport.stream` are all that a dialect needs. Inside, from
the top: `exchange` (one request: deadlines, sizes, sending again), `connections` and `pool` (kept ones, shared ones, whose
turn it is), `dial` with `proxy` and `tls` (opening one), `channel` (what carries a request: `http1` with `answers`, which reads
those of the usual form and leaves the others to h11; `http2` with `goaway`), `content` (decompression), `endpoint`, `limits`,
and `failures`, the one translation of errors.
"""

from aiorchd.providers.transport.connections import TransportStatistics
from aiorchd.providers.transport.endpoint import Endpoint, Origin
from aiorchd.providers.transport.limits import PoolLimits, Timeouts
from aiorchd.providers.transport.transport import Response, StreamedResponse, Transport, open_transport

__all__ = [
    "Endpoint",
    "Origin",
    "PoolLimits",
    "Response",
    "StreamedResponse",
    "Timeouts",
    "Transport",
    "TransportStatistics",
    "open_transport",
]
