"""The pace stays within its bounds whatever happens, backs off at once, and obeys what a server says about time."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from vlmend.servers.pace import START, Pace, quota_wait, retry_after


@pytest.mark.parametrize("most", [1, 2, 7, 32])
def test_bounds_hold_for_any_history(most: int) -> None:
    pace, draw = Pace(most), random.Random(most)
    for now in range(2000):
        if draw.random() < 0.8:
            pace.well()
        else:
            pace.slow_down(now - draw.random() * 3, now)
        assert 1 <= pace.limit <= most
        assert not pace.room(most, now)
        assert pace.room(0, now)


def test_a_good_server_gets_the_whole_window_and_a_full_one_half() -> None:
    pace = Pace(32)
    for _ in range(32):
        pace.well()
    assert pace.limit == 32
    pace.slow_down(1.0, now=2.0)
    assert pace.limit == 16
    pace.slow_down(1.5, now=2.5)  # it was on the way when the limit fell: the same news
    assert pace.limit == 16
    pace.slow_down(3.0, now=4.0)
    assert pace.limit == 8


def test_after_the_first_slowing_a_round_adds_one() -> None:
    pace = Pace(1000)
    pace.limit = 40.0
    pace.slow_down(0.0, now=1.0)
    for _ in range(20):
        pace.well()
    assert 20.9 < pace.limit < 21.1


def test_nobody_starts_before_the_time_that_was_asked_for() -> None:
    pace = Pace(START)
    pace.wait_until(10.0)
    pace.wait_until(5.0)
    assert not pace.room(0, 9.9)
    assert pace.room(0, 10.0)


def test_retry_after_in_all_its_forms() -> None:
    assert retry_after({"retry-after": "3"}) == 3
    assert retry_after({"retry-after": "0.5"}) == 0.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (retry_after({"retry-after": soon}) or 0) <= 60
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


def test_a_quota_makes_wait_only_when_it_is_used_up() -> None:
    assert quota_wait({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"}) == 0
    assert quota_wait({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}) == 360
    assert quota_wait({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}) == 0.02
    assert quota_wait({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h1m1.5s"}) == 3661.5
    assert quota_wait({}) == 0
