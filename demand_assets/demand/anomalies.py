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
)

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LOG_FACTORS = np.array([sign * math.log(factor) for factor in UNITS for sign in (1, -1)])
UNIT_TOLERANCE = 0.15
"""In logarithms, between demand in another unit and what its factor makes of the other series. The
factors 4 and 6 are 0.4 apart."""
LEVEL_TOLERANCE = 0.7
"""In logarithms, from a usual peak: 13,900 to 56,400 MW. Recorded samples are 16,072 to 42,052."""
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


def copied_stretches(real: pd.Series, forecast: pd.Series) -> list[pd.DatetimeIndex]:
    """Stretches in which measured samples equal their forecast, more of them than by chance.

    On recorded days at most 5 samples of a day do.
    """
    both = real.index.intersection(forecast.index)
    equal = real[both].to_numpy() == forecast[both].to_numpy()
    edges = np.flatnonzero(np.diff(equal, prepend=False, append=False))
    return [
        pd.DatetimeIndex(both[start:stop])
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        if stop - start > REAL_DEMAND.most_equal
    ]


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
            if lasts or not jumps(values.iloc[np.array(pair)], largest_step)[1]:
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

    A forecast is in another unit where it is not at the level of demand. Measured demand is where
    its forecast is and it is at the same level, and where it is apart from a right forecast by the
    factor of a unit. On recorded days the hourly means of both are at most 7.8 % apart. Units
    change in one step, or are wrong all day; in a blackout measured demand falls by less in one
    step, and returns slowly. Without a forecast nothing is decided.
    """
    real, forecast = known_samples(samples[REAL]), known_samples(samples[FORECAST])
    if forecast.empty:
        return {}
    at, forecast_at = _seconds(real), _seconds(forecast)
    forecast_level = _log_ratio(FORECAST_DEMAND.usual_peak, forecast.to_numpy())
    forecast_off = _at_another_level(forecast_level, forecast_at)
    off_then = np.interp(at, forecast_at, forecast_off) > 0.5
    level = _log_ratio(REAL_DEMAND.usual_peak, real.to_numpy())
    apart = _log_ratio(np.interp(at, forecast_at, forecast.to_numpy()), real.to_numpy())
    real_off = _at_another_level(level, at) & off_then
    by_a_unit = _apart_by_a_unit(np.where(off_then, 0.0, apart), at)
    found = {}
    if forecast_off.any():
        right = off_then & ~real_off
        factor = -np.median(apart[right]) if right.any() else _factor(forecast_level, forecast_off)
        found[FORECAST] = OtherUnit(forecast_off, float(factor))
    if real_off.any():
        found[REAL] = OtherUnit(real_off, _factor(level, real_off))
    elif by_a_unit.any():
        found[REAL] = OtherUnit(by_a_unit, float(np.median(apart[by_a_unit])))
    return found


def _factor(level: FloatArray, off: BoolArray) -> float:
    """Logarithm of what samples of another level have to be multiplied by.

    It is the step to those of the usual level. If there are none, the peak tells it roughly.
    """
    edges = np.flatnonzero(np.diff(off))
    size = np.abs(np.diff(level)[edges]).mean() if len(edges) else np.quantile(np.abs(level), 0.1)
    return float(np.copysign(size, np.median(level[off])))


def _seconds(values: pd.Series) -> IntArray:
    seconds: IntArray = values.index.to_numpy("datetime64[s]").astype("int64")
    return seconds


def _log_ratio(reference: float | FloatArray, values: FloatArray) -> FloatArray:
    """The logarithm of a reference relative to values, 0 where one of them is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(reference / values)
    return np.where(np.isfinite(ratio), ratio, 0.0)


def _at_another_level(level: FloatArray, at: IntArray) -> BoolArray:
    """Sudden stretches that are further from a usual peak than demand ever is."""
    far = np.abs(level) > LEVEL_TOLERANCE
    return _sudden_stretches(level, at, np.where(far, np.sign(level), 0))


def _apart_by_a_unit(apart: FloatArray, at: IntArray) -> BoolArray:
    """Sudden stretches that are apart from the forecast by the factor of one unit."""
    distance = np.abs(apart[:, None] - LOG_FACTORS)
    near = distance.min(axis=1) < UNIT_TOLERANCE
    return _sudden_stretches(apart, at, np.where(near, 1 + distance.argmin(axis=1), 0))


def _sudden_stretches(log_ratio: FloatArray, at: IntArray, kind: IntArray) -> BoolArray:
    """The stretches of one kind, other than 0, that began and ended in one step."""
    where = np.zeros(len(at), dtype=bool)
    edges = np.flatnonzero(np.diff(kind, prepend=-9, append=-9))
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        where[start:stop] = kind[start] != 0 and _is_sudden(log_ratio, at, start, stop)
    return where


def _is_sudden(log_ratio: FloatArray, at: IntArray, start: int, stop: int) -> bool:
    """Whether a stretch lasts, and begins and ends with a step of its factor or the samples."""
    whole = start == 0 and stop == len(at)
    lasts = at[stop - 1] - at[start] >= 60 * MINUTES_IN_UNIT
    step = abs(float(np.median(log_ratio[start:stop]))) - 2 * UNIT_TOLERANCE
    begins = start == 0 or abs(log_ratio[start] - log_ratio[start - 1]) > step
    ends = stop == len(at) or abs(log_ratio[stop] - log_ratio[stop - 1]) > step
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
    """Whether most of measured demand is not at its level, and no forecast tells why.

    On recorded days it always is. A day in progress after a blackout may not be.
    """
    real = known_samples(samples[REAL]).to_numpy()
    if len(known_samples(samples[FORECAST])) or not len(real):
        return False
    return bool(np.abs(np.median(_log_ratio(REAL_DEMAND.usual_peak, real))) > LEVEL_TOLERANCE)
