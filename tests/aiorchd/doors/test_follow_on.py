"""Looking at once for the next request of who was just answered: as long as it pays, and no longer."""

from __future__ import annotations

from aiorchd.doors.follow_on import FollowOn


def tries(eager: FollowOn, answers: int) -> int:
    """Nothing is ever found; how often was it looked?"""
    count = 0
    for _ in range(answers):
        if eager.worth_trying():
            count += 1
            assert not eager.looked(found=False, took_s=1e-6)
    return count


def test_where_nothing_is_found_it_is_tried_ever_more_rarely() -> None:
    eager = FollowOn()
    assert tries(eager, 512) <= 9
    assert 3 <= tries(eager, 1024) <= 5


def test_once_it_has_paid_it_is_tried_at_once_again() -> None:
    eager = FollowOn()
    tries(eager, 512)
    while not eager.worth_trying():
        pass
    assert eager.looked(found=True, took_s=20e-6)
    assert eager.worth_trying()


def test_letting_somebody_else_have_the_cpu_does_not_count_as_paying() -> None:
    eager = FollowOn()
    assert eager.worth_trying()
    assert not eager.looked(found=True, took_s=0.003)
    assert not eager.worth_trying()


def test_where_somebody_else_has_the_cpu_it_is_hardly_ever_let_go() -> None:
    eager = FollowOn()
    looks = 0
    for _ in range(10_000):
        if eager.worth_trying():
            looks += 1
            eager.looked(found=looks % 2 == 0, took_s=0.003)
    assert looks <= 6
