"""The forecast model: trained on the stored demand, kept as text, asked for one day at a time.

Two models learn the logarithm of an hour's demand relative to its recent level: a ridge regression
for each hour of the day, which carries effects of the calendar and of the last days on to values
that it has never seen, and boosted trees, which find how they act together. Both learn it twice: as
it was, and with what weekdays, holidays and periods add taken off first, so that a week with a
holiday in it tells as much of the next as any other. The mean of the four is better than each.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from lightgbm.basic import LightGBMError
from upath import UPath

from demand_assets.atomic_write import write_whole
from demand_assets.demand.days import day_hours
from demand_assets.forecast.features import (
    HISTORY_DAYS,
    NOON,
    Array,
    by_local_hour,
    calendar_features,
    features,
    issue_time,
    known_demand,
)
from demand_assets.forecast.score import score
from demand_assets.grid import MODEL as FORECAST_MODEL
from demand_assets.grid import TIME_ZONE

TRAINED_MODEL, WEEKLY_NAIVE = "model", "weekly-naive"
"""The labels of what a forecast was made by."""

VERSION = 2
"""Of the stored files and of the features: a model of another one cannot be asked."""
TRAINING_DAYS_NEEDED = 180
"""From a quarter of a year the model is hardly better than the weekly naive, from half a year it is
in every season; it gets better still until it has seen a whole year."""
RECENT_DAYS_NEEDED = 7
VALIDATION_DAYS = 28
"""At the end of the history: four of each weekday."""
WARM_UP_DAYS = 28
"""The first days of a history, whose features know too little to learn from."""

_CALENDAR_PENALTY = 30.0
_RIDGE_PENALTY = 5.0
_TREES = 800
_TREE_PARAMETERS = {
    "objective": "l1",
    "extra_trees": True,
    "learning_rate": 0.04,
    "num_leaves": 31,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    # The same history gives the same model, on one core as on many.
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


class TooLittleHistoryError(ValueError):
    """There are too few days of demand. Its text says how many there are and are needed."""

    def __init__(self, what: str, days: int, needed: int) -> None:
        super().__init__(f"{what} needs demand of {needed} days, and {days} are known")
        self.days, self.needed = days, needed


class UnknownModelError(ValueError):
    """A folder holds what is no model of this version. Train it again."""


@dataclass(frozen=True)
class Description:
    """What a model was made from and how good it is; days are Madrid's, as ``YYYY-MM-DD``."""

    issued_at: str
    """Madrid time on the day before at which forecasts are made."""
    known_until: str
    first_day: str
    last_day: str
    days: int
    """Days of demand between them; the rest are gaps."""
    validation_first_day: str
    """From here on a model trained on what was known before was judged."""
    validation_mape_percent: float
    validation_bias_mw: float
    validation_hours: int
    features: list[str]
    version: int = VERSION


@dataclass(frozen=True)
class _Calendar:
    """What weekdays, holidays and periods add to the logarithm of each hour's demand."""

    mean: Array
    scale: Array
    coefficients: Array
    """Features x 24."""

    @classmethod
    def fit(cls, demand: pd.DataFrame) -> "_Calendar":
        """Learn from a history how its days differ from the weeks around them."""
        log = demand.transform(np.log)
        # Seven days have one of each weekday, and a median takes no notice of a holiday's weeks.
        weeks = log.rolling(7, center=True, min_periods=4).mean()
        unusual = (log - weeks.rolling(15, center=True, min_periods=1).median()).to_numpy()
        x = calendar_features(pd.DatetimeIndex(demand.index))
        some = np.isfinite(unusual).any(axis=1)
        mean, scale = x[some].mean(axis=0), x[some].std(axis=0)
        calendar = cls(mean, np.where(scale > 1e-9, scale, 1.0), np.zeros((x.shape[1], 24)))
        z = (x - calendar.mean) / calendar.scale
        penalty = _CALENDAR_PENALTY * np.eye(x.shape[1])
        for hour, different in enumerate(unusual.T):
            known = np.isfinite(different)
            if known.any():
                at, different = z[known], different[known]
                to_learn = at.T @ (different - different.mean())
                calendar.coefficients[:, hour] = np.linalg.solve(at.T @ at + penalty, to_learn)
        return calendar

    @classmethod
    def none(cls) -> "_Calendar":
        """It adds nothing."""
        return cls(np.zeros(1), np.ones(1), np.zeros((1, 24)))

    def effect(self, demand: pd.DataFrame) -> Array:
        """Days x 24, of days past and to come."""
        if not self.coefficients.any():
            return np.zeros(demand.shape)
        x = calendar_features(pd.DatetimeIndex(demand.index))
        return ((x - self.mean) / self.scale) @ self.coefficients


@dataclass(frozen=True)
class _Regression:
    """A ridge regression for each hour of the day."""

    mean: Array
    scale: Array
    low: Array
    high: Array
    """Of each feature in training: beyond its range nothing was learnt."""
    coefficients: Array
    """24 x (1 + features): first what is added whatever the features are."""

    @classmethod
    def fit(cls, table: pd.DataFrame, target: Array) -> "_Regression":
        x = table.to_numpy()
        scale = np.nanstd(x, axis=0)
        regression = cls(
            np.nanmean(x, axis=0),
            np.where(scale > 1e-9, scale, 1.0),
            np.nanmin(x, axis=0),
            np.nanmax(x, axis=0),
            np.zeros((24, 1 + x.shape[1])),
        )
        penalty = np.diag([1e-9, *[_RIDGE_PENALTY] * x.shape[1]])
        z, hours = regression._standardized(x), _hours(table)
        for hour, coefficients in enumerate(regression.coefficients):
            at = z[hours == hour]
            coefficients[:] = np.linalg.solve(at.T @ at + penalty, at.T @ target[hours == hour])
        return regression

    def predict(self, table: pd.DataFrame) -> Array:
        return (self._standardized(table.to_numpy()) * self.coefficients[_hours(table)]).sum(axis=1)

    def _standardized(self, x: Array) -> Array:
        z = (np.clip(x, self.low, self.high) - self.mean) / self.scale
        return np.column_stack([np.ones(len(z)), np.nan_to_num(z)])


def _hours(table: pd.DataFrame) -> np.ndarray:
    return table.index.get_level_values("hour").to_numpy()


@dataclass(frozen=True)
class _View:
    """Regression and trees of demand from which a calendar's effects are taken off."""

    calendar: _Calendar
    regression: _Regression
    trees: lightgbm.Booster

    @classmethod
    def fit(cls, calendar: _Calendar, demand: pd.DataFrame, at: time) -> "_View":
        effect = calendar.effect(demand)
        table = features(demand.mul(np.exp(-effect)), at)
        relative = np.log(demand.to_numpy()) - effect
        target = relative.ravel() - table["level"].to_numpy()
        learnt = np.isfinite(target)
        learnt[: 24 * WARM_UP_DAYS] = False
        table, target = table[learnt], target[learnt]
        rows = lightgbm.Dataset(table.to_numpy(), target, feature_name=table.columns.tolist())
        trees = lightgbm.train(_TREE_PARAMETERS, rows, _TREES)
        # Through its text, so that it forecasts what it will once loaded.
        as_text = lightgbm.Booster(model_str=trees.model_to_string())
        return cls(calendar, _Regression.fit(table, target), as_text)

    def log_demand(self, demand: pd.DataFrame, at: time, days: int) -> Array:
        effect = self.calendar.effect(demand)
        table = features(demand.mul(np.exp(-effect)), at)[-24 * days :]
        by_trees = np.asarray(self.trees.predict(table.to_numpy(), num_threads=1))
        relative = (self.regression.predict(table) + by_trees) / 2
        return table["level"].to_numpy() + relative + effect[-days:].ravel()


@dataclass(frozen=True)
class _Fitted:
    views: tuple[_View, ...]

    @classmethod
    def fit(cls, demand: pd.DataFrame, at: time) -> "_Fitted":
        """Learn from days x 24, MW, NaN where unknown: of the last day only the morning is."""
        calendars = (_Calendar.none(), _Calendar.fit(demand))
        return cls(tuple(_View.fit(calendar, demand, at) for calendar in calendars))

    def demand(self, demand: pd.DataFrame, at: time, days: int) -> Array:
        """MW of each hour of the last days, each from what was known when its forecast was due."""
        return np.exp(np.mean([v.log_demand(demand, at, days) for v in self.views], axis=0))


@dataclass(frozen=True)
class Model:
    """A trained model and what it was made from."""

    description: Description
    _fitted: _Fitted = field(repr=False)

    @classmethod
    def train(cls, history: pd.DataFrame | pd.Series, until: datetime, at: time = NOON) -> "Model":
        """Learn from the hours that have ended by an instant.

        Each day is learnt from with the features that were known when its forecast was due.

        Args:
            history: hourly frame, or its measured demand, MW over UTC hours; gaps may be left
                out or NaN.
            until: the present, aware; what lies after it is not looked at.
            at: Madrid time on the day before, 01:00 or later, at which this model's forecasts
                are made.

        Raises:
            TooLittleHistoryError: there is demand of fewer than ``TRAINING_DAYS_NEEDED`` days.
        """
        real = known_demand(history, until)
        days = _days_known(real)
        if len(days) < TRAINING_DAYS_NEEDED:
            raise TooLittleHistoryError("training", len(days), TRAINING_DAYS_NEEDED)
        demand = by_local_hour(real, days[0].date(), _madrid_day(real.index[-1]))

        held_out = days[-VALIDATION_DAYS]
        before = known_demand(real, issue_time(held_out.date(), at))
        eve = held_out - timedelta(days=1)
        judge = _Fitted.fit(by_local_hour(before, days[0].date(), eve.date()), at)
        mw = demand[demand.index >= held_out]
        judged = judge.demand(demand, at, len(mw))
        validation = score(pd.Series(judged), pd.Series(mw.to_numpy().ravel()))

        description = Description(
            issued_at=at.isoformat(timespec="minutes"),
            known_until=until.astimezone(TIME_ZONE).isoformat(timespec="minutes"),
            first_day=f"{days[0]:%F}",
            last_day=f"{days[-1]:%F}",
            days=len(days),
            validation_first_day=f"{held_out:%F}",
            validation_mape_percent=validation.mape_percent,
            validation_bias_mw=validation.bias_mw,
            validation_hours=validation.hours,
            features=judge.views[0].trees.feature_name(),
        )
        return cls(description, _Fitted.fit(demand, at))

    def forecast(self, history: pd.DataFrame | pd.Series, day: date) -> pd.Series:
        """The 23, 24 or 25 hours of a day, from what was known when its forecast was due.

        Args:
            history: as for training; ``HISTORY_DAYS`` days before the day are enough, and
                nothing after its issue time is looked at.
            day: a Madrid day.

        Returns:
            MW over the day's UTC hours, named ``ForecastModel``, without NaN.

        Raises:
            TooLittleHistoryError: fewer than ``RECENT_DAYS_NEEDED`` of the last days are known.
        """
        at = time.fromisoformat(self.description.issued_at)
        real = known_demand(history, issue_time(day, at))
        first = day - timedelta(days=HISTORY_DAYS)
        recent = real[real.index >= day_hours(first)[0]]
        if (known := len(_days_known(recent))) < RECENT_DAYS_NEEDED:
            what = f"a forecast of {day} from the {HISTORY_DAYS} days before"
            raise TooLittleHistoryError(what, known, RECENT_DAYS_NEEDED)
        demand = self._fitted.demand(by_local_hour(recent, first, day), at, days=1)
        if np.isnan(demand).any():  # known days that lie too far back tell no level
            what = f"a forecast of {day} from the weeks just before"
            raise TooLittleHistoryError(what, 0, RECENT_DAYS_NEEDED)
        return _on_utc_hours(demand, day)

    def save(self, folder: Path | UPath) -> None:
        """Write `model.json`, and the trees in LightGBM's own text, which it names.

        The trees come first and under a name of their own: whenever there is a `model.json`, what
        it names is there.
        """
        folder = UPath(folder)
        folder.mkdir(parents=True, exist_ok=True)
        views = []
        for view in self._fitted.views:
            trees = view.trees.model_to_string().encode()
            trees_file = f"trees-{hashlib.sha256(trees).hexdigest()[:16]}.txt"
            write_whole(folder / trees_file, trees)
            linear = {
                part: {n: v.tolist() for n, v in vars(getattr(view, part)).items()}
                for part in ("calendar", "regression")
            }
            views.append({"trees": trees_file, **linear})
        content = {"description": asdict(self.description), "views": views}
        write_whole(folder / "model.json", json.dumps(content, indent=1).encode())
        for replaced in folder.glob("trees-*.txt"):
            if replaced.name not in [view["trees"] for view in views]:
                replaced.unlink()

    @classmethod
    def load(cls, folder: Path | UPath) -> "Model":
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: the folder holds no model.
            UnknownModelError: it is of another version, or damaged.
        """
        file = UPath(folder) / "model.json"
        text = file.read_bytes()
        try:
            content: dict[str, Any] = json.loads(text)
            if (version := content["description"]["version"]) != VERSION:
                raise UnknownModelError(
                    f"the model in {folder} is of version {version}, and this is version {VERSION}"
                )
            views = tuple(
                _View(
                    _Calendar(**{n: np.array(v) for n, v in view["calendar"].items()}),
                    _Regression(**{n: np.array(v) for n, v in view["regression"].items()}),
                    lightgbm.Booster(model_str=(UPath(folder) / view["trees"]).read_text()),
                )
                for view in content["views"]
            )
            return cls(Description(**content["description"]), _Fitted(views))
        except (OSError, KeyError, TypeError, json.JSONDecodeError, LightGBMError) as error:
            raise UnknownModelError(
                f"the model in {folder} is unreadable ({type(error).__name__})"
            ) from error


def weekly_naive(history: pd.DataFrame | pd.Series, day: date, at: time = NOON) -> pd.Series:
    """What a day would be like the same weekday a week before, at the same hour of the clock.

    Where that hour is not known, it is the one of 2, 3 or 4 weeks before.

    Raises:
        TooLittleHistoryError: an hour is not known in any of them.
    """
    real = known_demand(history, issue_time(day, at))
    demand = by_local_hour(real, day - timedelta(days=28), day).to_numpy()
    weeks = demand[[21, 14, 7, 0]]
    hours = _local_hours(day)
    if not (known := ~np.isnan(weeks[:, hours])).any(axis=0).all():
        what = f"the {WEEKLY_NAIVE} forecast of {day} from the 4 weeks before"
        raise TooLittleHistoryError(what, int(known.sum(axis=0).min()), 1)
    newest = (~np.isnan(weeks)).argmax(axis=0)
    return _on_utc_hours(weeks[newest, np.arange(24)], day)


def _on_utc_hours(mw: Array, day: date) -> pd.Series:
    """24 values of Madrid's clock on the UTC hours of a day; a repeated hour gets one of them."""
    index = day_hours(day)
    index.freq = None  # type: ignore[misc]
    return pd.Series(mw[_local_hours(day)], index, name=FORECAST_MODEL)


def _local_hours(day: date) -> np.ndarray:
    return day_hours(day).tz_convert(TIME_ZONE.key).hour.to_numpy()


def _madrid_day(instant: pd.Timestamp) -> date:
    return instant.tz_convert(TIME_ZONE.key).date()


def _days_known(real: pd.Series) -> pd.DatetimeIndex:
    """The Madrid days of which most hours are known."""
    assert isinstance(real.index, pd.DatetimeIndex)
    days = real.index.tz_convert(TIME_ZONE.key).tz_localize(None).normalize()
    hours = real.groupby(days).size()
    return pd.DatetimeIndex(hours.index[hours > 12])
