"""The forecast as assets: a model per month, a forecast per day, and its score.

The forecast itself is in `forecast/`, and what is due in `planning/forecast_plans.py`.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import dagster as dg
import pandas as pd
from upath import UPath

from demand_assets.demand.days import (
    contiguous_ranges,
    day_hours,
    days_between,
    frames_by_day,
)
from demand_assets.demand.figures import hours_fingerprints
from demand_assets.forecast import (
    HISTORY_DAYS,
    TRAINED_MODEL,
    WEEKLY_NAIVE,
    LightGBMMissingError,
    Model,
    TooLittleHistoryError,
    UnknownModelError,
    issue_time,
    weekly_naive,
    why_no_model,
)
from demand_assets.forecast.score import CHECKED_DAYS, check_model, describe_scores
from demand_assets.grid import FORECAST, MODEL, REAL, TIME_ZONE, end_of, local_date, start_of
from demand_assets.orchestration import keys, metadata, partitions
from demand_assets.orchestration.checks import check_result
from demand_assets.orchestration.ledger_reader import newest_materializations, read_ledger
from demand_assets.orchestration.planning.forecast_plans import MonthlyModel, forecast_fingerprint
from demand_assets.settings import DAYS_PER_RUN, Settings
from demand_assets.stores import Store

SHOWN_ERRORS = 10


def build_forecast_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Model, forecast and score of the months and days from the start date on."""
    common: Any = dict(group_name=keys.FORECAST_GROUP, owners=keys.OWNERS, pool=keys.STORE_POOL)
    start = settings.start_date
    days_per_run = dg.BackfillPolicy.multi_run(max_partitions_per_run=DAYS_PER_RUN)
    # So that a selection of days and models gets the months of its days. A model itself is trained
    # on earlier days.
    same_time = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
    days_before = dg.TimeWindowPartitionMapping(
        start_offset=-HISTORY_DAYS, end_offset=-1, allow_nonexistent_upstream_partitions=True
    )
    beats_naive = dg.AssetCheckSpec(
        keys.MODEL_BEATS_NAIVE,
        asset=keys.DEMAND_FORECAST_SCORE,
        description="Was the model's error in the last two weeks at most that of the same hours a"
        " week before? Yellow: it was larger.",
    )
    return [
        dg.asset(
            **common,
            partitions_def=partitions.model_partitions(start),
            # Each month fails alone, and between two of them other runs can use the store.
            backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
            deps=[dg.AssetDep(keys.INFLUX_DEMAND_POINTS, partition_mapping=same_time)],
            kinds={"lightgbm"},
        )(demand_forecast_model),
        dg.asset(
            **common,
            partitions_def=partitions.forecast_partitions(start),
            backfill_policy=days_per_run,
            deps=[
                dg.AssetDep(keys.INFLUX_DEMAND_POINTS, partition_mapping=days_before),
                dg.AssetDep(keys.DEMAND_FORECAST_MODEL, partition_mapping=same_time),
            ],
            io_manager_key=keys.STORE_RESOURCE,
            kinds={"lightgbm"},
            metadata={metadata.FIELDS: [MODEL]},
        )(demand_forecast),
        dg.asset(
            **common,
            partitions_def=partitions.daily_partitions(start),
            backfill_policy=days_per_run,
            deps=[keys.INFLUX_DEMAND_POINTS, keys.DEMAND_FORECAST],
            kinds={"pandas"},
            check_specs=[beats_naive],
        )(demand_forecast_score),
    ]


def demand_forecast_model(
    context: dg.AssetExecutionContext,
    demand_store: dg.ResourceParam[Store],
    settings: dg.ResourceParam[Settings],
) -> None:
    """The model that forecasts the days of a month, trained on the demand that was known when the
    first of them was forecast. It needs half a year of days; without one the forecast is that of
    the week before."""
    at = settings.forecast_at
    for month in context.partition_keys:
        until = min(issue_time(date.fromisoformat(month), at), datetime.now(TIME_ZONE))
        history = demand_store.read([REAL], start_of(settings.start_date), until)
        history = without_unusual_hours(context.instance, history)
        try:
            model = Model.train(history, until, at)
        except LightGBMMissingError as error:
            raise dg.Failure(
                f"{month}: {error}; the forecast is {WEEKLY_NAIVE} until then."
            ) from error
        except TooLittleHistoryError as error:
            raise dg.Failure(
                f"{month}: {error} before {until:%F %H:%M}, Madrid time. Load earlier days, or"
                f" continue without a model: the forecast is {WEEKLY_NAIVE} until then."
            ) from error
        folder = _model_folder(settings, month)
        model.save(folder)
        features = dg.MetadataValue.md(", ".join(f"`{f}`" for f in model.description.features))
        figures = {**vars(model.description), "features": features, "folder": str(folder)}
        context.add_asset_metadata(figures, partition_key=month)


def demand_forecast(
    context: dg.AssetExecutionContext,
    demand_store: dg.ResourceParam[Store],
    settings: dg.ResourceParam[Settings],
) -> pd.DataFrame:
    """Each hour of a day in MW, forecast from what was known the day before at noon by the newest
    model that was trained by then; field `ForecastModel` next to the measured demand."""
    days = [date.fromisoformat(key) for key in context.partition_keys]
    now = datetime.now(UTC)
    # Read before the demand: what is stored in between changes the fingerprint later.
    ledger = read_ledger(context.instance, settings, now)
    models = newest_models(context.instance, days, settings)
    start = start_of(days[0] - timedelta(days=HISTORY_DAYS))
    history = demand_store.read([REAL], start, issue_time(days[-1], settings.forecast_at))
    history = without_unusual_hours(context.instance, history)
    forecasts: dict[date, pd.Series] = {}
    errors: dict[date, TooLittleHistoryError] = {}
    for day in days:
        model = models.get(day)
        try:
            hours, made_by, why = _forecast(history, day, settings.forecast_at, model)
        except TooLittleHistoryError as error:
            errors[day] = error
            continue
        forecasts[day] = hours
        known_at = min(issue_time(day, settings.forecast_at), now).astimezone(UTC)
        figures = {
            metadata.MADE_BY: made_by,
            "made_from": f"what was known at {known_at:%F %H:%M} UTC",
            "model": str(model.month) if model and made_by == TRAINED_MODEL else "",
            "why": why,
            "hours": len(hours),
            "peak_mw": float(hours.max()),
            "mean_mw": float(hours.mean()),
            metadata.FINGERPRINT: forecast_fingerprint(ledger, day, model),
        }
        context.add_asset_metadata(figures, partition_key=day.isoformat())
    if errors:
        raise _failure(errors, list(forecasts))
    frame = pd.DataFrame(pd.concat(forecasts.values()))
    for day, text in hours_fingerprints(frame, forecasts).items():
        context.add_asset_metadata(
            {metadata.HOURS_FINGERPRINT: text}, partition_key=day.isoformat()
        )
    return frame


def demand_forecast_score(
    context: dg.AssetExecutionContext,
    demand_store: dg.ResourceParam[Store],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster expects the plain class
    """The errors of the forecasts of a closed day, MAPE and bias: of the model, of the operator
    (made minutes before each hour) and of the same hours a week before."""
    # The check is about the days before today, whichever days are scored.
    today = local_date(datetime.now(UTC))
    checked = [today - timedelta(days=n) for n in range(CHECKED_DAYS, 0, -1)]
    days = sorted({*map(date.fromisoformat, context.partition_keys), *checked})
    start = start_of(days[0] - timedelta(days=HISTORY_DAYS))
    frame = demand_store.read([REAL, FORECAST, MODEL], start, end_of(max(days[-1], today)))
    # The error of a weekly-naive forecast that replaced the model's is not the model's error.
    records = newest_materializations(context.instance, keys.DEMAND_FORECAST, days)
    for day, record in records.items():
        if metadata.metadata_of(record).get(metadata.MADE_BY) == WEEKLY_NAIVE:
            frame.loc[frame.index.intersection(day_hours(day)), MODEL] = math.nan
    frame[WEEKLY_NAIVE] = math.nan
    history = without_unusual_hours(context.instance, frame)
    for day in days:
        with suppress(TooLittleHistoryError):
            naive = weekly_naive(history, day, settings.forecast_at)
            frame.update(naive.to_frame(WEEKLY_NAIVE))
    for key, hours in frames_by_day(frame, context.partition_keys).items():
        context.add_asset_metadata(describe_scores(hours), partition_key=key)
    finding = check_model(frame.loc[start_of(checked[0]) :])
    return dg.MaterializeResult(check_results=[check_result(keys.MODEL_BEATS_NAIVE, finding)])


def without_unusual_hours(instance: dg.DagsterInstance, history: pd.DataFrame) -> pd.DataFrame:
    """A copy of an hourly frame, NaN where measured demand is on record as unusual.

    `forecast.features` finds blackouts and frozen hours in the hours themselves; what only the
    samples tell, such as a wild one, is in the metadata of `hourly_demand_frame`.
    """
    if history.empty:
        return history
    first, last = (local_date(history.index[n]) for n in (0, -1))
    days = days_between(first, last)
    records = newest_materializations(instance, keys.HOURLY_DEMAND_FRAME, days)
    unusual = [
        hour
        for record in records.values()
        for hour in metadata.metadata_of(record).get(metadata.UNUSUAL_HOURS, ())
    ]
    usual = history.copy()
    usual.loc[usual.index.isin(pd.to_datetime(unusual, utc=True)), REAL] = math.nan
    return usual


def newest_models(
    instance: dg.DagsterInstance, days: Sequence[date], settings: Settings
) -> dict[date, MonthlyModel]:
    """The newest usable model of each day that has one: of its month, or of a month before.

    It has seen nothing after the day's issue time. Files are read, as they may be lost or damaged.
    """
    asset_key = keys.DEMAND_FORECAST_MODEL
    materialized = map(date.fromisoformat, instance.get_materialized_partitions(asset_key))
    months = sorted(month for month in materialized if month <= max(days))
    records = newest_materializations(instance, asset_key, months)
    newest: dict[date, MonthlyModel] = {}
    for month in reversed(months):
        without = [day for day in days if day >= month and day not in newest]
        if without and (model := _read_model(month, settings)):
            record = records[month]
            trained_at = datetime.fromtimestamp(record.timestamp, UTC)
            of_month = MonthlyModel(month, trained_at, record.storage_id, model)
            newest |= dict.fromkeys(without, of_month)
    return newest


def _read_model(month: date, settings: Settings) -> Model | None:
    """The model of a month, if it is intact and of this version.

    It must have been trained up to the issue time of the month's first day: a person may train it
    earlier, or have changed the time of forecasts since.
    """
    try:
        model = Model.load(_model_folder(settings, month.isoformat()))
    except (FileNotFoundError, UnknownModelError, LightGBMMissingError):
        return None
    due = issue_time(month, settings.forecast_at).isoformat(timespec="minutes")
    return model if model.description.known_until == due else None


def _model_folder(settings: Settings, month: str) -> UPath:
    return UPath(settings.data_dir) / "demand_forecast_model" / month


def _forecast(
    history: pd.DataFrame, day: date, at: time, model: MonthlyModel | None
) -> tuple[pd.Series, str, str]:
    """A day's hours, what made them and, if that was not the model, why."""
    why = why_no_model() or (
        f"there is no model that can be used at {at:%H:%M}: none of the day's month or of one"
        " before. Materialize demand_forecast_model of that month."
    )
    if model:
        try:
            return model.model.forecast(history, day), TRAINED_MODEL, ""
        except TooLittleHistoryError as error:
            why = str(error)
    return weekly_naive(history, day, at), WEEKLY_NAIVE, why


def _failure(errors: Mapping[date, TooLittleHistoryError], good: list[date]) -> dg.Failure:
    """Names the days that failed, and the ranges to launch instead.

    A range fails as a whole, because Dagster records its output for all of its days.
    """
    lines = [f"{len(errors)} of {len(errors) + len(good)} days cannot be forecast."]
    lines += [f"{day}: {error}." for day, error in errors.items()][:SHOWN_ERRORS]
    ranges = [f"{r[0]} to {r[-1]}" for r in contiguous_ranges(good, max(len(good), 1))]
    instead = f", or launch without these days: {', '.join(ranges)}." if ranges else "."
    lines.append(f"Materialize influx_demand_points of the weeks before{instead}")
    failed_days = dg.MetadataValue.json([str(day) for day in errors])
    return dg.Failure("\n".join(lines), metadata={metadata.FAILED_DAYS: failed_days})
