"""Talk to the aiorch daemon: one process per host that caches, paces, retries and accounts calls to language models.

::

    import aiorch

    client = aiorch.Client()                              # blocking, thread-safe
    reply = client.complete("Get GPU prices", model="small")
    print(reply.text, reply.cache, reply.cost_usd)

    async with aiorch.AsyncClient() as client:            # asyncio and trio
        reply = await client.complete("Get GPU prices")

Importing this loads nothing but a table of names; what a name stands for is loaded when it is first used, because hosts
import many libraries and use few of them in each run.
"""

from __future__ import annotations

from aiorch.version import __version__

TYPE_CHECKING = False  # as typing has it; importing typing costs more than all of this
if TYPE_CHECKING:
    from typing import Any

    from aiorch.aio import AsyncClient, AsyncStream
    from aiorch.client import Client, Stream
    from aiorch.errors import (
        AiorchError,
        BudgetExceeded,
        CallError,
        Cancelled,
        ConnectionLost,
        ContentFiltered,
        ContextExceeded,
        DeadlineExceeded,
        Forbidden,
        GoingAway,
        HostError,
        IncompleteStream,
        InternalError,
        InvalidRequest,
        LocalProtocolError,
        NoModels,
        NotFound,
        Overloaded,
        ProtocolError,
        ProviderAuth,
        ProviderError,
        RateLimited,
        RemoteProtocolError,
        StorageError,
        TooLarge,
        Unauthorized,
        UnknownMethod,
        UnknownModel,
        UnknownOperation,
        Unreachable,
        ValidationFailed,
    )
    from aiorch.reply import Delta, Embedding, Reply, Server, Timing, Usage

__all__ = [
    "AiorchError",
    "AsyncClient",
    "AsyncStream",
    "BudgetExceeded",
    "CallError",
    "Cancelled",
    "Client",
    "ConnectionLost",
    "ContentFiltered",
    "ContextExceeded",
    "DeadlineExceeded",
    "Delta",
    "Embedding",
    "Forbidden",
    "GoingAway",
    "HostError",
    "IncompleteStream",
    "InternalError",
    "InvalidRequest",
    "LocalProtocolError",
    "NoModels",
    "NotFound",
    "Overloaded",
    "ProtocolError",
    "ProviderAuth",
    "ProviderError",
    "RateLimited",
    "RemoteProtocolError",
    "Reply",
    "Server",
    "StorageError",
    "Stream",
    "Timing",
    "TooLarge",
    "Unauthorized",
    "UnknownMethod",
    "UnknownModel",
    "UnknownOperation",
    "Unreachable",
    "Usage",
    "ValidationFailed",
    "__version__",
]

_ELSEWHERE = (
    ("aiorch.client", ("Client", "Stream")),
    ("aiorch.aio", ("AsyncClient", "AsyncStream")),
    ("aiorch.reply", ("Delta", "Embedding", "Reply", "Server", "Timing", "Usage")),
)


def __getattr__(name: str) -> Any:
    """Load what ``name`` stands for (PEP 562); every public name that is not listed elsewhere is an error class."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = next((module for module, names in _ELSEWHERE if name in names), "aiorch.errors")
    value = getattr(import_module(module), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
