"""Whether what a call asked is let go of when it ends, and not only when Python next looks for circles."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Prompt(dict[str, Any]):
    """A request that can be looked for: a plain dict has no weak references."""


@contextmanager
def forgotten_at_once(*requests: dict[str, Any]) -> Iterator[list[Prompt]]:
    """Hand out requests to be popped and asked in the block; at its end nobody may hold one any more. Inner services that
    keep what they were asked have to be cleared before."""
    prompts = [Prompt(request) for request in requests or ({"messages": []},)]
    seen = [weakref.ref(prompt) for prompt in prompts]
    gc.collect()
    gc.disable()
    try:
        yield prompts
        assert not prompts, "not everything was asked"
        assert [one() for one in seen] == [None] * len(seen), "a prompt is still held by somebody"
    finally:
        gc.enable()
