"""How good a forecast was."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Score:
    """A forecast against what was measured, over the hours in which both are known.

    An hour of 0 MW is none: it is no demand, and has no percentage.
    """

    mape_percent: float
    """Mean absolute percentage error; NaN without hours."""
    bias_mw: float
    """Mean of forecast minus real; NaN without hours."""
    hours: int


def score(forecast: pd.Series, real: pd.Series) -> Score:
    """Judge a forecast, both in MW over UTC hours."""
    error = (forecast - real.where(real > 0)).dropna()
    share = error.abs() / real.reindex(error.index)
    return Score(float(share.mean() * 100), float(error.mean()), len(error))
