"""Every path there is: the provider's endpoints, by dialect, and `/sim`, by which the simulator itself is asked.

`GET /sim/stats` tells what was counted, `POST /sim/reset` begins to count anew with full limits. Neither is a call,
nor counted.
"""

import json
from collections.abc import Callable, Mapping
from typing import Final

from aiorchsim.dialects import openai_chat, openai_embeddings
from aiorchsim.dialects.openai import OPENAI
from aiorchsim.http1 import Request
from aiorchsim.models import Work
from aiorchsim.responses import Dialect, Refusal, Response
from aiorchsim.simulation import Simulation

MODELS: Final = "/v1/models"
UNKNOWN: Final = "(unknown)"
CREATED: Final = 1_700_000_000

_Decode = Callable[[Simulation, Request], Work | Refusal]
_WORK: Final[Mapping[str, tuple[Dialect, _Decode]]] = {
    openai_chat.ENDPOINT: (OPENAI, openai_chat.decode),
    openai_embeddings.ENDPOINT: (OPENAI, openai_embeddings.decode),
}


def respond(simulation: Simulation, request: Request, now: float, created: int) -> Response:
    """Decide what to do about a request: `now` on the simulation's clock, `created` in seconds since 1970."""
    route = _WORK.get(request.path)
    if route is not None and request.method == "POST":
        dialect, decode = route
        work: Work | Refusal
        if request.headers.get("content-encoding", "identity") != "identity":
            work = Refusal(
                415, "invalid_request_error", "Content-Encoding is not understood here; send the body as it is."
            )
        else:
            work = decode(simulation, request)
        return simulation.perform(request.path, dialect, request, work, now, created)
    if request.path.startswith("/sim/"):
        return _administered(simulation, request, now)
    if request.path == MODELS and request.method == "GET":
        return simulation.perform(MODELS, OPENAI, request, _model_list(simulation), now, created)
    return _unrouted(simulation, request, now, created)


def _administered(simulation: Simulation, request: Request, now: float) -> Response:
    match request.path, request.method:
        case "/sim/stats", "GET":
            return Response(200, json.dumps(simulation.statistics.snapshot(now)).encode("ascii"))
        case "/sim/reset", "POST":
            simulation.reset(now)
            return Response(200, b'{"reset":true}')
        case (("/sim/stats" | "/sim/reset"), _):
            allowed = "GET" if request.path == "/sim/stats" else "POST"
            refusal = Refusal(405, "invalid_request_error", f"{request.path} answers {allowed} only.")
            return Response(405, OPENAI.refusal_body(refusal), f"allow: {allowed}\r\n".encode("ascii"))
    if request.path.startswith("/sim/redirected/"):
        simulation.statistics.redirects_followed += 1
    refusal = Refusal(
        404, "invalid_request_error", "Under /sim there are GET /sim/stats and POST /sim/reset.", "unknown_url"
    )
    return Response(404, OPENAI.refusal_body(refusal))


def _model_list(simulation: Simulation) -> bytes:
    names = simulation.model_names()
    if simulation.replay is not None:
        names += [name for name in simulation.replay.models if name not in names and simulation.model_named(name)]
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "aiorchsim"} for name in names]
    return json.dumps({"object": "list", "data": data}).encode("ascii")


def _unrouted(simulation: Simulation, request: Request, now: float, created: int) -> Response:
    known = {**dict.fromkeys(_WORK, "POST"), MODELS: "GET"}
    path = request.path[:200]
    if request.path in known:
        message = f"Not allowed to {request.method} on {path}; only {known[request.path]} is."
        refusal = Refusal(405, "invalid_request_error", message, "method_not_supported")
        response = simulation.perform(request.path, OPENAI, request, refusal, now, created)
        response.header_lines += f"allow: {known[request.path]}\r\n".encode("ascii")
        return response
    message = f"Invalid URL ({request.method} {path}): there are {', '.join(known)} and /sim/stats here."
    refusal = Refusal(404, "invalid_request_error", message, "unknown_url")
    return simulation.perform(UNKNOWN, OPENAI, request, refusal, now, created)
