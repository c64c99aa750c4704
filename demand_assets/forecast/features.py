"""What is known of a day when it is forecast: the calendar, and the demand measured until then.

Everything here is laid out on Madrid's clock: a row per day, 24 columns for the local hours, which
is how people, and so demand, keep time. Where clocks go forward, hour 2 is missing; where they go
back, it is the mean of the two.
"""

from datetime import date, datetime, time, timedelta
from functools import lru_cache

import holidays
import numpy as np
import numpy.typing as npt
import pandas as pd

from demand_assets.grid import FEASTS, HOLIDAY_COUNTRY, PERIODS, POPULATION, REAL, TIME_ZONE

Array = npt.NDArray[np.float64]

NOON = time(12)
HISTORY_DAYS = 49
"""Days before a day that its features look at: four weeks, and three more to fill gaps from."""
FILLED_FROM_WEEKS = 3
MOST_UNUSUAL = 0.5
"""Of an hour's logarithm against the four weeks before; a blackout is 0.7 below, Christmas 0.45."""


def issue_time(day: date, at: time = NOON) -> datetime:
    """When a day's forecast is made: at this time of Madrid on the day before."""
    return datetime.combine(day - timedelta(days=1), at, TIME_ZONE)


def known_demand(history: pd.DataFrame | pd.Series, until: datetime) -> pd.Series:
    """The measured demand, MW over UTC hours, of the hours that have ended by an instant.

    The operator's forecast is left aside: it is revised until minutes before its hour, and what
    is stored is the last revision. A zero is no demand, and has no logarithm.
    """
    real = history[REAL] if isinstance(history, pd.DataFrame) else history
    return real[(real.index <= pd.Timestamp(until) - pd.Timedelta(hours=1)) & (real > 0)]


def by_local_hour(real: pd.Series, first: date, last: date) -> pd.DataFrame:
    """Demand by Madrid day, from first to last, and local hour: MW, days x 24, NaN if unknown."""
    assert isinstance(real.index, pd.DatetimeIndex)
    local = real.index.tz_convert(TIME_ZONE.key).tz_localize(None)
    demand = real.groupby([local.normalize(), local.hour]).mean().unstack()
    return demand.reindex(index=pd.date_range(first, last), columns=range(24)).astype("float64")


def features(demand: pd.DataFrame, at: time = NOON) -> pd.DataFrame:
    """The features of each hour of each day, as known when the day's forecast is made.

    Demand is in logarithms, and relative to its level: the mean over the last seven days known.
    So a feature of 0.02 says "2 % more", and a model learnt in one year fits the next.

    Args:
        demand: days x 24, MW, as ``by_local_hour`` gives it; features of the first
            ``HISTORY_DAYS`` know less than those that follow.
        at: Madrid time on the day before at which forecasts are made. Of that day only hours
            that have ended by then are looked at, of the day itself and of later ones none.

    Returns:
        One row per day and local hour, index levels ``day`` and ``hour``, all float64. Column
        ``level`` is the logarithm of MW. What is unknown is NaN.
    """
    days = pd.DatetimeIndex(demand.index)
    table = {**_clock(days), **_calendar(days), **_recent_demand(demand, at)}
    index = pd.MultiIndex.from_product([days, range(24)], names=["day", "hour"])
    shape = (len(days), 24)
    return pd.DataFrame(
        {name: np.broadcast_to(values, shape).ravel() for name, values in table.items()}, index
    )


def _clock(days: pd.DatetimeIndex) -> dict[str, Array]:
    """The hour and the season; clock changes move the sun, and with it demand, against the hour."""
    year = 2 * np.pi * _column(days.dayofyear) / 365.25
    summer_time = _summer_time(days)
    return {
        "hour_of_day": np.arange(24.0)[None, :],
        "day_of_year": _column(days.dayofyear),
        **{
            f"year_{name}_{n}": wave(n * year)
            for n in (1, 2, 3)
            for name, wave in (("sin", np.sin), ("cos", np.cos))
        },
        "summer_time": summer_time,
        "clocks_changed_last_week": summer_time - _summer_time(days - pd.Timedelta(days=7)),
    }


def _summer_time(days: pd.DatetimeIndex) -> Array:
    noon = days + pd.Timedelta(hours=12)
    utc = noon.tz_localize(TIME_ZONE.key).tz_convert(None)
    return _column((noon - utc) == pd.Timedelta(hours=2))


def _calendar(days: pd.DatetimeIndex) -> dict[str, Array]:
    """Weekdays, holidays and periods; a holiday counts as the share of people who have it."""
    margin = 9  # days that are looked at before the first, and their own neighbours
    around = pd.date_range(days[0] - pd.Timedelta(days=margin), days[-1] + pd.Timedelta(days=2))
    weekday = around.weekday.to_numpy()
    share = np.array([holiday_share(day.date()) for day in around])
    holiday = np.where(weekday == 6, 0.0, share)
    off = np.maximum(holiday, weekday >= 5)
    bridge = (1 - off) * _shift(off, 1, 0.0) * _shift(off, -1, 0.0)

    def of(values: Array, days_before: int = 0) -> Array:
        return _column(values[margin - days_before :][: len(days)])

    working = 1 - of((weekday >= 5).astype(float))
    table = {
        "weekday": _column(days.weekday),
        **{f"weekday_{n}": _column(days.weekday == n) for n in range(7)},
        "holiday": of(holiday),
        "holiday_on_saturday": of(holiday) * _column(days.weekday == 5),
        "bridge_day": of(bridge),
        "off_yesterday": of(off, 1),
        "off_tomorrow": of(off, -1),
        "holiday_yesterday": of(holiday, 1),
        "holiday_tomorrow": of(holiday, -1),
        "working_after_holiday": of(holiday, 1) * working,
        "working_before_holiday": of(holiday, -1) * working,
        "holiday_2_days_ago": of(holiday, 2),
        "holiday_7_days_ago": of(holiday, 7),
        "holiday_8_days_ago": of(holiday, 8),
        "bridge_yesterday": of(bridge, 1),
        "bridge_7_days_ago": of(bridge, 7),
        "holidays_last_week": sum((of(holiday, n) for n in range(1, 8)), np.zeros(1)),
    }
    after = {feast: _days_after(days, feast) for feast in FEASTS}
    for name, (feast, first, last) in PERIODS.items():
        table[name] = _column((after[feast] >= first) & (after[feast] <= last))
    return table


def calendar_features(days: pd.DatetimeIndex) -> Array:
    """Weekdays, holidays and periods alone: days x features."""
    return np.column_stack(list(_calendar(days).values()))


def _recent_demand(demand: pd.DataFrame, at: time) -> dict[str, Array]:
    """Past days and weeks at the same hour, yesterday's morning, level and trend."""
    known = np.log(demand.to_numpy())
    # What a blackout or a broken meter left says nothing of the days that follow.
    known = np.where(np.abs(known - _of_4_weeks(known)) > MOST_UNUSUAL, np.nan, known)
    drift = _drift(known)
    for _ in range(FILLED_FROM_WEEKS):
        # A gap takes the value of the week before as demand has changed since, never a later one.
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
        "same_hour_of_4_weeks": _of_4_weeks(known) - level,
        "same_hour_of_similar_day": _similar_day(pd.DatetimeIndex(demand.index), lag) - level,
        **{
            f"yesterday_at_{hour}": lag[1][:, hour : hour + 1] - level
            for hour in range(at.hour - 1, -1, -3)
        },
        "morning_against_week_before": _day_mean(change[1]),
        "night_against_week_before": _day_mean(change[1][:, :6]),
        "last_hours_against_week_before": _day_mean(change[1][:, last_hours]),
        "morning_against_day_before": _day_mean(lag[1] - lag[2]),
        "night_against_day_before": _day_mean((lag[1] - lag[2])[:, :6]),
        "2_days_ago_against_week_before": _day_mean(change[2]),
        "3_days_ago_against_week_before": _day_mean(change[3]),
        "evening_2_days_ago_against_week_before": _day_mean(change[2][:, 12:]),
        "same_hour_2_days_ago_against_week_before": change[2],
        "trend": _day_mean(*(change[n] for n in range(2, 8))),
    }


def _of_4_weeks(values: Array) -> Array:
    """The mean of the same hour of the same weekday, as far as it is known."""
    return _known_mean(np.stack([_shift(values, n) for n in (7, 14, 21, 28)]), axis=0)


def _drift(known: Array) -> Array:
    """How far the last 24 hours known are from the week before: of each hour, those before it.

    After two days in which none is known, it is not known either, and 0.
    """
    change = pd.Series((known - _shift(known, 7)).ravel())
    newest = change.dropna().rolling(24, min_periods=1).mean().reindex(change.index)
    return newest.shift(1).ffill(limit=48).fillna(0.0).to_numpy().reshape(known.shape)


def _similar_day(days: pd.DatetimeIndex, lag: dict[int, Array]) -> Array:
    """The last ordinary working day, Saturday, or Sunday or holiday, of two weeks: as the day is.

    Without one, such as for the first of two bridge days, it is the day a week before.
    """
    calendar = _calendar(days)
    holiday = (calendar["holiday"] >= 0.5) | (calendar["weekday"] == 6)
    kind = np.where(holiday, 2.0, calendar["weekday"] == 5)
    ordinary = np.where(calendar["bridge_day"] < 0.5, kind, np.nan)
    similar = lag[7]
    for n in range(14, 1, -1):
        similar = np.where(_shift(ordinary, n) == kind, lag[n], similar)
    return similar


def holiday_share(day: date) -> float:
    """The share of the peninsula's people for whom a day is a public holiday, 0 to 1."""
    return _holiday_shares(day.year).get(day, 0.0)


@lru_cache
def _holiday_shares(year: int) -> dict[date, float]:
    """Of each day of a year that is a holiday in some region, the share of people who have it."""
    shares: dict[date, float] = {}
    for region, people in POPULATION.items():
        for day in holidays.country_holidays(HOLIDAY_COUNTRY, subdiv=region, years=year):
            shares[day] = shares.get(day, 0.0) + people / sum(POPULATION.values())
    return shares


def _days_after(days: pd.DatetimeIndex, feast: str) -> Array:
    """Days since the nearest Christmas, Easter Sunday or 15 August; before it, less than 0."""
    years = range(days[0].year - 1, days[-1].year + 2)
    feasts = pd.DatetimeIndex([FEASTS[feast](year) for year in years])
    after = (days.to_numpy()[:, None] - feasts.to_numpy()[None, :]) / np.timedelta64(1, "D")
    return after[np.arange(len(days)), np.abs(after).argmin(axis=1)]


def _column(values: npt.ArrayLike) -> Array:
    return np.asarray(values, dtype="float64")[:, None]


def _shift(values: Array, days: int, beyond: float = np.nan) -> Array:
    """Values of as many days before; of days after if negative."""
    moved = np.roll(values, days, axis=0)
    moved[slice(days) if days > 0 else slice(days, None)] = beyond
    return moved


def _known_mean(values: Array, axis: int) -> Array:
    """The mean of what is not NaN, NaN where nothing is: ``np.nanmean`` without its warning."""
    known = ~np.isnan(values)
    counts = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _day_mean(*values: Array) -> Array:
    """Of each day one mean, over all hours of all arrays."""
    return _known_mean(np.concatenate(values, axis=1), axis=1)[:, None]
