"""The three assets: the answer, its hours, its points in the store.

Each takes one day or a contiguous range in one run, and describes every day by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import pandas as pd
from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    BackfillPolicy,
    DailyPartitionsDefinition,
    Failure,
    FreshnessPolicy,
    MetadataValue,
    asset,
)

from demand_assets.hourly import (
    FORECAST,
    REAL,
    check_plausible,
    day_of_hours,
    describe_answer,
    describe_frame,
    hourly_frame,
)
from demand_assets.influxdb import FIELDS_METADATA
from demand_assets.redata import Answer, REDataError
from demand_assets.resources import REDataResource

GROUP = "electricity_demand"
OWNERS = ["team:grid-data"]
FAILED_DAYS = "failed_days"
"""Key of a failure's metadata: the days that made the run fail, by partition key."""
MOST_ERRORS_SHOWN = 10

T = TypeVar("T")


@dataclass(frozen=True)
class Store:
    """Where the points go, as the web page tells it."""

    kind: str
    """``influxdb`` or ``duckdb``: the badge on the asset."""
    address: str
    """For people to read, without credentials."""


def build_assets(
    partitions: DailyPartitionsDefinition, store: Store, days_per_run: int
) -> list[AssetsDefinition]:
    """The assets over the given days, for the given store."""
    backfill_policy = BackfillPolicy.multi_run(max_partitions_per_run=days_per_run)

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
        outcomes = redata.get_client().fetch(_days(context))
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
    )
    def hourly_demand_frame(
        context: AssetExecutionContext, raw_ree_json: dict[str, Answer]
    ) -> pd.DataFrame:
        """Hourly means in MW by UTC start of the hour: `RealDemand` for hours that are over,
        `ForecastDemand` for the whole day."""
        now = datetime.now(UTC)
        outcomes: dict[date, pd.DataFrame | REDataError] = {}
        for day in _days(context):
            answer = raw_ree_json[day.isoformat()]
            try:
                frame = hourly_frame(answer, day, now=now)
                check_plausible(answer, day)
                outcomes[day] = frame
            except REDataError as error:
                outcomes[day] = error
        frames = _all_or_fail(outcomes)
        for key, frame in frames.items():
            _describe(context, key, describe_frame(frame, date.fromisoformat(key)))
        return pd.concat(frames.values())

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
            fail_window=timedelta(hours=2), warn_window=timedelta(minutes=80)
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
        days = day_of_hours(hourly_demand_frame)
        for key in context.partition_keys:
            figures = describe_frame(hourly_demand_frame[days == key], date.fromisoformat(key))
            _describe(context, key, {"store": store.address, **figures})
        return hourly_demand_frame

    return [raw_ree_json, hourly_demand_frame, influx_demand_points]


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
    raise Failure(
        description="\n".join(lines),
        metadata={FAILED_DAYS: MetadataValue.json([str(error.day) for error in errors])},
    )


def _describe(context: AssetExecutionContext, key: str, figures: Mapping[str, Any]) -> None:
    metadata = {
        name: MetadataValue.timestamp(value) if isinstance(value, datetime) else value
        for name, value in figures.items()
    }
    context.add_asset_metadata(metadata, partition_key=key)
