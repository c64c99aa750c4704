"""What is known of a day when it is forecast: the calendar, and the demand measured until then.

Tables have one row per Madrid day and 24 columns for the local hours, because people, and so
demand, follow the local clock. Where clocks go forward, hour 2 is missing; where they go back, it
is the mean of the two. How a model learns from the features belongs in `model`.
"""

from datetime import date, datetime, time, timedelta
from functools import lru_cache

import holidays
import numpy as np
import numpy.typing as npt
import pandas as pd

from demand_assets.demand.days import day_hours, utc_index
from demand_assets.grid import FEASTS, HOLIDAY_COUNTRY, MODEL, PERIODS, POPULATION, REAL, TIME_ZONE

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NOON = time(12)
HISTORY_DAYS = 49
"""Days before a day that its features use: four weeks, and three more to fill gaps from."""
WEEKS_FOR_GAPS = 3
LARGEST_DEVIATION = 0.5
"""Of log demand below its median of four weeks: 0.45 on holidays, 0.7 and more in a blackout."""
LARGEST_CHANGE = 0.18
"""Of that deviation from one hour to the next: at most 0.12 on 911 recorded days."""
BACK = 0.08
"""Demand is back when its deviation is as before, but for so much."""
LONGEST_RETURN = 36
"""Hours after which demand counts as back. A holiday that follows would delay its return."""


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
    """Demand by Madrid day, first to last, and local hour: MW, days x 24.

    NaN where it is unknown, or unusual, see ``unusual_hours``.
    """
    local = utc_index(real).tz_convert(TIME_ZONE.key).tz_localize(None)
    demand = real.groupby([local.normalize(), local.hour]).mean().unstack()
    demand = demand.reindex(index=pd.date_range(first, last), columns=range(24)).astype("float64")
    return demand.mask(unusual_hours(demand.to_numpy()))


def unusual_hours(demand: Array) -> BoolArray:
    """The hours of a frozen feed, and of a blackout until demand is back; days x 24, MW.

    They do not predict the days that follow. Measured demand never has the same mean in two hours
    running; the hours beside them may be frozen in part. A blackout is a deviation that never
    occurs otherwise, or a sudden change of the deviation. But for the hours before a frozen one,
    only earlier demand decides.
    """
    mw = demand.ravel()
    same = mw[1:] == mw[:-1]
    frozen = np.append(False, same) | np.append(same, False)
    with np.errstate(divide="ignore"):
        log = np.log(demand)
    deviation = (log - _median_of_4_weeks(log)).ravel()
    step = np.diff(log.ravel(), prepend=np.nan).reshape(log.shape)
    change = (step - _median_of_4_weeks(step)).ravel()
    far = deviation < -LARGEST_DEVIATION
    unusual: BoolArray = frozen | np.append(False, frozen[:-1]) | np.append(frozen[1:], False)
    back = 0
    for first in np.flatnonzero(far | (np.abs(change) > LARGEST_CHANGE)).tolist():
        if first > back:
            back = _hour_of_return(deviation, far, first)
            unusual[first:back] = True
    unusual = unusual.reshape(demand.shape)
    return unusual


def _hour_of_return(deviation: Array, far: BoolArray, first: int) -> int:
    """The first hour, from an unusual one on, at which demand is back where it was before it."""
    known = deviation[max(first - 24, 0) : first]
    known = known[~np.isnan(known)]
    before = known[-1] if len(known) else 0.0
    if abs(deviation[first]) < abs(before):
        return first  # it returns to what is usual
    last = hour = first
    while hour < len(deviation) and hour - last <= LONGEST_RETURN:
        if abs(deviation[hour] - before) < BACK:
            break
        last = hour if far[hour] else last
        hour += 1
    return hour


def on_utc_hours(mw: Array, day: date) -> pd.Series:
    """24 values by local hour as the UTC hours of a day, named ``ForecastModel``.

    Where clocks go back, both hours 2 get the same value.
    """
    return pd.Series(mw[local_hours(day)], day_hours(day), name=MODEL)


def local_hours(day: date) -> np.ndarray:
    """The local hour, 0 to 23, of each UTC hour of a Madrid day."""
    return day_hours(day).tz_convert(TIME_ZONE.key).hour.to_numpy()


def features(demand: pd.DataFrame, at: time = NOON) -> pd.DataFrame:
    """The features of each hour of each day, as known when the day's forecast is made.

    Demand is in logarithms relative to its level, the mean of the last seven days. A feature of
    0.02 means 2 % more, so that a model trained in one year fits the next.

    Args:
        demand: days x 24, MW, from ``by_local_hour``; the features of the first ``HISTORY_DAYS``
            days have less history than the others.
        at: Madrid time on the day before at which forecasts are made. Of that day only the hours
            that have ended by then are used, of the day itself and later days none.

    Returns:
        One float64 row per day and local hour, index levels ``day`` and ``hour``, NaN where
        unknown. Column ``level`` is the logarithm of MW.
    """
    days = pd.DatetimeIndex(demand.index)
    calendar = _calendar(days)
    table = {**_clock(days), **calendar, **_recent_demand(demand, at, calendar)}
    index = pd.MultiIndex.from_product([days, range(24)], names=["day", "hour"])
    shape = (len(days), 24)
    return pd.DataFrame(
        {name: np.broadcast_to(values, shape).ravel() for name, values in table.items()}, index
    )


def _clock(days: pd.DatetimeIndex) -> dict[str, Array]:
    """The hour, the season, and summer time, which shifts daylight against the local hour."""
    year = 2 * np.pi * _column(days.dayofyear) / 365.25
    waves = (("sin", np.sin), ("cos", np.cos))
    summer_time = _summer_time(days)
    return {
        "hour_of_day": np.arange(24.0)[None, :],
        "day_of_year": _column(days.dayofyear),
        **{f"year_{name}_{n}": wave(n * year) for n in (1, 2, 3) for name, wave in waves},
        "summer_time": summer_time,
        "clocks_changed_last_week": summer_time - _summer_time(days - pd.Timedelta(days=7)),
    }


def _summer_time(days: pd.DatetimeIndex) -> Array:
    noon = days + pd.Timedelta(hours=12)
    utc = noon.tz_localize(TIME_ZONE.key).tz_convert(None)
    return _column((noon - utc) == pd.Timedelta(hours=2))


def _calendar(days: pd.DatetimeIndex) -> dict[str, Array]:
    """Weekdays, holidays and periods; a holiday counts as the share of people who have it."""
    margin = 9  # the features of a day use the 8 days before it, and their neighbours
    around = pd.date_range(days[0] - pd.Timedelta(days=margin), days[-1] + pd.Timedelta(days=2))
    weekday = around.weekday.to_numpy()
    share = np.array([holiday_share(day.date()) for day in around])
    holiday = np.where(weekday == 6, 0.0, share)
    off = np.maximum(holiday, weekday >= 5)
    bridge = (1 - off) * _shift(off, 1, 0.0) * _shift(off, -1, 0.0)

    def before(n: int, values: Array) -> Array:
        """The values of the n-th day before each day; of the n-th after it if negative."""
        return _column(values[margin - n :][: len(days)])

    workday = _column(days.weekday < 5)
    table = {
        "weekday": _column(days.weekday),
        **{f"weekday_{n}": _column(days.weekday == n) for n in range(7)},
        "holiday": before(0, holiday),
        "holiday_on_saturday": before(0, holiday) * _column(days.weekday == 5),
        "bridge_day": before(0, bridge),
        "off_yesterday": before(1, off),
        "off_tomorrow": before(-1, off),
        "holiday_yesterday": before(1, holiday),
        "holiday_tomorrow": before(-1, holiday),
        "working_after_holiday": before(1, holiday) * workday,
        "working_before_holiday": before(-1, holiday) * workday,
        **{f"holiday_{n}_days_ago": before(n, holiday) for n in (2, 7, 8)},
        "bridge_yesterday": before(1, bridge),
        "bridge_7_days_ago": before(7, bridge),
        "holidays_last_week": sum((before(n, holiday) for n in range(1, 8)), np.zeros(1)),
    }
    after = {feast: _days_after(days, feast) for feast in FEASTS}
    for name, (feast, first, last) in PERIODS.items():
        table[name] = _column((after[feast] >= first) & (after[feast] <= last))
    return table


def calendar_features(days: pd.DatetimeIndex) -> Array:
    """Weekdays, holidays and periods only: days x features."""
    return np.column_stack(list(_calendar(days).values()))


def _recent_demand(demand: pd.DataFrame, at: time, calendar: dict[str, Array]) -> dict[str, Array]:
    """Past days and weeks at the same hour, yesterday's morning, level and trend."""
    known = np.log(demand.to_numpy())
    drift = _drift(known)
    for _ in range(WEEKS_FOR_GAPS):
        # Gaps are filled from earlier values only, so that no later demand leaks into a feature.
        known = np.where(np.isnan(known), _shift(known, 7) + drift, known)
    lag = {n: _shift(known, n) for n in (*range(1, 15), 21, 28)}
    lag[1][:, at.hour :] = np.nan
    last_week = [lag[1], *(lag[n] for n in range(2, 8)), lag[8][:, at.hour :]]
    level = _day_mean(*last_week)
    change = {n: lag[n] - lag[n + 7] for n in range(1, 8)}
    last_hours = slice(max(at.hour - 4, 0), at.hour)
    return {
        "level": level,
        **{f"same_hour_{n}_days_ago": lag[n] - level for n in (1, 2, 3, 6, 7, 14, 28)},
        "same_hour_of_4_weeks": _mean_of_4_weeks(known) - level,
        "same_hour_of_similar_day": _similar_day(calendar, lag) - level,
        **{
            f"yesterday_at_{hour}": lag[1][:, hour : hour + 1] - level
            for hour in range(at.hour - 1, -1, -3)
        },
        "morning_against_week_before": _day_mean(change[1]),
        "night_against_week_before": _day_mean(change[1][:, :6]),
        "last_hours_against_week_before": _day_mean(change[1][:, last_hours]),
        "morning_against_day_before": _day_mean(lag[1] - lag[2]),
        "night_against_day_before": _day_mean((lag[1] - lag[2])[:, :6]),
        **{f"{n}_days_ago_against_week_before": _day_mean(change[n]) for n in (2, 3)},
        "evening_2_days_ago_against_week_before": _day_mean(change[2][:, 12:]),
        "same_hour_2_days_ago_against_week_before": change[2],
        "trend": _day_mean(*(change[n] for n in range(2, 8))),
    }


def _mean_of_4_weeks(values: Array) -> Array:
    """The mean of the same hour on the same weekday of the four weeks before, where known."""
    return _known_mean(np.stack([_shift(values, n) for n in (7, 14, 21, 28)]), axis=0)


def _median_of_4_weeks(values: Array) -> Array:
    """The median of the same hour on the same weekday of the four weeks before.

    NaN where fewer than two of them are known: a single one may be a holiday.
    """
    weeks = np.sort(np.stack([_shift(values, n) for n in (7, 14, 21, 28)]), axis=0)  # NaN last
    count = 4 - np.isnan(weeks).sum(axis=0, keepdims=True)
    low, high = (np.maximum(count - n, 0) // 2 for n in (1, 0))
    middle = [np.take_along_axis(weeks, n, axis=0)[0] for n in (low, np.minimum(high, 3))]
    return np.where(count[0] > 1, (middle[0] + middle[1]) / 2, np.nan)


def _drift(known: Array) -> Array:
    """For each hour, the mean change against a week before of the last 24 known hours before it.

    It is 0 when no hour was known for two days.
    """
    change = pd.Series((known - _shift(known, 7)).ravel())
    newest = change.dropna().rolling(24, min_periods=1).mean().reindex(change.index)
    return newest.shift(1).ffill(limit=48).fillna(0.0).to_numpy().reshape(known.shape)


def _similar_day(calendar: dict[str, Array], lag: dict[int, Array]) -> Array:
    """The demand of the last day of the same kind among the 14 days before, except yesterday.

    The kinds are working day, Saturday, and Sunday or holiday; bridge days are of none, and are
    skipped. Without such a day it is the demand of a week before.
    """
    holiday = (calendar["holiday"] >= 0.5) | (calendar["weekday"] == 6)
    kind = np.where(holiday, 2.0, calendar["weekday"] == 5)
    ordinary = np.where(calendar["bridge_day"] < 0.5, kind, np.nan)
    similar = lag[7]
    for n in range(14, 1, -1):
        similar = np.where(_shift(ordinary, n) == kind, lag[n], similar)
    return similar


def holiday_share(day: date) -> float:
    """The share of the peninsula's population that has a public holiday, 0 to 1."""
    return _holiday_shares(day.year).get(day, 0.0)


# A pure function of the calendar: 40 ms a year, and requested for each day of a history.
@lru_cache
def _holiday_shares(year: int) -> dict[date, float]:
    """The share of the population for each day of a year that is a holiday in some region."""
    shares: dict[date, float] = {}
    for region, people in POPULATION.items():
        for day in holidays.country_holidays(HOLIDAY_COUNTRY, subdiv=region, years=year):
            shares[day] = shares.get(day, 0.0) + people / sum(POPULATION.values())
    return shares


def _days_after(days: pd.DatetimeIndex, feast: str) -> Array:
    """Days since the nearest date of a feast; negative before it."""
    years = range(days[0].year - 1, days[-1].year + 2)
    feasts = pd.DatetimeIndex([FEASTS[feast](year) for year in years])
    after = (days.to_numpy()[:, None] - feasts.to_numpy()[None, :]) / np.timedelta64(1, "D")
    return np.asarray(after[np.arange(len(days)), np.abs(after).argmin(axis=1)])


def _column(values: npt.ArrayLike) -> Array:
    return np.asarray(values, dtype="float64")[:, None]


def _shift(values: Array, days: int, beyond: float = np.nan) -> Array:
    """The values of so many days before each day, of days after it if negative; else ``beyond``."""
    shifted = np.roll(values, days, axis=0)
    shifted[slice(days) if days > 0 else slice(days, None)] = beyond
    return shifted


def _known_mean(values: Array, axis: int) -> Array:
    """The mean of the known values, NaN where there is none: ``np.nanmean`` without warning."""
    known = ~np.isnan(values)
    counts = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _day_mean(*values: Array) -> Array:
    """One mean per day, over all hours of all arrays."""
    return _known_mean(np.concatenate(values, axis=1), axis=1)[:, None]
