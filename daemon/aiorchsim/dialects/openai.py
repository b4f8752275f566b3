"""What all of OpenAI's endpoints share: error bodies, decoding a body, finding the model."""

import json
from typing import Any, Final, NoReturn

from aiorchsim.models import Model
from aiorchsim.responses import Dialect, Refusal
from aiorchsim.simulation import Simulation

LONGEST_MODEL_NAME: Final = 256


class Refused(Exception):
    """A request that cannot be worked on; carries what to answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def refusal_body(refusal: Refusal) -> bytes:
    """OpenAI's error object."""
    error = {"message": refusal.message, "type": refusal.kind, "param": refusal.param, "code": refusal.code}
    return json.dumps({"error": error}).encode("ascii")


def _error_event(refusal: Refusal) -> bytes:
    return b"data: " + refusal_body(refusal) + b"\n\n"


OPENAI: Final = Dialect(refusal_body, _error_event)


def bad_request(message: str, param: str | None = None, code: str | None = None) -> Refused:
    """A 400 in OpenAI's words."""
    return Refused(Refusal(400, "invalid_request_error", message, code, param))


def wrong_type(param: str, wanted: str, value: Any) -> Refused:
    """A 400 for a parameter of the wrong type."""
    names = {
        "dict": "object",
        "list": "array",
        "str": "string",
        "int": "integer",
        "float": "decimal",
        "bool": "boolean",
        "NoneType": "null",
    }
    got = names[type(value).__name__]
    return bad_request(f"Invalid type for '{param}': expected {wanted}, but got {got} instead.", param, "invalid_type")


def decoded(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises Refused."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"We could not parse the JSON body of your request. ({str(error)[:120]})") from error
    if not isinstance(document, dict):
        raise wrong_type("body", "an object", document)
    return document


def model_asked(simulation: Simulation, document: dict[str, Any]) -> tuple[Model, str]:
    """The model that a request names, and the name. Raises Refused."""
    name = document.get("model")
    if name is None:
        raise bad_request("you must provide a model parameter")
    if not isinstance(name, str):
        raise wrong_type("model", "a string", name)
    model = simulation.model_named(name) if 0 < len(name) <= LONGEST_MODEL_NAME else None
    if model is None:
        message = f"The model `{name[:LONGEST_MODEL_NAME]}` does not exist or you do not have access to it."
        raise Refused(Refusal(404, "invalid_request_error", message, "model_not_found"))
    return model, name


def whole_number(document: dict[str, Any], param: str, least: int, most: int) -> int | None:
    """An optional whole number within bounds. Raises Refused."""
    value = document.get(param)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(param, "an integer", value)
    if not least <= value <= most:
        message = f"Invalid '{param}': expected a value from {least} to {most}, but got {str(value)[:40]} instead."
        raise bad_request(message, param, "integer_below_min_value" if value < least else "integer_above_max_value")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
