"""OpenAI's embeddings: texts (or their tokens) in, vectors out, as numbers or as base64 of little-endian float32."""

import json
import sys
from array import array
from base64 import b64encode
from dataclasses import dataclass
from typing import Any, Final

from aiorchsim.dialects.openai import NO_SUCH_MODEL
from aiorchsim.dialects.reading import bad_request, decoded, made_once, model_asked, whole_number, wrong_type
from aiorchsim.http1 import Request
from aiorchsim.models import Work
from aiorchsim.responses import Refusal, Rendering, Shape
from aiorchsim.simulation import Simulation
from aiorchsim.textwork import embed, text_tokens

ENDPOINT: Final = "/v1/embeddings"
MOST_INPUTS: Final = 2048
MOST_DIMENSIONS: Final = 4096


def decode(simulation: Simulation, request: Request) -> "EmbeddingWork | Refusal":
    """Understand a request and work out its vectors, or say what is wrong with it."""
    return made_once(
        simulation,
        ENDPOINT,
        request.body,
        EmbeddingWork,
        lambda: _work(simulation, decoded(request.body)),
        lambda work: len(work.encoded),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingWork(Work):
    """A request for vectors, and they."""

    encoded: bytes
    bare: bytes
    """The same without its tokens."""

    def body(self, rendering: Rendering) -> bytes:
        """The whole answer; an embedding has neither id nor time."""
        if rendering.shape is not Shape.WHOLE:
            return b'{"object":"list","data":[]}'
        return self.encoded if rendering.usage else self.bare

    def events(self, rendering: Rendering) -> list[tuple[bytes, int]]:
        """There is no stream of embeddings; the body as its only event."""
        return [(self.body(rendering), 0)]


def _work(simulation: Simulation, document: dict[str, Any]) -> EmbeddingWork:
    model, name = model_asked(simulation, document.get("model"), NO_SUCH_MODEL)
    form = document.get("encoding_format", "float")
    if form not in ("float", "base64"):
        message = (
            f"Invalid value for 'encoding_format': {str(form)[:40]!r}. Supported values are: 'float' and 'base64'."
        )
        raise bad_request(message, "encoding_format", "invalid_value")
    dimensions = whole_number(document, "dimensions", 1, MOST_DIMENSIONS) or model.profile.embedding_dimensions
    texts, tokens = _inputs(document)
    data = [
        f'{{"object":"embedding","index":{index},"embedding":{_written(embed(text, dimensions), form)}}}'
        for index, text in enumerate(texts)
    ]
    bare = f'{{"object":"list","data":[{",".join(data)}],"model":{json.dumps(name)}'
    encoded = f'{bare},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}'
    return EmbeddingWork(
        model=model,
        model_name=name,
        prompt_tokens=tokens,
        encoded=encoded.encode("ascii"),
        bare=f"{bare}}}".encode("ascii"),
    )


def _written(vector: list[float], form: str) -> str:
    single = array("f", vector)
    if form == "base64":
        if sys.byteorder == "big":
            single.byteswap()
        return f'"{b64encode(single.tobytes()).decode("ascii")}"'
    return json.dumps(single.tolist())


def _inputs(document: dict[str, Any]) -> tuple[list[str], int]:
    """The texts to embed and their tokens; tokens given as numbers are taken as words of a text."""
    given = document.get("input")
    if given is None:
        raise bad_request("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list):
        raise wrong_type("input", "a string or an array", given)
    if given and all(_is_token(token) for token in given):
        given = [given]
    if not 1 <= len(given) <= MOST_INPUTS:
        raise bad_request(
            f"Invalid 'input': expected from 1 to {MOST_INPUTS} elements, but got {len(given)} instead.", "input"
        )
    texts: list[str] = []
    tokens = 0
    for index, element in enumerate(given):
        if isinstance(element, str) and element:
            texts.append(element)
            tokens += text_tokens(element)
        elif isinstance(element, list) and element and all(_is_token(token) for token in element):
            texts.append(" ".join([str(token) for token in element]))
            tokens += len(element)
        else:
            raise bad_request(
                f"'$.input[{index}]' is invalid: it must be a string or an array of tokens, not empty.", "input"
            )
    return texts, tokens


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
