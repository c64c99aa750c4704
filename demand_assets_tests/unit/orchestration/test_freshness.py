"""`today_is_fresh`: what decides it, which reason is given, and when it is recorded again."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from demand_assets.demand.quality import Finding
from demand_assets.orchestration.planning.freshness import check_freshness, summary
from demand_assets.orchestration.planning.ledger import Attempt, Stored
from demand_assets.settings import Freshness, Settings
from demand_assets_tests.support.ledgers import HOURS, MINUTES, attempt, ledger, madrid, may, stored

TODAY, YESTERDAY, LONG_AGO = *may(10, 9), date(2022, 1, 4)
NOON = madrid("2023-05-10T12:00")


def color(finding: Finding) -> str:
    return "green" if finding.passed else "red" if finding.red else "yellow"


def check(
    now: datetime,
    days: Mapping[date, Stored],
    *attempts: Attempt,
    settings: Settings | None = None,
    **more: Mapping[date, tuple[str, datetime]],
) -> Finding:
    return check_freshness(ledger(now, days, *attempts, **more), settings or Settings())


AGES = pytest.mark.parametrize(
    ("minutes", "expected"), [(79, "green"), (81, "yellow"), (119, "yellow"), (121, "red")]
)


@AGES
@pytest.mark.parametrize("scale", [1, 3])
def test_today_turns_yellow_and_red_by_its_newest_hour(
    minutes: int, expected: str, scale: int
) -> None:
    settings = Settings(
        freshness=Freshness(
            warn_after=scale * Freshness.warn_after, fail_after=scale * Freshness.fail_after
        )
    )
    now = NOON + scale * minutes * MINUTES
    just_stored = stored(now, 12, last_hour=NOON - HOURS)
    found = check(now, {TODAY: just_stored}, settings=settings)
    assert color(found) == expected
    assert found.passed or "API silent" in found.text
    assert found.figures["lag_minutes"] == scale * minutes


@AGES
def test_today_turns_yellow_and_red_by_its_last_materialization(
    minutes: int, expected: str
) -> None:
    now = NOON + minutes * MINUTES
    # The hour is newer than the materialization, so that only the latter can be too old.
    found = check(now, {TODAY: stored(NOON, 12, last_hour=now - HOURS)})
    assert color(found) == expected
    assert found.figures["lag_minutes"] == 0


@AGES
def test_without_any_hour_the_lag_runs_from_midnight(minutes: int, expected: str) -> None:
    now = madrid("2023-05-10T00:00") + minutes * MINUTES
    assert color(check(now, {})) == expected
    assert color(check(now, {TODAY: stored(now, 0)})) == expected


@pytest.mark.parametrize("ahead", [1 * MINUTES, 14 * HOURS])
def test_an_hour_that_is_not_over_is_never_fresh(ahead: timedelta) -> None:
    found = check(NOON, {TODAY: stored(NOON, 12, last_hour=NOON + ahead - HOURS)})
    assert color(found) == "yellow"
    assert found.figures["lag_minutes"] == -ahead / MINUTES
    assert "An hour that is not over cannot have been measured." in found.text
    assert color(check(NOON, {TODAY: stored(NOON, 12, last_hour=NOON - HOURS)})) == "green"


def test_a_frozen_feed_is_not_fresh_and_a_result_is_news_once() -> None:
    days = {TODAY: stored(NOON + 6 * MINUTES, 12, last_hour=NOON - HOURS)}
    frozen_since = NOON - 40 * MINUTES
    results = [
        check_freshness(ledger(NOON + n * MINUTES, days), Settings(), frozen_since)
        for n in (10, 20, 90)
    ]
    assert [color(found) for found in results] == ["yellow"] * 3
    for found in results:
        assert "The measured value has not changed since 11:20 Madrid time." in found.text
    assert "90 minutes behind" in results[-1].text
    assert summary(results[0]) == summary(results[1]) != summary(results[2])


def test_other_days_do_not_make_today_stale() -> None:
    now = NOON + 10 * MINUTES
    days = {
        TODAY: stored(now - 5 * MINUTES, 12, last_hour=NOON - HOURS),
        LONG_AGO: stored(now, last_hour=madrid("2022-01-04T23:00")),
    }
    assert color(check(now, days)) == "green"


def test_other_days_do_not_make_today_fresh() -> None:
    now = NOON + 3 * HOURS
    days = {
        TODAY: stored(NOON, 11, last_hour=NOON - 2 * HOURS),
        LONG_AGO: stored(now, last_hour=madrid("2022-01-04T23:00")),
        YESTERDAY: stored(now, last_hour=madrid("2023-05-09T23:00")),
    }
    found = check(now, days)
    assert color(found) == "red"
    assert found.figures["lag_minutes"] == 240


def test_the_reason_is_that_runs_fail_with_their_error() -> None:
    failed = attempt([TODAY], ended=NOON + 110 * MINUTES)
    found = check(NOON + 2 * HOURS, {TODAY: stored(NOON)}, failed)
    assert found.text.endswith(f"Runs failing, run {failed.run_id[:8]} the last: it broke")


@pytest.mark.parametrize(
    ("waits", "reason"),
    [
        (9, "Just being fetched: run abc is queued."),
        (11, "Queue stuck: run abc is queued since 13:49 Madrid time."),
    ],
)
def test_the_reason_is_a_run_that_is_under_way(waits: int, reason: str) -> None:
    now = NOON + 2 * HOURS
    under_way = {TODAY: ("run abc is queued", now - waits * MINUTES)}
    found = check(now, {TODAY: stored(NOON)}, under_way=under_way)
    assert found.text == f"Today, 2023-05-10, is 840 minutes behind. {reason}"


def test_the_reason_is_that_the_sensor_was_off() -> None:
    assert "Sensor just started, or it was off" in check(NOON, {}).text


def test_a_result_is_news_when_it_changes_and_not_each_minute() -> None:
    days = {TODAY: stored(NOON + 6 * MINUTES, 12, last_hour=NOON - HOURS)}
    failed = attempt([TODAY], ended=NOON + 16 * MINUTES)
    recorded = [summary(check(NOON + n * MINUTES, days, failed)) for n in range(6, 180)]
    assert list(dict.fromkeys(recorded)) == [recorded[0], recorded[75], recorded[-1]]
    assert [text.split()[0] for text in dict.fromkeys(recorded)] == ["green", "yellow", "red"]


@pytest.mark.parametrize(
    "change",
    [
        {"at": NOON + 16 * MINUTES},
        {"last_hour": NOON},
    ],
)
def test_a_result_is_news_when_today_is_stored_again(change: dict[str, Any]) -> None:
    before: dict[str, Any] = {"at": NOON + 6 * MINUTES, "last_hour": NOON - HOURS}
    now = NOON + timedelta(minutes=20)
    first, second = (
        summary(check(now, {TODAY: stored(**values)})) for values in (before, before | change)
    )
    assert first != second


def test_a_result_is_news_when_another_run_fails() -> None:
    now = NOON + 2 * HOURS
    failed = attempt([TODAY], ended=now)
    results = {summary(check(now, {}, replace(failed, run_id=name))) for name in ("first", "next")}
    assert len(results) == 2
