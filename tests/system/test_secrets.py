"""Canaries: a key, a prompt and an answer that must not be found where they do not belong, however loudly a provider
repeats them and however chatty the log is.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from processes import DaemonProcess, daemon

from aiorch import Client
from aiorch.errors import CallError
from aiorchctl.program import run as aiorchctl

KEY: Final = "zebra/canary+key.5f3a9c71d2"  # looks like no key that anybody knows by its form
OTHER_KEY: Final = "sk-proj-canary0123456789abcdefABCDEF"
PROMPT: Final = "canary prompt: Marguerite of 12 Rue Cler asks what the spots on her hands are"
ANSWER: Final = "canary answer: the doctor at 7 Quai Branly says that it is nothing"


class Parrot(BaseHTTPRequestHandler):
    """A provider that repeats what it was sent in every way a server can; the model's name says how."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(401, {"error": {"message": f"no models for {self.headers['authorization']}"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        asked = json.loads(body)
        key, said = self.headers["authorization"], json.dumps(asked["messages"], ensure_ascii=False)
        match asked["model"]:
            case "auth":
                self._send(
                    401, {"error": {"message": f"Incorrect API key provided: {key}. You said {said}", "code": key}}
                )
            case "dump":
                self._send(500, f"{self.headers}\n{said}".encode(), "text/plain")
            case "page":
                page = f"<html><head><title>502 for {key} with {said}</title></head><body>{key}</body></html>"
                self._send(502, page.encode(), "text/html")
            case "validator":
                self._send(
                    422, {"detail": [{"loc": ["body", "messages"], "msg": f"bad {key}", "input": asked["messages"]}]}
                )
            case "throttle":
                self._send(429, {"error": {"message": f"slow down, {key}: {said}"}})
            case "garbled":
                self._send(200, f'{{"choices": "{key} {PROMPT}'.encode())
            case "redirect":
                self._send(302, b"", location=f"https://{key.split()[-1]}:{key.split()[-1]}@elsewhere.example/{PROMPT}")
            case "stream":
                delta = {"choices": [{"index": 0, "delta": {"content": ANSWER[:20]}}]}
                broken = {"error": {"message": f"failed for {key} at {said}"}}
                data = "".join(f"data: {json.dumps(one)}\n\n" for one in (delta, broken))
                self._send(200, data.encode(), "text/event-stream")
            case "wrong":
                self._send(200, self._answer(json.dumps({"n": ANSWER})))
            case _:
                self._send(200, self._answer(ANSWER))

    def _answer(self, text: str) -> dict[str, Any]:
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        message = {"role": "assistant", "content": text}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}

    def _send(self, status: int, content: Any, kind: str = "application/json", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


MODELS: Final = ("auth", "dump", "page", "validator", "throttle", "garbled", "redirect", "stream", "wrong", "good")
CONFIG: Final = """
[daemon]
log_level = "debug"
log_levels = {{libraries = "debug"}}
log_calls = true
[retry]
max_attempts = 2
backoff_s = [0.001]
[providers.main]
base_url = "{url}"
api_key_env = "ZEBRA"
[providers.other]
base_url = "{url}"
api_key_env = "OTHER"
"""


@contextmanager
def parrot() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Parrot)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def configuration(url: str) -> str:
    text = CONFIG.format(url=url)
    for name in MODELS:
        text += f'[[models]]\nname = "{name}"\nprovider = "main"\ninput_usd_per_1m = 1\noutput_usd_per_1m = 1\n'
    return text + '[[models]]\nname = "auth-other"\nid = "auth"\nprovider = "other"\n'


@pytest.fixture
def running(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon that logs everything, as into the journal."""
    (tmp_path / "daemon.log").touch()
    log = (tmp_path / "daemon.log").stat()
    environment = {"ZEBRA": KEY, "OTHER": OTHER_KEY, "JOURNAL_STREAM": f"{log.st_dev}:{log.st_ino}"}
    with parrot() as url, daemon(tmp_path, configuration(url), environment=environment) as process:
        yield process


def holds(text: str | bytes, *canaries: str) -> list[str]:
    """Which canaries, or large parts of them, are in a text."""
    raw = text if isinstance(text, bytes) else text.encode()
    return [
        part
        for canary in canaries
        for part in (canary, canary[: len(canary) // 2], canary[len(canary) // 2 :])
        if part.encode() in raw
    ]


def ask_everything(client: Client) -> list[CallError]:
    """Ask every model, whole and streamed; gives the errors."""
    errors: list[CallError] = []
    options: dict[str, Any] = {"user": "Marguerite of 12 Rue Cler", "metadata": {"note": PROMPT}}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    for model in (*MODELS, "auth-other"):
        more = {"output_schema": schema} if model == "wrong" else {}
        try:
            assert client.complete(PROMPT, model=model, **options, **more).text == ANSWER
        except CallError as error:
            errors.append(error)
        try:
            "".join(client.stream(f"And {PROMPT}", model=model, **options))
        except CallError as error:
            errors.append(error)
    return errors


def test_neither_key_nor_prompt_nor_answer_is_where_it_does_not_belong(
    running: DaemonProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client(running.socket) as client:
        errors = ask_everything(client)
        assert {error.code for error in errors} >= {
            "provider_auth",
            "provider_error",
            "invalid_request",
            "rate_limited",
            "incomplete_stream",
            "validation_failed",
        }
        for error in errors:  # the prompt is its sender's own
            assert holds(f"{error} {error.to_wire()}", KEY, OTHER_KEY) == []

        ids = re.findall(r"calls: (?:answered|failed) id=(\S+)", running.said())
        assert len(ids) == 2 * len(MODELS) + 2
        stories = [json.dumps(client.explain(one), ensure_ascii=False) for one in ids]
        assert sum("asking again" in story for story in stories) > 2
        told = [
            json.dumps(client.call(method), ensure_ascii=False)
            for method in ("status", "stats", "models.list", "doctor")
        ]
        assert "no models for" in told[-1]  # the parrot spoke
        told += [json.dumps(client.config_get(), ensure_ascii=False), json.dumps(client.cache_stats())]
    for text in (*stories, *told):
        assert holds(text, KEY, OTHER_KEY, PROMPT, ANSWER) == []

    for command in (("status",), ("doctor",), ("config", "show"), ("explain", ids[0]), ("stats", "--by", "model")):
        aiorchctl([*command, "--socket", str(running.socket)])
        shown = capsys.readouterr()
        assert shown.out
        assert holds(shown.out + shown.err, KEY, OTHER_KEY, PROMPT, ANSWER) == []

    assert running.stop() == 0
    log = running.said()
    assert log.startswith("<6>")
    assert holds(log, KEY, OTHER_KEY, PROMPT, ANSWER) == []
    for file in running.state.iterdir():
        canaries = (KEY, OTHER_KEY, PROMPT) if file.name.startswith("cache.db") else (KEY, OTHER_KEY, PROMPT, ANSWER)
        assert holds(file.read_bytes(), *canaries) == [], file


SECRET: Final = "sk-canary-in-the-file-0123456789"
PLAIN: Final = "zebra-in-the-file-0123456789"


@pytest.mark.parametrize(
    "section",
    [
        f'[providers.main]\nbase_url = "https://x.example/v1"\napi_key = "{PLAIN}"\n',
        f'[providers.main]\nbase_url = "https://x.example/v1"\nkey = "{SECRET}"\n',
        f'[providers.main]\nbase_url = "https://x.example/v1"\napi_key_env = "{SECRET}"\n',
        f'[providers.main]\nbase_url = "https://x.example/v1"\napi_key_env = "{PLAIN}"\n',
        f'[providers.main]\nbase_url = "https://x.example/v1"\napi_key_credential = "{SECRET}"\n',
        f'[providers.main]\nbase_url = "https://me:{PLAIN}@x.example/v1"\n',
        f'[providers.main]\nbase_url = "https://x.example/v1?key={PLAIN}"\n',
        f'[providers.main]\nbase_url = "https://x.example/v1"\nheaders = {{"X-Api-Key" = "{PLAIN}"}}\n',
        f'[providers.main]\nbase_url = "https://x.example/v1"\nheaders = {{"X-Note" = "{SECRET}"}}\n',
        f'[providers.main]\nbase_url = "https://x.example/v1"\nheaders = {{"Authorization" = "Bearer {PLAIN}"}}\n',
        f'[providers.main]\nbase_url = "https://x.example/v1"\napi_key_env = ["{SECRET}"]\n',
        f'[[models]]\nname = "a"\nprovider = "main"\nextra = {{token = "{SECRET}"}}\n',
        f'[providers.main]\napi_key_env = "{SECRET}\n',
        f'api_key = "{PLAIN}"\n',
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], section: str
) -> None:
    file = tmp_path / "aiorch.toml"
    file.write_text(section)
    assert aiorchctl(["config", "check", str(file)]) == 78
    shown = capsys.readouterr()
    assert aiorchctl(["config", "check", str(file), "--json"]) == 78
    as_json = capsys.readouterr()
    assert holds(shown.out + shown.err + as_json.out + as_json.err, SECRET, PLAIN) == []


def test_a_secret_in_an_edit_is_not_in_verdict_status_or_log(running: DaemonProcess) -> None:
    with Client(running.socket) as client:
        right = running.config.read_text()
        running.config.write_text(
            right + f'[providers.third]\nbase_url = "https://me:{PLAIN}@x.example"\nkey = "{SECRET}"\n'
        )
        verdict = client.config_reload()
        assert verdict["result"] == "refused"
        assert holds(json.dumps([verdict, client.status()]), SECRET, PLAIN) == []
    assert running.stop() == 0
    assert "refused" in running.said()
    assert holds(running.said(), SECRET, PLAIN) == []
