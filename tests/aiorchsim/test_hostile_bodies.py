"""Bodies of any shape, in every dialect: an answer or an error in the provider's own form, never a crash."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.http1 import Request
from aiorchsim.profile import Profile
from aiorchsim.routes import respond
from aiorchsim.simulation import Simulation

PATHS = {
    "openai": "/v1/chat/completions",
    "openai embeddings": "/v1/embeddings",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/m:generateContent",
    "gemini stream": "/v1beta/models/m:streamGenerateContent",
    "gemini embeddings": "/v1beta/models/m:batchEmbedContents",
}
WORDS = (
    "type text content parts role user model assistant system name input tool_use tool_result image functionCall functionResponse args "
    "cache_control ephemeral ttl 1h required any tool auto json_schema schema format object string properties mode ANY"
).split()
leaves = st.none() | st.booleans() | st.integers(-5, 2000) | st.sampled_from(WORDS) | st.text(max_size=8)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)
KEYS = (
    "model messages max_tokens system stream stop stop_sequences tools tool_choice output_config output_format response_format n "
    "stream_options contents systemInstruction toolConfig generationConfig requests input dimensions cache_control"
).split()
SOUND = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "What is 1+1?"}],
    "contents": [{"parts": [{"text": "What is 1+1?"}]}],
    "input": "cats",
    "requests": [{"content": {"parts": [{"text": "cats"}]}}],
}


def answered(path, body):
    simulation = Simulation(Profile(), seed=0, replay=None, now=0.0)
    headers = {"anthropic-version": "2023-06-01"}
    return respond(simulation, Request("POST", path, "alt=sse", headers, body, 1, True), 1.0, 1_700_000_000)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=4))
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_any_fields(path, fields):
    response = answered(path, json.dumps({**SOUND, **fields}).encode())
    if response.pieces is None:
        document = json.loads(response.body)
        assert response.status == 200 or document["error"]["message"]
    else:
        assert response.pieces


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(
    "field", ["tools", "messages", "contents", "generationConfig", "response_format", "output_config", "requests"]
)
def test_what_is_nested_too_deeply_is_refused(path, field):
    deep = b'{"a":' * 900 + b"1" + b"}" * 900
    if field == "generationConfig":
        deep = b'{"responseMimeType":"application/json","responseSchema":%b}' % deep
    elif field == "tools":
        deep = b'[{"name":"f","functionDeclarations":[{"name":"f","parameters":%b}],"input_schema":%b}]' % (deep, deep)
    elif field == "output_config":
        deep = b'{"format":{"type":"json_schema","schema":%b}}' % deep
    elif field == "response_format":
        deep = b'{"type":"json_schema","json_schema":{"schema":%b}}' % deep
    sound = json.dumps({key: value for key, value in SOUND.items() if key != field}).encode()
    response = answered(path, sound[:-1] + b',"%b":%b}' % (field.encode(), deep))
    assert response.status in (200, 400)
