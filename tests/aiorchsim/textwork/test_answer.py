"""Whole answers: tools, JSON, several questions, quality."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.textwork import answer

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
MAIL = {
    "type": "function",
    "function": {
        "name": "send_mail",
        "parameters": {"type": "object", "properties": {"to": {"type": "string", "format": "email"}}},
    },
}


def ask(user, system=None, **more):
    messages = [{"role": "user", "content": user}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return answer(messages, **more)


def test_plain_tasks():
    assert ask("Give two tags for this page:\ncats like cats and milk").text == "cats, milk"
    assert ask("What is 6*7?").text == "42"
    assert ask("cats like cats", "Reply with one keyword.").text == "cats"


def test_content_in_parts_is_read():
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {}},
        {"type": "text", "text": "2+2?"},
    ]
    assert answer([{"role": "user", "content": parts}]).text == "4"


def test_the_last_question_counts():
    said = answer(
        [
            {"role": "user", "content": "What is 1+1?"},
            {"role": "assistant", "content": "2"},
            {"role": "user", "content": "What is 2+2?"},
        ]
    )
    assert said.text == "4"


def test_several_questions_are_answered_one_by_one():
    assert ask("Answer each:\n1. What is 2+2?\n2. What is 3*3?").text == "1. 4\n2. 9"
    assert ask("Tag each item with one tag.\n[a7] cats and cats\n[q2] dogs").text == "[a7] cats\n[q2] dogs"
    prompt = 'One tag for each item, as JSON keyed by id.\n<item id="a7">cats cats</item>\n<item id="q2">dogs</item>'
    assert json.loads(ask(prompt).text) == {"a7": "cats", "q2": "dogs"}
    assert json.loads(ask("Answer each, as a JSON array.\n1. What is 1+1?\n2. What is 2+2?").text) == ["2", "4"]


@pytest.mark.parametrize(
    "response_format", [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"schema": {}}}]
)
def test_json_is_an_object_when_the_request_says_so(response_format):
    said = json.loads(ask("Give two tags for this page:\ncats like milk", response_format=response_format).text)
    assert said == {"tags": ["cats", "milk"]}


def test_json_by_keys_and_by_example_of_the_instruction():
    said = json.loads(ask('Reply in JSON with the keys "tags" and "title":\nCats like milk.').text)
    assert list(said) == ["tags", "title"]
    assert said["title"] == "Cats like milk."
    said = json.loads(ask('Reply in JSON like {"count": 3, "fresh": true, "names": ["x"]}:\nCats like 12 mice.').text)
    assert said["count"] == 12
    assert isinstance(said["fresh"], bool)
    assert isinstance(said["names"], list)
    assert json.loads(ask("Two tags as a JSON list:\ncats like milk").text) == ["cats", "milk"]


def test_a_tool_is_called_when_it_must_be():
    tools = [MAIL, WEATHER]
    assert not ask("Weather in Paris today", tools=tools).tool_calls
    assert not ask("Weather in Paris today", tools=tools, tool_choice="auto").tool_calls
    (call,) = ask("The weather in Paris today", tools=tools, tool_choice="required").tool_calls
    assert call.name == "get_weather"
    assert json.loads(call.arguments) == {"city": "Paris"}
    named = {"type": "function", "function": {"name": "send_mail"}}
    said = ask("The weather in Paris", tools=tools, tool_choice=named)
    assert said.text == ""
    assert json.loads(said.tool_calls[0].arguments) == {"to": "someone@example.com"}
    assert said == ask("The weather in Paris", tools=tools, tool_choice=named)


def test_quality_is_the_share_of_texts_answered_right():
    prompts = [f"What is {number}+1?" for number in range(400)]
    right = [ask(prompt).text == ask(prompt, quality=0.8, model="m", seed=3).text for prompt in prompts]
    assert 0.74 < sum(right) / len(right) < 0.86
    again = [ask(prompt).text == ask(prompt, quality=0.8, model="m", seed=3).text for prompt in prompts]
    assert right == again
    other_seed = [ask(prompt).text == ask(prompt, quality=0.8, model="m", seed=4).text for prompt in prompts]
    other_model = [ask(prompt).text == ask(prompt, quality=0.8, model="n", seed=3).text for prompt in prompts]
    assert right != other_seed
    assert right != other_model


TEXTS = st.text(st.characters(blacklist_characters="<>", blacklist_categories=("Cs",)), min_size=1, max_size=80)
INSTRUCTIONS = st.sampled_from(
    [
        "Give two tags for each item.",
        "Summarise each item in one sentence.",
        "Answer each item.",
        "Classify each item as good or bad.",
    ]
)


@settings(deadline=None)
@given(INSTRUCTIONS, st.lists(TEXTS, min_size=2, max_size=6), TEXTS, st.integers(0, 5), st.floats(0, 1))
def test_each_answer_depends_on_its_own_item_only(instruction, texts, other, position, quality):
    def batch(all_texts):
        items = "\n".join(f'<item id="k{index}">{text}</item>' for index, text in enumerate(all_texts))
        return json.loads(ask(f"{instruction} Reply in JSON by id.\n\n{items}", quality=quality, seed=1).text)

    before = batch(texts)
    assert list(before) == [f"k{index}" for index in range(len(texts))]
    position %= len(texts)
    changed = texts.copy()
    changed[position] = other
    after = batch(changed)
    assert {key: text for key, text in after.items() if key != f"k{position}"} == {
        key: text for key, text in before.items() if key != f"k{position}"
    }
    alone = batch([texts[position]])
    assert alone["k0"] == before[f"k{position}"]


@settings(deadline=None)
@given(
    st.text(max_size=200),
    st.text(max_size=100),
    st.sampled_from([None, {"type": "json_object"}, {"type": "text"}, {"type": 5}]),
)
def test_any_prompt_is_answered(user, system, response_format):
    said = ask(user, system, response_format=response_format)
    assert said == ask(user, system, response_format=response_format)
    assert said.text
    if response_format == {"type": "json_object"}:
        assert isinstance(json.loads(said.text), dict)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{}, "x", {"text": 5}]}],
        [{"role": "assistant", "content": "hm"}],
    ],
)
def test_misshapen_messages_are_answered_too(messages):
    assert answer(messages, tools=[5, {}, {"function": 3}], tool_choice="required").text  # type: ignore[list-item]
