"""The state of a day, and when today is due for a refresh."""

from dataclasses import replace
from datetime import date, datetime

import pytest

from demand_assets.orchestration.planning.ledger import State, Stored
from demand_assets_tests.support.ledgers import (
    HOURS,
    MINUTES,
    REFRESH,
    attempt,
    complete,
    ledger,
    madrid,
    may,
    may_range,
    stored,
)

(DAY,) = may(10)
NOON_AFTER = madrid("2023-05-11T12:00")


def state(at: str, hours: int = 24) -> State:
    """The state of 10 May at noon of the next day, if it was materialized at a time."""
    return ledger(NOON_AFTER, {DAY: stored(madrid(at), hours)}).state(DAY)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2023-05-10T15:00", State.OPEN),
        ("2023-05-11T00:05", State.OPEN),
        ("2023-05-11T00:29", State.OPEN),
        ("2023-05-11T00:30", State.INGESTED),
    ],
)
def test_a_day_counts_as_ingested_once_stored_after_it_settled(at: str, expected: State) -> None:
    assert state(at) == expected


def test_the_settle_setting_decides_when_a_day_has_settled() -> None:
    early = ledger(NOON_AFTER, {DAY: stored(madrid("2023-05-11T00:05"))})
    assert replace(early, settle=5 * MINUTES).state(DAY) == State.INGESTED
    assert replace(early, settle=6 * MINUTES).state(DAY) == State.OPEN


def test_a_day_with_missing_hours_stays_open() -> None:
    assert state("2023-05-11T09:00", hours=23) == State.OPEN


def test_a_materialization_without_figures_counts_as_complete() -> None:
    by_hand = Stored(madrid("2023-05-11T09:00"), None, None, None)
    assert ledger(NOON_AFTER, {DAY: by_hand}).state(DAY) == State.INGESTED


@pytest.mark.parametrize(
    ("day", "hours"), [("2023-03-26", 23), ("2023-10-29", 25), ("2024-02-29", 24)]
)
def test_days_of_23_and_25_hours_settle_at_their_own_midnight(day: str, hours: int) -> None:
    start = madrid(f"{day}T00:00")
    settled = ledger(start, {}).settled_at(date.fromisoformat(day))
    assert settled.timestamp() - start.timestamp() == hours * 3600 + 30 * 60


def test_a_failure_after_a_materialization_counts() -> None:
    days = complete([DAY], madrid("2023-05-11T01:00"))
    assert ledger(NOON_AFTER, days, attempt([DAY])).state(DAY) == State.FAILED


def test_a_run_under_way_counts_more_than_a_failure() -> None:
    under_way = {DAY: ("run", NOON_AFTER)}
    assert ledger(NOON_AFTER, {}, attempt([DAY]), under_way=under_way).state(DAY) == (
        State.IN_PROGRESS
    )


def test_days_are_those_since_the_first_stored_one_and_earlier_failed_ones() -> None:
    days = ledger(NOON_AFTER, complete(may(6, 8), NOON_AFTER), attempt(may(1)))
    assert days.days(State.MISSING) == may(7, 9, 10)
    assert days.days(State.FAILED) == may(1)
    assert days.days(*State) == [*may(1), *may_range(6, 10)]


@pytest.mark.parametrize(
    ("at", "due"),
    [
        ("12:06", "12:16"),  # the interval
        ("12:54", "13:04"),
        ("12:57", "13:05"),  # the hour that is complete at 13:05
        ("13:00", "13:05"),
        ("13:04", "13:05"),
        ("13:05", "13:15"),
    ],
)
def test_today_is_due_after_the_interval_or_once_an_hour_is_complete(at: str, due: str) -> None:
    def clock(text: str) -> datetime:
        return madrid(f"2023-05-10T{text}")

    assert ledger(clock(at), {DAY: stored(clock(at))}).refresh_due(REFRESH) == clock(due)


def test_today_is_due_at_once_if_missing_and_after_the_interval_if_failed() -> None:
    now = madrid("2023-05-10T13:04")
    assert ledger(now, {}).refresh_due(REFRESH) == now
    assert ledger(now, {}, attempt([DAY], ended=now)).refresh_due(REFRESH) == now + REFRESH


def test_with_a_long_interval_each_hour_is_requested_once_it_is_complete() -> None:
    now = madrid("2023-05-10T12:30")
    due = ledger(now, {DAY: stored(now)}).refresh_due(3 * HOURS)
    assert due == madrid("2023-05-10T13:05")
