"""Every path there is: the provider's endpoints, by dialect, and `/sim`, by which the simulator itself is asked.

`GET /sim/stats` tells what was counted, `POST /sim/reset` begins to count anew with full limits, `GET` and `POST
/sim/faults` tell and replace the rules by which calls suffer, `POST /sim/down` takes the whole provider away for some
seconds. None of them is a call, nor counted.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiorchsim.dialects import (
    anthropic,
    anthropic_messages,
    gemini,
    gemini_content,
    gemini_embeddings,
    openai,
    openai_chat,
    openai_embeddings,
)
from aiorchsim.dialects.anthropic import ANTHROPIC
from aiorchsim.dialects.gemini import GEMINI
from aiorchsim.dialects.openai import OPENAI
from aiorchsim.fault_rules import read_rules
from aiorchsim.http1 import Request
from aiorchsim.models import Work
from aiorchsim.profile import ANY_MODEL
from aiorchsim.responses import Dialect, Refusal, Response
from aiorchsim.simulation import Simulation

MODELS: Final = "/v1/models"
UNKNOWN: Final = "(unknown)"
LONGEST_DOWN_S: Final = 3600.0

_Decode = Callable[[Simulation, Request], Work | Refusal]
_WORK: Final[Mapping[str, tuple[Dialect, _Decode]]] = {
    openai_chat.ENDPOINT: (OPENAI, openai_chat.decode),
    openai_embeddings.ENDPOINT: (OPENAI, openai_embeddings.decode),
    anthropic_messages.ENDPOINT: (ANTHROPIC, anthropic_messages.decode),
    gemini_content.ENDPOINT: (GEMINI, gemini_content.decode),
    gemini_content.STREAM_ENDPOINT: (GEMINI, gemini_content.decode),
    gemini_embeddings.ENDPOINT: (GEMINI, gemini_embeddings.decode),
    gemini_embeddings.BATCH_ENDPOINT: (GEMINI, gemini_embeddings.decode),
}
_ADMINISTERED: Final[Mapping[str, tuple[str, ...]]] = {
    "/sim/stats": ("GET",),
    "/sim/reset": ("POST",),
    "/sim/faults": ("GET", "POST"),
    "/sim/down": ("POST",),
    "/sim/limits": ("POST",),
}


def respond(simulation: Simulation, request: Request, now: float, created: int) -> Response:
    """Decide what to do about a request: `now` on the simulation's clock, `created` in seconds since 1970."""
    endpoint = _endpoint(request.path)
    route = _WORK.get(endpoint)
    if route is not None and request.method == "POST":
        dialect, decode = route
        work: Work | Refusal
        if request.headers.get("content-encoding", "identity") != "identity":
            work = Refusal(
                415, "invalid_request_error", "Content-Encoding is not understood here; send the body as it is."
            )
        else:
            try:
                work = decode(simulation, request)
            except RecursionError:
                work = Refusal(400, "invalid_request_error", "The body of your request is nested too deeply.")
        return simulation.perform(endpoint, dialect, request, work, now, created)
    if request.path.startswith("/sim/"):
        return _administered(simulation, request, now)
    if request.method == "GET" and request.path in (MODELS, gemini.PREFIX):
        dialect, body = _model_list(simulation, request)
        return simulation.perform(request.path, dialect, request, body, now, created)
    return _unrouted(simulation, request, endpoint, now, created)


def _endpoint(path: str) -> str:
    """The path without the name of a model in it."""
    if path.startswith(gemini.PREFIX):
        _, method = gemini.named_in(path)
        return f"{gemini.PREFIX}:{method}" if method else path
    return path


def _administered(simulation: Simulation, request: Request, now: float) -> Response:
    allowed = _ADMINISTERED.get(request.path)
    if allowed is not None and request.method not in allowed:
        methods = ", ".join(allowed)
        refusal = Refusal(405, "invalid_request_error", f"{request.path} answers {methods} only.")
        return Response(405, OPENAI.refusal_body(refusal), f"allow: {methods}\r\n".encode("ascii"))
    match request.path, request.method:
        case "/sim/stats", _:
            return _told(simulation.statistics.snapshot(now))
        case "/sim/reset", _:
            simulation.reset(now)
            return Response(200, b'{"reset":true}')
        case "/sim/faults", "GET":
            return _told({"faults": simulation.faults.told()})
        case "/sim/faults", _:
            return _faults_set(simulation, request, now)
        case "/sim/down", _:
            return _taken_down(simulation, request)
        case "/sim/limits", _:
            return _limits_changed(simulation, request, now)
    if request.path.startswith("/sim/redirected/"):
        simulation.statistics.redirects_followed += 1
    paths = ", ".join(f"{method} {path}" for path, methods in _ADMINISTERED.items() for method in methods)
    return OPENAI.refused(Refusal(404, "invalid_request_error", f"Under /sim there are {paths}.", "unknown_url"))


def _told(document: Mapping[str, Any]) -> Response:
    return Response(200, json.dumps(document).encode("ascii"))


def _faults_set(simulation: Simulation, request: Request, now: float) -> Response:
    problems: list[str] = []
    document = _document(request)
    unknown = sorted(set(document) - {"faults"})
    problems += [f"{key}: unknown key; the rules stand under faults" for key in unknown]
    rules = read_rules(document.get("faults"), "faults", problems)
    if problems:
        return _wrong(*problems)
    simulation.faults.replace(rules, now)
    return _told({"faults": simulation.faults.told()})


def _limits_changed(simulation: Simulation, request: Request, now: float) -> Response:
    """Other limits of one model that has some, from now on."""
    document = _document(request)
    known = ("model", "requests_per_minute", "tokens_per_minute")
    problems = [f"{key}: unknown key; there are {', '.join(known)}" for key in sorted(set(document) - set(known))]
    name = document.get("model", ANY_MODEL)
    model = simulation.model_named(name) if isinstance(name, str) else None
    if model is None or model.limits is None:
        problems.append("model: must be one of the profile that has limits")
    values = [document.get(key) for key in known[1:]]
    for key, value in zip(known[1:], values, strict=True):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**12):
            problems.append(f"{key}: must be a whole number above 0, or left out for no limit")
    if problems or model is None or model.limits is None:
        return _wrong(*problems)
    model.limits.change(values[0], values[1], model.profile.burst_s, now)
    return _told({"model": name, **dict(zip(known[1:], values, strict=True))})


def _taken_down(simulation: Simulation, request: Request) -> Response:
    for_s = _document(request).get("for_s")
    if isinstance(for_s, bool) or not isinstance(for_s, int | float) or not math.isfinite(for_s):
        return _wrong("for_s: must be a number of seconds")
    if not 0 < for_s <= LONGEST_DOWN_S:
        return _wrong(f"for_s: must be more than 0 and at most {LONGEST_DOWN_S:g}, got {for_s:g}")
    simulation.go_down(for_s)
    return _told({"down_for_s": for_s})


def _document(request: Request) -> dict[str, Any]:
    try:
        document = json.loads(request.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _wrong(*problems: str) -> Response:
    return OPENAI.refused(Refusal(400, "invalid_request_error", "; ".join(problems)))


def _model_list(simulation: Simulation, request: Request) -> tuple[Dialect, bytes]:
    names = simulation.model_names()
    if request.path == gemini.PREFIX:
        return GEMINI, gemini.model_list(names)
    if anthropic.VERSION_HEADER in request.headers:
        return ANTHROPIC, anthropic.model_list(names)
    return OPENAI, openai.model_list(names)


def _unrouted(simulation: Simulation, request: Request, endpoint: str, now: float, created: int) -> Response:
    known = {**dict.fromkeys(_WORK, "POST"), MODELS: "GET", gemini.PREFIX: "GET"}
    dialect = _WORK[endpoint][0] if endpoint in _WORK else GEMINI if request.path.startswith(gemini.PREFIX) else OPENAI
    path = request.path[:200]
    if endpoint in known:
        message = f"Not allowed to {request.method} on {path}; only {known[endpoint]} is."
        refusal = Refusal(405, "invalid_request_error", message, "method_not_supported")
        response = simulation.perform(endpoint, dialect, request, refusal, now, created)
        response.header_lines += f"allow: {known[endpoint]}\r\n".encode("ascii")
        return response
    message = f"Invalid URL ({request.method} {path}): there are {', '.join(known)} and /sim/stats here."
    refusal = Refusal(404, "invalid_request_error", message, "unknown_url")
    return simulation.perform(UNKNOWN, dialect, request, refusal, now, created)
