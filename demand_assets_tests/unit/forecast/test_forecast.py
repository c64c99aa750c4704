"""A forecast uses nothing after its issue time, survives gaps, and beats the weekly naive."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demand_assets.demand.days import day_hours, days_between
from demand_assets.forecast import (
    HISTORY_DAYS,
    TRAINING_DAYS_NEEDED,
    Model,
    TooLittleHistoryError,
    UnknownModelError,
    holiday_share,
    issue_time,
    score,
    weekly_naive,
)
from demand_assets.forecast.features import by_local_hour, features, known_demand
from demand_assets.grid import FORECAST, MODEL, REAL, TIME_ZONE
from demand_assets.simulator.days import _hourly

DAY = date(2022, 4, 12)
"""In the week before Easter, so that holidays before and after it are among its features."""
ODD_DAYS = [date(2022, 3, 27), date(2021, 10, 31)]
FIRST, LAST = date(2021, 9, 1), date(2022, 5, 31)
A_DAY = timedelta(days=1)
properties = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def synthetic_history(first: date, last: date) -> pd.DataFrame:
    """The simulator's synthetic demand, by local hour; the operator's forecast is 1 % too high."""
    days = []
    for day in days_between(first, last):
        hours = day_hours(day)
        real = np.array(_hourly(day))[hours.tz_convert(TIME_ZONE.key).hour]
        days.append(pd.DataFrame({REAL: real, FORECAST: real * 1.01}, index=hours))
    return pd.concat(days)


@pytest.fixture(scope="module", autouse=True)
def fewer_trees() -> Iterator[None]:
    """Models are trained in a fifth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("demand_assets.forecast.model.TREES", 100)
        yield


@pytest.fixture(scope="module")
def history() -> pd.DataFrame:
    return synthetic_history(FIRST, LAST)


@pytest.fixture(scope="module")
def model(history: pd.DataFrame) -> Model:
    return Model.train(history, issue_time(DAY))


def after(history: pd.DataFrame, instant: datetime) -> np.ndarray:
    """Which hours had not ended at an instant."""
    ends = pd.DatetimeIndex(history.index) + pd.Timedelta(hours=1)
    return np.asarray(ends > pd.Timestamp(instant))


# No later demand leaks into a forecast


def test_issue_time_is_noon_of_the_day_before() -> None:
    assert issue_time(DAY) == datetime(2022, 4, 11, 10, tzinfo=UTC)
    assert issue_time(DAY, time(9, 30)) == datetime(2022, 4, 11, 7, 30, tzinfo=UTC)


@properties
@given(
    day=st.dates(date(2022, 3, 20), date(2022, 4, 30)),
    which=st.floats(0, 1),
    column=st.sampled_from([[REAL], [FORECAST], [REAL, FORECAST]]),
    value=st.sampled_from([math.nan, 0.0, 1.0, 99_999.0]),
)
def test_no_value_after_the_issue_time_changes_the_forecast(
    history: pd.DataFrame,
    model: Model,
    day: date,
    which: float,
    column: list[str],
    value: float,
) -> None:
    later = np.flatnonzero(after(history, issue_time(day)))
    changed = history.copy()
    one = later[int(which * 47)]  # an hour of the afternoon before, or one or two days later
    changed.loc[history.index[one], column] = value
    forecast = model.forecast(history, day)
    pd.testing.assert_series_equal(model.forecast(changed, day), forecast, check_exact=True)
    changed.loc[history.index[later], column] = value
    pd.testing.assert_series_equal(model.forecast(changed, day), forecast, check_exact=True)
    pd.testing.assert_series_equal(
        model.forecast(history.iloc[: later[0]], day), forecast, check_exact=True
    )
    naive = weekly_naive(history, day)
    pd.testing.assert_series_equal(weekly_naive(changed, day), naive, check_exact=True)


def test_the_operators_forecast_is_not_used(history: pd.DataFrame, model: Model) -> None:
    changed = history.assign(**{FORECAST: math.nan})
    pd.testing.assert_series_equal(model.forecast(changed, DAY), model.forecast(history, DAY))


def test_the_last_hour_before_the_issue_time_is_used(history: pd.DataFrame, model: Model) -> None:
    last = history.index[~after(history, issue_time(DAY))][-1]
    assert last == pd.Timestamp(issue_time(DAY)) - pd.Timedelta(hours=1)
    changed = history.copy()
    changed.loc[last, REAL] *= 1.05
    assert (model.forecast(changed, DAY) != model.forecast(history, DAY)).any()


@pytest.mark.parametrize("at", [time(9, 30), time(12), time(18)])
@pytest.mark.parametrize("day", [DAY, *ODD_DAYS, *(day + A_DAY for day in ODD_DAYS)], ids=str)
def test_training_features_are_those_known_at_the_issue_time(
    history: pd.DataFrame, day: date, at: time
) -> None:
    first = day - HISTORY_DAYS * A_DAY
    then = features(by_local_hour(known_demand(history, issue_time(day, at)), first, day), at)
    since = features(by_local_hour(history[REAL], FIRST, LAST), at)
    today = str(day)
    pd.testing.assert_frame_equal(since.loc[[today]], then.loc[[today]], check_exact=True)


def test_training_uses_nothing_after_its_end(history: pd.DataFrame, model: Model) -> None:
    changed = history.copy()
    changed.loc[after(history, issue_time(DAY))] = 99_999.0
    again = Model.train(changed, issue_time(DAY))
    assert again.description == model.description
    assert again.forecast(history, DAY).equals(model.forecast(history, DAY))


# Days and gaps


@pytest.mark.parametrize(
    ("day", "hours"), [(DAY, 24), (date(2022, 3, 27), 23), (date(2021, 10, 31), 25)], ids=str
)
def test_a_forecast_has_all_hours_of_its_day(
    history: pd.DataFrame, model: Model, day: date, hours: int
) -> None:
    by_model, by_naive = model.forecast(history, day), weekly_naive(history, day)
    for forecast in (by_model, by_naive):
        assert forecast.index.equals(day_hours(day))
        assert (len(forecast), forecast.name, forecast.dtype) == (hours, MODEL, "float64")
        assert forecast.between(10_000, 60_000).all()
    naive_mape = score(by_naive, history[REAL]).mape_percent
    assert score(by_model, history[REAL]).mape_percent < 0.8 * naive_mape


@properties
@given(st.sets(st.integers(0, HISTORY_DAYS * 24 - 1), max_size=300), st.sets(st.integers(1, 49)))
def test_gaps_leave_no_gap_in_the_forecast(
    history: pd.DataFrame, model: Model, hours: set[int], days: set[int]
) -> None:
    start = DAY - HISTORY_DAYS * A_DAY
    gappy = history.loc[day_hours(start)[0] : day_hours(DAY)[0]].copy()
    gappy.iloc[sorted(hours), 0] = math.nan
    gone = [day_hours(DAY - n * A_DAY) for n in sorted(days)]
    gappy = gappy[~gappy.index.isin([hour for day in gone for hour in day])]
    try:
        forecast = model.forecast(gappy, DAY)
    except TooLittleHistoryError as error:
        assert error.days < 7 <= error.needed
        return
    assert forecast.notna().all()
    # The error of the weekly naive with all hours known is 1.19 %.
    assert score(forecast, history[REAL]).mape_percent < (1.15 if len(days) <= 5 else 6)


def test_an_empty_history_is_refused(history: pd.DataFrame, model: Model) -> None:
    for some in (history.iloc[:0], history[history.index >= day_hours(DAY)[0]]):
        with pytest.raises(TooLittleHistoryError, match=r"2022-04-12 .* 7 days, and 0 are known"):
            model.forecast(some, DAY)
        with pytest.raises(TooLittleHistoryError, match=r"weekly-naive .* 1 days, and 0 are known"):
            weekly_naive(some, DAY)
        with pytest.raises(TooLittleHistoryError, match="and 0 are known"):
            Model.train(some, issue_time(DAY))


def test_training_needs_180_days(history: pd.DataFrame) -> None:
    until = issue_time(FIRST + (TRAINING_DAYS_NEEDED + 1) * A_DAY)
    with pytest.raises(TooLittleHistoryError) as refused:
        Model.train(history.iloc[24:], until)
    assert (refused.value.days, refused.value.needed) == (179, TRAINING_DAYS_NEEDED)
    model = Model.train(history, until)
    assert model.description.days == TRAINING_DAYS_NEEDED


# Saved models


def test_a_loaded_model_forecasts_the_same(
    history: pd.DataFrame, model: Model, tmp_path: Path
) -> None:
    model.save(tmp_path)
    loaded = Model.load(tmp_path)
    assert loaded.description == model.description
    assert loaded.forecast(history, DAY).equals(model.forecast(history, DAY))
    model_file, *trees_files = sorted(tmp_path.iterdir())
    views = json.loads(model_file.read_text())["views"]
    assert sorted(view["trees"] for view in views) == [file.name for file in trees_files]
    assert all(file.read_text().startswith("tree\nversion=") for file in trees_files)


def test_a_model_describes_its_training(model: Model) -> None:
    described = model.description
    assert (described.issued_at, described.known_until) == ("12:00", "2022-04-11T12:00+02:00")
    assert (described.first_day, described.last_day) == ("2021-09-01", "2022-04-10")
    assert described.days == 222
    assert described.validation_first_day == "2022-03-14"
    assert described.validation_hours == 28 * 24 - 1 + 12  # clocks went forward
    assert 0 < described.validation_mape_percent < 5
    assert "same_hour_7_days_ago" in described.features


def test_validation_error_is_of_days_that_were_not_trained_on(
    history: pd.DataFrame, model: Model
) -> None:
    described = model.description
    held_out = date.fromisoformat(described.validation_first_day)
    before = Model.train(history, issue_time(held_out))
    days = days_between(held_out, DAY - A_DAY)
    forecasts = pd.concat([before.forecast(history, day) for day in days])
    expected = score(forecasts, known_demand(history, issue_time(DAY)))
    assert described.validation_hours == expected.hours
    assert described.validation_mape_percent == pytest.approx(expected.mape_percent)
    assert described.validation_bias_mw == pytest.approx(expected.bias_mw)


def test_a_model_saved_by_an_earlier_release_is_loaded(
    history: pd.DataFrame, tmp_path: Path
) -> None:
    """The files as release 0.1.0 wrote them, with coefficients that are all zero."""
    columns = features(by_local_hour(history[REAL], FIRST, LAST)).columns.tolist()
    nothing = lightgbm.Dataset(np.zeros((40, len(columns))), np.zeros(40), feature_name=columns)
    trees = lightgbm.train({"verbosity": -1}, nothing, num_boost_round=1)
    (tmp_path / "trees-0123456789abcdef.txt").write_text(trees.model_to_string())
    zeros = [0.0] * len(columns)
    view = {
        "trees": "trees-0123456789abcdef.txt",
        "calendar": {"mean": [0.0], "scale": [1.0], "coefficients": [[0.0] * 24]},
        "regression": {
            "mean": zeros,
            "scale": [1.0] * len(columns),
            "low": zeros,
            "high": zeros,
            "coefficients": [[0.01, *zeros]] * 24,
        },
    }
    description = {
        "issued_at": "12:00",
        "known_until": "2022-04-11T12:00+02:00",
        "first_day": "2021-09-01",
        "last_day": "2022-04-10",
        "days": 222,
        "validation_first_day": "2022-03-14",
        "validation_mape_percent": 0.9,
        "validation_bias_mw": 1.5,
        "validation_hours": 683,
        "features": columns,
        "version": 2,
    }
    content = {"description": description, "views": [view, view]}
    (tmp_path / "model.json").write_text(json.dumps(content))
    loaded = Model.load(tmp_path)
    assert vars(loaded.description) == description
    # Of demand relative to its level, the intercept is 0.01 and the trees are 0.
    level = np.log(known_demand(history, issue_time(DAY)).iloc[-7 * 24 :]).mean()
    expected = [float(np.exp(level + 0.005))] * 24
    assert loaded.forecast(history, DAY).tolist() == pytest.approx(expected)


def test_a_model_of_another_version_is_refused(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    file = tmp_path / "model.json"
    file.write_text(file.read_text().replace('"version": 2', '"version": 99'))
    with pytest.raises(UnknownModelError, match="of version 99, and this is version 2"):
        Model.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Model.load(tmp_path / "elsewhere")


@pytest.mark.parametrize("damaged", ["model.json", "trees-*.txt"])
def test_a_damaged_model_is_refused(model: Model, tmp_path: Path, damaged: str) -> None:
    model.save(tmp_path)
    file, *_ = tmp_path.glob(damaged)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UnknownModelError, match="is unreadable"):
        Model.load(tmp_path)


def test_a_saved_model_replaces_the_one_before(model: Model, tmp_path: Path) -> None:
    (tmp_path / "trees-of-an-older-one.txt").write_text("tree")
    model.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_forecast_package_does_not_import_dagster() -> None:
    code = "import sys, demand_assets.forecast; sys.exit('dagster' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# The weekly naive


def test_weekly_naive_is_the_same_local_hour_a_week_before() -> None:
    days = days_between(date(2021, 10, 1), date(2021, 11, 30))
    hours = pd.date_range(day_hours(days[0])[0], day_hours(days[-1])[-1], freq="h")
    local = hours.tz_convert(TIME_ZONE.key)
    real = pd.Series(local.day * 100.0 + local.hour, index=hours)

    def naive(month: int, day: int) -> list[float]:
        return weekly_naive(real, date(2021, month, day)).tolist()

    assert naive(10, 28) == [2100.0 + hour for hour in range(24)]
    assert naive(10, 31) == [2400.0, 2401, 2402, 2402, *(2400 + hour for hour in range(3, 24))]
    assert naive(11, 2) == [2600.0 + hour for hour in range(24)]
    assert naive(11, 7) == [3100.0 + hour for hour in range(24)]
    real[day_hours(date(2021, 10, 21))[:3]] = math.nan
    assert naive(10, 28)[:4] == [1400.0, 1401, 1402, 2103]


def test_weekly_naive_has_the_hour_that_a_clock_change_removed_a_week_before(
    history: pd.DataFrame,
) -> None:
    forecast = weekly_naive(history, date(2022, 4, 3))
    same = history[REAL].reindex(day_hours(date(2022, 4, 3)) - pd.Timedelta(days=7))
    assert forecast.iloc[3:].tolist() == same.iloc[3:].tolist()
    assert forecast.iloc[2] == history[REAL][day_hours(date(2022, 3, 20))[2]]


# The calendar


def test_holiday_share_is_the_part_of_the_population_with_a_holiday() -> None:
    assert holiday_share(date(2024, 10, 12)) == pytest.approx(1)
    assert holiday_share(date(2023, 5, 2)) == pytest.approx(0.16, abs=0.02)  # Madrid alone
    assert holiday_share(date(2023, 5, 3)) == 0


def test_calendar_features_distinguish_kinds_of_days() -> None:
    days = pd.date_range("2021-11-30", "2022-04-20")
    unknown = pd.DataFrame(math.nan, index=days, columns=range(24))
    table = features(unknown).xs(12, level="hour")

    def days_with(feature: str, least: float = 0.9) -> list[str]:
        return [f"{day:%m-%d}" for day in table.index[table[feature] >= least]]

    assert days_with("bridge_day") == ["12-07", "01-07"]
    assert days_with("holiday") == ["12-06", "12-08", "12-25", "01-01", "01-06", "04-15"]
    assert days_with("good_friday") == ["04-15"]
    assert days_with("days_after_christmas") == ["12-26", "12-27", "12-28", "12-29", "12-30"]
    assert table["summer_time"].loc["2022-03-26":"2022-03-27"].tolist() == [0.0, 1.0]
    assert days_with("clocks_changed_last_week")[::6] == ["03-27", "04-02"]


# Scores


def test_score_uses_hours_with_forecast_and_demand() -> None:
    hours = day_hours(DAY)[:5]
    real = pd.Series([100.0, 200.0, math.nan, 400.0], index=hours[:4])
    forecast = pd.Series([110.0, 190.0, 300.0, math.nan, 500.0], index=hours)
    result = score(forecast, real)
    assert (result.mape_percent, result.bias_mw, result.hours) == (pytest.approx(7.5), 0.0, 2)
    assert score(forecast + 1, real).bias_mw == 1.0
    assert score(forecast, real.replace(100.0, 0.0)).mape_percent == pytest.approx(5)
    nothing = score(forecast.iloc[:0], real)
    assert nothing.hours == 0 and math.isnan(nothing.mape_percent) and math.isnan(nothing.bias_mw)
