"""Questions that are asked alone: instead of in a batch, or besides."""

from __future__ import annotations

import trio

from aiorchd.calls.batching import BatchLearned
from aiorchd.calls.call import Call
from aiorchd.calls.ports import Service
from aiorchd.calls.reply import Reply


class Singles:
    """Asks alone, and has noted what that takes. Raises what ``inner`` raises."""

    def __init__(self, inner: Service[Call]) -> None:
        self._inner = inner
        self.under_way = 0

    async def instead(self, call: Call, learned: BatchLearned, why: str) -> Reply:
        """Ask a call that is in no batch, for this reason."""
        call.journal.note(trio.current_time(), "batch", f"is asked alone: {why}")
        return await self._ask(call, learned)

    async def besides(self, call: Call, learned: BatchLearned, *, again: bool = False) -> Reply:
        """Ask a call that is, or was, in a batch; ``again`` when that was asked alone already."""
        reply = await self._ask(call, learned)
        learned.besides(reply.usage, reply.cost_usd, again=again)
        return reply

    async def _ask(self, call: Call, learned: BatchLearned) -> Reply:
        self.under_way += 1
        try:
            reply = await self._inner(call)
        finally:
            self.under_way -= 1
        learned.single(reply.usage, reply.cost_usd)
        return reply
