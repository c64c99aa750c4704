"""The forecast on recorded days: better than weekly-naive, and robust against gaps and outliers."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pandas as pd

from demand_assets.demand.days import day_hours, days_between
from demand_assets.demand.hourly import hourly_frame
from demand_assets.forecast import Model, issue_time, score, weekly_naive
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

    def after_a_blackout(day: date) -> pd.DataFrame:
        """A blackout of most of the peninsula from noon to midnight, two days before the day."""
        changed = history.copy()
        changed.loc[day_hours(day - 2 * A_DAY)[12:], REAL] = 12_000.0
        return changed

    assert score_with(without_the_last_morning).mape_percent < 1.5 * by_model.mape_percent
    assert score_with(after_a_blackout).mape_percent < 1.1 * by_model.mape_percent
