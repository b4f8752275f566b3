"""The plain HTTP client that the demonstration compares with is a careful one."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from aiorchctl.demo.asking import NotAnswered, PlainHttp, ThroughDaemon
from aiorchsim.process import start_simulator


@pytest.fixture
def simulator():
    with start_simulator("[[models]]\nlatency_s = 0.0") as running:
        yield running


def test_threads_keep_one_connection_each(simulator):
    asking = PlainHttp(simulator.host, simulator.port, seed=1)
    barrier = threading.Barrier(3)

    def work(number):
        barrier.wait(10)
        return [asking.ask(f"Give three tags for this page:\n\nRed foxes and blue whales, {number}") for _ in range(4)]

    with ThreadPoolExecutor(3) as pool:
        told = [one for some in pool.map(work, range(3)) for one in some]
    asking.close()
    assert {one.how for one in told} == {"direct"}
    stats = simulator.stats()
    assert stats["calls"]["received"] == 12
    assert stats["connections"]["opened"] <= 3 + 2  # one for each look at the counts


def test_refusals_are_waited_out_and_counted():
    waits = []
    with start_simulator(
        '[[models]]\nlatency_s = 0.0\nfault = "rate_limited"\nfault_first = 3\nfault_retry_after_s = 2.0'
    ) as limited:
        asking = PlainHttp(limited.host, limited.port, seed=1, sleep=waits.append)
        told = asking.ask("Give three tags for this page:\n\nRed foxes")
        asking.close()
    assert told.refused == 3
    assert len(waits) == 3
    assert all(2.0 <= wait_s <= 2.5 for wait_s in waits)


def test_failures_back_off_and_a_lasting_one_is_told():
    waits = []
    with start_simulator('[[models]]\nlatency_s = 0.0\nfault = "error_500"') as broken:
        asking = PlainHttp(broken.host, broken.port, seed=1, sleep=waits.append)
        with pytest.raises(NotAnswered, match="status 500"):
            asking.ask("x")
        asking.close()
    assert waits[0] < waits[1] < waits[2]
    assert max(waits) <= 10


def test_a_refused_request_is_not_sent_again():
    with start_simulator('[[models]]\nfault = "auth"') as locked:
        asking = PlainHttp(locked.host, locked.port, seed=1)
        with pytest.raises(NotAnswered, match="401"):
            asking.ask("x")
        assert locked.stats()["calls"]["received"] == 1
        asking.close()


def test_a_connection_that_breaks_is_made_again():
    with start_simulator('[[models]]\nlatency_s = 0.0\nfault = "reset"\nfault_first = 1') as shaky:
        asking = PlainHttp(shaky.host, shaky.port, seed=1, sleep=lambda seconds: None)
        assert asking.ask("Give three tags for this page:\n\nRed foxes").how == "direct"
        asking.close()


def test_through_a_daemon(daemon):
    daemon.answers["complete"] = {"text": "a, b", "cache": "exact", "cost_usd": 0.0, "saved_usd": 0.25}
    asking = ThroughDaemon(str(daemon.path))
    told = asking.ask("page")
    assert (told.text, told.how, told.saved_usd) == ("a, b", "exact", 0.25)
    assert daemon.arguments_of("complete")["prompt"] == "page"
    from aiorch.errors import ProviderError

    daemon.answers["complete"] = ProviderError("it is down")
    with pytest.raises(NotAnswered, match="it is down"):
        asking.ask("page")
    asking.close()
