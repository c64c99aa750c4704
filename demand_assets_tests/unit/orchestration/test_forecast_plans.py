"""Which models, forecasts and scores are due, without an instance."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest

from demand_assets.forecast import TRAINED_MODEL, WEEKLY_NAIVE
from demand_assets.grid import TIME_ZONE
from demand_assets.orchestration.keys import FORECAST_JOB, MODEL_JOB, SCORE_JOB
from demand_assets.orchestration.planning.forecast_plans import (
    MonthlyModel,
    PastRun,
    due_forecasts,
    due_model,
    due_scores,
    forecast_fingerprint,
    may_be_requested,
)
from demand_assets.orchestration.planning.ledger import Ledger, Stored

NOON = time(12)
NOW = datetime(2023, 5, 24, 12, 6, tzinfo=TIME_ZONE)
TODAY = NOW.date()
A_DAY = timedelta(days=1)
TOMORROW = TODAY + A_DAY
MAY = date(2023, 5, 1)
MODEL = MonthlyModel(MAY, NOW - timedelta(hours=2), 1, None)  # type: ignore[arg-type]  # not used


def stored(at: datetime, fingerprint: str = "a", **more: object) -> Stored:
    return Stored(at, 24, 24, None, fingerprint, **more)  # type: ignore[arg-type]


def month_ledger(days: int, *, newer: int = 0, under_way: date | None = None) -> Ledger:
    """At noon, with that many days before the month: newer ones stored an hour ago."""
    first = date(2023, 4, 30) - days * A_DAY
    days_stored = {
        first + n * A_DAY: stored(NOW - timedelta(hours=1 if n < newer else 24))
        for n in range(days)
    }
    runs = {under_way: ("a backfill", NOW)} if under_way else {}
    return Ledger(NOW, timedelta(), days_stored, {}, runs)


def days_ledger(now: datetime = NOW) -> Ledger:
    """Two months until today, of which the hours until noon are stored."""
    days = {TODAY - n * A_DAY: stored(NOW, f"day {n}") for n in range(1, 62)}
    last_hour = datetime(2023, 5, 24, 9, tzinfo=UTC)
    today = replace(stored(NOW, "today"), last_hour=last_hour, morning_fingerprint="morning")
    eve = replace(days[TODAY - A_DAY], last_hour=datetime(2023, 5, 23, 21, tzinfo=UTC))
    return Ledger(now, timedelta(), {**days, TODAY - A_DAY: eve, TODAY: today}, {})


def with_day(ledger: Ledger, day: date, **changes: object) -> Ledger:
    """The ledger with other facts about one day."""
    changed = replace(ledger.stored[day], **changes)  # type: ignore[arg-type]
    return replace(ledger, stored={**ledger.stored, day: changed})


# Fingerprint


@pytest.mark.parametrize("days_before", [2, 7, 49])
def test_fingerprint_changes_with_the_demand_of_a_day_before(days_before: int) -> None:
    ledger = days_ledger()
    changed = with_day(ledger, TOMORROW - days_before * A_DAY, fingerprint="revised")
    assert forecast_fingerprint(changed, TOMORROW, None) != forecast_fingerprint(
        ledger, TOMORROW, None
    )


def test_fingerprint_changes_with_the_morning_of_the_eve() -> None:
    ledger = days_ledger()
    changed = with_day(ledger, TODAY, morning_fingerprint="revised")
    assert forecast_fingerprint(changed, TOMORROW, None) != forecast_fingerprint(
        ledger, TOMORROW, None
    )


def test_fingerprint_changes_with_the_model() -> None:
    trained_again = replace(MODEL, storage_id=2)
    fingerprints = {
        forecast_fingerprint(days_ledger(), TOMORROW, model)
        for model in (None, MODEL, trained_again)
    }
    assert len(fingerprints) == 3


def test_fingerprint_does_not_change_with_later_or_unused_demand() -> None:
    ledger = days_ledger()
    before = forecast_fingerprint(ledger, TOMORROW, MODEL)
    for day in (TODAY, TOMORROW - 50 * A_DAY):
        changed = with_day(ledger, day, fingerprint="revised")
        assert forecast_fingerprint(changed, TOMORROW, MODEL) == before


# Models


def due(ledger: Ledger, model: MonthlyModel | None = None) -> tuple[date | None, str]:
    return due_model(ledger, {TOMORROW: model} if model else {}, NOON)


def test_a_model_needs_180_days_before_its_month() -> None:
    assert due(month_ledger(180)) == (MAY, "")
    month, reason = due(month_ledger(179))
    assert month is None and "needs 180 days before it, and 179 are stored" in reason


def test_the_model_of_another_month_does_not_count() -> None:
    assert due(month_ledger(200), replace(MODEL, month=date(2023, 4, 1))) == (MAY, "")


def test_a_model_is_trained_again_when_a_quarter_more_days_are_stored() -> None:
    assert due(month_ledger(250, newer=49), MODEL) == (None, "The model of 2023-05 is up to date.")
    assert due(month_ledger(250, newer=50), MODEL) == (MAY, "")


def test_a_model_waits_for_days_under_way_that_it_is_trained_on() -> None:
    month, reason = due(month_ledger(250, newer=50, under_way=date(2021, 1, 1)), MODEL)
    assert month is None and "waits for 1 days" in reason
    assert due(month_ledger(250, newer=50, under_way=TODAY), MODEL) == (MAY, "")


def test_a_model_does_not_wait_for_missing_days() -> None:
    ledger = month_ledger(400)
    gap = {day: of_day for day, of_day in ledger.stored.items() if day.month != 12}
    assert due(replace(ledger, stored=gap)) == (MAY, "")


def test_the_next_months_model_is_due_at_noon_of_the_last_day() -> None:
    ledger = month_ledger(200)
    for hour, month in ((11, MAY), (12, date(2023, 6, 1))):
        now = datetime(2023, 5, 31, hour, tzinfo=TIME_ZONE)
        assert due_model(replace(ledger, now=now), {}, NOON) == (month, "")


# Forecasts


def made(ledger: Ledger, made_by: str, *days: date) -> dict[date, dict[str, object]]:
    """Metadata of forecasts that were made from the ledger and ``MODEL``."""
    return {
        day: {"made_by": made_by, "fingerprint": forecast_fingerprint(ledger, day, MODEL)}
        for day in days
    }


MODELS = {TODAY: MODEL, TOMORROW: MODEL}


def test_missing_forecasts_of_today_and_tomorrow_are_due_once() -> None:
    ledger = days_ledger()
    assert due_forecasts(ledger, {}, MODELS, NOON) == [TODAY, TOMORROW]
    forecasts = made(ledger, TRAINED_MODEL, TODAY, TOMORROW)
    assert due_forecasts(ledger, forecasts, MODELS, NOON) == []


def test_a_forecast_needs_the_morning_of_the_eve() -> None:
    ledger = days_ledger()
    an_hour_less = ledger.stored[TODAY].last_hour - timedelta(hours=1)  # type: ignore[operator]
    short = with_day(ledger, TODAY, last_hour=an_hour_less)
    assert due_forecasts(short, {}, MODELS, NOON) == [TODAY]
    assert due_forecasts(short, {}, MODELS, time(11)) == [TODAY, TOMORROW]


def test_a_forecast_needs_one_of_the_four_weeks_before() -> None:
    ledger = days_ledger()
    week = [TOMORROW - timedelta(weeks=n) for n in range(1, 5)]
    without = {day: of_day for day, of_day in ledger.stored.items() if day not in week}
    assert due_forecasts(replace(ledger, stored=without), {}, MODELS, NOON) == [TODAY]
    without[week[3]] = ledger.stored[week[3]]
    assert due_forecasts(replace(ledger, stored=without), {}, MODELS, NOON) == [TODAY, TOMORROW]


def test_a_revised_value_makes_tomorrows_forecast_due_and_not_todays() -> None:
    ledger = days_ledger()
    forecasts = made(ledger, TRAINED_MODEL, TODAY, TOMORROW)
    for day, changed in ((TODAY - 6 * A_DAY, "fingerprint"), (TODAY, "morning_fingerprint")):
        revised = with_day(ledger, day, **{changed: "revised"})
        assert due_forecasts(revised, forecasts, MODELS, NOON) == [TOMORROW]


def test_todays_forecast_is_due_again_if_it_was_made_without_a_model() -> None:
    ledger = days_ledger()
    forecasts = made(ledger, WEEKLY_NAIVE, TODAY, TOMORROW)
    newer = dict.fromkeys(MODELS, replace(MODEL, storage_id=2))
    assert due_forecasts(ledger, forecasts, newer, NOON) == [TODAY, TOMORROW]


# Scores


def test_ingested_days_are_scored_once_and_again_after_a_change() -> None:
    ledger = days_ledger()
    day = TODAY - A_DAY
    later = NOW + timedelta(minutes=1)
    assert due_scores(ledger, {day: NOW}, {}) == [day]
    assert due_scores(ledger, {day: NOW}, {day: NOW}) == []
    assert due_scores(ledger, {day: later}, {day: NOW}) == [day]
    assert due_scores(with_day(ledger, day, at=later), {day: NOW}, {day: NOW}) == [day]


def test_open_and_missing_days_are_not_scored() -> None:
    ledger = days_ledger()
    gone = TODAY - 100 * A_DAY
    assert due_scores(ledger, {TODAY: NOW, TOMORROW: NOW, gone: NOW}, {}) == []


# Pauses after failures

TEN_MINUTES = timedelta(minutes=10)
FAILED = PastRun(under_way=False, succeeded=False, ended=NOW)
SUCCEEDED = PastRun(under_way=False, succeeded=True, ended=NOW)


@pytest.mark.parametrize(
    ("failures", "minutes"),
    [(1, 10), (2, 20), (3, 40), (7, 640), (8, 1280), (9, 24 * 60), (10, 24 * 60)],
)
def test_pause_doubles_with_each_failure_up_to_a_day(failures: int, minutes: int) -> None:
    runs = [FAILED] * failures + [SUCCEEDED, FAILED]
    due = NOW + timedelta(minutes=minutes)
    for job in (FORECAST_JOB, SCORE_JOB):
        assert not may_be_requested(job, runs, due - timedelta(seconds=1), TEN_MINUTES)
        assert may_be_requested(job, runs, due, TEN_MINUTES)


def test_a_partition_with_a_run_under_way_is_not_requested() -> None:
    run = replace(FAILED, under_way=True)
    assert not may_be_requested(FORECAST_JOB, [run], NOW + 9 * A_DAY, TEN_MINUTES)


def test_a_forecast_is_requested_at_once_after_a_success_and_a_model_after_a_pause() -> None:
    for job, at_once in ((FORECAST_JOB, True), (MODEL_JOB, False)):
        assert may_be_requested(job, [SUCCEEDED], NOW, TEN_MINUTES) == at_once
        assert may_be_requested(job, [SUCCEEDED], NOW + TEN_MINUTES, TEN_MINUTES)
        assert may_be_requested(job, [], NOW, TEN_MINUTES)
