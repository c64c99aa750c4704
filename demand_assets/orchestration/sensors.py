"""The sensors over the days: they read the ledger and request the runs of a plan.

Which runs are requested is decided in `planning/plans.py`.
"""

from datetime import UTC, datetime

import dagster as dg

from demand_assets.orchestration import keys, tags
from demand_assets.orchestration.checks import check_result, evaluation, find_freshness
from demand_assets.orchestration.jobs import demand_job, today_job
from demand_assets.orchestration.ledger_reader import read_ledger
from demand_assets.orchestration.planning.freshness import summary
from demand_assets.orchestration.planning.plans import (
    MOST_REQUESTS,
    PlannedRun,
    plan_missing_days,
    plan_open_days,
)
from demand_assets.settings import DAYS_PER_RUN, Settings


def run_request(run: PlannedRun) -> dg.RunRequest:
    """A planned run as Dagster's request."""
    first, last = run.days[0].isoformat(), run.days[-1].isoformat()
    days = {} if first == last else {tags.RANGE_START: first, tags.RANGE_END: last}
    return dg.RunRequest(
        job_name=run.job,
        partition_key=first if first == last else None,
        tags={tags.PRIORITY: str(run.priority), tags.ATTEMPT: str(run.attempt), **days},
    )


@dg.sensor(
    jobs=[demand_job, today_job],
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def current_day_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult:
    """Keeps today fresh and closes past days that were stored before they were over."""
    ledger = read_ledger(context.instance, settings, datetime.now(UTC))
    plan = plan_open_days(ledger, settings.refresh)
    finding = find_freshness(context.instance, ledger, settings)
    news = summary(finding)
    result = evaluation(keys.INFLUX_DEMAND_POINTS, check_result(keys.TODAY_IS_FRESH, finding))
    return dg.SensorResult(
        run_requests=[run_request(run) for run in plan.runs],
        skip_reason=None if plan.runs else dg.SkipReason(" ".join(plan.reasons)),
        asset_events=[] if news == context.cursor else [result],
        cursor=news,
    )


@dg.sensor(
    job=demand_job, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING
)
def missing_days_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult:
    """Fills gaps since the first stored day and requests failed days again, less and less often."""
    ledger = read_ledger(context.instance, settings, datetime.now(UTC))
    plan = plan_missing_days(ledger, settings.refresh, DAYS_PER_RUN)
    reasons = " ".join(plan.reasons[:MOST_REQUESTS])
    nothing = "No past day is missing." if ledger.first_day else "Nothing has been stored yet."
    return dg.SensorResult(
        run_requests=[run_request(run) for run in plan.runs],
        skip_reason=None if plan.runs else dg.SkipReason(reasons or nothing),
    )
