"""`aiorchctl complete` and `embed`: what is sent, what a person and what a pipe get."""

import io
import json
import struct

import pytest

from aiorch.errors import IncompleteStream
from aiorchctl.commands.asking import provenance

REPLY = {
    "id": "c-1",
    "text": "Rhine, Elbe, Danube",
    "data": None,
    "tool_calls": [],
    "model": "small",
    "provider": "main",
    "simulated": False,
    "usage": {"input": 5, "cache_read": 0, "cache_write": 0, "output": 4, "reasoning": 0},
    "cost_usd": 0.00012345678,
    "saved_usd": 0.0,
    "cache": "miss",
    "attempts": 1,
    "timing": {"queue_s": 0.0, "provider_s": 0.2, "overhead_s": 0.001, "total_s": 0.201},
}


@pytest.fixture
def answering(daemon):
    daemon.answers["complete"] = REPLY
    return daemon


def test_a_pipe_gets_the_answer_alone(answering, ctl):
    ran = ctl("complete", "Name three rivers")
    assert (ran.code, ran.out, ran.err) == (0, "Rhine, Elbe, Danube\n", "")
    assert answering.arguments_of("complete") == {"prompt": "Name three rivers"}


def test_json_is_the_reply_as_it_came_with_exact_numbers(answering, ctl):
    assert json.loads(ctl("complete", "x", "--json").out) == REPLY


def test_every_option_is_sent_under_its_wire_name(answering, ctl, tmp_path):
    schema = tmp_path / "s.json"
    schema.write_text('{"type": "object"}')
    ran = ctl(
        *("complete", "Hi", "--model", "small", "--task", "simple_query", "--timeout", "1m30s", "--cache", "refresh"),
        *(
            "--cache-samples",
            "4",
            "--cache-ttl",
            "1h",
            "--schema",
            str(schema),
            "--max-tokens",
            "9",
            "--temperature",
            "0.5",
            "--seed",
            "3",
        ),
        *("--stop", "END", "--stop", "FIN", "--priority", "bulk", "--partition", "p", "--session", "s", "--key", "k"),
        *(
            "--tag",
            "a",
            "--tag",
            "b",
            "--quality-threshold",
            "0.8",
            "--cost-limit",
            "0.1",
            "--extra",
            '{"user_tier": 2}',
        ),
    )
    assert ran.code == 0
    assert answering.arguments_of("complete") == {
        "prompt": "Hi",
        "model": "small",
        "task": "simple_query",
        "timeout_s": 90.0,
        "cache": "refresh",
        "cache_ttl_s": 3600.0,
        "cache_samples": 4,
        "output_schema": {"type": "object"},
        "max_tokens": 9,
        "temperature": 0.5,
        "seed": 3,
        "stop": ["END", "FIN"],
        "priority": "bulk",
        "partition": "p",
        "session": "s",
        "key": "k",
        "tags": ["a", "b"],
        "quality_threshold": 0.8,
        "cost_limit": 0.1,
        "extra": {"user_tier": 2},
    }


def test_a_system_text_makes_it_a_conversation(answering, ctl):
    ctl("complete", "Hi", "--system", "Be brief.")
    assert answering.arguments_of("complete") == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    }


def test_the_prompt_from_standard_input(answering, ctl, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe\n"))
    assert ctl("complete", "-").code == 0
    assert answering.arguments_of("complete") == {"prompt": "from a pipe\n"}


def test_prompt_and_schema_cannot_both_be_standard_input(answering, ctl, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"{}")))
    ran = ctl("complete", "-", "--schema", "-")
    assert ran.code == 64
    assert "cannot both be standard input" in ran.err


def test_a_schema_that_is_not_there_or_not_json(answering, ctl, tmp_path):
    assert ctl("complete", "x", "--schema", str(tmp_path / "none")).code == 64
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    ran = ctl("complete", "x", "--schema", str(broken))
    assert ran.code == 64
    assert "--schema: is not JSON" in ran.err
    assert answering.asked == []


def test_tool_calls_are_shown_as_json_lines(daemon, ctl):
    call = {"id": "t", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    daemon.answers["complete"] = {**REPLY, "text": "", "tool_calls": [call]}
    assert json.loads(ctl("complete", "x").out) == call


def test_an_empty_answer_is_empty(daemon, ctl):
    daemon.answers["complete"] = {**REPLY, "text": ""}
    assert ctl("complete", "x").out == ""


def test_streaming_gives_pieces_and_ends_the_line(answering, ctl):
    answering.deltas = ["Rhine, ", "Elbe, ", "Danube"]
    ran = ctl("complete", "--stream", "x")
    assert (ran.code, ran.out) == (0, "Rhine, Elbe, Danube\n")
    assert answering.arguments_of("complete")["stream"] is True


def test_streaming_for_a_machine_is_one_line_a_piece_and_then_the_reply(answering, ctl):
    answering.deltas = ["Rhine, ", "Elbe, Danube"]
    lines = [json.loads(line) for line in ctl("complete", "--stream", "--json", "x").out.splitlines()]
    assert lines == [{"delta": "Rhine, "}, {"delta": "Elbe, Danube"}, REPLY]


def test_a_stream_that_breaks_off_is_an_error_after_what_came(daemon, ctl):
    daemon.deltas = ["Rhine, "]
    daemon.answers["complete"] = IncompleteStream("the provider cut the stream")
    ran = ctl("complete", "--stream", "x")
    assert ran.code == 75
    assert ran.out == "Rhine, \n"
    assert ran.err.startswith("aiorchctl: incomplete_stream: ")


def test_the_line_below_an_answer():
    assert provenance(REPLY) == "asked small · 201 ms · cost $0.00012 · aiorchctl explain c-1"
    hit = {**REPLY, "cache": "exact", "saved_usd": 0.5, "attempts": 0, "cost_usd": 0.0}
    assert provenance(hit) == "small, from the cache · 201 ms · saved $0.50 · aiorchctl explain c-1"
    assert "cost unknown" in provenance({**REPLY, "cost_usd": None})
    assert "saved unknown" in provenance({**hit, "saved_usd": None})
    assert "(simulated: no real model answered)" in provenance({**REPLY, "simulated": True})
    assert "3 attempts" in provenance({**REPLY, "attempts": 3})
    assert "joined with an equal call" in provenance({**hit, "cache": "coalesced"})


VECTORS = [[3.0, 4.0], [0.5, 0.0]]
EMBEDDING = {
    "id": "e-1",
    "vectors": [struct.pack("<2f", *vector) for vector in VECTORS],
    "model": "embedder",
    "cost_usd": 0.0,
    "saved_usd": 0.0,
    "cache": "miss",
}


def test_embedding_for_a_person(daemon, ctl):
    daemon.answers["embed"] = EMBEDDING
    ran = ctl("embed", "a red fox", "two\nlines", "--model", "embedder", "--dimensions", "2", "--tag", "t")
    assert ran.out == (
        "text       dimensions  length  vector\n"
        "a red fox           2   5.000  +3.0000 +4.0000\n"
        "two lines           2   0.500  +0.5000 +0.0000\n"
    )
    sent = daemon.arguments_of("embed")
    assert sent["input"] == ["a red fox", "two\nlines"]
    assert (sent["model"], sent["dimensions"], sent["tags"]) == ("embedder", 2, ["t"])


def test_embedding_for_a_machine_has_whole_vectors(daemon, ctl):
    daemon.answers["embed"] = EMBEDDING
    told = json.loads(ctl("embed", "--json", "a", "b").out)
    assert told["vectors"] == VECTORS
    assert told["id"] == "e-1"


def test_embedding_lines_of_standard_input(daemon, ctl, monkeypatch):
    daemon.answers["embed"] = EMBEDDING
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\r\n"))
    assert ctl("embed", "-").code == 0
    assert daemon.arguments_of("embed")["input"] == ["one", "two"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert ctl("embed", "-").code == 64
