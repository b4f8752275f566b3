"""What the semantic depth may guess at: the scope of a question that must be equal, and the answers it may be given."""

from __future__ import annotations

from collections.abc import Mapping

from aiorchd.calls.call import Call
from aiorchd.calls.kept import kept_from_disk
from aiorchd.config.schema import Config
from aiorchd.core.memory_cache import CLOCK_TOLERANCE_S
from aiorchd.core.request_key import request_key
from aiorchd.pipeline.lasting import Lasting
from aiorchd.pipeline.policies import Policies
from aiorchd.stages.semantic import Found


def semantic_scope(config: Config, policies: Policies, call: Call) -> tuple[bytes, str] | None:
    """Give what of a question must be equal, hashed, and the text that need not be; None where nothing is to be guessed."""
    if call.kind != "chat" or call.by_host or (call.model is not None and call.model not in policies):
        return None
    if policies.may_ask_host(call.model, call.models) or call.tier == "off" or call.keep_s == 0:
        return None
    if call.operation is not None:
        operation = config.operations.get(call.operation)
        if operation is None or not operation.semantic or operation.document_id or operation.document_version:
            return None
    *earlier, last = call.request["messages"]
    if last.get("role") != "user" or set(last) - {"role", "content"}:
        return None
    text = last.get("content")
    if isinstance(text, (list, tuple)) and len(text) == 1 and isinstance(text[0], Mapping) and len(text[0]) == 2:
        text = text[0].get("text") if text[0].get("type") == "text" else None
    if not isinstance(text, str) or not 0 < len(text) <= config.cache.semantic.max_characters:
        return None
    # Vectors of different embedders say nothing of each other.
    embedder = config.cache.semantic.embedding_model
    # An empty text stands for the last one, which is never empty.
    scope = request_key(
        f"semantic by {policies.form(embedder, (embedder,))}" if embedder else "semantic",
        {**call.request, "messages": [*earlier, {"role": "user", "content": ""}]},
        uid=None if call.shared else call.caller.uid,
        partition=call.partition,
        policy=policies.form(call.model, call.models),
        task=call.task,
        quality_threshold=call.quality_threshold,
    )
    return scope, text


async def kept_answer(lasting: Lasting, strategy: str, key: bytes) -> Found | None:
    """Find a fresh answer in the tiers that are used."""
    now = lasting.wall_clock()
    kept = lasting.memory.recall(key, now) if strategy in ("memory", "hybrid") else None
    if kept is None and strategy in ("disk", "hybrid"):
        stored = await lasting.answers.get(key)
        now = lasting.wall_clock()
        kept = None if stored is None else kept_from_disk(stored)
    if kept is None or not kept.stored_at - CLOCK_TOLERANCE_S <= now < kept.expires_at:
        return None
    kept.make_ready()
    return Found(kept.reply, kept.source_id, max(0.0, now - kept.stored_at))
