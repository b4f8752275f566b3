"""Gemini's embedContent and batchEmbedContents: texts in, vectors out."""

import json
from array import array
from dataclasses import dataclass
from typing import Any, Final

from aiorchsim.dialects.gemini import NO_SUCH_MODEL, PREFIX, named_in, texts_of
from aiorchsim.dialects.reading import NotUnderstood, bad_request, decoded, model_asked, objects, whole_number
from aiorchsim.http1 import Request
from aiorchsim.models import Model, Work
from aiorchsim.responses import Refusal, Rendering, Shape
from aiorchsim.simulation import Simulation
from aiorchsim.textwork import embed, text_tokens
from aiorchsim.textwork.answer import text_of

ENDPOINT: Final = f"{PREFIX}:embedContent"
BATCH_ENDPOINT: Final = f"{PREFIX}:batchEmbedContents"
MOST_INPUTS: Final = 100
MOST_DIMENSIONS: Final = 4096


def decode(simulation: Simulation, request: Request) -> "GeminiEmbeddings | Refusal":
    """Understand a request and work out its vectors, or say what is wrong with it."""
    work = simulation.remembered(request.path, request.body)
    if isinstance(work, GeminiEmbeddings):
        return work
    name, method = named_in(request.path)
    try:
        model, name = model_asked(simulation, name, NO_SUCH_MODEL)
        document = decoded(request.body)
        batch = method == "batchEmbedContents"
        asked = objects(document.get("requests"), "requests") if batch else [document]
        if not 1 <= len(asked) <= MOST_INPUTS:
            raise bad_request(f"requests: expected from 1 to {MOST_INPUTS}, but got {len(asked)}", "requests")
        vectors = [_vector(one, model) for one in asked]
    except NotUnderstood as refused:
        return refused.refusal
    encoded = f'"embeddings":[{",".join(told for told, _ in vectors)}]' if batch else f'"embedding":{vectors[0][0]}'
    work = GeminiEmbeddings(
        model=model, model_name=name, prompt_tokens=sum(tokens for _, tokens in vectors), encoded=encoded, batch=batch
    )
    simulation.remember(request.path, request.body, work, len(encoded))
    return work


@dataclass(frozen=True, slots=True, kw_only=True)
class GeminiEmbeddings(Work):
    """A request for vectors, and they."""

    encoded: str
    batch: bool

    def body(self, rendering: Rendering) -> bytes:
        """The whole answer."""
        usage = f',"usageMetadata":{{"promptTokenCount":{self.prompt_tokens}}}' if rendering.usage else ""
        encoded = self.encoded
        if rendering.shape is not Shape.WHOLE:
            encoded = '"embeddings":[]' if self.batch else '"embedding":{}'
        return f"{{{encoded}{usage}}}".encode("ascii")

    def events(self, rendering: Rendering) -> list[tuple[bytes, int]]:
        """There is no stream of embeddings; the body as its only event."""
        return [(self.body(rendering), 0)]


def _vector(asked: dict[str, Any], model: Model) -> tuple[str, int]:
    """One vector as JSON, and the tokens of its text."""
    text = text_of(texts_of(asked.get("content"), "content"))
    dimensions = whole_number(asked, "outputDimensionality", 1, MOST_DIMENSIONS) or model.profile.embedding_dimensions
    values = array("f", embed(text, dimensions)).tolist()
    return f'{{"values":{json.dumps(values)}}}', text_tokens(text)
