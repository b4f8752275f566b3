"""Which questions may be asked together, and what they must have in common for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import trio

from aiorchd.calls.batching import BatchScope
from aiorchd.calls.call import Call
from aiorchd.config.schema import Config
from aiorchd.core.batch_schema import batch_schema
from aiorchd.core.request_key import samples
from aiorchd.core.token_estimate import prompt_tokens
from aiorchd.pipeline.lasting import Lasting
from aiorchd.pipeline.policies import Policies
from aiorchd.pipeline.settings import ways_of

_PASSED_ON: Final = frozenset(
    "user metadata top_p top_k min_p frequency_penalty presence_penalty reasoning_effort verbosity service_tier store "
    "safety_identifier prompt_cache_key".split()
)
"""Of `extra`, what says nothing about the form of the answer or how many there are."""
_IN_THE_WAY: Final = ("tools", "tool_choice", "stop")
_MOST_SCHEMAS: Final = 256


class BatchScopes:
    """Says of a call what it must share with others to be asked together with them."""

    def __init__(self, config: Config, policies: Policies, lasting: Lasting) -> None:
        self._config = config
        self._policies = policies
        self._lasting = lasting
        self._models = {model.name: model for model in config.models}
        self._schemas: dict[str, Mapping[str, Any] | None] = {}

    def __call__(self, call: Call) -> BatchScope | str | None:
        """Give the scope of a call; a sentence when it goes alone though its operation allows batches; None for any other."""
        if call.operation is None:
            return None
        operation = self._config.operations.get(call.operation)
        if operation is None or operation.batch_size is None or call.kind != "chat":
            return None
        most = min(operation.batch_size, self._config.batch.max_size)
        if most < 2:
            return None
        why_not = self._why_not(call)
        if why_not is not None:
            return why_not
        parts = _prompt_of(call)
        if parts is None:
            return "it is no single text"
        system, text = parts
        wanted = call.request.get("output_schema")
        written = "" if wanted is None else json.dumps(wanted, sort_keys=True, default=repr)
        schema = self._schema(written, wanted)
        if schema is None:
            return "its output_schema cannot be put into that of several answers"
        target = self._target(call)
        max_tokens = call.request.get("max_tokens")
        return BatchScope(
            key=_key(call, system, written),
            operation=call.operation,
            model=call.model or next(iter(call.models), ""),
            text=text,
            system=system,
            structured=wanted is not None,
            schema=schema,
            most=most,
            max_wait_s=self._config.batch.max_wait_s,
            context_tokens=None if target is None else target.context_tokens,
            output_tokens=None if target is None else target.max_output_tokens,
            max_tokens=max_tokens if isinstance(max_tokens, int) else None,
            free=lambda: target is None or self._is_free(target.name, prompt_tokens(call.request)),
        )

    def _why_not(self, call: Call) -> str | None:
        if not call.batch:
            return "it says so itself"
        if call.sink is not None:
            return "it is streamed"
        if call.avoid:
            return "it is asked again for a better answer"
        if call.samples or samples(call.request):
            return "its answer is left to chance"
        if call.cost_limit_usd is not None:
            return "it has a cost_limit of its own"
        if call.by_host or (call.model is not None and call.model not in self._policies):
            return "a process of the host answers for its model"
        if self._policies.may_ask_host(call.model, call.models):
            return "a process of the host may answer for its model"
        if any(call.request.get(name) is not None for name in _IN_THE_WAY):
            return "it has tools or stop words"
        extra = call.request.get("extra")
        if extra is not None and not (isinstance(extra, Mapping) and set(extra) <= _PASSED_ON):
            return "its extra may ask for another form of answer"
        return None

    def _schema(self, written: str, wanted: Any) -> Mapping[str, Any] | None:
        if written not in self._schemas:
            if len(self._schemas) >= _MOST_SCHEMAS:
                self._schemas.clear()
            self._schemas[written] = batch_schema(wanted)
        return self._schemas[written]

    def _target(self, call: Call) -> Any:
        """Find the model that is asked first."""
        names = (call.model,) if call.model is not None else call.models
        for target in self._policies.targets:
            if not names or target.name in names:
                return target
        return None

    def _is_free(self, name: str, tokens: int) -> bool:
        model = self._models.get(name)
        if model is None:
            return True
        turnstiles = [self._lasting.turnstiles.get(way) for way in ways_of(self._config, model)]
        now = trio.current_time()
        return any(one is None or one.wait_s(now, tokens) <= 0 for one in turnstiles)


def _prompt_of(call: Call) -> tuple[str | None, str] | None:
    """Give the system text and the prompt, where these are all there is."""
    messages = list(call.request["messages"])
    system = None
    if len(messages) == 2 and messages[0].get("role") == "system" and set(messages[0]) == {"role", "content"}:
        system = messages.pop(0)["content"]
        if not isinstance(system, str):
            return None
    if len(messages) != 1 or messages[0].get("role") != "user" or set(messages[0]) != {"role", "content"}:
        return None
    text = messages[0]["content"]
    return (system, text) if isinstance(text, str) and text.strip() else None


def _key(call: Call, system: str | None, schema: str) -> bytes:
    """Hash everything that must be equal. Unlike the key of an answer it leaves nothing out that goes over the wire."""
    request = {name: value for name, value in call.request.items() if name not in ("messages", "output_schema")}
    form = json.dumps(
        [
            call.operation,
            call.caller.uid,
            call.caller.unit,
            call.partition,
            call.priority,
            call.model,
            call.models,
            call.task,
            call.quality_threshold,
            system,
            schema,
            request,
        ],
        sort_keys=True,
        default=repr,
    )
    return blake2b(form.encode("utf-8", "surrogatepass"), digest_size=16).digest()
