"""The measured demand before a forecast: what is known at its issue time, and on which clock.

Tables have one row per Madrid day and 24 columns for the local hours, because people, and so
demand, follow the local clock. Where clocks go forward, hour 2 is missing; where they go back, it
is the mean of the two. What a model learns from these tables belongs in `features` and `model`.
"""

from datetime import date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from demand_assets.demand.days import day_hours, utc_index
from demand_assets.grid import MODEL, REAL, TIME_ZONE

Array = npt.NDArray[np.float64]

NOON = time(12)


class TooLittleHistoryError(ValueError):
    """There are too few days of demand. The text says how many are known and how many needed."""

    def __init__(self, what: str, days: int, needed: int) -> None:
        super().__init__(f"{what} needs demand of {needed} days, and {days} are known")
        self.days, self.needed = days, needed


def issue_time(day: date, at: time = NOON) -> datetime:
    """When the forecast of a day is made: at this Madrid time on the day before."""
    return datetime.combine(day - timedelta(days=1), at, TIME_ZONE)


def known_demand(history: pd.DataFrame | pd.Series, until: datetime) -> pd.Series:
    """The measured demand, MW over UTC hours, of the hours that have ended by an instant.

    The operator's forecast is not used: it is revised until minutes before its hour, and only the
    last revision is stored. Zeros are left out, as they are errors and have no logarithm.
    """
    real = history[REAL] if isinstance(history, pd.DataFrame) else history
    return real[(real.index <= pd.Timestamp(until) - pd.Timedelta(hours=1)) & (real > 0)]


def days_known(real: pd.Series) -> pd.DatetimeIndex:
    """The Madrid days of which more than 12 hours are known."""
    days = utc_index(real).tz_convert(TIME_ZONE.key).tz_localize(None).normalize()
    hours = real.groupby(days).size()
    return pd.DatetimeIndex(hours.index[hours > 12])


def by_local_hour(real: pd.Series, first: date, last: date) -> pd.DataFrame:
    """Demand by Madrid day, first to last, and local hour: MW, days x 24, NaN where unknown."""
    local = utc_index(real).tz_convert(TIME_ZONE.key).tz_localize(None)
    demand = real.groupby([local.normalize(), local.hour]).mean().unstack()
    return demand.reindex(index=pd.date_range(first, last), columns=range(24)).astype("float64")


def on_utc_hours(mw: Array, day: date) -> pd.Series:
    """24 values by local hour as the UTC hours of a day, named ``ForecastModel``.

    Where clocks go back, both hours 2 get the same value.
    """
    index = day_hours(day)
    index.freq = None  # type: ignore[misc]
    return pd.Series(mw[local_hours(day)], index, name=MODEL)


def local_hours(day: date) -> np.ndarray:
    """The local hour, 0 to 23, of each UTC hour of a Madrid day."""
    return day_hours(day).tz_convert(TIME_ZONE.key).hour.to_numpy()
