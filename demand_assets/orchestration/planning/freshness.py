"""Whether today's data are as new as they can be and, if not, why.

How the result is recorded belongs in `checks.py` and `sensors.py`.
"""

from datetime import datetime, timedelta

from demand_assets.demand.quality import Finding
from demand_assets.grid import TIME_ZONE, start_of
from demand_assets.orchestration.planning.ledger import Ledger
from demand_assets.settings import Settings

STUCK_AFTER = timedelta(minutes=10)
"""A run for today that waits longer than this is stuck in the queue."""


def check_freshness(
    ledger: Ledger, settings: Settings, frozen_since: datetime | None = None
) -> Finding:
    """Whether today's data are as new as they can be.

    The lag is the time since the end of today's newest measured hour, or since midnight if there is
    none; the age is the time since today's last materialization. The greater of the two counts.
    Other days do not matter. Today is not fresh either if measured demand does not change, or if
    an hour is stored as measured that is not over.

    Args:
        ledger: the state of all days.
        settings: those of freshness and refreshes.
        frozen_since: since when measured demand has had the value of its last sample, if too long.
    """
    now, today = ledger.now, ledger.today
    stored = ledger.stored.get(today)
    last_hour = stored.last_hour if stored else None
    measured_until = last_hour + timedelta(hours=1) if last_hour else start_of(today)
    lag = now - measured_until
    stale = max(lag, now - (stored.at if stored else start_of(today)))
    text = f"Today, {today}, is measured until {clock(measured_until)}."
    passed, why = True, None
    if stale > settings.freshness.warn_after:
        why = _why_stale(ledger, settings.refresh)
        text = f"Today, {today}, is {stale / timedelta(minutes=1):.0f} minutes behind. {why}"
        passed = False
    elif lag < timedelta():
        why = "An hour that is not over cannot have been measured."
        text += f" {why}"
        passed = False
    if frozen_since:
        frozen = f"The measured value has not changed since {clock(frozen_since)}."
        why = f"{why} {frozen}" if why else frozen
        text, passed = f"{text} {frozen}", False
    figures: dict[str, float | str | datetime | None] = {
        "lag_minutes": round(lag / timedelta(minutes=1), 1),
        "next_refresh": ledger.refresh_due(settings.refresh),
        "last_hour": last_hour,
        "last_materialization": stored.at if stored else None,
        "why": why,
    }
    return Finding(
        passed=passed,
        text=text,
        red=stale > settings.freshness.fail_after,
        figures={name: value for name, value in figures.items() if value is not None},
    )


def summary(finding: Finding) -> str:
    """A short text that changes when a result of `check_freshness` is worth recording again.

    The minutes alone are not: a result each minute would be gigabytes a year.
    """
    color = "green" if finding.passed else "red" if finding.red else "yellow"
    names = ("why", "last_hour", "last_materialization")
    return " | ".join([color, *(str(finding.figures.get(name, "-")) for name in names)])


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
    return "Sensor just started, or it was off: today was not requested in that time."


def clock(moment: datetime) -> str:
    """The time of day as a person in Madrid reads it."""
    return f"{moment.astimezone(TIME_ZONE):%H:%M} Madrid time"
