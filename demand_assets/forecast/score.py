"""How good forecasts are: MAPE and bias, and the weekly naive as the baseline to compare with."""

from dataclasses import dataclass
from datetime import date, time, timedelta

import numpy as np
import pandas as pd

from demand_assets.demand.quality import Finding
from demand_assets.forecast.features import (
    HISTORY_DAYS,
    NOON,
    TooLittleHistoryError,
    by_local_hour,
    issue_time,
    known_demand,
    local_hours,
    on_utc_hours,
)
from demand_assets.grid import FORECAST, MODEL, REAL

WEEKLY_NAIVE = "weekly-naive"
"""What made a forecast: this, or ``TRAINED_MODEL``."""
SCORED_COLUMNS = {"model": MODEL, "operator": FORECAST, "naive": WEEKLY_NAIVE}
"""The forecasts that are scored, by their names in metadata."""
CHECKED_DAYS = 14
HOURS_NEEDED = 7 * 24
"""With fewer hours the comparison is left to chance."""


@dataclass(frozen=True)
class Score:
    """The error of a forecast over the hours in which it and the measured demand are known.

    Hours of 0 MW are left out: they are errors, and have no percentage.
    """

    mape_percent: float
    """Mean absolute percentage error; NaN without hours."""
    bias_mw: float
    """Mean of forecast minus measured demand; NaN without hours."""
    hours: int


def score(forecast: pd.Series, real: pd.Series) -> Score:
    """Compare a forecast with the measured demand, both in MW over UTC hours."""
    error = (forecast - real.where(real > 0)).dropna()
    share = error.abs() / real.reindex(error.index)
    return Score(float(share.mean() * 100), float(error.mean()), len(error))


def weekly_naive(history: pd.DataFrame | pd.Series, day: date, at: time = NOON) -> pd.Series:
    """The demand of the same weekday a week before, at the same local hour.

    An hour that is unknown or unusual there is taken from 2, 3 or 4 weeks before. Arguments and
    result are those of ``Model.forecast``; ``at`` is the Madrid time at which the forecast is made.

    Raises:
        TooLittleHistoryError: an hour is unknown in all four weeks.
    """
    real = known_demand(history, issue_time(day, at))
    demand = by_local_hour(real, day - timedelta(days=HISTORY_DAYS), day).to_numpy()
    weeks = demand[[-1 - days for days in (7, 14, 21, 28)]]
    known = ~np.isnan(weeks)
    weeks_known = known[:, local_hours(day)].sum(axis=0)
    if not weeks_known.all():
        what = f"the {WEEKLY_NAIVE} forecast of {day} from the 4 weeks before"
        raise TooLittleHistoryError(what, 0, 1)
    return on_utc_hours(weeks[known.argmax(axis=0), np.arange(24)], day)


def describe_scores(hours: pd.DataFrame) -> dict[str, float]:
    """MAPE in % and bias in MW of each forecast of ``SCORED_COLUMNS`` that has a known hour."""
    described: dict[str, float] = {}
    for name, column in SCORED_COLUMNS.items():
        result = score(hours[column], hours[REAL])
        if result.hours:
            described[f"{name}_mape_percent"] = result.mape_percent
            described[f"{name}_bias_mw"] = result.bias_mw
    return described


def check_model(hours: pd.DataFrame) -> Finding:
    """Whether the model's MAPE of the last days is at most that of the weekly naive.

    Only hours in which both are known count.
    """
    known = hours[[REAL, MODEL, WEEKLY_NAIVE]].dropna()
    model, naive = (score(known[column], known[REAL]) for column in (MODEL, WEEKLY_NAIVE))
    if model.hours < HOURS_NEEDED:
        few = f"{model.hours} hours were forecast by the model in the last {CHECKED_DAYS} days"
        return Finding(True, f"{few}; the check needs {HOURS_NEEDED}.")
    return Finding(
        passed=model.mape_percent <= naive.mape_percent,
        text=f"MAPE {model.mape_percent:.2f} % of the model, {naive.mape_percent:.2f} % of"
        f" {WEEKLY_NAIVE}, over {model.hours} hours of the last {CHECKED_DAYS} days.",
        figures={
            "model_mape_percent": model.mape_percent,
            "naive_mape_percent": naive.mape_percent,
            "hours": model.hours,
        },
    )
