"""Many items in one prompt over real HTTP: answered alike in every dialect, charged, counted, and worse by profile."""

import json

import pytest

TEXTS = ["My delivery never came", "The billing is wrong", "I cannot open my account"]
ONE = {"type": "object", "properties": {"id": {"type": "string"}, "answer": {"type": "string"}}}
SCHEMA = {"type": "object", "properties": {"answers": {"type": "array", "items": ONE}}}
SYSTEM = "You sort tickets."
TOLD = f'{SYSTEM}\n\nAnswer each of "items": {{"answers": [{{"id": "...", "answer": "..."}}]}}.'
COMMON = "Classify the ticket as one of: billing, delivery, account.\nTicket:\n"
WHOLE = COMMON + json.dumps({"items": [{"id": f"k{number}", "text": text} for number, text in enumerate(TEXTS)]})


def openai(asker, system, user, model, schema):
    wish = {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    body = {"model": model, "messages": messages, **(wish if schema else {})}
    return asker.request("POST", "/v1/chat/completions", body).text


def anthropic(asker, system, user, model, schema):
    wish = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    body = {"model": model, "max_tokens": 1000, "system": system, "messages": [{"role": "user", "content": user}]}
    answered = asker.request(
        "POST", "/v1/messages", body | (wish if schema else {}), {"anthropic-version": "2023-06-01"}
    )
    return answered.json["content"][0]["text"]


def gemini(asker, system, user, model, schema):
    wish = {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema}}
    body = {
        "systemInstruction": {"parts": [{"text": system}]},
        "contents": [{"role": "user", "parts": [{"text": user}]}],
        **(wish if schema else {}),
    }
    answered = asker.request("POST", f"/v1beta/models/{model}:generateContent", body)
    return answered.json["candidates"][0]["content"]["parts"][0]["text"]


@pytest.mark.parametrize("dialect", [openai, anthropic, gemini])
@pytest.mark.parametrize("schema", [SCHEMA, None])
def test_each_item_is_answered_as_alone(quick, ask, dialect, schema):
    asker = ask(quick)
    told = json.loads(dialect(asker, TOLD, WHOLE, "m", schema))["answers"]
    alone = [dialect(asker, SYSTEM, COMMON + text, "m", None) for text in TEXTS]
    assert [one["answer"] for one in told] == alone == ["delivery", "billing", "account"]
    assert [one["id"] for one in told] == ["k0", "k1", "k2"]


def test_they_are_charged_and_counted(start, ask):
    simulator = start("[[models]]\nlatency_s = 0\n")
    asker = ask(simulator)
    for _ in range(2):
        openai(asker, TOLD, WHOLE, "m", SCHEMA)
    openai(asker, SYSTEM, COMMON + TEXTS[0], "m", None)
    told = simulator.stats()
    assert told["batches"] == {"calls": 2, "items": 6, "sizes": {"3": 2}, "harmed": 0, "faults": {}}
    assert told["calls"]["answered"] == 3
    single = 3 + 2 * 4 + -(-len(SYSTEM) // 4) + -(-len(COMMON + TEXTS[0]) // 4)
    many = 3 + 2 * 4 + -(-len(TOLD) // 4) + -(-len(WHOLE) // 4)
    assert told["tokens"]["prompt"] == single + 2 * many
    asker.request("POST", "/sim/reset")
    assert simulator.stats()["batches"]["calls"] == 0


@pytest.mark.parametrize("dialect", [openai, anthropic, gemini])
def test_a_model_that_is_worse_at_many(start, ask, dialect):
    profile = '[[models]]\nname = "weak"\nlatency_s = 0\nbatch_loss = 1.0\nbatch_unharmed = 2\n'
    profile += '[[models]]\nname = "careless"\nlatency_s = 0\nbatch_fault = "drops_item"\nbatch_fault_rate = 1.0\n'
    simulator = start(profile)
    asker = ask(simulator)
    told = json.loads(dialect(asker, TOLD, WHOLE, "weak", SCHEMA))["answers"]
    assert all(one["answer"] != right for one, right in zip(told, ["delivery", "billing", "account"], strict=True))
    assert len(json.loads(dialect(asker, TOLD, WHOLE, "careless", SCHEMA))["answers"]) == 2
    assert simulator.stats()["batches"] == {
        "calls": 2,
        "items": 6,
        "sizes": {"3": 2},
        "harmed": 3,
        "faults": {"drops_item": 1},
    }
