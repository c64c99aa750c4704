"""Which models, forecasts and scores are due, and what a forecast was made from.

Pure functions of the ledger and of what was materialized, without an instance. The instance is
read and runs are requested in `forecast_sensor.py`. Argument ``at`` is the Madrid time at which
forecasts are made, and ``models`` are the newest usable ones for today and tomorrow.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from demand_assets import forecast
from demand_assets.forecast import HISTORY_DAYS, TRAINED_MODEL, TRAINING_DAYS_NEEDED, issue_time
from demand_assets.orchestration.keys import MODEL_JOB
from demand_assets.orchestration.metadata import FINGERPRINT, MADE_BY
from demand_assets.orchestration.planning.ledger import Ledger, State
from demand_assets.orchestration.planning.plans import LONGEST_PAUSE

A_DAY = timedelta(days=1)


@dataclass(frozen=True)
class MonthlyModel:
    """The usable model of a month."""

    month: date
    trained_at: datetime
    storage_id: int
    """Of its materialization."""
    model: forecast.Model


@dataclass(frozen=True)
class PastRun:
    """A run of one job for one partition."""

    under_way: bool
    succeeded: bool
    ended: datetime


def forecast_fingerprint(ledger: Ledger, day: date, model: MonthlyModel | None) -> str:
    """A short text that changes when the inputs of a day's forecast change.

    The inputs are the measured demand that was known at the issue time, and the model.
    """
    eve = day - A_DAY
    before = [day - n * A_DAY for n in range(HISTORY_DAYS, 1, -1)]
    inputs = [str(ledger.stored[d].fingerprint) if d in ledger.stored else "" for d in before]
    inputs.append(str(ledger.stored[eve].morning_fingerprint) if eve in ledger.stored else "")
    inputs.append(str(model.storage_id) if model else "")
    return hashlib.sha256(" ".join(inputs).encode()).hexdigest()[:16]


def due_model(
    ledger: Ledger, models: Mapping[date, MonthlyModel], at: time
) -> tuple[date | None, str]:
    """The month whose model is to be trained; without one, the reason.

    A model is trained again when a quarter more days are stored than it was trained on, as after a
    backfill. It waits for days that are under way, but not for missing ones, which may never come.
    """
    tomorrow = ledger.today + A_DAY
    day = tomorrow if ledger.now >= issue_time(tomorrow, at) else ledger.today
    month = day.replace(day=1)
    # Of the day before the month only the morning is known at the issue time.
    known = [stored for d, stored in ledger.stored.items() if d < month - A_DAY]
    under_way = sum(d < month - A_DAY for d in ledger.under_way)
    model = models.get(day)
    if model and model.month == month:
        newer = sum(stored.at > model.trained_at for stored in known)
        if newer * 5 < len(known):
            return None, f"The model of {month:%Y-%m} is up to date."
    if under_way:
        return None, f"The model of {month:%Y-%m} waits for {under_way} days that are under way."
    if len(known) < TRAINING_DAYS_NEEDED:
        needed = f"it needs {TRAINING_DAYS_NEEDED} days before it, and {len(known)} are stored"
        return None, f"There is no model of {month:%Y-%m}: {needed}."
    return month, ""


def due_forecasts(
    ledger: Ledger,
    forecasts: Mapping[date, Mapping[str, Any]],
    models: Mapping[date, MonthlyModel],
    at: time,
) -> list[date]:
    """Today and tomorrow, if the forecast is missing or its inputs have changed.

    ``forecasts`` are the metadata of the newest ones. Today's is made again only if it was made
    without a model.
    """
    due = []
    for day in (ledger.today, ledger.today + A_DAY):
        eve = ledger.stored.get(day - A_DAY)
        last_hour_needed = issue_time(day, at) - timedelta(hours=1)
        morning_is_known = eve and eve.last_hour and eve.last_hour >= last_hour_needed
        a_week_is_known = any(day - timedelta(weeks=n) in ledger.stored for n in range(1, 5))
        made = forecasts.get(day, {})
        changed = made.get(FINGERPRINT) != forecast_fingerprint(ledger, day, models.get(day))
        final = day == ledger.today and made.get(MADE_BY) == TRAINED_MODEL
        if morning_is_known and a_week_is_known and changed and not final:
            due.append(day)
    return due


def lost_forecasts(ledger: Ledger, made_at: Mapping[date, datetime]) -> list[date]:
    """Days whose forecast the last audit did not find in the store, and which were not made since.

    ``made_at`` are the times of the newest forecasts of the lost days.
    """
    return [day for day, at in made_at.items() if ledger.audit and at < ledger.audit.at]


def awaited_days(ledger: Ledger) -> list[date]:
    """Lost days of the last weeks that are about to be written again, as forecasts need them."""
    first = ledger.today - HISTORY_DAYS * A_DAY
    lost = ledger.audit.lost if ledger.audit else ()
    return [
        day
        for day in sorted(lost)
        if day >= first
        and ledger.is_lost(day)
        and day not in ledger.attempts
        and not ledger.is_expired(day)
    ]


def due_scores(
    ledger: Ledger, forecasts: Mapping[date, datetime], scores: Mapping[date, datetime]
) -> list[date]:
    """Ingested days whose score is older than the demand or the forecast, or is missing.

    ``forecasts`` and ``scores`` are the times of the newest ones.
    """
    return [
        day
        for day, made_at in forecasts.items()
        if ledger.state(day) == State.INGESTED
        and (day not in scores or scores[day] < max(ledger.stored[day].at, made_at))
    ]


def may_be_requested(job: str, runs: Sequence[PastRun], now: datetime, pause: timedelta) -> bool:
    """Whether a partition may be requested: no run has it, and the pause after failures is over.

    ``runs`` are the last ones for the partition, newest first. The pause doubles with each failure
    since the last success, up to a day. Successful runs for a model count as failures: it is due
    again only if it cannot be read, or more days are stored.
    """
    failures = list(itertools.takewhile(lambda r: job == MODEL_JOB or not r.succeeded, runs))
    if not failures:
        return True
    pause = min(LONGEST_PAUSE, pause * 2 ** (len(failures) - 1))
    return not failures[0].under_way and now >= failures[0].ended + pause
