"""Operations as hosts and people use them: from the file, live, through the client and the command line."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT, DaemonProcess, daemon
from structures import noisy_archive_entry, noisy_inputs

import aiorch
from aiorch.errors import InvalidRequest, TooLarge, UnknownOperation
from aiorchsim.process import Simulator, start_simulator

CONFIG = """
[providers.main]
base_url = "{url}"
[[models]]
name = "small"
provider = "main"
input_usd_per_1m = 1.0
output_usd_per_1m = 2.0
[[models]]
name = "large"
provider = "main"
[operations.tag_page]
template = "Give three tags for this page:\\n{{{{ input.text }}}}"
system = "You tag pages."
task = "classification"
models = ["small"]
output_schema = "tags.schema.json"
document_id = "input.page_id"
cache_ignore = ["input.seen"]
max_input_bytes = 1000
[operations.read]
template = "Read: {{{{ input | tojson }}}}"
"""
SCHEMA = {
    "type": "object",
    "properties": {"tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["tags"],
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DaemonProcess, Simulator]]:
    folder = tmp_path_factory.mktemp("operations")
    (folder / "tags.schema.json").write_text(json.dumps(SCHEMA))
    with start_simulator() as simulator, daemon(folder, CONFIG.format(url=simulator.base_url)) as running:
        yield running, simulator


def ctl(running: DaemonProcess, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aiorchctl", "--socket", str(running.socket), *arguments],
        env={
            "PYTHONPATH": f"{ROOT / 'client'}:{ROOT / 'daemon'}",
            "HOME": str(running.folder),
            "PATH": "/usr/bin:/bin",
        },
        check=False,
        capture_output=True,
        text=True,
        input=given,
        timeout=60,
    )


def edit(running: DaemonProcess, *changes: tuple[str, str]) -> dict[str, Any]:
    text = running.config.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    running.config.write_text(text)
    with aiorch.Client(str(running.socket)) as client:
        return client.config_reload()


def received(simulator: Simulator) -> int:
    count: int = simulator.stats()["calls"]["received"]
    return count


def test_a_host_has_it_done_and_sees_what_was_saved(scene: tuple[DaemonProcess, Simulator]) -> None:
    running, simulator = scene
    before = received(simulator)
    page = {"page_id": 7, "text": "Trio is a library for async I/O", "seen": 1}
    with aiorch.Client(str(running.socket)) as client:
        first = client.complete(operation="tag_page", input=page)
        assert isinstance(first.data["tags"], list)
        assert first.model == "small"
        assert first.validation["ok"] is True
        assert client.complete(operation="tag_page", input={**page, "seen": 1}).cache == "exact"
        archives = [noisy_archive_entry(1, random.Random(seed)) for seed in range(3)]
        ways = [client.complete(operation="read", input=one) for one in archives]
        assert [way.cache for way in ways] == ["miss", "normalised", "normalised"]
        assert ways[1].saved_usd == ways[0].cost_usd
        assert received(simulator) == before + 2
        story = client.explain(ways[2].id)
        assert (story["operation"], story["cache"], story["source"]["id"]) == ("read", "normalised", ways[0].id)
        groups = {group["name"]: group for group in client.stats(by="operation")["groups"]}
        assert groups["read"]["saved_calls"] == {"normalised": 2}
        assert groups["tag_page"]["saved_calls"] == {"exact": 1}


def test_what_is_wrong_is_told_by_name_and_place(scene: tuple[DaemonProcess, Simulator]) -> None:
    running, simulator = scene
    before = received(simulator)
    with aiorch.Client(str(running.socket)) as client:
        with pytest.raises(UnknownOperation, match="did you mean tag_page"):
            client.complete(operation="tag_pgae", input="x")
        with pytest.raises(
            InvalidRequest, match=r"operations\.tag_page\.template, line 2 of the template: input\.text is missing"
        ):
            client.complete(operation="tag_page", input={"page_id": 1})
        with pytest.raises(InvalidRequest, match=r"input\.page_id: is missing"):
            client.complete(operation="tag_page", input={"text": "x"})
        with pytest.raises(InvalidRequest, match="model: the operation tag_page allows small"):
            client.complete(operation="tag_page", input={"page_id": 1, "text": "x"}, model="large")
        with pytest.raises(TooLarge, match="max_input_bytes"):
            client.complete(operation="tag_page", input={"page_id": 1, "text": "x" * 1000})
    assert received(simulator) == before


def test_edits_are_live_and_mistakes_change_nothing(scene: tuple[DaemonProcess, Simulator]) -> None:
    running, simulator = scene
    given = {"page_id": 9, "text": "live"}
    with aiorch.Client(str(running.socket)) as client:
        client.complete(operation="tag_page", input=given)
        before = received(simulator)
        verdict = edit(running, ("Give three tags", "Give two tags"))
        assert "operations.tag_page.template" in str(verdict["changed"]) or verdict["result"] == "unchanged"
        assert client.complete(operation="tag_page", input=given).cache == "miss"
        assert received(simulator) == before + 1
        edit(running, ("Give two tags", "Give three tags"))
        assert client.complete(operation="tag_page", input=given).cache == "exact"  # it is the same question again
        verdict = edit(running, ("{{ input.text }}", "{{ input.text }"))
        assert verdict["result"] == "refused"
        [problem] = verdict["problems"]
        assert problem["key"] == "operations.tag_page.template"
        assert "line 2 of the template: unexpected '}'" in problem["sentence"]
        assert client.complete(operation="tag_page", input=given).cache == "exact"
        edit(running, ("{{ input.text }", "{{ input.text }}"))
        # A schema that is another one is another question; the file beside the configuration is read with it.
        (running.folder / "tags.schema.json").write_text(json.dumps({**SCHEMA, "title": "tags"}))
        deadline = time.monotonic() + 5
        while (reply := client.complete(operation="tag_page", input=given)).cache != "miss":
            assert time.monotonic() < deadline  # nobody says that it has changed
            time.sleep(0.1)
        assert reply.data
        (running.folder / "tags.schema.json").write_text('{"type": "nope"}')
        verdict = client.config_reload()
        assert verdict["result"] == "refused"
        assert "operations.tag_page.output_schema" in str(verdict["problems"])
        (running.folder / "tags.schema.json").write_text(json.dumps(SCHEMA))
        assert client.config_reload()["result"] in ("accepted", "unchanged")
        # A new one comes, and goes.
        edit(running, ("[operations.read]", '[operations.new]\ntemplate = "x{{ input }}"\n[operations.read]'))
        assert client.complete(operation="new", input="y").text
        edit(running, ('[operations.new]\ntemplate = "x{{ input }}"\n', ""))
        with pytest.raises(UnknownOperation):
            client.complete(operation="new", input="y")


def test_the_command_line(scene: tuple[DaemonProcess, Simulator], tmp_path: Path) -> None:
    running, _ = scene
    (tmp_path / "page.json").write_text('{"page_id": 3, "text": "x", "seen": 1}')
    (tmp_path / "later.json").write_text('{"page_id": 3, "text": "x", "seen": 2}')
    (tmp_path / "other.json").write_text('{"page_id": 4, "text": "x", "seen": 2}')
    page, later, other = (str(tmp_path / name) for name in ("page.json", "later.json", "other.json"))
    done = ctl(running, "complete", "--operation", "tag_page", "--input", f"@{page}", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"]["tags"]
    assert (
        ctl(running, "complete", "--operation", "tag_page", "--input", "-", given=Path(page).read_text()).returncode
        == 0
    )
    for arguments, told in (
        (("complete", "--operation", "tag_page"), "--operation and --input belong together"),
        (("complete", "x", "--operation", "tag_page", "--input", "1"), "give a PROMPT, or --operation"),
        (("complete", "--operation", "tag_page", "--input", "{"), "--input: is not JSON"),
        (("complete", "--operation", "nope", "--input", '"x"'), "there is no operation 'nope'"),
        (("cache", "forget", "--tag", "a", "--operation", "b"), "not both"),
    ):
        done = ctl(running, *arguments)
        assert done.returncode == 64, done
        assert told in done.stderr
    done = ctl(running, "cache", "explain", "--operation", "read", page, later)
    assert done.returncode == 0, done.stderr
    assert "not equal" in done.stdout
    assert "input.seen: 1 against 2" in done.stdout
    compared = json.loads(ctl(running, "cache", "explain", "--operation", "tag_page", "--json", page, later).stdout)
    assert compared["equal"] == "exact"  # what is not in the prompt is no part of the question
    compared = json.loads(
        ctl(running, "cache", "explain", "--operation", "tag_page", "--json", page, f"@{other}").stdout
    )
    assert (compared["equal"], compared["differs"]) == (None, [{"path": "input.page_id", "a": "3", "b": "4"}])
    done = ctl(running, "cache", "forget", "--operation", "tag_page")
    assert "forgot" in done.stdout
    assert (
        json.loads(ctl(running, "complete", "--operation", "tag_page", "--input", f"@{page}", "--json").stdout)["cache"]
        == "miss"
    )
    assert ctl(running, "cache", "clear", "--yes", "--operation", "tag_page").returncode == 0


def test_what_was_normalised_is_known_after_a_restart(scene: tuple[DaemonProcess, Simulator], tmp_path: Path) -> None:
    running, simulator = scene
    inputs = noisy_inputs(tmp_path, distinct=30, requests=60, seed=5)
    with aiorch.Client(str(running.socket)) as client:
        for _, one in inputs[:30]:
            client.complete(operation="read", input=one)
        asked = {what for what, _ in inputs[:30]}
        before = received(simulator)
        running.stop()
        running.start()
        ways = [(what, client.complete(operation="read", input=one).cache) for what, one in inputs if what in asked]
        assert received(simulator) == before
        assert {way for _, way in ways} == {"exact", "normalised"}
