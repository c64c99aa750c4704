"""Asset checks: what the web page shows of the rules in `demand.quality` and `planning.freshness`.

Red (`ERROR`) means that a person has to act. Yellow (`WARN`) is repaired by the sensors, or cannot
be repaired. Rules belong in `demand/`; here is how their findings become results of Dagster.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pandas as pd

from demand_assets.demand.days import frames_by_day
from demand_assets.demand.quality import Finding, check_stored
from demand_assets.grid import COLUMNS, end_of, start_of
from demand_assets.orchestration import keys
from demand_assets.orchestration.dagster_internals.check_targets import materialization_target
from demand_assets.orchestration.ledger_reader import newest_materializations, read_ledger
from demand_assets.orchestration.metadata import FROZEN_SINCE, metadata_of, metadata_values
from demand_assets.orchestration.planning.freshness import check_freshness
from demand_assets.orchestration.planning.ledger import Ledger
from demand_assets.settings import Settings
from demand_assets.stores import Store, StoreError

DESCRIPTIONS = {
    keys.HOURS_ARE_COMPLETE: "Does the day have its 23, 24 or 25 measured hours? Yellow: samples"
    " are missing, or hours of a day that is still requested. Red: hours are still missing a day"
    " after its end.",
    keys.DEMAND_IS_PLAUSIBLE: "Is every sample in MW and in the plausible range of its series?"
    " Yellow: some are not, and their hours were left out. Red: more than a quarter of measured"
    " demand is not; nothing of the day was stored.",
    keys.FORECAST_IS_PRESENT: "Does every hour have the operator's forecast? Yellow: some do not.",
    keys.SAMPLES_ARE_PLAUSIBLE: "Do the samples look like demand? Yellow: some are frozen, wild,"
    " contradictory, far from the forecast, late or in the future. They are stored as the operator"
    " sent them; the forecast does without their hours.",
}
"""The checks of a frame before it is stored."""


def frame_check_specs(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetCheckSpec]:
    """The checks that `hourly_demand_frame` evaluates in its own step."""
    return [
        dg.AssetCheckSpec(
            name, asset=keys.HOURLY_DEMAND_FRAME, partitions_def=partitions, description=text
        )
        for name, text in DESCRIPTIONS.items()
    ]


def check_result(name: str, finding: Finding) -> dg.AssetCheckResult:
    """A finding as the result of the check with that name."""
    return dg.AssetCheckResult(
        check_name=name,
        passed=finding.passed,
        severity=dg.AssetCheckSeverity.ERROR if finding.red else dg.AssetCheckSeverity.WARN,
        metadata=metadata_values(finding.figures),
        description=finding.text,
    )


def evaluation(
    asset: dg.AssetKey, result: dg.AssetCheckResult, **more: Any
) -> dg.AssetCheckEvaluation:
    """A result as Dagster stores it; ``more`` are further fields of the evaluation."""
    return dg.AssetCheckEvaluation(
        asset_key=asset,
        check_name=str(result.check_name),
        passed=result.passed,
        severity=result.severity,
        metadata=result.metadata,
        description=result.description,
        **more,
    )


def record_by_day(
    context: dg.OpExecutionContext,
    asset: dg.AssetKey,
    results: Mapping[str, list[dg.AssetCheckResult]],
) -> None:
    """Record the results of each day, by partition key, for its newest materialization.

    Dagster itself records one result for a whole range.
    """
    if not results:
        return
    targets = materialization_target(context.instance, asset, set(results), context.run_id)
    for key, of_day in results.items():
        for result in of_day:
            recorded = evaluation(
                asset, result, target_materialization_data=targets.get(key), partition=key
            )
            context.log_event(recorded)  # type: ignore[arg-type]  # supported, but not annotated


def build_store_check(partitions: dg.DailyPartitionsDefinition) -> dg.AssetChecksDefinition:
    """The check that reads back what was written, over the given days."""
    return dg.asset_check(
        asset=keys.INFLUX_DEMAND_POINTS,
        partitions_def=partitions,
        additional_ins={"hourly_demand_frame": dg.AssetIn(keys.HOURLY_DEMAND_FRAME)},
        pool=keys.STORE_POOL,
    )(store_matches_frame)  # type: ignore[arg-type]  # results are recorded by day


def store_matches_frame(
    context: dg.AssetCheckExecutionContext,
    hourly_demand_frame: pd.DataFrame,
    demand_store: dg.ResourceParam[Store],
) -> dg.Output[None]:
    """Does the store hold what was written? Red: values are missing or different. Yellow: it cannot
    be read, or it also holds values of an earlier answer that the newest one does not have."""
    days = context.partition_keys
    start, stop = start_of(date.fromisoformat(days[0])), end_of(date.fromisoformat(days[-1]))
    try:
        read_back = demand_store.read(COLUMNS, start, stop)
    except StoreError as error:
        unread = Finding(False, f"Written, but it cannot be read back: {error}")
        findings = dict.fromkeys(days, unread)
    else:
        written = frames_by_day(hourly_demand_frame.reindex(columns=COLUMNS), days)
        stored = frames_by_day(read_back, days)
        findings = {key: check_stored(written[key], stored[key]) for key in days}
    record_by_day(
        context.op_execution_context,
        keys.INFLUX_DEMAND_POINTS,
        {
            key: [check_result(keys.STORE_MATCHES_FRAME, finding)]
            for key, finding in findings.items()
        },
    )
    return dg.Output(None)


@dg.asset_check(asset=keys.INFLUX_DEMAND_POINTS)
def today_is_fresh(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """Is the newest hour of today's data, and today's last refresh, recent enough, and does
    measured demand change? Evaluated by `current_day_sensor` every minute, without a run."""
    ledger = read_ledger(context.instance, settings, datetime.now(UTC))
    return check_result(keys.TODAY_IS_FRESH, find_freshness(context.instance, ledger, settings))


def find_freshness(instance: dg.DagsterInstance, ledger: Ledger, settings: Settings) -> Finding:
    """`check_freshness`, with what the newest frame of today says about its samples."""
    records = newest_materializations(instance, keys.HOURLY_DEMAND_FRAME, [ledger.today])
    frame = metadata_of(records[ledger.today]) if ledger.today in records else {}
    since = frame.get(FROZEN_SINCE)
    frozen_since = None if since is None else datetime.fromtimestamp(since, UTC)
    return check_freshness(ledger, settings, frozen_since)
