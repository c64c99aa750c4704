"""The sensors over the days: they read the ledger and request the runs of a plan.

Which runs are requested is decided in `planning/plans.py`.
"""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from demand_assets.orchestration import keys, tags
from demand_assets.orchestration.checks import check_result, evaluation, find_freshness
from demand_assets.orchestration.io_managers import ParquetFrameIOManager
from demand_assets.orchestration.jobs import demand_job, restore_job, today_job
from demand_assets.orchestration.ledger_reader import read_ledger
from demand_assets.orchestration.planning.freshness import clock, summary
from demand_assets.orchestration.planning.ledger import Ledger
from demand_assets.orchestration.planning.plans import (
    MOST_REQUESTS,
    Plan,
    PlannedRun,
    plan_lost_days,
    plan_missing_days,
    plan_open_days,
)
from demand_assets.orchestration.reread import reread_job
from demand_assets.orchestration.store_audit import audit_result, audit_store
from demand_assets.settings import DAYS_PER_RUN, Settings
from demand_assets.stores import Store

PROCESS = uuid.uuid4().hex
"""This process: the store is audited after each start."""
A_DAY = timedelta(days=1)


def run_request(run: PlannedRun) -> dg.RunRequest:
    """A planned run as Dagster's request."""
    first, last = run.days[0].isoformat(), run.days[-1].isoformat()
    is_partitioned = run.job != keys.REREAD_JOB
    is_range = is_partitioned and first != last
    days = {tags.RANGE_START: first, tags.RANGE_END: last} if is_range else {}
    return dg.RunRequest(
        job_name=run.job,
        partition_key=first if is_partitioned and not is_range else None,
        tags={tags.PRIORITY: str(run.priority), tags.ATTEMPT: str(run.attempt), **days},
    )


def sensor_result(plan: Plan, nothing: str = "", **more: Any) -> dg.SensorResult:
    """A plan as the result of a sensor; without runs its reasons, or else ``nothing``."""
    reasons = " ".join(plan.reasons[:MOST_REQUESTS]) or nothing
    return dg.SensorResult(
        run_requests=[run_request(run) for run in plan.runs],
        skip_reason=None if plan.runs else dg.SkipReason(reasons),
        **more,
    )


@dg.sensor(
    jobs=[demand_job, today_job, reread_job],
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def current_day_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult:
    """Keeps today fresh, closes past days that were stored before they were over, and looks for
    revisions once a day."""
    ledger = read_ledger(context.instance, settings, datetime.now(UTC))
    plan = plan_open_days(ledger, settings.refresh, DAYS_PER_RUN, settings.reread_days)
    finding = find_freshness(context.instance, ledger, settings)
    news = summary(finding)
    result = evaluation(keys.INFLUX_DEMAND_POINTS, check_result(keys.TODAY_IS_FRESH, finding))
    return sensor_result(plan, asset_events=[] if news == context.cursor else [result], cursor=news)


@dg.sensor(
    jobs=[demand_job, restore_job],
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def missing_days_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult:
    """Fills gaps since the first stored day and requests failed days again, less and less often."""
    ledger = read_ledger(context.instance, settings, datetime.now(UTC))
    nothing = "No past day is missing." if ledger.first_day else "Nothing has been stored yet."
    return sensor_result(plan_missing_days(ledger, settings.refresh, DAYS_PER_RUN), nothing)


@dg.sensor(
    jobs=[restore_job, demand_job],
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def store_audit_sensor(
    context: dg.SensorEvaluationContext,
    settings: dg.ResourceParam[Settings],
    demand_store: dg.ResourceParam[Store],
    frame_files: dg.ResourceParam[ParquetFrameIOManager],
) -> dg.SensorResult:
    """Compares the store with the record after each start, after a change of the store, every
    `DEMAND_AUDIT_MINUTES`, and once lost days were written again. Requests lost days."""
    state = json.loads(context.cursor) if context.cursor else {}
    ledger = read_ledger(context.instance, settings, datetime.now(UTC))
    events = []
    if _audit_is_due(ledger, state, settings):
        before = ledger.now
        ledger, finding = audit_store(context.instance, ledger, settings, demand_store, frame_files)
        was_read = ledger.audit is not None and ledger.audit.at >= before
        pause = settings.audit if was_read else min(settings.audit, settings.refresh)
        news = f"{finding.passed} {finding.red} {finding.text}"
        found_loss = ledger.audit is not None and ledger.audit.found_loss
        if found_loss or news != state.get("news") or before >= _instant(state, "recorded") + A_DAY:
            result = audit_result(ledger, finding)
            events.append(evaluation(keys.INFLUX_DEMAND_POINTS, result))
            state["recorded"] = before.isoformat()
        state |= {**_audited(settings), "next": (before + pause).isoformat()}
        state |= {"news": news, "text": finding.text, "read": was_read}
    plan = plan_lost_days(ledger, settings.refresh, DAYS_PER_RUN)
    plan.reasons[:0] = [state["text"], f"The next audit is at {clock(_instant(state, 'next'))}."]
    return sensor_result(plan, asset_events=events, cursor=json.dumps(state))


def _audit_is_due(ledger: Ledger, state: Mapping[str, Any], settings: Settings) -> bool:
    if not _audited(settings).items() <= state.items():
        return True
    return (ledger.is_restored and state["read"]) or ledger.now >= _instant(state, "next")


def _audited(settings: Settings) -> dict[str, str]:
    """What makes an audit due if it changes."""
    return {"process": PROCESS, "store": settings.store.address}


def _instant(state: Mapping[str, Any], name: str) -> datetime:
    return datetime.fromisoformat(state[name])
