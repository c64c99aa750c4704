"""The target of a check's result. Dagster has no public way to record a result for one day."""

import time
from collections.abc import Iterable

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)


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
