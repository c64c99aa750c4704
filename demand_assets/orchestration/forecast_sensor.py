"""What asks for forecasts: the month's model, tomorrow's hours once the morning is in, scores."""

import itertools
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    ResourceParam,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from demand_assets.forecast.features import issue_time
from demand_assets.forecast.model import TRAINED_MODEL, TRAINING_DAYS_NEEDED
from demand_assets.orchestration import keys, tags
from demand_assets.orchestration.assets.forecast import (
    BASIS,
    MonthsModel,
    basis,
    newest_models,
)
from demand_assets.orchestration.jobs import forecast_job, forecast_model_job, forecast_score_job
from demand_assets.orchestration.keys import FORECAST_JOB, MODEL_JOB, SCORE_JOB
from demand_assets.orchestration.ledger_reader import (
    UNDER_WAY,
    newest_materializations,
    read_ledger,
)
from demand_assets.orchestration.metadata import metadata_of
from demand_assets.orchestration.planning.ledger import Ledger, State
from demand_assets.orchestration.planning.plans import LONGEST_PAUSE, PRIORITY_OPEN, PlannedRun
from demand_assets.orchestration.sensors import run_request
from demand_assets.settings import Settings

SCORED_DAYS = 14
"""How far back a closed day is scored without being asked."""
MOST_FAILURES_COUNTED = 10


def due_model(ledger: Ledger, models: Mapping[date, MonthsModel], settings: Settings) -> date | str:
    """The month whose model is to be made, or why there is none to make.

    It is made again once a quarter more days are there to learn from, as after a backfill. Days
    that are missing are not waited for: nobody may ever load them.

    Args:
        ledger: what is stored.
        models: the newest that can be asked, of today and of tomorrow.
        settings: of these the time at which forecasts are made.
    """
    tomorrow = ledger.today + timedelta(days=1)
    is_due = ledger.now >= issue_time(tomorrow, settings.forecast_at)
    day = tomorrow if is_due else ledger.today
    month = day.replace(day=1)
    # Of the day before the month only the morning is known.
    known = [ledger.stored[d] for d in ledger.stored if d < month - timedelta(days=1)]
    to_come = [d for d in ledger.under_way if d < month - timedelta(days=1)]
    model = models.get(day)
    if model and model.month == month:
        later = [stored for stored in known if stored.at > model.made_at]
        if len(later) * 5 < len(known):
            return f"The model of {month:%Y-%m} is there."
    if to_come:
        return f"The model of {month:%Y-%m} waits for {len(to_come)} days that are under way."
    if len(known) < TRAINING_DAYS_NEEDED:
        return (
            f"There is no model of {month:%Y-%m}: it needs {TRAINING_DAYS_NEEDED} days before it,"
            f" and {len(known)} are stored."
        )
    return month


def due_forecasts(
    ledger: Ledger,
    made: Mapping[date, Mapping[str, object]],
    models: Mapping[date, MonthsModel],
    settings: Settings,
) -> list[date]:
    """Of today and tomorrow the days whose forecast is missing, or was made from something else.

    Today's is left as it is, unless it had to be made without a model.

    Args:
        ledger: what is stored.
        made: what is told of the forecasts that there are.
        models: the newest that can be asked, of today and of tomorrow.
        settings: of these the time at which forecasts are made.
    """
    due = []
    for day in (ledger.today, ledger.today + timedelta(days=1)):
        at = issue_time(day, settings.forecast_at)
        eve = ledger.stored.get(day - timedelta(days=1))
        morning_is_in = eve and eve.last_hour and eve.last_hour >= at - timedelta(hours=1)
        weeks_before = any(day - timedelta(weeks=n) in ledger.stored for n in range(1, 5))
        told = made.get(day, {})
        changed = told.get(BASIS) != basis(ledger, day, models.get(day))
        final = day == ledger.today and told.get("made_by") == TRAINED_MODEL
        if morning_is_in and weeks_before and changed and not final:
            due.append(day)
    return due


@sensor(
    jobs=[forecast_job, forecast_model_job, forecast_score_job],
    minimum_interval_seconds=60,
    default_status=DefaultSensorStatus.RUNNING,
)
def forecast_sensor(
    context: SensorEvaluationContext, settings: ResourceParam[Settings]
) -> SensorResult:
    """Requests the month's model, tomorrow's forecast once the morning is stored and again when
    that changes, and the scores of closed days."""
    instance = context.instance
    ledger = read_ledger(instance, settings, datetime.now(UTC))
    recent = [ledger.today - timedelta(days=n) for n in range(-1, SCORED_DAYS + 1)]
    forecasts = newest_materializations(instance, keys.DEMAND_FORECAST, recent)
    made = {day: metadata_of(record) for day, record in forecasts.items()}
    models = newest_models(instance, keys.DEMAND_FORECAST_MODEL, recent[:2], settings)
    asked: list[RunRequest] = []
    month = due_model(ledger, models, settings)
    if isinstance(month, str):
        no_model = month
    elif _may_ask(instance, MODEL_JOB, month, ledger.now, settings.refresh):
        asked.append(run_request(PlannedRun([month], PRIORITY_OPEN, job=MODEL_JOB)))
    else:
        no_model = f"The model of {month:%Y-%m} is being made, or has failed and waits."
    due = due_forecasts(ledger, made, models, settings)
    scores = newest_materializations(instance, keys.DEMAND_FORECAST_SCORE, recent)
    closed = [
        day
        for day, forecast in forecasts.items()
        if day in ledger.stored
        and ledger.state(day) == State.INGESTED
        and (
            day not in scores
            or scores[day].timestamp < max(ledger.stored[day].at.timestamp(), forecast.timestamp)
        )
    ]
    for job, days in ((FORECAST_JOB, due), (SCORE_JOB, closed)):
        asked += [
            run_request(PlannedRun([day], PRIORITY_OPEN, job=job))
            for day in days
            if _may_ask(instance, job, day, ledger.now, settings.refresh)
        ]
    if asked:
        return SensorResult(run_requests=asked)
    nothing = "Nothing is due: forecasts are made once the morning of the day before is in."
    return SensorResult(skip_reason=SkipReason(f"{nothing} {no_model}"))


def _may_ask(
    instance: DagsterInstance, job: str, day: date, now: datetime, pause: timedelta
) -> bool:
    """Whether no run has the partition, and the last ones were not in vain a moment ago.

    The pause after a failure doubles with each that came before it, up to a day. A model that is
    asked for although its training succeeded could not be read, or is to learn from more days.
    """
    of_day = RunsFilter(job_name=job, tags={tags.PARTITION: day.isoformat()})
    records = instance.get_run_records(of_day, limit=MOST_FAILURES_COUNTED)
    failures = list(
        itertools.takewhile(
            lambda r: job == MODEL_JOB or r.dagster_run.status != DagsterRunStatus.SUCCESS, records
        )
    )
    if not failures:
        return True
    last = failures[0]
    if last.dagster_run.status in UNDER_WAY:
        return False
    ended = datetime.fromtimestamp(last.end_time or last.update_timestamp.timestamp(), UTC)
    return now >= ended + min(LONGEST_PAUSE, pause * 2 ** (len(failures) - 1))
