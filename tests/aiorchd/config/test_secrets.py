"""Keys are found where the configuration says, checked, and shown nowhere."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest

from aiorchd.config.secrets import HIDDEN, ProviderKey, find_key, looks_secret, names_secret, redact

KEY = "sk-proj-0123456789abcdef"


def test_a_key_from_the_environment() -> None:
    key = find_key("MY_KEY", None, {"MY_KEY": f"{KEY}\n"})
    assert key.reveal() == KEY
    assert (key.place, key.problem) == ("environment variable MY_KEY", "")


def test_a_key_from_a_systemd_credential(tmp_path: Path) -> None:
    (tmp_path / "openai").write_text(KEY + "\n")
    key = find_key(None, "openai", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert key.reveal() == KEY
    assert (key.place, key.problem) == ("systemd credential openai", "")


def test_a_provider_that_needs_none() -> None:
    key = find_key(None, None, {})
    assert key.reveal() is None
    assert not key.problem


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "is not set"),
        ("", "is empty"),
        (" \n", "is empty"),
        ("sk-one\nsk-two", "several lines"),
        ("sk-one\r\nX-Injected: 1", "several lines"),
        ("sk-\x00one-canary", "characters that no key has"),
        ("sk-öne-canary", "characters that no key has"),
    ],
)
def test_what_cannot_be_a_key_is_told_without_being_shown(value: str | None, told: str) -> None:
    key = find_key("MY_KEY", None, {} if value is None else {"MY_KEY": value})
    assert key.reveal() is None
    assert told in key.problem
    assert "MY_KEY" in key.problem
    assert "sk-" not in key.problem
    assert "Injected" not in key.problem
    assert "canary" not in repr(key)


def test_missing_credentials_tell_which_line_the_unit_lacks(tmp_path: Path) -> None:
    for environ in ({}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}):
        key = find_key(None, "openai", environ)
        assert key.reveal() is None
        assert "LoadCredential=openai:" in key.problem


def test_a_credential_that_is_no_file_blocks_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert "not a regular file" in find_key(None, "fifo", environ).problem
    assert "not a regular file" in find_key(None, "directory", environ).problem
    assert "larger than any key" in find_key(None, "large", environ).problem
    assert "characters that no key has" in find_key(None, "bytes", environ).problem


def test_a_key_cannot_be_printed_packed_or_copied() -> None:
    key = ProviderKey(KEY, "somewhere")
    for text in (repr(key), str(key), f"{key}"):
        assert KEY not in text
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            way(key)


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        "said sk-ant-api03-abcdefgh_ijkl today",
        "Authorization: Bearer abcdef.ghijkl",
        "authorization=Basic dXNlcjpwYXNz",
        "api_key=plainplainplain",
        '{"api-key": "plain words here"}',
        "'x-api-key': 'plainplain'",
        "password = hunter22",
        "AIzaSyA1234567890abcdefghijklmnop",
        "AKIAABCDEFGHIJKLMNOP",
        "hf_aBcDeFgHiJkLmNoPqRsTu",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
        "http://user:secretword@host/v1",
        "gsk_abcdefgh12345678",
    ],
)
def test_secrets_are_cut_out_of_texts(text: str) -> None:
    cleaned = redact(text)
    assert HIDDEN in cleaned
    for part in (
        "0123456789",
        "api03",
        "ghijkl",
        "dXNl",
        "plain",
        "hunter",
        "A1234",
        "ABCDEFGH",
        "aBcDe",
        "eyJ",
        "secretword",
        "12345678",
    ):
        assert part not in cleaned
    assert looks_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "retry.max_attempts: must be a whole number from 1 to 20",
        "risk-management-of-things",
        "task-1234567890",
        "input_tokens=12345 output_tokens=7",
        "https://api.example.com/v1",
        "there is no model small-but-long-name-of-a-model",
        "key=retry.max_attempts",
        "meta-llama/Llama-3.1-70B-Instruct",
    ],
)
def test_ordinary_texts_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_names_of_headers_that_carry_secrets() -> None:
    for name in (
        "Authorization",
        "api-key",
        "X-Api-Key",
        "Proxy-Authorization",
        "Cookie",
        "x-auth-token",
        "X-Goog-Api-Key",
    ):
        assert names_secret(name), name
    for name in ("OpenAI-Organization", "x-max-tokens", "User-Agent", "anthropic-version"):
        assert not names_secret(name), name


def test_redacting_takes_time_in_proportion_to_the_text() -> None:
    for piece in ("sk-", "a", "://a:", 'api_key="', "bearer ", "eyJ.", "secret = '\\"):
        text = piece * 20_000
        assert isinstance(redact(text), str)
