"""The forecast as assets: a model a month, a forecast a day, and how good it was."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any

import pandas as pd
from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetDep,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    BackfillPolicy,
    DagsterInstance,
    Failure,
    MaterializeResult,
    MetadataValue,
    TimeWindowPartitionMapping,
    asset,
)
from upath import UPath

from demand_assets.demand.days import contiguous_ranges as stretches
from demand_assets.demand.days import day_hours, frames_by_day
from demand_assets.forecast.features import HISTORY_DAYS, issue_time
from demand_assets.forecast.model import (
    FORECAST_MODEL,
    TRAINED_MODEL,
    WEEKLY_NAIVE,
    Model,
    TooLittleHistoryError,
    UnknownModelError,
    weekly_naive,
)
from demand_assets.forecast.score import score
from demand_assets.grid import FORECAST, REAL
from demand_assets.grid import TIME_ZONE as MADRID
from demand_assets.orchestration import keys
from demand_assets.orchestration.ledger_reader import newest_materializations, read_ledger
from demand_assets.orchestration.metadata import FAILED_DAYS, metadata_of
from demand_assets.orchestration.metadata import FIELDS as FIELDS_METADATA
from demand_assets.orchestration.partitions import (
    daily_partitions,
    forecast_partitions,
    model_partitions,
)
from demand_assets.orchestration.planning.ledger import Ledger
from demand_assets.settings import DAYS_PER_RUN, Settings

GROUP = "forecast"
OWNERS = ["team:grid-data"]
BASIS = "basis"
"""Key of a forecast's metadata: what the ledger said of the days that it was made from."""
MODEL_BEATS_NAIVE = "model_beats_naive"
JUDGED_DAYS = 14
HOURS_NEEDED = 7 * 24
"""To judge the model by: a day or two are luck."""
MOST_ERRORS_SHOWN = 10


@dataclass(frozen=True)
class MonthsModel:
    """A month's model that can be asked."""

    month: date
    made_at: datetime
    storage_id: int
    """Of its materialization."""
    model: Model


def basis(ledger: Ledger, day: date, model: MonthsModel | None) -> str:
    """What a forecast of a day is made from, in a word.

    It changes when the measured demand does that was known when the forecast was due, and when its
    model does.
    """
    eve = day - timedelta(days=1)
    before = [day - timedelta(days=n) for n in range(HISTORY_DAYS, 1, -1)]
    told = [str(ledger.stored[d].fingerprint) if d in ledger.stored else "" for d in before]
    told.append(str(ledger.stored[eve].morning_fingerprint) if eve in ledger.stored else "")
    told.append(str(model.storage_id) if model else "")
    return hashlib.sha256(" ".join(told).encode()).hexdigest()[:16]


def newest_models(
    instance: DagsterInstance, asset: AssetKey, days: Iterable[date], settings: Settings
) -> dict[date, MonthsModel]:
    """Of each day, where there is one, the newest model that can be asked.

    It is the one of the day's month or of a month before, so that it knew nothing of what came
    after the day's forecast was due. Each is read, as a file that is lost or damaged is no model.
    """
    days = list(days)
    months = map(date.fromisoformat, instance.get_materialized_partitions(asset))
    newest_first = sorted((month for month in months if month <= max(days)), reverse=True)
    records = newest_materializations(instance, asset, newest_first)

    @cache
    def usable(month: date) -> MonthsModel | None:
        if (model := read_model(month, settings)) is None:
            return None
        made_at = datetime.fromtimestamp(records[month].timestamp, UTC)
        return MonthsModel(month, made_at, records[month].storage_id, model)

    found: dict[date, MonthsModel] = {}
    for day in days:
        of_day = (usable(month) for month in newest_first if month <= day)
        if newest := next(filter(None, of_day), None):
            found[day] = newest
    return found


def read_model(month: date, settings: Settings) -> Model | None:
    """The model of a month, if it is whole, of this version, and knew all that it should.

    A person may train it before the month's first forecast is due, or for another time of day.
    """
    try:
        model = Model.load(models_folder(settings.data_dir) / str(month))
    except (FileNotFoundError, UnknownModelError):
        return None
    due = issue_time(month, settings.forecast_at).isoformat(timespec="minutes")
    return model if model.description.known_until == due else None


def models_folder(data_dir: str) -> UPath:
    """Where the models are, one folder a month."""
    return UPath(data_dir) / "demand_forecast_model"


def build_forecast_assets(settings: Settings) -> list[AssetsDefinition]:
    """Model, forecast and score over the points of the days given."""
    points = keys.INFLUX_DEMAND_POINTS
    partitions = daily_partitions(settings.start_date)
    days_to_tomorrow = forecast_partitions(settings.start_date)
    months = model_partitions(settings.start_date)
    at = settings.forecast_at

    def history(context: AssetExecutionContext, start: datetime, stop: datetime) -> pd.DataFrame:
        return context.resources.demand_store.read([REAL], start, stop)

    @asset(
        partitions_def=months,
        # Each fails by itself, and lets go of the store in between.
        backfill_policy=BackfillPolicy.multi_run(max_partitions_per_run=1),
        # Of its own days it knows none; so that those who select both get the months of the days.
        deps=[
            AssetDep(
                points,
                partition_mapping=TimeWindowPartitionMapping(
                    allow_nonexistent_upstream_partitions=True
                ),
            )
        ],
        required_resource_keys={"demand_store"},
        group_name=GROUP,
        owners=OWNERS,
        kinds={"lightgbm"},
        pool="store",
    )
    def demand_forecast_model(context: AssetExecutionContext) -> None:
        """What forecasts the days of a month, trained on all demand that was known when the
        forecast of its first day was due. It needs half a year of days; without it the forecast is
        that of the week before, and says so."""
        for month in context.partition_keys:
            until = min(issue_time(date.fromisoformat(month), at), datetime.now(MADRID))
            start = datetime.combine(settings.start_date, time(), MADRID)
            try:
                model = Model.train(history(context, start, until), until, at)
            except TooLittleHistoryError as error:
                raise Failure(
                    f"{month}: {error} before {until:%F %H:%M}, Madrid time. Load earlier days, or"
                    f" do without: the forecast is {WEEKLY_NAIVE} until then."
                ) from error
            folder = models_folder(settings.data_dir) / month
            model.save(folder)
            told = vars(model.description)
            figures: dict[str, Any] = {
                **{k: v for k, v in told.items() if k != "features"},
                "features": MetadataValue.md(", ".join(f"`{n}`" for n in told["features"])),
                "folder": str(folder),
            }
            context.add_asset_metadata(figures, partition_key=month)

    @asset(
        partitions_def=days_to_tomorrow,
        backfill_policy=BackfillPolicy.multi_run(max_partitions_per_run=DAYS_PER_RUN),
        deps=[
            AssetDep(points, partition_mapping=_days_before()),
            AssetDep(
                demand_forecast_model,
                partition_mapping=TimeWindowPartitionMapping(
                    allow_nonexistent_upstream_partitions=True
                ),
            ),
        ],
        required_resource_keys={"demand_store"},
        io_manager_key="demand_store",
        group_name=GROUP,
        owners=OWNERS,
        kinds={"lightgbm"},
        pool="store",
        metadata={FIELDS_METADATA: [FORECAST_MODEL]},
    )
    def demand_forecast(context: AssetExecutionContext) -> pd.DataFrame:
        """Each hour of a day in MW, forecast from what was known the day before at noon, by the
        newest model that was made by then; field `ForecastModel` beside what is measured."""
        days = [date.fromisoformat(key) for key in context.partition_keys]
        start = datetime.combine(days[0] - timedelta(days=HISTORY_DAYS), time(), MADRID)
        now = datetime.now(UTC)
        # Before the data are: what comes in between is found to be new.
        ledger = read_ledger(context.instance, settings, now)
        models = newest_models(context.instance, demand_forecast_model.key, days, settings)
        known = history(context, start, issue_time(days[-1], at))
        made: dict[date, pd.Series] = {}
        failed: dict[date, TooLittleHistoryError] = {}
        for day in days:
            newest = models.get(day)
            try:
                forecast, maker, why = _forecast(known, day, at, newest.model if newest else None)
            except TooLittleHistoryError as error:
                failed[day] = error
                continue
            made[day] = forecast
            known_at = min(issue_time(day, at), now).astimezone(UTC)
            told = {
                "made_by": maker,
                "made_from": f"what was known at {known_at:%F %H:%M} UTC",
                "model": str(newest.month) if newest and maker == TRAINED_MODEL else "",
                "why": why,
                "hours": len(forecast),
                "peak_mw": float(forecast.max()),
                "mean_mw": float(forecast.mean()),
                BASIS: basis(ledger, day, newest),
            }
            context.add_asset_metadata(told, partition_key=day.isoformat())
        if failed:
            # Dagster takes a range's output for that of all its days: it is all of them or none.
            lines = [f"{day}: {error}." for day, error in failed.items()][:MOST_ERRORS_SHOWN]
            rest = [f"{row[0]} to {row[-1]}" for row in stretches(made, len(made))]
            raise Failure(
                f"{len(failed)} of {len(days)} days cannot be forecast.\n" + "\n".join(lines) + "\n"
                "Materialize influx_demand_points of the weeks before"
                + (f", or launch without these days: {', '.join(rest)}." if rest else "."),
                metadata={FAILED_DAYS: MetadataValue.json([str(day) for day in failed])},
            )
        return pd.concat(made.values()).to_frame()

    @asset(
        partitions_def=partitions,
        backfill_policy=BackfillPolicy.multi_run(max_partitions_per_run=DAYS_PER_RUN),
        deps=[points, demand_forecast],
        required_resource_keys={"demand_store"},
        group_name=GROUP,
        owners=OWNERS,
        kinds={"pandas"},
        pool="store",
        check_specs=[
            AssetCheckSpec(
                MODEL_BEATS_NAIVE,
                asset="demand_forecast_score",
                description="Over the last two weeks, is the model nearer to what was measured than"
                " the same hours of the week before are?",
            )
        ],
    )
    def demand_forecast_score(
        context: AssetExecutionContext,
    ) -> MaterializeResult:
        """How far the forecasts of a closed day were from what was measured: MAPE and bias of our
        model, of the operator (made minutes ahead) and of the week before."""
        days = [date.fromisoformat(key) for key in context.partition_keys]
        # The check judges the present, whatever is scored.
        today = datetime.now(MADRID).date()
        judged = [today - timedelta(days=n) for n in range(JUDGED_DAYS, 0, -1)]
        first = min(days[0], judged[0]) - timedelta(days=HISTORY_DAYS)
        frame = context.resources.demand_store.read(
            [REAL, FORECAST, FORECAST_MODEL],
            datetime.combine(first, time(), MADRID),
            datetime.combine(max(days[-1], today) + timedelta(days=1), time(), MADRID),
        )
        # What the week before stood in for is no merit of the model, nor its fault.
        made = newest_materializations(context.instance, demand_forecast.key, {*days, *judged})
        for day, record in made.items():
            if metadata_of(record).get("made_by") == WEEKLY_NAIVE:
                frame.loc[frame.index.intersection(day_hours(day)), FORECAST_MODEL] = math.nan
        frame[WEEKLY_NAIVE] = _naive(frame, sorted({*days, *judged}), at)
        for key, hours in frames_by_day(frame, context.partition_keys).items():
            figures: dict[str, float | int] = {}
            for name, column in _JUDGED.items():
                told = score(hours[column], hours[REAL])
                if told.hours:
                    figures[f"{name}_mape_percent"] = told.mape_percent
                    figures[f"{name}_bias_mw"] = told.bias_mw
            context.add_asset_metadata(figures, partition_key=key)
        return MaterializeResult(check_results=[judge_model(frame.loc[day_hours(judged[0])[0] :])])

    return [demand_forecast_model, demand_forecast, demand_forecast_score]


_JUDGED = {"model": FORECAST_MODEL, "operator": FORECAST, "naive": WEEKLY_NAIVE}


def judge_model(frame: pd.DataFrame) -> AssetCheckResult:
    """Whether the model beats weekly-naive where all are known.

    Args:
        frame: MW over UTC hours, columns `RealDemand`, `ForecastModel` and `weekly-naive`.
    """
    known = frame[[REAL, FORECAST_MODEL, WEEKLY_NAIVE]].dropna()
    model, naive = (score(known[c], known[REAL]) for c in (FORECAST_MODEL, WEEKLY_NAIVE))
    if model.hours < HOURS_NEEDED:
        return AssetCheckResult(
            check_name=MODEL_BEATS_NAIVE,
            passed=True,
            description=f"Of the last {JUDGED_DAYS} days {model.hours} hours were forecast by the"
            f" model; it is judged from {HOURS_NEEDED} on.",
        )
    return AssetCheckResult(
        check_name=MODEL_BEATS_NAIVE,
        passed=model.mape_percent <= naive.mape_percent,
        severity=AssetCheckSeverity.WARN,
        metadata={
            "model_mape_percent": model.mape_percent,
            "naive_mape_percent": naive.mape_percent,
            "hours": model.hours,
        },
        description=f"MAPE {model.mape_percent:.2f} % of the model, {naive.mape_percent:.2f} % of"
        f" {WEEKLY_NAIVE}, over {model.hours} hours of the last {JUDGED_DAYS} days.",
    )


def _forecast(
    known: pd.DataFrame, day: date, at: time, model: Model | None
) -> tuple[pd.Series, str, str]:
    """A day's hours, what made them and, if that was not the model, why."""
    why = (
        f"there is no model that can be asked at {at:%H:%M}: none of the day's month or of one"
        " before. Materialize demand_forecast_model of that month."
    )
    if model:
        try:
            return model.forecast(known, day), TRAINED_MODEL, ""
        except TooLittleHistoryError as error:
            why = str(error)
    return weekly_naive(known, day, at), WEEKLY_NAIVE, why


def _naive(frame: pd.DataFrame, days: list[date], at: time) -> pd.Series:
    made = []
    for day in days:
        try:
            made.append(weekly_naive(frame, day, at))
        except TooLittleHistoryError:
            continue  # a day without a week before it has no score of it
    return pd.concat(made) if made else pd.Series(dtype="float64")


def _days_before() -> TimeWindowPartitionMapping:
    return TimeWindowPartitionMapping(
        start_offset=-HISTORY_DAYS, end_offset=-1, allow_nonexistent_upstream_partitions=True
    )
