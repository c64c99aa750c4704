"""Backfills under way. Dagster exports neither their records nor the filter to find them."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill

from demand_assets.orchestration import keys

UNDER_WAY = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]


def backfills_under_way(
    instance: dg.DagsterInstance, asset: dg.AssetKey
) -> Iterator[tuple[str, datetime, set[str]]]:
    """Id, start and remaining partition keys of each backfill of an asset or of its jobs."""
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=UNDER_WAY)):
        since = datetime.fromtimestamp(backfill.backfill_timestamp, UTC)
        yield backfill.backfill_id, since, _remaining_partitions(backfill, asset)


def _remaining_partitions(backfill: PartitionBackfill, asset: dg.AssetKey) -> set[str]:
    data = backfill.asset_backfill_data
    if data is None:  # a backfill of a job
        is_for_asset = keys.TARGET_OF_JOB.get(backfill.job_name or "") == asset
        return set(backfill.partition_names or ()) if is_for_asset else set()
    if asset not in data.target_subset.asset_keys:
        return set()
    remaining = set(data.target_subset.get_partitions_subset(asset).get_partition_keys())
    done = data.materialized_subset | data.failed_and_downstream_subset
    if asset in done.asset_keys:
        remaining -= set(done.get_partitions_subset(asset).get_partition_keys())
    return remaining
