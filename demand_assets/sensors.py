"""What acts on the ledger without a click."""

from datetime import UTC, datetime, timedelta

from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from demand_assets.redata import MADRID

RUNNING = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def build_current_day_sensor(
    job: UnresolvedAssetJobDefinition, points: AssetKey, interval: timedelta
) -> SensorDefinition:
    """A sensor that keeps today's partition fresh."""

    @sensor(job=job, minimum_interval_seconds=60, default_status=DefaultSensorStatus.RUNNING)
    def current_day_sensor(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        """Asks for today's partition when it is missing and then every few minutes, never while
        a run for it is queued or running."""
        now = datetime.now(UTC)
        today = now.astimezone(MADRID).date().isoformat()
        if run_id := _run_under_way(context.instance, today):
            return SkipReason(f"Run {run_id[:8]} for today, {today}, is queued or running.")
        newest = context.instance.fetch_materializations(
            AssetRecordsFilter(asset_key=points, asset_partitions=[today]), limit=1
        ).records
        if newest:
            due = datetime.fromtimestamp(newest[0].timestamp, UTC) + interval
            if now < due:
                return SkipReason(
                    f"Today, {today}, is fresh; the next refresh is due at"
                    f" {due.astimezone(MADRID):%H:%M} Madrid time."
                )
        return RunRequest(partition_key=today, tags={"dagster/priority": "10"})

    return current_day_sensor


def _run_under_way(instance: DagsterInstance, day: str) -> str | None:
    for run in instance.get_runs(RunsFilter(statuses=RUNNING)):
        first = run.tags.get(
            "dagster/asset_partition_range_start", run.tags.get("dagster/partition")
        )
        last = run.tags.get("dagster/asset_partition_range_end", first)
        # Keys are ISO dates, so text order is date order.
        if first and last and first <= day <= last:
            return run.run_id
    return None
