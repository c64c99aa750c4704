"""Whether today's data are as new as they can be and, if not, why."""

from datetime import datetime, timedelta

from demand_assets.demand.quality import Finding
from demand_assets.grid import TIME_ZONE, start_of
from demand_assets.orchestration.planning.ledger import Ledger
from demand_assets.settings import Settings

STUCK_AFTER = timedelta(minutes=10)
"""A run for today that waits longer than this is stuck in the queue."""


def check_freshness(ledger: Ledger, settings: Settings) -> Finding:
    """Whether today's data are as new as they can be; if not, why.

    The lag runs from the end of today's newest measured hour, before there is one from midnight.
    Today is stale as well when it was not materialized for that long. Other days do not count.
    """
    now, today = ledger.now, ledger.today
    midnight = start_of(today)
    stored = ledger.stored.get(today)
    measured_until = midnight
    if stored and stored.last_hour:
        measured_until = stored.last_hour + timedelta(hours=1)
    age = now - (stored.at if stored else midnight)
    lag = now - measured_until
    stale = max(lag, age)
    passed = stale <= settings.freshness.warn_after
    figures: dict[str, float | str | datetime] = {
        "lag_minutes": round(lag / timedelta(minutes=1), 1),
        "next_refresh": ledger.refresh_due(settings.refresh),
    }
    if stored and stored.last_hour:
        figures["last_hour"] = stored.last_hour
    if stored:
        figures["last_materialization"] = stored.at
    text = f"Today, {today}, is measured until {clock(measured_until)}."
    if not passed:
        why = _why_stale(ledger, settings.refresh)
        figures["why"] = why
        text = f"Today, {today}, is {stale / timedelta(minutes=1):.0f} minutes behind. {why}"
    return Finding(passed, text, red=stale > settings.freshness.fail_after, figures=figures)


def _why_stale(ledger: Ledger, refresh: timedelta) -> str:
    today = ledger.today
    stored, attempt = ledger.stored.get(today), ledger.attempts.get(today)
    under_way, since = ledger.under_way.get(today, (None, ledger.now))
    if stored and not attempt and ledger.now - stored.at <= refresh + STUCK_AFTER:
        return f"API silent: it answered at {clock(stored.at)} without newer measured hours."
    if under_way and ledger.now - since > STUCK_AFTER:
        return f"Queue stuck: {under_way} since {clock(since)}."
    if attempt:
        return f"Runs failing, run {attempt.run_id[:8]} the last: {attempt.error}"
    if under_way:
        return f"Just being fetched: {under_way}."
    return "Sensor just started, or it was off: today was not asked for in that time."


def clock(moment: datetime) -> str:
    """The time of day as a person in Madrid reads it."""
    return f"{moment.astimezone(TIME_ZONE):%H:%M} Madrid time"
