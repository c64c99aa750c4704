"""The forecast on recorded days: better than weekly-naive, and robust against gaps and outliers."""

import math
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from demand_assets.demand.days import day_hours, days_between
from demand_assets.demand.hourly import hourly_frame
from demand_assets.forecast import Model, issue_time, score, weekly_naive
from demand_assets.forecast.features import by_local_hour, unusual_hours
from demand_assets.forecast.score import Score
from demand_assets.grid import REAL
from demand_assets.redata import read_samples
from demand_assets_tests.conftest import LONG_AFTER, recorded_answer

A_DAY = timedelta(days=1)


def test_model_beats_weekly_naive_on_recorded_days(
    recordings: Path,
) -> None:
    """Three weeks, one of them after a holiday, with nine months of history."""
    first, scored = date(2022, 2, 1), days_between(date(2022, 11, 7), date(2022, 11, 27))
    frames = [
        hourly_frame(read_samples(recorded_answer(recordings, day), day), day, now=LONG_AFTER)
        for day in days_between(first, scored[-1])
    ]
    history = pd.concat(frames)
    model = Model.train(history, issue_time(scored[0]))

    def score_with(known: Callable[[date], pd.DataFrame]) -> Score:
        return score(pd.concat([model.forecast(known(d), d) for d in scored]), history[REAL])

    by_model = score_with(lambda _: history)
    by_naive = score(pd.concat([weekly_naive(history, d) for d in scored]), history[REAL])
    assert by_model.hours == by_naive.hours == 21 * 24
    assert by_model.mape_percent < 0.6 * by_naive.mape_percent
    assert by_model.mape_percent < 3
    assert abs(by_model.bias_mw) < 500

    def without_the_last_morning(day: date) -> pd.DataFrame:
        return history[~history.index.isin(day_hours(day - A_DAY))]

    def after_a_blackout(day: date, days: int = 2) -> pd.DataFrame:
        """A blackout of most of the peninsula from noon on, and demand back at noon of the next
        day."""
        changed = history.copy()
        dark = pd.date_range(day_hours(day - days * A_DAY)[12], periods=24, freq="h")
        share = [0.7, 0.4, 0.41, 0.4, 0.42, 0.43, *(0.45 + 0.03 * n for n in range(18))]
        changed.loc[dark, REAL] *= share
        return changed

    def after_a_frozen_morning(day: date) -> pd.DataFrame:
        changed = history.copy()
        frozen = day_hours(day - A_DAY)[3:12]
        changed.loc[frozen, REAL] = changed.loc[frozen[0], REAL]
        return changed

    last_morning_unknown = score_with(without_the_last_morning).mape_percent
    assert last_morning_unknown < 1.5 * by_model.mape_percent
    # The last morning, too, is in the dark or frozen.
    assert score_with(after_a_blackout).mape_percent < 1.2 * last_morning_unknown
    assert score_with(after_a_frozen_morning).mape_percent < 1.1 * last_morning_unknown
    for days in (3, 7):
        after = score_with(partial(after_a_blackout, days=days))
        assert after.mape_percent < 1.1 * by_model.mape_percent

    naive = pd.concat([weekly_naive(after_a_blackout(d, 7), d) for d in scored])
    assert score(naive, history[REAL]).mape_percent < 1.3 * by_naive.mape_percent


def test_training_does_without_unusual_hours(recordings: Path) -> None:
    days = days_between(date(2022, 2, 1), date(2022, 11, 7))
    frames = [
        hourly_frame(read_samples(recorded_answer(recordings, day), day), day, now=LONG_AFTER)
        for day in days
    ]
    history = pd.concat(frames)
    assert not unusual_hours(by_local_hour(history[REAL], days[0], days[-1]).to_numpy()).any()
    damaged, unknown = history.copy(), history.copy()
    for place, frozen in enumerate(days[40::50]):
        stretch = day_hours(frozen)[3 + place : 14]
        damaged.loc[stretch, REAL] = damaged.loc[stretch[0], REAL]
        unknown.loc[day_hours(frozen)[2 + place : 15], REAL] = math.nan
    until = issue_time(days[-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("demand_assets.forecast.model.TREES", 50)
        forecast = Model.train(damaged, until).forecast(damaged, days[-1])
        expected = Model.train(unknown, until).forecast(unknown, days[-1])
    pd.testing.assert_series_equal(forecast, expected)
