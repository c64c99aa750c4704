"""The forecast model: trained on the stored demand, saved as text, and used for one day at a time.

Two models learn the logarithm of an hour's demand relative to its recent level: a ridge regression
per hour of the day, which extrapolates effects of the calendar and of the last days to values not
seen in training, and boosted trees, which learn their interactions. Each pair is trained twice: on
the demand as it was, and on the demand without the effects of weekdays, holidays and periods, so
that a week with a holiday predicts the next as well as any other. The mean of the four predictions
is better than each.

Features, and which demand is known at which time, belong in `features`.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from upath import UPath

from demand_assets.atomic_write import write_whole
from demand_assets.demand.days import day_hours
from demand_assets.forecast.features import (
    HISTORY_DAYS,
    NOON,
    Array,
    TooLittleHistoryError,
    by_local_hour,
    calendar_features,
    days_known,
    features,
    issue_time,
    known_demand,
    on_utc_hours,
)
from demand_assets.forecast.score import Score, score
from demand_assets.grid import TIME_ZONE, local_date

# Everything else works without LightGBM, which needs a library of the system that not every
# machine has. Then importing it raises an OSError.
try:
    import lightgbm
except (ImportError, OSError) as error:
    LIGHTGBM_ERROR: Exception | None = error
else:
    LIGHTGBM_ERROR = None

TRAINED_MODEL = "model"
"""What made a forecast: this, or ``WEEKLY_NAIVE``."""
VERSION = 2
"""Of the saved files and of the features; models of another version cannot be used."""
TRAINING_DAYS_NEEDED = 180
"""With a quarter of a year the model is hardly better than the weekly naive; with half a year it is
in every season, and it improves until it has a whole year."""
RECENT_DAYS_NEEDED = 7
VALIDATION_DAYS = 28
"""The last days of the history: four of each weekday."""
WARM_UP_DAYS = 28
"""The first days of a history, whose features have too little history to train on."""

CALENDAR_PENALTY = 30.0
RIDGE_PENALTY = 5.0
TREES = 800
TREE_PARAMETERS = {
    "objective": "l1",
    "extra_trees": True,
    "learning_rate": 0.04,
    "num_leaves": 31,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    # The same history gives the same model, on any number of cores.
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


class LightGBMMissingError(RuntimeError):
    """LightGBM cannot be loaded. The text names the package to install."""


class UnknownModelError(ValueError):
    """The files of a model are damaged or of another version. Train it again."""


def why_no_model() -> str:
    """Why no model can be trained or used on this machine, and what to install; empty if it can."""
    if LIGHTGBM_ERROR is None:
        return ""
    package = "lightgbm (pip)"
    if isinstance(LIGHTGBM_ERROR, OSError):
        package = "libgomp1 (Debian, Ubuntu) or libgomp (Fedora, Alpine)"
        if sys.platform == "darwin":
            package = "libomp (brew)"
    reason = str(LIGHTGBM_ERROR).partition("\n")[0]
    return f"LightGBM cannot be loaded ({reason}). Install {package} and restart"


def require_lightgbm() -> None:
    """Check that models can be trained and read.

    Raises:
        LightGBMMissingError: they cannot.
    """
    if why := why_no_model():
        raise LightGBMMissingError(why)


@dataclass(frozen=True)
class Description:
    """What a model was trained on and how good it is; days are Madrid days, ``YYYY-MM-DD``."""

    issued_at: str
    """Madrid time on the day before at which its forecasts are made."""
    known_until: str
    first_day: str
    last_day: str
    days: int
    """Days of which demand is known, between the first and the last."""
    validation_first_day: str
    """From this day on, forecasts of a model that was trained on the days before were scored."""
    validation_mape_percent: float
    validation_bias_mw: float
    validation_hours: int
    features: list[str]
    version: int = VERSION


@dataclass(frozen=True)
class CalendarEffects:
    """What weekdays, holidays and periods add to the logarithm of each hour's demand."""

    mean: Array
    scale: Array
    coefficients: Array
    """Features x 24."""

    @classmethod
    def fit(cls, demand: pd.DataFrame) -> "CalendarEffects":
        """Learn how days differ from the weeks around them."""
        log = demand.transform(np.log)
        # The mean of seven days has one of each weekday; the median ignores weeks with a holiday.
        weeks = log.rolling(7, center=True, min_periods=4).mean()
        deviation = (log - weeks.rolling(15, center=True, min_periods=1).median()).to_numpy()
        x = calendar_features(pd.DatetimeIndex(demand.index))
        rows = np.isfinite(deviation).any(axis=1)
        mean, scale = x[rows].mean(axis=0), x[rows].std(axis=0)
        effects = cls(mean, np.where(scale > 1e-9, scale, 1.0), np.zeros((x.shape[1], 24)))
        z = (x - effects.mean) / effects.scale
        penalty = CALENDAR_PENALTY * np.eye(x.shape[1])
        for hour, of_hour in enumerate(deviation.T):
            known = np.isfinite(of_hour)
            if known.any():
                z_known, y = z[known], of_hour[known] - of_hour[known].mean()
                effects.coefficients[:, hour] = np.linalg.solve(
                    z_known.T @ z_known + penalty, z_known.T @ y
                )
        return effects

    def of(self, demand: pd.DataFrame) -> Array:
        """The effects on the days of a table, days x 24, known or not."""
        if not self.coefficients.any():
            return np.zeros(demand.shape)
        x = calendar_features(pd.DatetimeIndex(demand.index))
        effects: Array = ((x - self.mean) / self.scale) @ self.coefficients
        return effects


NO_EFFECTS = CalendarEffects(np.zeros(1), np.ones(1), np.zeros((1, 24)))


@dataclass(frozen=True)
class HourlyRegression:
    """A ridge regression for each hour of the day."""

    mean: Array
    scale: Array
    low: Array
    high: Array
    """The range of each feature in training; values outside of it are clipped."""
    coefficients: Array
    """24 x (1 + features), the intercept first."""

    @classmethod
    def fit(cls, table: pd.DataFrame, target: Array) -> "HourlyRegression":
        """Learn a target, one value per row of a table of features."""
        x = table.to_numpy()
        mean, scale = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
        scale = np.where(scale > 1e-9, scale, 1.0)
        low, high = np.nanmin(x, axis=0), np.nanmax(x, axis=0)
        regression = cls(mean, scale, low, high, np.zeros((24, 1 + x.shape[1])))
        penalty = np.diag([1e-9, *[RIDGE_PENALTY] * x.shape[1]])
        z, hours = regression._standardized(x), table.index.get_level_values("hour")
        for hour in range(24):
            z_hour, y = z[hours == hour], target[hours == hour]
            regression.coefficients[hour] = np.linalg.solve(
                z_hour.T @ z_hour + penalty, z_hour.T @ y
            )
        return regression

    def predict(self, table: pd.DataFrame) -> Array:
        """The target of each row."""
        of_rows = self.coefficients[table.index.get_level_values("hour")]
        predicted: Array = (self._standardized(table.to_numpy()) * of_rows).sum(axis=1)
        return predicted

    def _standardized(self, x: Array) -> Array:
        z = (np.clip(x, self.low, self.high) - self.mean) / self.scale
        return np.column_stack([np.ones(len(z)), np.nan_to_num(z)])


@dataclass(frozen=True)
class ModelPair:
    """Regression and trees, trained on the demand without the effects of a calendar."""

    calendar: CalendarEffects
    regression: HourlyRegression
    trees: "lightgbm.Booster"

    @classmethod
    def fit(cls, calendar: CalendarEffects, demand: pd.DataFrame, at: time) -> "ModelPair":
        """Train on days x 24, MW, NaN where unknown."""
        effect = calendar.of(demand)
        table = features(demand.mul(np.exp(-effect)), at)
        target = (np.log(demand.to_numpy()) - effect).ravel() - table["level"].to_numpy()
        used = np.isfinite(target)
        used[: 24 * WARM_UP_DAYS] = False
        table, target = table[used], target[used]
        rows = lightgbm.Dataset(table.to_numpy(), target, feature_name=table.columns.tolist())
        trees = lightgbm.train(TREE_PARAMETERS, rows, TREES)
        # Read back from text, so that a model forecasts the same before and after it is saved.
        trees = lightgbm.Booster(model_str=trees.model_to_string())
        return cls(calendar, HourlyRegression.fit(table, target), trees)

    def log_demand(self, demand: pd.DataFrame, at: time, days: int) -> Array:
        """The logarithm of MW for each hour of the last days of a table."""
        effect = self.calendar.of(demand)
        table = features(demand.mul(np.exp(-effect)), at)[-24 * days :]
        by_trees = np.asarray(self.trees.predict(table.to_numpy(), num_threads=1))
        relative = (self.regression.predict(table) + by_trees) / 2
        log: Array = table["level"].to_numpy() + relative + effect[-days:].ravel()
        return log


def _fit(demand: pd.DataFrame, at: time) -> tuple[ModelPair, ModelPair]:
    """A pair for the demand as it was, and one for the demand without the calendar's effects."""
    effects = CalendarEffects.fit(demand)
    return ModelPair.fit(NO_EFFECTS, demand, at), ModelPair.fit(effects, demand, at)


def _predict(pairs: Iterable[ModelPair], demand: pd.DataFrame, at: time, days: int) -> Array:
    """MW of each hour of the last days, each from what was known at its issue time."""
    logs = [pair.log_demand(demand, at, days) for pair in pairs]
    return np.asarray(np.exp(np.mean(logs, axis=0)))


@dataclass(frozen=True)
class Model:
    """A trained model and its description."""

    description: Description
    _pairs: tuple[ModelPair, ...] = field(repr=False)

    @classmethod
    def train(cls, history: pd.DataFrame | pd.Series, until: datetime, at: time = NOON) -> "Model":
        """Train on the hours that have ended by an instant.

        Each day is learned from the features that were known at its issue time.

        Args:
            history: hourly frame, or its measured demand, MW over UTC hours; gaps may be left
                out or NaN.
            until: aware; later hours are not used.
            at: Madrid time on the day before, 01:00 or later, at which the model's forecasts are
                made.

        Raises:
            TooLittleHistoryError: demand is known of fewer than ``TRAINING_DAYS_NEEDED`` days.
            LightGBMMissingError: LightGBM cannot be loaded.
        """
        require_lightgbm()
        real = known_demand(history, until)
        days = days_known(real)
        if len(days) < TRAINING_DAYS_NEEDED:
            raise TooLittleHistoryError("training", len(days), TRAINING_DAYS_NEEDED)
        demand = by_local_hour(real, days[0].date(), local_date(real.index[-1]))
        held_out = days[-VALIDATION_DAYS].date()
        validation = _validate(real, demand, held_out, at)
        pairs = _fit(demand, at)
        description = Description(
            issued_at=at.isoformat(timespec="minutes"),
            known_until=until.astimezone(TIME_ZONE).isoformat(timespec="minutes"),
            first_day=f"{days[0]:%F}",
            last_day=f"{days[-1]:%F}",
            days=len(days),
            validation_first_day=held_out.isoformat(),
            validation_mape_percent=validation.mape_percent,
            validation_bias_mw=validation.bias_mw,
            validation_hours=validation.hours,
            features=pairs[0].trees.feature_name(),
        )
        return cls(description, pairs)

    def forecast(self, history: pd.DataFrame | pd.Series, day: date) -> pd.Series:
        """The 23, 24 or 25 hours of a day, from what was known at its issue time.

        Args:
            history: as for training; ``HISTORY_DAYS`` days before the day are enough, and hours
                after its issue time are not used.
            day: the Madrid day.

        Returns:
            MW over the day's UTC hours, named ``ForecastModel``, without NaN.

        Raises:
            TooLittleHistoryError: fewer than ``RECENT_DAYS_NEEDED`` of the last days are known.
        """
        at = time.fromisoformat(self.description.issued_at)
        real = known_demand(history, issue_time(day, at))
        first = day - timedelta(days=HISTORY_DAYS)
        recent = real[real.index >= day_hours(first)[0]]
        if (known := len(days_known(recent))) < RECENT_DAYS_NEEDED:
            what = f"a forecast of {day} from the {HISTORY_DAYS} days before"
            raise TooLittleHistoryError(what, known, RECENT_DAYS_NEEDED)
        mw = _predict(self._pairs, by_local_hour(recent, first, day), at, days=1)
        if np.isnan(mw).any():  # the known days lie too far back for a level
            what = f"a forecast of {day} from the weeks just before"
            raise TooLittleHistoryError(what, 0, RECENT_DAYS_NEEDED)
        return on_utc_hours(mw, day)

    def save(self, folder: Path | UPath) -> None:
        """Write `model.json` and the files that it names, with the trees as LightGBM's text.

        The trees are written first, to files named after their content: a `model.json` never
        names a file that is not there, or one of another model.
        """
        folder = UPath(folder)
        folder.mkdir(parents=True, exist_ok=True)
        views: list[dict[str, Any]] = []
        for pair in self._pairs:
            trees = pair.trees.model_to_string().encode()
            trees_file = f"trees-{hashlib.sha256(trees).hexdigest()[:16]}.txt"
            write_whole(folder / trees_file, trees)
            linear = {
                part: {name: array.tolist() for name, array in vars(getattr(pair, part)).items()}
                for part in ("calendar", "regression")
            }
            views.append({"trees": trees_file, **linear})
        content = {"description": asdict(self.description), "views": views}
        write_whole(folder / "model.json", json.dumps(content, indent=1).encode())
        for file in folder.glob("trees-*.txt"):
            if file.name not in [view["trees"] for view in views]:
                file.unlink()

    @classmethod
    def load(cls, folder: Path | UPath) -> "Model":
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: the folder holds no model.
            UnknownModelError: it is of another version, or damaged.
            LightGBMMissingError: LightGBM cannot be loaded.
        """
        require_lightgbm()
        folder = UPath(folder)
        text = (folder / "model.json").read_bytes()
        try:
            content: dict[str, Any] = json.loads(text)
            if (version := content["description"]["version"]) != VERSION:
                raise UnknownModelError(
                    f"the model in {folder} is of version {version}, and this is version {VERSION}"
                )
            pairs = tuple(
                ModelPair(
                    CalendarEffects(**{n: np.array(v) for n, v in view["calendar"].items()}),
                    HourlyRegression(**{n: np.array(v) for n, v in view["regression"].items()}),
                    lightgbm.Booster(model_str=(folder / view["trees"]).read_text()),
                )
                for view in content["views"]
            )
            return cls(Description(**content["description"]), pairs)
        except (
            OSError,
            KeyError,
            TypeError,
            json.JSONDecodeError,
            lightgbm.basic.LightGBMError,
        ) as error:
            raise UnknownModelError(
                f"the model in {folder} is unreadable ({type(error).__name__})"
            ) from error


def _validate(real: pd.Series, demand: pd.DataFrame, held_out: date, at: time) -> Score:
    """Score the days from ``held_out`` on as forecast by a model trained on the days before.

    Its training ends at the issue time of the first of them. ``demand`` is ``real`` as days x 24.
    """
    before = known_demand(real, issue_time(held_out, at))
    eve = held_out - timedelta(days=1)
    pairs = _fit(by_local_hour(before, demand.index[0].date(), eve), at)
    measured = demand[demand.index >= pd.Timestamp(held_out)]
    forecasts = _predict(pairs, demand, at, len(measured))
    return score(pd.Series(forecasts), pd.Series(measured.to_numpy().ravel()))
