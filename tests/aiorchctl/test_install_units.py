"""Writing the units: fitted, known again, never over somebody else's, and explained."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aiorch.version import __version__
from aiorchctl.commands.install_units import _own_programs
from aiorchctl.failures import Failed
from aiorchctl.service_units import (
    Shipped,
    closed_to_others,
    fitted,
    planned,
    shipped_text,
    system_files,
    user_files,
    why_hidden,
)

ROOT = Path(__file__).resolve().parents[2]
PLACES = [
    "etc/systemd/system/aiorchd.socket",
    "etc/systemd/system/aiorchd.service",
    "etc/sysusers.d/aiorch.conf",
    "etc/tmpfiles.d/aiorch.conf",
]


@pytest.fixture
def install(ctl, tmp_path):
    def run(*arguments, programs="/opt/elsewhere/bin"):
        return ctl("install-units", "--prefix", str(tmp_path / "image"), "--programs", programs, *arguments)

    return run


def test_a_system_service_is_written_and_explained(install, tmp_path):
    ran = install()
    assert (ran.code, ran.err) == (0, "")
    image = tmp_path / "image"
    assert sorted(str(path.relative_to(image)) for path in image.rglob("*") if path.is_file()) == sorted(PLACES)
    for place in PLACES:
        assert (image / place).stat().st_mode & 0o777 == 0o644
        assert f"{image / place}" in ran.out
    service = (image / PLACES[1]).read_text()
    assert "\nExecStart=/opt/elsewhere/bin/aiorchd --config /etc/aiorch/aiorch.toml\n" in service
    assert "\nExecReload=/opt/elsewhere/bin/aiorchctl --socket /run/aiorch/aiorch.sock config reload\n" in service
    assert "/opt/aiorch/bin" not in service


def test_again_changes_nothing_and_an_upgrade_replaces_what_was_ours(install, tmp_path):
    install()
    service = tmp_path / "image" / PLACES[1]
    before = service.stat().st_ino
    told = json.loads(install("--json").out)
    assert [file["state"] for file in told["files"]] == ["unchanged"] * 4
    assert told["next"] == []
    assert service.stat().st_ino == before
    told = json.loads(install("--json", programs="/opt/aiorch-2/bin").out)
    assert [file["state"] for file in told["files"]] == ["unchanged", "replaced", "unchanged", "unchanged"]
    assert "ExecStart=/opt/aiorch-2/bin/aiorchd " in service.read_text()


@pytest.mark.parametrize("edit", [lambda text: text.replace("20s", "90s"), lambda _: "[Service]\n"])
def test_what_others_wrote_is_kept_unless_forced(install, tmp_path, edit):
    install()
    service = tmp_path / "image" / PLACES[1]
    service.write_text(edit(service.read_text()))
    mine = service.read_text()
    socket = tmp_path / "image" / PLACES[0]
    socket.unlink()
    ran = install()
    assert ran.code == os.EX_CANTCREAT
    assert f"{service}: written or changed by somebody else" in ran.err
    assert "systemctl edit" in ran.err
    assert service.read_text() == mine
    assert not socket.exists(), "all or nothing"
    assert "not ours" in install("--dry-run").out
    assert install("--force").code == 0
    assert service.read_text() != mine


def test_a_dry_run_shows_the_files_and_writes_nothing(install, tmp_path):
    ran = install("--dry-run")
    assert ran.code == 0
    assert not (tmp_path / "image").exists()
    assert "would be written" in ran.out
    assert "ExecStart=/opt/elsewhere/bin/aiorchd" in ran.out
    told = json.loads(install("--dry-run", "--json").out)
    assert told["dry_run"] is True
    assert "[Socket]" in told["files"][0]["text"]


def test_a_users_service_goes_to_their_configuration(ctl, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    ran = ctl("install-units", "--user", "--programs", "/opt/elsewhere/bin")
    assert (ran.code, ran.err) == (0, "")
    folder = tmp_path / "config" / "systemd" / "user"
    assert sorted(path.name for path in folder.iterdir()) == ["aiorchd.service", "aiorchd.socket"]
    for step in ("systemctl --user daemon-reload", "systemctl --user enable --now aiorchd.socket", "aiorchctl ping"):
        assert step in ran.out
    assert f"{tmp_path}/config/aiorch/aiorch.toml" in ran.out
    again = ctl("install-units", "--user", "--programs", "/opt/other/bin")
    assert "systemctl --user restart aiorchd.service" in again.out
    assert "enable" not in again.out


def test_the_next_steps_begin_with_the_configuration_that_there_is_or_is_not(ctl, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    asked = ("install-units", "--user", "--dry-run", "--programs", "/x")
    assert f"aiorchctl init                                make {tmp_path}/aiorch/aiorch.toml" in ctl(*asked).out
    (tmp_path / "aiorch").mkdir()
    (tmp_path / "aiorch" / "aiorch.toml").touch()
    told = ctl(*asked).out
    assert f"editor {tmp_path}/aiorch/aiorch.toml" in told
    assert "aiorchctl init" not in told


def test_the_next_steps_name_who_asked_for_it(ctl, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "somebody")
    told = json.loads(ctl("install-units", "--dry-run", "--json", "--programs", "/x").out)
    commands = [step["command"] for step in told["next"]]
    assert "usermod -a -G aiorch somebody" in commands
    assert commands.index("systemd-sysusers && systemd-tmpfiles --create") < commands.index(
        "systemctl enable --now aiorchd.socket"
    )


def test_no_permission_is_told_with_what_to_do(ctl, tmp_path):
    closed = tmp_path / "file"
    closed.write_text("")
    ran = ctl("install-units", "--programs", "/x", "--prefix", str(closed / "below"))
    assert ran.code == os.EX_CANTCREAT
    assert str(closed) in ran.err

    ran = ctl("install-units", "--programs", "/x", "--prefix", "/sys/aiorch")  # closed to everybody, root too
    assert ran.code == os.EX_NOPERM
    assert "sudo" in ran.err
    assert "--user" in ran.err


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/opt/x/bin", "ExecStart=/opt/x/bin/aiorchd --config"),
        ("/opt/with space/bin", 'ExecStart="/opt/with space/bin/aiorchd" --config'),
        ("/opt/100%/bin", 'ExecStart="/opt/100%%/bin/aiorchd" --config'),
    ],
)
def test_paths_are_written_as_systemd_reads_them(folder, expected):
    assert expected in fitted(shipped_text("aiorchd.service"), Path(folder))


@pytest.mark.parametrize("folder", ["/opt/$x", "/opt/a\nb", '/opt/"', "/opt/\\"])
def test_paths_that_a_unit_cannot_name_are_refused(ctl, folder):
    ran = ctl("install-units", "--dry-run", "--programs", folder)
    assert ran.code == os.EX_USAGE
    assert "plainer" in ran.err


@pytest.mark.parametrize("folder", ["/home/somebody/venv/bin", "/root/v/bin", "/tmp/v/bin", "/run/user/1/v"])
def test_places_that_the_sandbox_hides_are_noticed(folder):
    assert "hides from the service" in (why_hidden(Path(folder)) or "")


def test_places_that_are_closed_to_others_are_noticed(tmp_path):
    closed = tmp_path / "closed"
    (closed / "bin").mkdir(parents=True)
    closed.chmod(0o755)
    assert closed_to_others(closed / "bin") not in (closed, closed / "bin")  # pytest's own folders may be
    closed.chmod(0o710)
    assert closed_to_others(closed / "bin") == closed
    closed.chmod(0o755)
    (closed / "bin").chmod(0o711)
    assert closed_to_others(closed / "bin") == closed / "bin"


def programs_in(folder, version):
    folder.mkdir()
    for name in ("aiorchd", "aiorchctl"):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho {name} {version}\n")
        program.chmod(0o755)


def test_the_programs_beside_this_one_are_used_if_they_run(tmp_path, monkeypatch):
    programs_in(tmp_path / "bin", __version__)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin" / "aiorchctl")])
    assert _own_programs(for_all=False) == tmp_path / "bin"
    programs_in(tmp_path / "old", "0.0.1")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "old" / "aiorchctl")])
    with pytest.raises(Failed, match="it said: aiorchd 0.0.1"):
        _own_programs(for_all=False)


def test_without_programs_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr("sysconfig.get_path", lambda *_: str(tmp_path))
    with pytest.raises(Failed, match="not both in") as told:
        _own_programs(for_all=True)
    assert told.value.failure.exit_code == os.EX_CONFIG


def test_every_shipped_file_is_written_by_one_of_both():
    shipped = {str(path.relative_to(ROOT / "systemd")) for path in (ROOT / "systemd").rglob("*") if path.is_file()}
    assert shipped == {file.name for file in (*system_files(), *user_files(Path("/x")))}


def test_what_is_missing_is_told():
    from aiorchctl.service_units import UnitsMissingError

    with pytest.raises(UnitsMissingError, match=r"no other\.service"):
        planned([Shipped("other.service", Path("/etc/x"), "")], Path("/x"), Path("/"))


def test_the_wheel_holds_the_units(tmp_path):
    """As hatch packs it, without installing anything."""
    import tomllib

    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert packed["wheel"]["force-include"]["systemd"] == "aiorchctl/systemd"
    assert "systemd" in packed["sdist"]["include"]


if (ANALYZE := shutil.which("systemd-analyze")) is not None:

    @pytest.fixture
    def image(install, tmp_path):
        """Units as they are installed, with programs that exist."""
        programs_in(tmp_path / "bin", __version__)
        assert install(programs=str(tmp_path / "bin")).code == 0
        return tmp_path / "image" / "etc" / "systemd" / "system"

    def test_systemd_finds_nothing_to_complain_about(image, ctl, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        assert ctl("install-units", "--user", "--programs", str(tmp_path / "bin")).code == 0
        for scope, folder in (("--system", image), ("--user", tmp_path / "config" / "systemd" / "user")):
            ran = subprocess.run(
                [ANALYZE, scope, "verify", folder / "aiorchd.socket", folder / "aiorchd.service"],
                env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            said = [line for line in (ran.stdout + ran.stderr).splitlines() if "aiorch" in line]
            assert (said, ran.returncode) == ([], 0), ran.stderr

    def test_systemd_finds_it_well_confined(image, tmp_path):
        ran = subprocess.run(
            [
                ANALYZE,
                "security",
                "--offline=true",
                "--no-pager",
                "--threshold=15",
                f"--root={tmp_path / 'image'}",
                "aiorchd.service",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr
        exposure = float(ran.stdout.rpartition("aiorchd.service: ")[2].split()[0])
        assert exposure <= 1.5
