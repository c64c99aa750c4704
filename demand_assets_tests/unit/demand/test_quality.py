"""Rules of quality: complete hours, a forecast, and the store's values.

Rules over samples are tested in `test_anomalies.py`.
"""

import math
from datetime import UTC, date, datetime

import pandas as pd
import pytest

from demand_assets.demand.days import day_hours
from demand_assets.demand.quality import (
    Finding,
    check_forecast,
    check_hours,
    check_stored,
)
from demand_assets.grid import FORECAST, REAL, TIME_ZONE

DAY = date(2023, 5, 10)
NEXT_DAY = datetime(2023, 5, 11, 12, tzinfo=TIME_ZONE)
YEARS_LATER = datetime(2026, 1, 15, 12, tzinfo=UTC)


def hours(day: date = DAY) -> pd.DataFrame:
    return pd.DataFrame({REAL: 25_000.0, FORECAST: 25_100.0}, index=day_hours(day))


def without_hour(hour: int) -> pd.DataFrame:
    frame = hours()
    frame.loc[frame.index[hour], REAL] = math.nan
    return frame


def at(*clocks: str) -> pd.DatetimeIndex:
    """Instants of the day on Madrid's clock."""
    return pd.to_datetime([f"{DAY}T{clock}+02:00" for clock in clocks], utc=True)


SAMPLES_OF_7 = at(*(f"07:{minute:02}" for minute in range(0, 60, 5)))


def color(finding: Finding) -> str:
    return "green" if finding.passed else "red" if finding.red else "yellow"


def test_missing_samples_are_counted_and_shown_on_madrids_clock() -> None:
    found = check_hours(hours(), at("02:05", "02:10", "02:15", "13:40"), DAY, NEXT_DAY)
    assert color(found) == "yellow"
    assert found.text == "24 of 24 hours. 4 samples are missing: 02:05-02:15 (3), 13:40."
    assert found.figures == {"hours": 24, "hours_expected": 24, "samples_missing": 4}


def test_a_missing_sample_of_an_old_day_is_yellow() -> None:
    assert color(check_hours(hours(), at("02:05"), DAY, YEARS_LATER)) == "yellow"


def test_a_missing_hour_of_an_old_day_is_red() -> None:
    assert color(check_hours(without_hour(7), SAMPLES_OF_7, DAY, YEARS_LATER)) == "red"


@pytest.mark.parametrize(("clock", "expected"), [("00:00", "yellow"), ("00:01", "red")])
def test_a_missing_hour_turns_red_a_day_after_the_days_end(clock: str, expected: str) -> None:
    now = datetime.fromisoformat(f"2023-05-12T{clock}").replace(tzinfo=TIME_ZONE)
    found = check_hours(without_hour(7), SAMPLES_OF_7, DAY, now)
    assert color(found) == expected
    assert found.text == "23 of 24 hours. 12 samples are missing: 07:00-07:55 (12)."


def test_hours_of_today_that_are_not_over_are_not_missing() -> None:
    frame = hours()
    frame.iloc[14:, 0] = math.nan
    found = check_hours(frame, at(), DAY, datetime(2023, 5, 10, 14, 10, tzinfo=TIME_ZONE))
    assert color(found) == "green"
    assert found.text == "14 of 24 hours so far."


def test_an_hour_that_was_left_out_is_yellow_for_ever() -> None:
    found = check_hours(without_hour(7), at(), DAY, YEARS_LATER, left_out=at("07:00"))
    assert color(found) == "yellow"
    assert found.text == "23 of 24 hours. Left out as implausible: 07:00."


@pytest.mark.parametrize("day", [date(2023, 3, 26), date(2023, 10, 29)])
def test_days_of_23_and_25_hours_are_complete(day: date) -> None:
    found = check_hours(hours(day), at(), day, YEARS_LATER)
    assert color(found) == "green"
    assert found.text == f"{len(day_hours(day))} of {len(day_hours(day))} hours."


def test_a_missing_forecast_is_yellow() -> None:
    frame = hours()
    frame.iloc[20:, 1] = math.nan
    found = check_forecast(frame, DAY)
    assert color(found) == "yellow"
    assert found.text == "20 of 24 hours have a forecast."
    assert color(check_forecast(hours(), DAY)) == "green"


def test_a_store_that_lost_or_changed_values_is_red() -> None:
    lost, changed = hours(), hours()
    lost.iloc[3, 1] = math.nan
    changed.iloc[5, 0] = 25_000.001
    assert color(check_stored(hours(), hours())) == "green"
    found = check_stored(hours(), lost)
    assert color(found) == "red"
    assert "1 missing, such as ForecastDemand of 2023-05-10 01:00 UTC" in found.text
    found = check_stored(hours(), changed)
    assert color(found) == "red"
    assert "1 different, such as RealDemand of 2023-05-10 03:00 UTC" in found.text
    found = check_stored(hours(), hours().iloc[:0])
    assert color(found) == "red"
    assert found.figures == {"values_written": 48, "values_found": 0}


def test_a_value_that_only_the_store_has_is_yellow() -> None:
    found = check_stored(without_hour(9), hours())
    assert color(found) == "yellow"
    assert "1 of an earlier answer" in found.text
