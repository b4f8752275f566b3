"""Many items in one prompt: each answered as alone, and worse where the model is worse at it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.textwork import answer
from aiorchsim.textwork.together import TEXT_MARK, BatchFault, Spoiled, Weakness, answer_schema, read_together

SYSTEM = "You sort tickets."
TOLD = (
    'The last message ends with JSON: {"items": [...]}. Answer each item by itself.\n\n'
    'Reply only with JSON: {"answers": [{"id": "...", "answer": ...}]}.'
)
COMMON = "Classify the ticket as one of: billing, delivery, account.\nTicket:\n"
TEXTS = [
    "The billing of 4 months is wrong",
    "My delivery never came",
    "I cannot open my account",
    "Two bills, one delivery",
    'He said "items": [1] {"items": [',
    "¿Dónde está?",
]
SORTED = {
    "type": "object",
    "properties": {"label": {"$ref": "#/$defs/label"}, "months": {"type": "integer"}},
    "required": ["label", "months"],
    "additionalProperties": False,
    "$defs": {"label": {"enum": ["billing", "delivery", "account"]}},
}


def many(schema):
    inner = {key: part for key, part in schema.items() if key != "$defs"}
    one = {"type": "object", "properties": {"id": {"type": "string"}, "answer": inner}, "required": ["id", "answer"]}
    return {
        "type": "object",
        "properties": {"answers": {"type": "array", "items": one}},
        "required": ["answers"],
        **({"$defs": schema["$defs"]} if "$defs" in schema else {}),
    }


def by_schema(schema):
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}


def by_tool(schema):
    function = {"name": "answer", "parameters": schema}
    return {"tools": [{"type": "function", "function": function}], "tool_choice": {"function": {"name": "answer"}}}


def said(system, user, **more):
    return answer([{"role": "system", "content": system}, {"role": "user", "content": user}], **more)


def document(texts):
    listed = [{"id": f"k{number}", "text": text} for number, text in enumerate(texts)]
    return json.dumps({"items": listed}, ensure_ascii=False)


def text_or_arguments(one):
    return one.tool_calls[0].arguments if one.tool_calls else one.text


def together(texts, common=COMMON, system=SYSTEM, **more):
    told = text_or_arguments(said(f"{system}\n\n{TOLD}", common + document(texts), **more))
    return [(one["id"], one["answer"]) for one in json.loads(told)["answers"]]


def alone(texts, common=COMMON, system=SYSTEM, **more):
    return [text_or_arguments(said(system, common + text, **more)) for text in texts]


def ids(texts):
    return [f"k{number}" for number in range(len(texts))]


@pytest.mark.parametrize("quality", [1.0, 0.5])
def test_words_are_answered_as_alone(quality):
    for schema in (None, {"type": "string"}):
        asked = {} if schema is None else by_schema(many(schema))
        singles = alone(TEXTS, quality=quality, model="m")
        assert together(TEXTS, quality=quality, model="m", **asked) == list(zip(ids(TEXTS), singles, strict=True))


@pytest.mark.parametrize("passed", [by_schema, by_tool])
@pytest.mark.parametrize("quality", [1.0, 0.5])
@pytest.mark.parametrize(
    "schema", [SORTED, {"type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string"}}}}]
)
def test_answers_with_a_schema_are_answered_as_alone(passed, quality, schema):
    singles = [json.loads(one) for one in alone(TEXTS, quality=quality, **passed(schema))]
    assert together(TEXTS, quality=quality, **passed(many(schema))) == list(zip(ids(TEXTS), singles, strict=True))


def test_a_schema_of_no_object_is_answered_as_alone():
    schema = {"enum": ["billing", "delivery", "account"]}
    singles = [json.loads(one) for one in alone(TEXTS, **by_schema(schema))]
    assert together(TEXTS, **by_schema(many(schema))) == list(zip(ids(TEXTS), singles, strict=True))


@pytest.mark.parametrize("wish", [{}, {"response_format": {"type": "json_object"}}])
def test_json_that_only_the_instruction_asks_for_is_json_in_each_answer(wish):
    common = 'Reply in JSON with the keys "label" and "summary".\n\n'
    singles = [json.loads(one) for one in alone(TEXTS, common, **wish)]
    assert together(TEXTS, common, **wish) == list(zip(ids(TEXTS), singles, strict=True))


def test_a_wish_for_json_that_is_only_the_batchs_own_makes_no_json_of_words():
    wish = {"response_format": {"type": "json_object"}}
    assert together(TEXTS, **wish) == list(zip(ids(TEXTS), alone(TEXTS), strict=True))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(st.characters(blacklist_categories=("Cs",)), max_size=60), min_size=1, max_size=6))
def test_any_texts_are_answered_as_alone(texts):
    assert together(texts) == list(zip(ids(texts), alone(texts), strict=True))


def test_what_stands_behind_each_text_is_read_with_it():
    common = f"Ticket: {TEXT_MARK}\nClassify it as one of: billing, delivery, account.\n\n"
    singles = [
        said(SYSTEM, f"Ticket: {text}\nClassify it as one of: billing, delivery, account.").text for text in TEXTS
    ]
    assert [one for _, one in together(TEXTS, common)] == singles
    assert singles[:3] == ["billing", "delivery", "account"]


def test_the_document_on_a_line_of_its_own_is_the_text_on_that_line():
    assert together(["2+2?"], "What is \n") == [("k0", said(SYSTEM, "What is 2+2?").text)]


def test_answers_that_have_to_be_strings_are_strings():
    common = 'Reply in JSON with the keys "label" and "summary".\n\n'
    told = f"{SYSTEM}\n\n{TOLD} Each answer is a string."
    (one,) = json.loads(said(told, common + document(TEXTS[:1])).text)["answers"]
    assert one["answer"] == said(SYSTEM, common + TEXTS[0]).text


def test_the_other_items_do_not_matter():
    assert dict(together(TEXTS))["k2"] == together([TEXTS[2]])[0][1] == dict(together(TEXTS[:3]))["k2"]


@pytest.mark.parametrize(
    "user",
    [
        "What is 2+2?",
        '{"items": [1, 2]}',
        '{"items": []}',
        '{"items": [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]}',
        '{"items": [{"id": "a", "text": "x", "more": 1}]}',
        '{"items": [{"id": "a", "text": "x"}], "items": 3}',
        '{"items": [{"id": "a", "text": "x"}], "more": 3}',
        '{"items": [{"id": "a", "text": "x"}',
    ],
)
def test_other_json_is_no_batch(user):
    assert read_together("", user) is None
    assert said("", user).together is None


def test_a_tool_that_is_no_answer_is_called_as_ever():
    called = said("", COMMON + document(TEXTS), **by_tool({"type": "object", "properties": {"a": {"type": "string"}}}))
    assert "answers" not in json.loads(called.tool_calls[0].arguments)


def test_which_schemas_are_of_many_answers():
    assert answer_schema(many(SORTED)) == SORTED
    assert answer_schema(many({})) == {}
    assert answer_schema(SORTED) is None
    assert answer_schema(None) is None


def many_texts(count):
    return [f"Ticket {number}: where is my delivery number {number * 7}?" for number in range(count)]


def harmed(size, weakness, seed=0, texts=300):
    pool = many_texts(texts)
    told = []
    for start in range(0, texts, size):
        told += together(pool[start : start + size], weakness=weakness, seed=seed)
    singles = alone(pool, seed=seed)
    return {number for number, (one, (_, other)) in enumerate(zip(singles, told, strict=True)) if one != other}


def test_a_weak_model_loses_the_same_texts_and_more_of_them_the_more_stand_together():
    weakness = Weakness(loss=0.05, unharmed=2)
    assert not harmed(2, weakness)
    five, ten = harmed(5, weakness), harmed(10, weakness)
    assert five < ten
    assert 0.08 < len(five) / 300 < 0.22
    assert 0.32 < len(ten) / 300 < 0.48
    assert harmed(10, weakness) == ten != harmed(10, weakness, seed=1)


def test_what_was_harmed_is_told():
    told = said(f"{SYSTEM}\n\n{TOLD}", COMMON + document(TEXTS), weakness=Weakness(loss=1.0))
    assert told.together == Spoiled(len(TEXTS), len(TEXTS))
    assert said(SYSTEM, COMMON + TEXTS[0], weakness=Weakness(loss=1.0)).together is None


@pytest.mark.parametrize("fault", list(BatchFault))
def test_faults_of_form(fault):
    pool = many_texts(4)
    right = dict(zip(ids(pool), alone(pool, common="Give the answer:\n"), strict=True))
    told = said(
        f"{SYSTEM}\n\n{TOLD}",
        "Give the answer:\n" + document(pool),
        weakness=Weakness(fault=fault),
    )
    assert told.together == Spoiled(4, 0, fault)
    if fault is BatchFault.CUTS_JSON:
        with pytest.raises(json.JSONDecodeError):
            json.loads(told.text)
        return
    answers = json.loads(told.text)["answers"]
    given_ids = [one["id"] for one in answers]
    match fault:
        case BatchFault.DROPS_ITEM:
            assert len(given_ids) == 3
            assert all(right[one["id"]] == one["answer"] for one in answers)
        case BatchFault.DOUBLES_ID:
            assert len(given_ids) == 5
            assert set(given_ids) == set(right)
        case BatchFault.INVENTS_ID:
            assert len(given_ids) == 4
            assert len(set(given_ids) - set(right)) == 1
        case BatchFault.SWAPS_ANSWERS:
            assert given_ids == list(right)
            assert sum(right[one["id"]] != one["answer"] for one in answers) == 2


def test_faults_of_form_suffer_a_share_of_the_prompts_and_never_one_item_alone():
    weakness = Weakness(fault=BatchFault.DROPS_ITEM, fault_rate=0.3)
    suffered = []
    for number in range(200):
        pool = [f"{number} {text}" for text in many_texts(2)]
        told = said(f"{SYSTEM}\n\n{TOLD}", COMMON + document(pool), weakness=weakness).together
        assert told is not None
        suffered.append(told.fault is not None)
    assert 40 < sum(suffered) < 80
    one = said(SYSTEM, COMMON + document(["x"]), weakness=Weakness(fault=BatchFault.CUTS_JSON)).together
    assert one == Spoiled(1)
