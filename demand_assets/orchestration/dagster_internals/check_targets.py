"""Results of checks: their states, and the target of a result that is recorded for one day."""

import time
from collections.abc import Iterable

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
"""Results of checks. Dagster exports no names for their states."""


def materialization_target(
    instance: dg.DagsterInstance, asset: dg.AssetKey, partitions: Iterable[str], run_id: str
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    """The newest materialization of each partition that has one, as the target of a result."""
    newest = instance.event_log_storage.get_latest_storage_id_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION, set(partitions)
    )
    return {
        key: AssetCheckEvaluationTargetMaterializationData(
            storage_id=storage_id, run_id=run_id, timestamp=time.time()
        )
        for key, storage_id in newest.items()
    }
