"""The next day's demand, hour by hour, forecast at noon: features, model and score.

It knows nothing of Dagster. In: the stored hourly frame. Out: MW over UTC hours, or a typed error.

>>> model = Model.train(history, issue_time(date(2023, 2, 1)))  # doctest: +SKIP
>>> model.forecast(history, date(2023, 2, 1))  # doctest: +SKIP
"""

from demand_assets.forecast.features import HISTORY_DAYS, NOON, features, holiday_share, issue_time
from demand_assets.forecast.model import (
    FORECAST_MODEL,
    TRAINED_MODEL,
    TRAINING_DAYS_NEEDED,
    WEEKLY_NAIVE,
    Description,
    Model,
    TooLittleHistoryError,
    UnknownModelError,
    weekly_naive,
)
from demand_assets.forecast.score import Score, score

__all__ = [
    "FORECAST_MODEL",
    "HISTORY_DAYS",
    "NOON",
    "TRAINED_MODEL",
    "TRAINING_DAYS_NEEDED",
    "WEEKLY_NAIVE",
    "Description",
    "Model",
    "Score",
    "TooLittleHistoryError",
    "UnknownModelError",
    "features",
    "holiday_share",
    "issue_time",
    "score",
    "weekly_naive",
]
