"""The sensor of the forecast: it reads what is there and requests what is due.

What is due is decided in `planning/forecast_plans.py`.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from demand_assets.demand.days import contiguous_ranges, describe_days
from demand_assets.forecast import why_no_model
from demand_assets.orchestration import jobs, keys, ledger_reader, tags
from demand_assets.orchestration.assets.forecast import newest_models
from demand_assets.orchestration.ledger_reader import newest_materializations
from demand_assets.orchestration.metadata import metadata_of
from demand_assets.orchestration.planning import forecast_plans as plans
from demand_assets.orchestration.planning.ledger import Ledger
from demand_assets.orchestration.planning.plans import PRIORITY_OPEN, PlannedRun
from demand_assets.orchestration.sensors import run_request
from demand_assets.settings import DAYS_PER_RUN, Settings

SCORED_DAYS = 14
"""How many past days are scored unless a person requests more."""
MOST_RUNS_READ = 10
DAY_TAGS = (tags.RANGE_START, tags.RANGE_END)


@dg.sensor(
    jobs=[jobs.forecast_job, jobs.forecast_model_job, jobs.forecast_score_job],
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def forecast_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult:
    """Requests the month's model, tomorrow's forecast once the morning is stored and again when
    that changes, and the scores of closed days."""
    instance, at = context.instance, settings.forecast_at
    ledger = ledger_reader.read_ledger(instance, settings, datetime.now(UTC))
    if awaited := plans.awaited_days(ledger):
        days = describe_days(awaited)
        waits = f"Forecasts wait until lost days are in the store again: {days}."
        return dg.SensorResult(skip_reason=dg.SkipReason(waits))
    recent = [ledger.today - timedelta(days=n) for n in range(-1, SCORED_DAYS + 1)]
    models = newest_models(instance, recent[:2], settings)
    records = newest_materializations(instance, keys.DEMAND_FORECAST, recent)
    forecasts = {day: metadata_of(record) for day, record in records.items()}
    made_at = {day: _time(record.timestamp) for day, record in records.items()}
    records = newest_materializations(instance, keys.DEMAND_FORECAST_SCORE, recent)
    scored_at = {day: _time(record.timestamp) for day, record in records.items()}

    month, no_model = plans.due_model(ledger, models, at)
    if why := why_no_model():
        month, no_model = None, f"{why}."
    due = [(keys.MODEL_JOB, month)] if month else []
    due += [(keys.FORECAST_JOB, d) for d in plans.due_forecasts(ledger, forecasts, models, at)]
    due += [(keys.SCORE_JOB, d) for d in plans.due_scores(ledger, made_at, scored_at)]
    planned = [PlannedRun([day], PRIORITY_OPEN, job=job) for job, day in due]
    planned += _restored_forecasts(instance, ledger, planned)
    requests: list[dg.RunRequest] = []
    for run in planned:
        runs = _past_runs(instance, run)
        if plans.may_be_requested(run.job, runs, ledger.now, settings.refresh):
            requests.append(run_request(run))
    if requests:
        return dg.SensorResult(run_requests=requests)
    if month:
        no_model = f"The model of {month:%Y-%m} is being trained, or its training failed and waits."
    nothing = "Nothing is due: a forecast is made once the morning of the day before is stored."
    return dg.SensorResult(skip_reason=dg.SkipReason(f"{nothing} {no_model}"))


def _restored_forecasts(
    instance: dg.DagsterInstance, ledger: Ledger, planned: list[PlannedRun]
) -> list[PlannedRun]:
    """Forecasts that the last audit did not find in the store: today and tomorrow each alone."""
    lost = sorted(ledger.audit.lost_forecasts) if ledger.audit else []
    records = newest_materializations(instance, keys.DEMAND_FORECAST, lost)
    made_at = {day: _time(record.timestamp) for day, record in records.items()}
    days = plans.lost_forecasts(ledger, made_at)
    current = [
        PlannedRun([d], PRIORITY_OPEN, job=keys.FORECAST_JOB) for d in days if d >= ledger.today
    ]
    ranges = contiguous_ranges([day for day in days if day < ledger.today], DAYS_PER_RUN)
    past = [PlannedRun(some, PRIORITY_OPEN, job=keys.FORECAST_JOB) for some in ranges]
    return [run for run in current if run not in planned] + past


def _past_runs(instance: dg.DagsterInstance, planned: PlannedRun) -> list[plans.PastRun]:
    """The last runs of the same job for the same days, newest first."""
    request = run_request(planned)
    days = {name: request.tags[name] for name in DAY_TAGS if name in request.tags}
    if request.partition_key:
        days = {tags.PARTITION: request.partition_key}
    of_days = dg.RunsFilter(job_name=planned.job, tags=days)
    return [
        plans.PastRun(
            under_way=record.dagster_run.status in ledger_reader.UNDER_WAY,
            succeeded=record.dagster_run.status == dg.DagsterRunStatus.SUCCESS,
            ended=ledger_reader.ended_at(record),
        )
        for record in instance.get_run_records(of_days, limit=MOST_RUNS_READ)
    ]


def _time(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
