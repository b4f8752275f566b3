"""What all dialects share in reading a request: decoding a body, finding the model, checking what is in it.

Complaints are worded as OpenAI words them; each dialect puts them into its own form.
"""

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

from aiorchsim.models import Model, Work
from aiorchsim.responses import Refusal
from aiorchsim.simulation import Simulation

LONGEST_MODEL_NAME: Final = 256

WorkT = TypeVar("WorkT", bound=Work)


class NotUnderstood(Exception):
    """A request that cannot be worked on; carries what to answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def made_once(
    simulation: Simulation,
    place: str,
    body: bytes,
    kind: type[WorkT],
    make: Callable[[], WorkT],
    size_bytes: Callable[[WorkT], int],
) -> WorkT | Refusal:
    """Understand a request and work out its answer, or say what is wrong with it; the same one again is remembered."""
    work = simulation.remembered(place, body)
    if isinstance(work, kind):
        return work
    try:
        made = make()
    except NotUnderstood as refused:
        return refused.refusal
    simulation.remember(place, body, made, size_bytes(made))
    return made


def bad_request(message: str, param: str | None = None, code: str | None = None) -> NotUnderstood:
    """A 400."""
    return NotUnderstood(Refusal(400, "invalid_request_error", message, code, param))


def wrong_type(param: str, wanted: str, value: Any) -> NotUnderstood:
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
    """The JSON object in a body. Raises NotUnderstood."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"We could not parse the JSON body of your request. ({str(error)[:120]})") from error
    if not isinstance(document, dict):
        raise wrong_type("body", "an object", document)
    return document


def model_asked(simulation: Simulation, name: Any, absent: str) -> tuple[Model, str]:
    """The model of a name, and the name. Raises NotUnderstood; `absent` is how a provider says that it has none, with
    {name} in it.
    """
    if name is None:
        raise bad_request("you must provide a model parameter")
    if not isinstance(name, str):
        raise wrong_type("model", "a string", name)
    model = simulation.model_named(name) if 0 < len(name) <= LONGEST_MODEL_NAME else None
    if model is None:
        message = absent.replace("{name}", name[:LONGEST_MODEL_NAME])
        raise NotUnderstood(Refusal(404, "invalid_request_error", message, "model_not_found"))
    return model, name


def whole_number(document: dict[str, Any], param: str, least: int, most: int) -> int | None:
    """An optional whole number within bounds. Raises NotUnderstood."""
    value = document.get(param)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(param, "an integer", value)
    if not least <= value <= most:
        message = f"Invalid '{param}': expected a value from {least} to {most}, but got {str(value)[:40]} instead."
        raise bad_request(message, param, "integer_below_min_value" if value < least else "integer_above_max_value")
    return value


def optional(document: dict[str, Any], param: str, kind: type, wanted: str) -> Any:
    """An optional value of a type. Raises NotUnderstood."""
    value = document.get(param)
    if value is not None and not isinstance(value, kind):
        raise wrong_type(param, wanted, value)
    return value


def objects(value: Any, param: str) -> list[dict[str, Any]]:
    """A list of objects, empty when absent. Raises NotUnderstood."""
    if value is None:
        return []
    if not (isinstance(value, list) and all(isinstance(element, dict) for element in value)):
        raise wrong_type(param, "an array of objects", value)
    return value


def strings(value: Any, param: str) -> list[str]:
    """A list of strings that are not empty, or one such string. Raises NotUnderstood."""
    value = [value] if isinstance(value, str) else value
    if value is not None and not (isinstance(value, list) and all(isinstance(text, str) and text for text in value)):
        raise wrong_type(param, "a string or an array of strings", value)
    return value or []


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
