"""The three assets: the answer, its hours, its points in the store.

Each takes one day or a contiguous range in one run, and describes every day by itself.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import pandas as pd
from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetsDefinition,
    BackfillPolicy,
    DailyPartitionsDefinition,
    Failure,
    FreshnessPolicy,
    MetadataValue,
    Output,
    asset,
)

from demand_assets.checks import (
    frame_check_specs,
    judge_forecast,
    judge_hours,
    judge_plausibility,
    record,
)
from demand_assets.hourly import (
    FORECAST,
    REAL,
    ImplausibleDemandError,
    check_plausible,
    describe_answer,
    describe_frame,
    digest,
    frames_by_day,
    hourly_frame,
    missing_samples,
    read_day,
)
from demand_assets.influxdb import FIELDS_METADATA
from demand_assets.ledger import FAILED_DAYS, STORE
from demand_assets.picture import day_markdown, sparkline
from demand_assets.redata import MADRID, Answer, REDataError, UnavailableError
from demand_assets.resources import REDataResource
from demand_assets.settings import DAYS_PER_RUN, Settings

GROUP = "electricity_demand"
OWNERS = ["team:grid-data"]
MOST_ERRORS_SHOWN = 10
PROGRESS_SECONDS = 10.0

T = TypeVar("T")


def build_assets(
    partitions: DailyPartitionsDefinition, settings: Settings
) -> list[AssetsDefinition]:
    """The assets over the given days."""
    store = settings.store
    backfill_policy = BackfillPolicy.multi_run(max_partitions_per_run=DAYS_PER_RUN)
    frame_checks = frame_check_specs("hourly_demand_frame", partitions)

    def _morning_end(day: date) -> datetime:
        return datetime.combine(day, settings.forecast_at, MADRID)

    @asset(
        partitions_def=partitions,
        backfill_policy=backfill_policy,
        io_manager_key="answer_files",
        group_name=GROUP,
        owners=OWNERS,
        kinds={"python", "json"},
        pool="redata",
    )
    def raw_ree_json(context: AssetExecutionContext, redata: REDataResource) -> dict[str, Answer]:
        """REData's answer for each Madrid day, as received: measured, programmed and forecast
        demand of peninsular Spain in MW, every 5 or 10 minutes."""
        days = _days(context)
        outcomes = redata.get_client().fetch(days, _progress(context, len(days)))
        answers = _all_or_fail(outcomes)
        for key, answer in answers.items():
            _describe(context, key, describe_answer(answer))
        return answers

    @asset(
        partitions_def=partitions,
        backfill_policy=backfill_policy,
        io_manager_key="frame_files",
        group_name=GROUP,
        owners=OWNERS,
        kinds={"pandas", "parquet"},
        check_specs=frame_checks,
    )
    def hourly_demand_frame(
        context: AssetExecutionContext, raw_ree_json: dict[str, Answer]
    ) -> Iterator[Output]:
        """Hourly means in MW by UTC start of the hour: `RealDemand` for hours that are over,
        `ForecastDemand` for the whole day."""
        now = datetime.now(UTC)
        outcomes: dict[date, pd.DataFrame | REDataError] = {}
        stopped: dict[str, list[AssetCheckResult]] = {}
        judged: dict[str, list[AssetCheckResult]] = {}
        for day in _days(context):
            key = day.isoformat()
            try:
                samples = read_day(raw_ree_json[key], day)
                frame = hourly_frame(samples, day, now=now)
                check_plausible(samples, day)
            except REDataError as error:
                outcomes[day] = error
                if isinstance(error, ImplausibleDemandError):
                    stopped[key] = [judge_plausibility(error)]
                continue
            outcomes[day] = frame
            missing = missing_samples(samples, day, now=now)
            judged[key] = [
                judge_hours(frame, missing, day, now),
                judge_plausibility(),
                judge_forecast(frame, day),
            ]
            figures = describe_frame(frame, day)
            _describe(context, key, {**figures, "samples_missing": len(missing)})
        record(context.op_execution_context, context.asset_key, stopped)
        yield Output(pd.concat(_all_or_fail(outcomes).values()))
        record(context.op_execution_context, context.asset_key, judged)
        for spec in frame_checks:
            yield Output(None, output_name=spec.get_python_identifier())

    @asset(
        partitions_def=partitions,
        backfill_policy=backfill_policy,
        io_manager_key="demand_store",
        group_name=GROUP,
        owners=OWNERS,
        kinds={store.kind},
        pool="store",
        # Of all partitions together, for the badge; `today_is_fresh` judges today.
        freshness_policy=FreshnessPolicy.time_window(
            fail_window=settings.freshness.fail_after,
            warn_window=settings.freshness.warn_after,
        ),
        metadata={
            FIELDS_METADATA: [REAL, FORECAST],
            "schema": "main",
            "partition_expr": "time AT TIME ZONE 'Europe/Madrid'",
        },
    )
    def influx_demand_points(
        context: AssetExecutionContext, hourly_demand_frame: pd.DataFrame
    ) -> pd.DataFrame:
        """The hours as points of measurement `demand`, fields `RealDemand` and `ForecastDemand`,
        no tags. A green partition means: the store has acknowledged every point of that day."""
        for key, frame in frames_by_day(hourly_demand_frame, context.partition_keys).items():
            day = date.fromisoformat(key)
            shown = {
                "measured": sparkline(frame[REAL], day),
                "forecast": sparkline(frame[FORECAST], day),
                "picture": MetadataValue.md(day_markdown(frame, day)),
                STORE: store.address,
                "points": len(frame),
            }
            # What the next days' forecasts are made from, in two words; see demand_forecast.
            basis = {
                "digest": digest(frame[REAL]),
                "morning_digest": digest(frame.loc[frame.index < _morning_end(day), REAL]),
            }
            _describe(context, key, {**shown, **describe_frame(frame, day), **basis})
        context.log.info(
            f"Writing {len(hourly_demand_frame)} points of {len(context.partition_keys)} days"
            f" to {store.address}."
        )
        return hourly_demand_frame

    return [raw_ree_json, hourly_demand_frame, influx_demand_points]


def _progress(context: AssetExecutionContext, days: int) -> Callable[[int, int], None]:
    """Tells the run's log how far it is; seldom, as each line is an event."""
    started = told = time.monotonic()

    def progress(done: int, requests: int) -> None:
        nonlocal told
        now = time.monotonic()
        if days == 1 or (now - told < PROGRESS_SECONDS and done < days):
            return
        told = now
        left = timedelta(seconds=(now - started) / done * (days - done))
        told_left = f", {days - done} left; done at about {datetime.now(MADRID) + left:%H:%M:%S}"
        context.log.info(
            f"{done} of {days} days fetched in {requests} requests"
            f"{told_left + ' Madrid time' if left else ''}."
        )

    return progress


def _days(context: AssetExecutionContext) -> list[date]:
    return [date.fromisoformat(key) for key in context.partition_keys]


def _all_or_fail(outcomes: Mapping[date, T | REDataError]) -> dict[str, T]:
    """The outcomes by partition key; if some are errors, a failure that names each such day."""
    good: dict[str, T] = {}
    errors: list[REDataError] = []
    for day, outcome in outcomes.items():
        if isinstance(outcome, REDataError):
            errors.append(outcome)
        else:
            good[day.isoformat()] = outcome
    if not errors:
        return good
    lines = [str(error) for error in errors[:MOST_ERRORS_SHOWN]]
    if len(outcomes) > 1:
        shown = "" if len(lines) == len(errors) else f" The first {len(lines)} of them:"
        lines.insert(0, f"{len(errors)} of {len(outcomes)} days failed.{shown}")
    # An outage is no day's fault, and whom it struck says nothing: then the whole range is named.
    to_blame = [e.day for e in errors if not isinstance(e, UnavailableError)] or list(outcomes)
    raise Failure(
        description="\n".join(lines),
        metadata={FAILED_DAYS: MetadataValue.json([str(day) for day in to_blame])},
    )


def _describe(context: AssetExecutionContext, key: str, figures: Mapping[str, Any]) -> None:
    metadata = {
        name: MetadataValue.timestamp(value) if isinstance(value, datetime) else value
        for name, value in figures.items()
    }
    context.add_asset_metadata(metadata, partition_key=key)
