"""The command line as a whole: options anywhere, exit codes, errors in a sentence or as a map, help that teaches."""

import json
import signal
import socket

import pytest

from aiorch.errors import CALL_ERRORS, Forbidden, GoingAway, Overloaded
from aiorchctl.program import program as whole


def test_ping(daemon, ctl):
    ran = ctl("ping")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("pong from aiorchd 9.8.7 in ")
    assert ran.out.endswith("; you are user 7, an administrator\n")


def test_json_before_and_after_the_command(daemon, ctl):
    for arguments in (("--json", "ping"), ("ping", "--json")):
        told = json.loads(ctl(*arguments).out)
        assert told["answer"] == "pong"
        assert told["version"] == "9.8.7"
        assert isinstance(told["p50_s"], float)


def test_several_pings(daemon, ctl):
    assert json.loads(ctl("ping", "--count", "5", "--json").out)["count"] == 5
    assert len([method for method, _ in daemon.asked if method == "ping"]) == 5
    assert "(median of 5, slowest " in ctl("ping", "--count", "5").out


def test_the_socket_may_be_named_before_and_after_the_command(daemon, ctl, monkeypatch):
    monkeypatch.delenv("AIORCH_SOCKET")
    assert ctl("--socket", str(daemon.path), "ping").code == 0
    assert ctl("ping", "--socket", str(daemon.path)).code == 0
    assert ctl("--socket", "/nowhere", "ping", "--socket", str(daemon.path)).code == 0


def test_no_daemon(ctl, tmp_path):
    missing = str(tmp_path / "none.sock")
    ran = ctl("--socket", missing, "status")
    assert (ran.code, ran.out) == (69, "")
    assert ran.err.startswith(
        f"aiorchctl: no daemon answers at {missing} (no such socket). Start it with `aiorchd &` or"
    )
    assert ran.err.count("\n") == 1


def test_no_daemon_for_a_machine(ctl, tmp_path):
    missing = str(tmp_path / "none.sock")
    ran = ctl("status", "--json", "--socket", missing)
    assert (ran.code, ran.out) == (69, "")
    told = json.loads(ran.err)
    assert told["code"] == "unreachable"
    assert told["tried"] == [{"socket": missing, "reason": "no such socket"}]
    assert told["exit_code"] == 69


def test_a_socket_nobody_listens_at(ctl, tmp_path):
    path = str(tmp_path / "dead.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    ran = ctl("ping", "--socket", path)
    assert ran.code == 69
    assert "nobody listens there" in ran.err


# going_away is missing here: the client then looks for the daemon's successor first.
@pytest.mark.parametrize("kind", [kind for kind in CALL_ERRORS if kind is not GoingAway], ids=lambda kind: kind.code)
def test_errors_of_the_daemon(daemon, ctl, kind):
    daemon.answers["status"] = kind("this is why")
    ran = ctl("status")
    assert ran.out == ""
    assert ran.err == f"aiorchctl: {kind.code}: this is why\n"
    again = ctl("status", "--json")
    told = json.loads(again.err)
    assert (told["code"], told["message"], told["exit_code"]) == (kind.code, "this is why", ran.code)
    assert ran.code == again.code != 0


def test_an_error_tells_when_to_try_again(daemon, ctl):
    daemon.answers["status"] = Overloaded("full", retry_after_s=1.5, stage="admit")
    ran = ctl("status")
    assert ran.code == 75
    assert ran.err == "aiorchctl: overloaded: full (try again in 1.50 s)\n"


def test_errors_cannot_steer_the_terminal(daemon, ctl):
    daemon.answers["status"] = Forbidden("\x1b[2Jno")
    assert "\x1b" not in ctl("status").err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("statuss",), "there is no command 'statuss'; did you mean status"),
        (("xyzzy",), "known are complete, embed"),
        (("ping", "--cuont", "1"), "no such option"),
        (("ping", "--count", "many"), "'many' is not a valid integer"),
        (("ping", "spare"), "unexpected extra argument"),
        (("complete",), "give a PROMPT, or --operation with --input"),
        (("complete", "x", "--timeout", "soon"), "write for instance 90s, 30m"),
        (("complete", "x", "--cache", "perhaps"), "'perhaps' is not one of"),
        (("complete", "x", "--extra", "{"), "--extra: is not JSON"),
        (("cache", "forget"), "name what to forget"),
        (("cache", "cler"), "no such command 'cler'"),
    ],
)
def test_wrong_usage(ctl, arguments, words):
    ran = ctl(*arguments)
    assert (ran.code, ran.out) == (64, "")
    assert words in ran.err
    assert "--help`" in ran.err
    assert ran.err.count("\n") == 1
    told = json.loads(ctl("--json", *arguments).err)
    assert (told["code"], told["exit_code"]) == ("usage", 64)


def test_nothing_asked_gives_the_help(ctl):
    ran = ctl()
    assert ran.code == 64
    assert "Usage: aiorchctl" in ran.err


def commands():
    context = whole.make_context("aiorchctl", ["ping"], resilient_parsing=True)
    for name in whole.list_commands(context):
        command = whole.get_command(context, name)
        yield (name,)
        for below in getattr(command, "commands", ()):
            yield (name, below)


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_has_help_and_the_common_options(ctl, path):
    ran = ctl(*path, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: aiorchctl {' '.join(path)} ")
    assert "--json" in ran.out
    assert "--socket PATH" in ran.out


def test_the_help_of_every_command_without_subcommands_or_of_its_group_has_examples(ctl):
    for path in commands():
        told = ctl(*path, "--help").out
        if "Examples:" not in told:
            assert len(path) == 2, f"{path} teaches nothing"
            assert "Examples:" in ctl(path[0], "--help").out


def test_version(ctl):
    from aiorch.version import __version__

    assert ctl("--version").out == f"aiorchctl {__version__}\n"


def test_without_the_daemons_libraries_one_sentence_says_what_to_install(program):
    code = "import sys; sys.modules['click'] = None\nfrom aiorchctl.__main__ import main\nsys.exit(main(['status']))"
    process = program.start("-c", code)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (64, "")
    assert err == "aiorchctl: click is not installed: pip install 'aiorch[daemon]'\n"


def test_a_module_of_our_own_that_is_missing_is_a_defect_and_told_as_one(program):
    code = (
        "import sys; sys.modules['aiorchctl.page'] = None\n"
        "from aiorchctl.__main__ import main\n"
        "sys.exit(main(['status']))"
    )
    process = program.start("-c", code)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ModuleNotFoundError" in err


def test_as_a_program(program, daemon):
    ran = program.run("ping")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("pong")


def test_a_reader_that_has_enough_is_no_error(program, daemon):
    daemon.answers["config.get"] = {f"section.key_{number}": "x" * 100 for number in range(5000)}
    process = program.start("-m", "aiorchctl", "config", "show")
    assert process.stdout.readline().startswith("section.key_0")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 0
    process.stderr.close()


def test_ctrl_c_ends_a_waiting_command_quietly(program, daemon):
    import threading

    asked = threading.Event()
    answer = threading.Event()

    def wait(arguments):
        asked.set()
        answer.wait(30)
        return "pong"

    daemon.answers["ping"] = wait
    process = program.start("-m", "aiorchctl", "ping")
    assert asked.wait(30)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    answer.set()
    assert (process.returncode, out, err) == (130, "", "\n")


def test_status_loads_neither_rich_nor_anything_of_the_daemon(program, daemon):
    daemon.answers["status"] = {"health": "ok"}
    code = (
        "import sys\n"
        "from aiorchctl.program import run\n"
        "assert run(['status']) == 0\n"
        "heavy = {name.partition('.')[0] for name in sys.modules} & {'rich', 'trio', 'asyncio', 'msgspec', 'aiorchd', 'aiorchsim', 'http', 'ssl'}\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    process = program.start("-c", code)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_answers_that_the_terminal_cannot_show_do_not_break_it(program, daemon):
    daemon.answers["complete"] = {"text": "snow \u2603", "id": "1"}
    program.environment["PYTHONIOENCODING"] = "ascii"
    ran = program.run("complete", "x")
    assert (ran.code, ran.out) == (0, "snow \\u2603\n")
