"""The one way to providers: HTTP/1.1 and HTTP/2 on Trio. The libraries that know HTTP (h11, h2) are imported only here."""

from aiorchd.providers.transport.endpoint import Endpoint, Origin
from aiorchd.providers.transport.limits import PoolLimits, Timeouts
from aiorchd.providers.transport.transport import (
    Response,
    StreamedResponse,
    Transport,
    TransportStatistics,
    open_transport,
)

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
