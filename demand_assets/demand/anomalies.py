"""Rules over samples and hours: which cannot be right, and which are remarkable.

Each rule is a pure function and says where. How bad that is, and in which words, belongs in
`quality`. The yardsticks were measured on 1,266 recorded days, 2021-01 to 2024-06; parameters that
are facts of a series are in `grid`.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from demand_assets.demand.days import utc_index
from demand_assets.demand.samples import Samples, known_samples
from demand_assets.grid import (
    FORECAST,
    FORECAST_DEMAND,
    LARGEST_DIFFERENCE,
    REAL,
    REAL_DEMAND,
    UNITS,
    Series,
)

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

LOG_FACTORS = np.array([sign * math.log(factor) for factor in UNITS for sign in (1, -1)])
UNIT_TOLERANCE = 0.18
"""In logarithms, between demand in another unit and what its factor makes of the other series. The
factors 4 and 6 are 0.4 apart."""
LEVEL_TOLERANCE = 0.8
"""In logarithms, of a day's peak: 13,000 to 65,000 MW. Recorded peaks are 23,324 to 42,052 MW."""
MINUTES_IN_UNIT = 45
"""Fewer minutes in another unit are a few wild samples."""
LONGEST_WILD = pd.Timedelta(minutes=55)
SLOWEST_SHIFT = 0.004
"""What a step can be larger per minute by which two samples are more than ten minutes apart."""


def frozen_stretches(values: pd.Series, most_equal: int) -> list[tuple[int, int]]:
    """Stretches of more equal samples running than demand ever has, as positions from, to.

    On recorded days the same measured value comes at most 5 times running.

    Args:
        values: known samples of one series.
        most_equal: samples running that can be equal.
    """
    v = values.to_numpy()
    starts = np.flatnonzero(np.diff(v, prepend=math.nan) != 0)
    stops = np.append(starts[1:], len(v))
    long = stops - starts > most_equal
    return list(zip(starts[long].tolist(), stops[long].tolist(), strict=True))


def jumps(values: pd.Series, largest_step: float) -> BoolArray:
    """Which samples differ from the one before by more than demand changes in that time.

    On recorded days the largest step is 7.1 %. Samples that are further apart than ten minutes can
    differ by more.

    Args:
        values: known samples of one series.
        largest_step: as a share of the mean of both samples.
    """
    if len(values) < 2:
        return np.zeros(len(values), dtype=bool)
    v = values.to_numpy()
    minutes = np.diff(values.index.to_numpy("datetime64[m]").astype("int64"))
    means = (np.abs(v[1:]) + np.abs(v[:-1])) / 2
    limit = largest_step + SLOWEST_SHIFT * np.maximum(minutes - 10, 0)
    return np.append(False, np.abs(np.diff(v)) > limit * means)


def wild_samples(values: pd.Series, largest_step: float) -> BoolArray:
    """Which samples are separated from the others by jumps, for less than an hour.

    Arguments are those of `jumps`. On recorded days none are. Where demand changes for longer, as
    in a blackout, the samples after the jump are not wild.
    """
    part = np.cumsum(jumps(values, largest_step))
    wild = np.zeros(len(part), dtype=bool)
    if not len(part) or not part[-1]:
        return wild
    stops = np.cumsum(np.bincount(part))
    parts = list(zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True))
    longest = max(range(len(parts)), key=lambda n: parts[n][1] - parts[n][0])
    for others in (parts[longest + 1 :], parts[:longest][::-1]):
        before = parts[longest]
        for first, stop in others:
            # The last sample before this part, and its nearest one, in order of time.
            pair = [before[1] - 1, first] if first >= before[1] else [stop - 1, before[0]]
            lasts = values.index[stop - 1] - values.index[first] >= LONGEST_WILD
            if lasts or not jumps(values.iloc[pair], largest_step)[1]:
                before = (first, stop)
            else:
                wild[first:stop] = True
    return wild


@dataclass(frozen=True)
class OtherUnit:
    """Samples of a series in another unit than MW."""

    where: BoolArray
    """Among the known samples."""
    log_factor: float
    """Logarithm of what they have to be multiplied by."""


def in_other_units(samples: Samples) -> dict[str, OtherUnit]:
    """Samples of measured demand and of its forecast that are in another unit, by column.

    On recorded days the hourly means of both are at most 7.8 % apart. Where they are apart by the
    factor of another unit, and have become so in one step or are so all day, one of them is in that
    unit: the one that is further from a usual peak. In a blackout measured demand falls by less in
    one step, and returns slowly. If the forecast itself is not at the level of demand, measured
    demand at the same level is in the same unit. Without a forecast nothing is decided.
    """
    real, forecast = known_samples(samples[REAL]), known_samples(samples[FORECAST])
    forecast_level = _log_level(forecast, FORECAST_DEMAND)
    if abs(forecast_level) > LEVEL_TOLERANCE:
        found = {FORECAST: OtherUnit(np.ones(len(forecast), dtype=bool), forecast_level)}
        real_level = _log_level(real, REAL_DEMAND)
        if len(real) and abs(real_level - forecast_level) < LEVEL_TOLERANCE < abs(real_level):
            found[REAL] = OtherUnit(np.ones(len(real), dtype=bool), forecast_level)
        return found
    if real.empty or forecast.empty:
        return {}
    return _apart_by_a_unit(real, forecast)


def _log_level(values: pd.Series, series: Series) -> float:
    """Logarithm of a usual peak relative to the peak of a series, 0 without samples."""
    positive = values.to_numpy()[values.to_numpy() > 0]
    # Not the highest sample, which may be a wild one.
    return math.log(series.usual_peak / np.quantile(positive, 0.9)) if len(positive) else 0.0


def _apart_by_a_unit(real: pd.Series, forecast: pd.Series) -> dict[str, OtherUnit]:
    """See `in_other_units`."""
    at, forecast_at = (
        values.index.to_numpy("datetime64[s]").astype("int64") for values in (real, forecast)
    )
    forecast_then = np.interp(at, forecast_at, forecast.to_numpy())
    v = real.to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.log(forecast_then / v)
    apart[~np.isfinite(apart)] = 0.0
    distance = np.abs(apart[:, None] - LOG_FACTORS)
    factor = np.where(distance.min(axis=1) < UNIT_TOLERANCE, distance.argmin(axis=1), -1)
    if (factor < 0).all():
        return {}
    where = {REAL: np.zeros(len(v), dtype=bool), FORECAST: np.zeros(len(forecast), dtype=bool)}
    factors = {REAL: 0.0, FORECAST: 0.0}
    edges = np.flatnonzero(np.diff(factor, prepend=-2, append=-2))
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if factor[start] < 0 or not _is_sudden(apart, at, start, stop):
            continue
        log_factor = float(LOG_FACTORS[factor[start]])
        peak = math.log(REAL_DEMAND.usual_peak)
        levels = [abs(np.log(np.median(x[start:stop])) - peak) for x in (v, forecast_then)]
        if levels[0] > levels[1]:
            where[REAL][start:stop] = True
            factors[REAL] = log_factor
        else:
            first = -math.inf if start == 0 else at[start]
            end = math.inf if stop == len(at) else at[stop]
            where[FORECAST] |= (forecast_at >= first) & (forecast_at < end)
            factors[FORECAST] = -log_factor
    return {
        column: OtherUnit(mask, factors[column]) for column, mask in where.items() if mask.any()
    }


def _is_sudden(apart: FloatArray, at: npt.NDArray[np.int64], start: int, stop: int) -> bool:
    """Whether a stretch lasts, and begins and ends with a step of its factor or the samples."""
    whole = start == 0 and stop == len(at)
    lasts = at[stop - 1] - at[start] >= 60 * MINUTES_IN_UNIT
    step = abs(float(np.median(apart[start:stop]))) - 2 * UNIT_TOLERANCE
    begins = start == 0 or abs(apart[start] - apart[start - 1]) > step
    ends = stop == len(at) or abs(apart[stop] - apart[stop - 1]) > step
    return whole or bool(lasts and begins and ends)


def name_of_unit(log_factor: float) -> str:
    """The unit whose factor is nearest, and the factor."""
    factor, unit = min(UNITS.items(), key=lambda f: abs(math.log(f[0]) - abs(log_factor)))
    if log_factor > 0:
        return f"as if divided by {factor} ({unit})"
    return f"as if multiplied by {factor}" + (" (kW)" if factor == 1000 else "")


def differing_hours(frame: pd.DataFrame) -> pd.Series:
    """Logarithm of measured demand relative to the operator's forecast, in the hours in which they
    are further apart than they ever are but in a blackout."""
    real, forecast = frame[REAL].to_numpy(), frame[FORECAST].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.log(real / forecast)
    far = np.abs(apart) > LARGEST_DIFFERENCE
    return pd.Series(apart[far], utc_index(frame)[far])


def has_unusual_level(samples: Samples) -> bool:
    """Whether measured demand has an unusual peak, and there is no forecast that tells why.

    On recorded days it never has. A day in progress after a blackout can have.
    """
    if len(known_samples(samples[FORECAST])):
        return False
    return abs(_log_level(known_samples(samples[REAL]), REAL_DEMAND)) > LEVEL_TOLERANCE
