"""Operations through the pipeline: what is asked, of whom, what is equal, and whose an answer is."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from harness import RecordedSink, a_caller
from msgspec.structs import replace
from played_house import CONFIG, Disk, House, Played, Told

from aiorch.errors import InvalidRequest, NoModels, ProviderError, TooLarge, UnknownOperation
from aiorchd.calls.caller import UNMAPPED_UID, Caller
from aiorchd.calls.question import Question
from aiorchd.calls.reply import Reply
from aiorchd.config.load import load_text
from aiorchd.config.operations import Material
from aiorchd.config.problems import ConfigError
from aiorchd.config.prompt_template import PromptTemplate
from aiorchd.config.schema import Operation, Provider
from aiorchd.pipeline.lasting import lasting_state
from aiorchd.pipeline.order import open_pipeline
from aiorchd.pipeline.plan import Plan


class Works(House):
    async def do(
        self, given: Any, name: str = "tag", caller: Caller | None = None, sink: Any = None, **fields: Any
    ) -> Reply:
        request = {key: fields.pop(key) for key in ("temperature", "max_tokens") if key in fields}
        question = Question(kind="chat", request=request, operation=name, input=given, **fields)
        return await self.pipeline.answer(self.call(question, caller, sink))

    def quick(self, given: Any, caller: Caller | None = None, **fields: Any) -> bytes | None:
        who = caller if caller is not None else a_caller()
        question = Question(kind="chat", request={}, operation="tag", input=given, **fields)
        return self.pipeline.try_hit(who, self.pipeline.prepare(who, question), trio.current_time())


@asynccontextmanager
async def works(material: Material | None = None, config: Any = CONFIG, **fields: Any) -> AsyncIterator[Works]:
    operation = Operation(**fields)
    if material is None:
        material = Material(PromptTemplate(operation.template) if operation.template is not None else None)
    config = replace(config, operations={"tag": operation})
    provider, disk, told = Played(), Disk(), Told()
    state = lasting_state(config, answers=disk, records=told, wall_clock=lambda: 1_000_000.0, rng=random.Random(1))
    plan = Plan(
        config=config,
        providers={"main": provider},
        addresses={"main": "openai http://x"},
        simulated=False,
        materials={"tag": material},
    )
    async with open_pipeline(plan, state) as pipeline:
        yield Works(pipeline, provider, disk, told, state)


async def test_what_an_operation_asks() -> None:
    async with works(
        Material(PromptTemplate("Tags for {{ input.text }}"), {"type": "string"}),
        system="You tag.",
        task="classification",
        temperature=0.0,
        max_tokens=50,
        timeout_s=7.0,
        cache_ttl_s=5.0,
        cache="memory",
        models=("large", "small"),
    ) as it:
        question = Question(kind="chat", request={"max_tokens": 9}, operation="tag", input={"text": "x"})
        call = it.call(question)
        assert call.request == {
            "messages": [{"role": "system", "content": "You tag."}, {"role": "user", "content": "Tags for x"}],
            "temperature": 0.0,
            "max_tokens": 9,  # the caller's own wins
            "output_schema": {"type": "string"},
        }
        assert (call.operation, call.task, call.keep_s, call.tier) == ("tag", "classification", 5.0, "memory")
        assert call.models == ("large", "small")
        assert call.deadline == pytest.approx(trio.current_time() + 7, abs=1)
        assert (
            it.call(
                Question(
                    kind="chat", request={}, operation="tag", input={"text": "x"}, task="t", timeout_s=3, cache_ttl_s=1
                )
            ).task
            == "t"
        )


async def test_its_tools_are_sent_unless_the_call_has_its_own() -> None:
    tools = [{"type": "function", "function": {"name": "find"}}]
    async with works(Material(tools=tools)) as it:
        assert it.call(Question(kind="chat", request={}, operation="tag", input="x")).request["tools"] == tools
        own = it.call(Question(kind="chat", request={"tools": tools * 2}, operation="tag", input="x"))
        assert own.request["tools"] == tools * 2


async def test_without_a_template_the_input_is_the_prompt() -> None:
    async with works() as it:
        await it.do("some text")
        await it.do({"b": 2.0, "a": [True]})
        assert [asked for _, asked in it.provider.asked] == ["some text", '{"a": [true], "b": 2}']


async def test_records_tell_the_operation() -> None:
    async with works() as it:
        await it.do("x")
        assert it.quick("x") is not None
        it.provider.failing = {"small": ProviderError("no"), "large": ProviderError("no")}
        with pytest.raises(ProviderError):
            await it.do("y")
        assert [(record.operation, record.cache) for record in it.told.records] == [
            ("tag", "miss"), ("tag", "exact"), ("tag", "none"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "given", "asked", "error", "told"),
    [
        ({}, "x", {"name": "tga"}, UnknownOperation, "there is no operation 'tga'; did you mean tag?"),
        ({}, "x", {"name": "zzz"}, UnknownOperation, "there are tag"),
        ({"template": "a\n{{ input.text }}"}, {}, {}, InvalidRequest, "input: operations.tag.template, line 2 of the template: input.text is missing."),
        ({"template": "{{ input.text }}"}, {"text": ""}, {}, InvalidRequest, "empty prompt"),
        ({"max_input_bytes": 10}, {"text": "123456"}, {}, TooLarge, "input: is 17 bytes large; the operation tag takes 10"),
        ({"models": ("small",)}, "x", {"model": "large"}, InvalidRequest, "model: the operation tag allows small, not 'large'"),
        ({"models": ("off",)}, "x", {}, NoModels, "none of the models that the operation tag allows is enabled: off"),
        ({"document_id": "input.id"}, {"text": "x"}, {}, InvalidRequest, "input.id: is missing; the operation tag knows documents by it"),
        ({"document_id": "input.id"}, {"id": []}, {}, InvalidRequest, "input.id: must be text or a number"),
        ({"template": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"}, "x", {}, InvalidRequest, "0.25 s of CPU"),
    ],
)  # fmt: skip
async def test_what_is_refused(fields: Any, given: Any, asked: Any, error: Any, told: str) -> None:
    async with works(**fields) as it:
        with pytest.raises(error) as caught:
            await it.do(given, **asked)
        assert told in caught.value.message
        assert it.provider.asked == []


async def test_only_the_models_that_are_allowed_answer_in_their_order() -> None:
    async with works(models=("large", "off")) as it:
        await it.do("x")
        it.provider.failing = {"large": ProviderError("no")}
        with pytest.raises(ProviderError):  # small is the fallback of all others
            await it.do("y")
        assert {model for model, _ in it.provider.asked} == {"large"}
    async with works(models=("large", "small")) as it:
        await it.do("x", model="small")
        it.provider.failing = {"small": ProviderError("no")}
        assert (await it.do("y", model="small")).text
        assert [model for model, _ in it.provider.asked] == ["small", "small", "large"]


async def test_an_edited_template_asks_anew_and_the_same_text_does_not() -> None:
    keys = []
    for template in ("A {{ input.t }}", "B {{ input.t }}", "A {{ input['t'] }}"):
        async with works(template=template) as it:
            keys.append(it.call(Question(kind="chat", request={}, operation="tag", input={"t": "x"})).key)
    assert keys[0] == keys[2] != keys[1]


async def test_documents_are_known_by_id_and_version_beside_their_content() -> None:
    async with works(template="{{ input.text }}", document_id="input.id", document_version="input.v") as it:
        for id_, version, text in (("a", 1, "x"), ("a", 1.0, "x"), ("a", 2, "x"), ("b", 1, "x"), ("a", 1, "y")):
            await it.do({"id": id_, "v": version, "text": text})
        assert [asked for _, asked in it.provider.asked] == ["x", "x", "x", "y"]


UUIDS = ("0b54d5d8-6a9c-4f0e-9a53-3f1c2d4e5f60", "7c2f0f7e-9c55-4b7e-8a94-1e2d3c4b5a69")


async def test_inputs_that_differ_only_in_noise_share_an_answer_at_its_own_depth() -> None:
    async with works(template="{{ input | tojson }}") as it:
        first = {"text": "x", "request_id": UUIDS[0], "tags": ["a", "b"]}
        second = {"tags": ["b", "a"], "request_id": UUIDS[1], "text": "x"}
        assert (await it.do(first)).cache == "miss"
        assert it.quick(second) is None  # told as what it is, in a task of its own
        alike = await it.do(second)
        assert (alike.cache, alike.source_id) == ("normalised", it.told.records[0].id)
        assert it.quick(first) is not None
        assert (await it.do(first)).cache == "exact"
        assert (await it.do({**first, "text": "y"})).cache == "miss"
        assert len(it.provider.asked) == 2
        hit = next(record for record in it.told.records if record.cache == "normalised")
        assert "differs from this one only in noise" in hit.story["notes"][0][2]  # type: ignore[index]
        assert hit.cost_usd == 0
        assert hit.saved_usd == 0.001


async def test_what_one_rule_left_over_is_not_taken_for_what_another_did() -> None:
    """A list that was put in order is not one that came so, once its order counts again."""

    async def key(given: Any, **rules: Any) -> bytes | None:
        async with works(template="{{ input | tojson }}", **rules) as it:
            return it.call(Question(kind="chat", request={}, operation="tag", input=given)).key

    loose = {"cache_ignore": ("input.lang", "input.at"), "cache_unordered": ("input.l",)}
    of_loose = await key({"l": ["b", "a"], "lang": "de"}, **loose)
    assert of_loose == await key({"l": ["a", "b"]}, **loose)
    assert of_loose == await key({"l": ["a", "b"]}, **{**loose, "cache_ignore": ("input.at", "input.lang", "input.at")})
    strict = [
        {},
        {"noise": ()},
        {"noise": ("default", "ids")},
        {"cache_ignore": ("input.lang",)},
        {"document_id": "input.i"},
    ]
    others = [await key({"l": ["a", "b"], "i": 1}, **rules) for rules in strict]
    assert len({of_loose, *others}) == len(strict) + 1


async def test_the_depth_is_told_of_what_comes_from_disk() -> None:
    async with works(template="{{ input | tojson }}", cache="disk") as it:
        first, second = ({"text": "x", "request_id": one} for one in UUIDS)
        await it.do(first)
        assert it.quick(first) is None
        assert [(await it.do(one)).cache for one in (first, second)] == ["exact", "normalised"]
        assert len(it.disk.kept) == 1


async def test_equal_ones_in_flight_share_a_call_whatever_their_noise() -> None:
    async with works(template="{{ input | tojson }}") as it:
        it.provider.gate = trio.Event()
        got: list[Reply] = []

        async def do(id_: str) -> None:
            got.append(await it.do({"text": "x", "request_id": id_}))

        async with trio.open_nursery() as nursery:
            for id_ in UUIDS:
                nursery.start_soon(do, id_)
            await trio.testing.wait_all_tasks_blocked()
            it.provider.gate.set()
        assert sorted(reply.cache for reply in got) == ["coalesced", "miss"]
        assert len(it.provider.asked) == 1


async def test_a_template_that_wants_the_noise_gets_a_mark_in_its_place() -> None:
    async with works(template="{{ input.fetched_at }} {{ input.t }}") as it:
        await it.do({"t": "x", "fetched_at": "2026-01-01T10:00:00Z"})
        assert (await it.do({"t": "x", "fetched_at": "2026-01-02T11:00:00Z"})).cache == "normalised"


async def test_free_text_is_known_by_its_exact_key_alone() -> None:
    async with works() as it:
        await it.do(f"see {UUIDS[0]}")
        assert (await it.do(f"see {UUIDS[1]}")).cache == "miss"
    async with works(noise=("uuids",)) as it:
        await it.do(f"see {UUIDS[0]}")
        assert (await it.do(f"see {UUIDS[1]}")).cache == "normalised"


async def test_shared_answers_stay_within_their_partition_and_among_those_with_a_number() -> None:
    async with works(shared=True) as it:
        await it.do("x", caller=a_caller(1))
        assert (await it.do("x", caller=a_caller(2))).cache == "exact"
        assert it.quick("x", a_caller(3)) is not None
        assert (await it.do("x", caller=a_caller(2), partition="p")).cache == "miss"
        nobody = a_caller(UNMAPPED_UID)
        assert (await it.do("x", caller=nobody)).cache == "miss"
        assert (await it.ask("x", caller=a_caller(2))).cache == "miss"  # a plain question is nobody else's
    async with works() as it:
        await it.do("x", caller=a_caller(1))
        assert (await it.do("x", caller=a_caller(2))).cache == "miss"


@pytest.mark.parametrize("fields", [{}, {"models": ("small",)}, {"models": ("large", "small")}])
async def test_what_a_users_process_answers_is_shared_with_nobody(fields: dict[str, Any]) -> None:
    host = replace(CONFIG, providers={"main": Provider(dialect="host")})
    async with works(config=host, shared=True, **fields) as it:
        assert (await it.do("x", caller=a_caller(1))).cache == "miss"
        assert (await it.do("x", caller=a_caller(2))).cache == "miss"
        assert (await it.do("x", caller=a_caller(1))).cache == "exact"
        assert it.quick("x", a_caller(3)) is None


async def test_what_is_found_under_a_key_is_given_only_to_whom_it_belongs() -> None:
    """The second look: were two keys ever equal, the answer would still be its owner's."""
    async with works(cache="disk") as it:
        await it.do("x", caller=a_caller(1))
        [(_, stored)] = it.disk.kept.items()
        other = it.call(Question(kind="chat", request={}, operation="tag", input="x"), a_caller(2))
        assert other.key is not None
        it.disk.kept[other.key] = stored
        reply = await it.pipeline.answer(other)
        assert reply.cache == "miss"


async def test_forgetting_an_operation() -> None:
    async with works() as it:
        await it.do("x", tags=("t",))
        await it.do("y", caller=a_caller(2))
        await it.ask("z")
        forgotten = await it.pipeline.forget(uid=1000, request_id=None, tag=None, operation="tag")
        assert it.told.records[0].tags == ("t",)
        assert it.quick("x") is None
        assert forgotten >= 1


async def test_an_operation_may_keep_nothing_and_may_stream() -> None:
    async with works(cache="off") as it:
        await it.do("x")
        assert (await it.do("x")).cache == "miss"
        assert it.disk.kept == {}
    async with works() as it:
        sink = RecordedSink()
        await it.do("x", sink=sink, stream=True, call_id=1)
        again = RecordedSink()
        assert (await it.do("x", sink=again, stream=True, call_id=2)).cache == "exact"
        assert again.text


async def test_chance_asked_for_by_the_operation_is_not_kept() -> None:
    async with works(temperature=0.5) as it:
        await it.do("x")
        assert (await it.do("x")).cache == "miss"
        await it.do("x", temperature=0)
        assert (await it.do("x", temperature=0)).cache == "exact"


async def test_a_key_names_the_same_input() -> None:
    async with works() as it:
        first = await it.do("x", key="k")
        assert (await it.do("x", key="k")).text == first.text
        with pytest.raises(InvalidRequest):
            await it.do("y", key="k")


async def test_a_schema_that_is_none_is_refused_before_anybody_is_asked() -> None:
    with pytest.RaisesGroup(ConfigError, allow_unwrapped=True, flatten_subgroups=True) as caught:
        async with works(Material(None, {"type": "nope"})):
            pass
    assert "operations.tag.output_schema" in str(caught.value)


def test_a_file_is_refused_whole_with_every_place(tmp_path: Any) -> None:
    (tmp_path / "open.json").write_text("{}")
    (tmp_path / "open.json").chmod(0o666)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "tools.json").write_text('{"type": "function"}')
    text = """
[providers.m]
dialect = "simulated"
[[models]]
name = "a"
provider = "m"
[operations.one]
template = '''a
{{ input.x }'''
models = ["b"]
output_schema = "open.json"
cache_ignore = ["x"]
[operations.two]
output_schema = "broken.json"
document_version = "input.v"
noise = ["uuid"]
tools = "tools.json"
"""
    with pytest.raises(ConfigError) as caught:
        load_text(text.encode(), tmp_path / "aiorch.toml", {})
    told = [f"{problem.line} {problem.key} {problem.sentence}" for problem in caught.value.problems]
    for number, part in enumerate(
        (
            "8 operations.one.template line 2 of the template: unexpected '}'.",
            "10 operations.one.models[0] there is no model",
            "11 operations.one.output_schema",
            "12 operations.one.cache_ignore[0]",
            "14 operations.two.output_schema",
            "15 operations.two.document_version has no document_id beside it.",
            "16 operations.two.noise[0]",
            "17 operations.two.tools must be a list of maps",
        )
    ):
        assert told[number].startswith(part), told
    assert "others than its owner may write it" in told[2]


def test_what_was_compiled_is_not_compiled_again(tmp_path: Any) -> None:
    text = b"[operations.one]\ntemplate = 'x'\noutput_schema = 's.json'\n"
    (tmp_path / "s.json").write_text("{}")
    (tmp_path / "t.json").write_text('[{"type": "function"}]')
    text += b"tools = 't.json'\n"
    first = load_text(text, tmp_path / "aiorch.toml", {})
    second = load_text(text + b"[operations.two]\n", tmp_path / "aiorch.toml", {}, before=first.materials)
    assert second.materials["one"].tools == [{"type": "function"}]
    assert [file.key for file in second.materials["one"].files] == ["output_schema", "tools"]
    assert second.materials["one"].template is first.materials["one"].template
    (tmp_path / "s.json").write_text('{"type": "string"}')
    assert load_text(text, tmp_path / "aiorch.toml", {}).fingerprint != first.fingerprint


async def test_two_inputs_are_compared() -> None:
    async with works(template="{{ input.text }} {{ input.request_id }}", cache_ignore=("input.seen",)) as it:
        first = {"text": "x", "request_id": UUIDS[0], "seen": 1}
        told = it.pipeline.compare(a_caller(), "tag", first, {**first, "request_id": UUIDS[1], "seen": 2})
        assert told["equal"] == "normalised"
        assert {(one["path"], one["rule"]) for one in told["noise"]} == {
            ("input.request_id", "id"),
            ("input.seen", "cache_ignore"),
        }
        assert told["differs"] == []
        assert [one["path"] for one in told["differs_in_noise"]] == ["input.request_id", "input.seen"]
        told = it.pipeline.compare(a_caller(), "tag", first, {**first, "text": "y", "more": [1]})
        assert told["equal"] is None
        assert told["differs"] == [
            {"path": "input.more", "a": None, "b": "[1]"},
            {"path": "input.text", "a": '"x"', "b": '"y"'},
        ]
        told = it.pipeline.compare(a_caller(), "tag", first, {**first, "unused": 1})
        assert (told["equal"], [one["path"] for one in told["differs"]]) == ("exact", ["input.unused"])
        with pytest.raises(UnknownOperation):
            it.pipeline.compare(a_caller(), "nope", first, first)
        assert it.provider.asked == []


@pytest.mark.parametrize(
    "given",
    [{"l": list(range(5000))}, {"text": "x" * 1_100_000}, "[" + "1," * 40_000 + "1]"],
    ids=["values", "bytes", "text"],
)
async def test_large_inputs_are_known_by_their_exact_key_alone(given: Any) -> None:
    async with works() as it:
        call = it.call(Question(kind="chat", request={}, operation="tag", input=given))
        assert call.key is not None
        assert call.exact_key is None
        if isinstance(given, str):
            return
        large = {"l": given, "request_id": 1}
        assert it.pipeline.compare(a_caller(), "tag", large, {**large, "request_id": 2})["equal"] is None
