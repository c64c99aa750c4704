"""The sensors over the days: they read the ledger and request what the plans say.

Which runs are requested is decided in `planning/plans.py`.
"""

from datetime import UTC, datetime

from dagster import (
    DefaultSensorStatus,
    ResourceParam,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from demand_assets.orchestration import keys
from demand_assets.orchestration.checks import check_result, evaluation
from demand_assets.orchestration.jobs import demand_job, today_job
from demand_assets.orchestration.ledger_reader import read_ledger
from demand_assets.orchestration.planning.freshness import check_freshness
from demand_assets.orchestration.planning.plans import (
    MOST_REQUESTS,
    plan_missing_days,
    plan_open_days,
)
from demand_assets.settings import DAYS_PER_RUN, Settings


@sensor(
    jobs=[demand_job, today_job],
    minimum_interval_seconds=60,
    default_status=DefaultSensorStatus.RUNNING,
)
def current_day_sensor(
    context: SensorEvaluationContext, settings: ResourceParam[Settings]
) -> SensorResult:
    """Keeps today fresh and closes past days that were stored before they were over."""
    ledger = read_ledger(context.instance, settings, datetime.now(UTC))
    plan = plan_open_days(ledger, settings.refresh)
    finding = check_freshness(ledger, settings)
    # A result each minute would be gigabytes a year, so only changes are recorded.
    summary = repr(
        [
            finding.passed,
            finding.red,
            *map(finding.figures.get, ("why", "last_hour", "last_materialization")),
        ]
    )
    result = check_result(keys.TODAY_IS_FRESH, finding)
    return SensorResult(
        run_requests=plan.requests,
        skip_reason=None if plan.requests else SkipReason(" ".join(plan.reasons)),
        asset_events=[evaluation(keys.INFLUX_DEMAND_POINTS, result)]
        if summary != context.cursor
        else [],
        cursor=summary,
    )


@sensor(
    job=demand_job,
    minimum_interval_seconds=60,
    default_status=DefaultSensorStatus.RUNNING,
)
def missing_days_sensor(
    context: SensorEvaluationContext, settings: ResourceParam[Settings]
) -> SensorResult:
    """Fills gaps since the first stored day and requests failed days again, less and less often."""
    ledger = read_ledger(context.instance, settings, datetime.now(UTC))
    plan = plan_missing_days(ledger, settings.refresh, DAYS_PER_RUN)
    nothing = "No past day is missing." if ledger.first_day else "Nothing has been stored yet."
    return SensorResult(
        run_requests=plan.requests,
        skip_reason=None
        if plan.requests
        else SkipReason(" ".join(plan.reasons[:MOST_REQUESTS]) or nothing),
    )
