"""Exit codes follow sysexits, and each error says what to do."""

import pytest

from aiorch.errors import CALL_ERRORS, BudgetExceeded, CallError, ConnectionLost, RemoteProtocolError, Unreachable
from aiorchctl.failures import EXIT_CODES, failure_of, unreachable_sentence

EXPECTED = {
    "invalid_request": 64,
    "unauthorized": 77,
    "forbidden": 77,
    "unknown_method": 64,
    "unknown_operation": 64,
    "unknown_model": 64,
    "no_models": 78,
    "too_large": 64,
    "validation_failed": 70,
    "rate_limited": 75,
    "budget_exceeded": 64,
    "overloaded": 75,
    "deadline_exceeded": 75,
    "provider_error": 75,
    "provider_auth": 78,
    "incomplete_stream": 75,
    "context_exceeded": 64,
    "content_filtered": 70,
    "not_found": 64,
    "storage": 75,
    "cancelled": 70,
    "going_away": 75,
    "host_error": 70,
    "internal": 70,
}


@pytest.mark.parametrize("kind", CALL_ERRORS, ids=lambda kind: kind.code)
def test_every_code_has_its_exit_code(kind):
    failure = failure_of(kind("what happened"))
    assert failure.exit_code == EXPECTED[kind.code]
    assert failure.sentence == f"{kind.code}: what happened"
    assert failure.to_json()["code"] == kind.code
    assert failure.to_json()["exit_code"] == failure.exit_code


@pytest.mark.parametrize(
    ("told", "exit_code"),
    [
        ({"retry_after_s": 3600.0}, 75),  # the budget begins anew
        ({"retryable": True}, 75),  # others hold the rest
        ({"details": {"budget": "cost_limit", "limit_of": "call"}}, 64),
        ({"details": {"budget": "cost_limit", "limit_of": "configuration"}}, 78),
    ],
)
def test_want_of_money_is_temporary_only_when_it_passes(told, exit_code):
    failure = failure_of(BudgetExceeded("too dear", **told))
    assert failure.exit_code == exit_code
    assert ("try again in 1 h" in failure.sentence) == ("retry_after_s" in told)


@pytest.mark.parametrize("kind", CALL_ERRORS, ids=lambda kind: kind.code)
def test_what_will_not_pass_is_never_a_temporary_failure(kind):
    assert failure_of(kind("refused", retryable=False)).exit_code != 75


def test_the_table_names_existing_codes_only():
    assert EXIT_CODES.keys() <= {kind.code for kind in CALL_ERRORS}


def test_what_the_daemon_says_about_trying_again_decides():
    assert failure_of(CallError("odd", retryable=True)).exit_code == 75
    failure = failure_of(CallError("odd", retryable=True, retry_after_s=2.5, stage="gate", details={"a": 1}))
    assert failure.sentence.endswith("(try again in 2.50 s)")
    assert failure.to_json() == {
        "code": "internal",
        "message": "odd",
        "retryable": True,
        "retry_after_s": 2.5,
        "stage": "gate",
        "details": {"a": 1},
        "exit_code": 75,
    }


def test_not_reachable_names_every_socket_tried_and_what_to_do():
    tried = (("/run/user/7/aiorch/aiorch.sock", "no such socket"), ("/run/aiorch/aiorch.sock", "nobody listens there"))
    failure = failure_of(Unreachable("…", tried=tried))
    assert failure.exit_code == 69
    for socket, reason in tried:
        assert f"{socket} ({reason})" in failure.sentence
    assert "aiorchd &" in failure.sentence
    assert failure.to_json()["tried"][0] == {"socket": tried[0][0], "reason": tried[0][1]}
    assert failure.to_json()["retryable"] is True


def test_the_remedy_fits_who_asks():
    tried = (("/s", "no such socket"),)
    assert "`systemctl start aiorchd.socket`" in unreachable_sentence(tried, uid=0)
    assert "`systemctl --user start aiorchd.socket`" in unreachable_sentence(tried, uid=1000)
    refused = unreachable_sentence(
        (("/s", "permission denied: your user is not in the group of this socket"),), uid=1000
    )
    assert "Join the group" in refused
    assert "systemctl" not in refused


def test_a_lost_connection_may_be_tried_again_and_nonsense_may_not():
    assert failure_of(ConnectionLost("the daemon closed the connection")).exit_code == 75
    assert failure_of(RemoteProtocolError("not MessagePack")).exit_code == 70
