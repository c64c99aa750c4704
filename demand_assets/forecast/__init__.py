"""The forecast of the next day's demand, hour by hour, at noon: features, model and score.

Pure functions over the stored hourly frame; no Dagster, no store and no API. A forecast is MW over
UTC hours.

>>> model = Model.train(history, issue_time(date(2023, 2, 1)))  # doctest: +SKIP
>>> model.forecast(history, date(2023, 2, 1))  # doctest: +SKIP
"""

from demand_assets.forecast.features import (
    HISTORY_DAYS,
    TooLittleHistoryError,
    holiday_share,
    issue_time,
)
from demand_assets.forecast.model import (
    TRAINED_MODEL,
    TRAINING_DAYS_NEEDED,
    LightGBMMissingError,
    Model,
    UnknownModelError,
    why_no_model,
)
from demand_assets.forecast.score import WEEKLY_NAIVE, score, weekly_naive

__all__ = [
    "HISTORY_DAYS",
    "TRAINED_MODEL",
    "TRAINING_DAYS_NEEDED",
    "WEEKLY_NAIVE",
    "LightGBMMissingError",
    "Model",
    "TooLittleHistoryError",
    "UnknownModelError",
    "holiday_share",
    "issue_time",
    "score",
    "weekly_naive",
    "why_no_model",
]
