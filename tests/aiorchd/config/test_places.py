"""Which file, socket and directory are used, and by which rule."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from aiorchd.config.places import (
    LONGEST_SOCKET_PATH,
    SYSTEM_CONFIG,
    PlaceError,
    find_config,
    find_socket,
    find_state,
)

USER = 4_000_000_000  # nobody has this number, so nothing comes from the user database


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def test_config_argument_wins_and_need_not_exist(tmp_path: Path) -> None:
    environ = {"AIORCH_CONFIG": str(tmp_path / "b"), "HOME": str(tmp_path)}
    place = find_config(str(tmp_path / "a"), environ, USER)
    assert place is not None
    assert (place.path, place.rule) == (tmp_path / "a", "--config")
    assert str(place) == f"{tmp_path}/a (by --config)"


def test_config_from_the_environment_need_not_exist(tmp_path: Path) -> None:
    place = find_config(None, {"AIORCH_CONFIG": str(tmp_path / "b"), "HOME": str(tmp_path)}, USER)
    assert place is not None
    assert (place.path, place.rule) == (tmp_path / "b", "$AIORCH_CONFIG")


def test_config_of_the_user_counts_only_when_it_is_there(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path / "home"), "AIORCH_CONFIG": ""}
    under_home = put(tmp_path / "home/.config/aiorch/aiorch.toml")
    missing = find_config(None, environ, USER)
    assert missing is None or missing.path == SYSTEM_CONFIG  # XDG_CONFIG_HOME is set, so ~/.config is not asked
    under_xdg = put(tmp_path / "xdg/aiorch/aiorch.toml")
    found = find_config(None, environ, USER)
    assert found is not None
    assert (found.path, found.rule) == (under_xdg, "$XDG_CONFIG_HOME")
    del environ["XDG_CONFIG_HOME"]
    found = find_config(None, environ, USER)
    assert found is not None
    assert (found.path, found.rule) == (under_home, "~/.config")


def test_a_relative_xdg_directory_is_no_directory(tmp_path: Path) -> None:
    under_home = put(tmp_path / ".config/aiorch/aiorch.toml")
    found = find_config(None, {"XDG_CONFIG_HOME": "relative", "HOME": str(tmp_path)}, USER)
    assert found is not None
    assert found.path == under_home


def test_a_broken_link_in_the_usual_place_counts(tmp_path: Path) -> None:
    path = tmp_path / ".config/aiorch/aiorch.toml"
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "nothing")
    found = find_config(None, {"HOME": str(tmp_path)}, USER)
    assert found is not None
    assert found.path == path


def test_a_file_where_a_directory_should_be_is_nothing(tmp_path: Path) -> None:
    put(tmp_path / ".config")
    found = find_config(None, {"HOME": str(tmp_path)}, USER)
    assert found is None or found.path == SYSTEM_CONFIG


def test_without_home_the_user_database_is_asked() -> None:
    place = find_state(None, {}, os.geteuid() or 1)
    assert place.path.is_relative_to(pwd.getpwuid(os.geteuid() or 1).pw_dir)
    with pytest.raises(PlaceError, match="no home directory") as caught:
        find_state(None, {}, USER)
    assert caught.value.exit_code == 64


@pytest.mark.parametrize(
    ("argument", "environ", "uid", "inherited", "path", "rule", "mode"),
    [
        ("/a/s", {"AIORCH_SOCKET": "/b/s"}, 1000, True, "/a/s", "--socket", 0o600),
        ("/a/s", {}, 0, False, "/a/s", "--socket", 0o660),
        (None, {"AIORCH_SOCKET": "/b/s"}, 1000, True, None, "a socket from systemd", 0o600),
        (None, {"AIORCH_SOCKET": "/b/s", "XDG_RUNTIME_DIR": "/r"}, 1000, False, "/b/s", "$AIORCH_SOCKET", 0o600),
        (None, {"AIORCH_SOCKET": "/b/s"}, 999, False, "/b/s", "$AIORCH_SOCKET", 0o660),
        (None, {"XDG_RUNTIME_DIR": "/r"}, 0, False, "/run/aiorch/aiorch.sock", "/run/aiorch/aiorch.sock", 0o660),
        (None, {"XDG_RUNTIME_DIR": "/r"}, 1000, False, "/r/aiorch/aiorch.sock", "$XDG_RUNTIME_DIR", 0o600),
    ],
)
def test_sockets(
    argument: str | None, environ: dict[str, str], uid: int, inherited: bool, path: str | None, rule: str, mode: int
) -> None:
    place = find_socket(argument, environ, uid, inherited=inherited)
    assert (place.path, place.rule, place.mode) == (Path(path) if path else None, rule, mode)
    assert rule in str(place)


@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "here"}])
def test_no_place_for_the_socket_is_a_usage_error_that_says_what_to_name(environ: dict[str, str]) -> None:
    with pytest.raises(PlaceError, match="--socket PATH") as caught:
        find_socket(None, environ, 1000, inherited=False)
    assert caught.value.exit_code == 64


def test_a_path_that_no_socket_can_have_is_told_before_it_is_tried() -> None:
    fits = "/" + "x" * (LONGEST_SOCKET_PATH - 1)
    assert find_socket(fits, {}, 1000, inherited=False).path == Path(fits)
    with pytest.raises(PlaceError, match="108 bytes long"):
        find_socket(fits + "x", {}, 1000, inherited=False)


def test_an_empty_argument_names_nothing() -> None:
    for find in (lambda: find_config("", {}, 0), lambda: find_state("", {}, 0)):
        with pytest.raises(PlaceError, match="is empty"):
            find()


@pytest.mark.parametrize(
    ("argument", "environ", "uid", "path", "rule"),
    [
        ("/a", {"STATE_DIRECTORY": "/b"}, 0, "/a", "--state-dir"),
        (None, {"STATE_DIRECTORY": "/b:/c"}, 1000, "/b", "$STATE_DIRECTORY"),
        (None, {"XDG_STATE_HOME": "/x"}, 0, "/var/lib/aiorch", "/var/lib/aiorch"),
        (None, {"XDG_STATE_HOME": "/x", "HOME": "/h"}, 1000, "/x/aiorch", "$XDG_STATE_HOME"),
        (None, {"HOME": "/h"}, 1000, "/h/.local/state/aiorch", "~/.local/state"),
    ],
)
def test_state(argument: str | None, environ: dict[str, str], uid: int, path: str, rule: str) -> None:
    place = find_state(argument, environ, uid)
    assert (place.path, place.rule) == (Path(path), rule)


def test_relative_arguments_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = find_config("a.toml", {}, USER)
    assert place is not None
    assert place.path == tmp_path / "a.toml"
