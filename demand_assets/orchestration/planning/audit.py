"""The audit of the store: whether it holds what the materializations say.

Pure functions over what was recorded and what the store holds. How both are read belongs in
`store_audit.py`, which runs are requested for lost days in `plans.py`.
"""

from collections.abc import Mapping
from datetime import date, datetime

import pandas as pd

from demand_assets.demand.days import describe_days
from demand_assets.demand.figures import hours_fingerprints
from demand_assets.demand.quality import Finding
from demand_assets.grid import local_date
from demand_assets.orchestration.planning.freshness import clock
from demand_assets.orchestration.planning.ledger import Audit, Ledger

FAILURES_IN_A_ROW, RESTORES_IN_A_ROW = 3, 3
"""A lost day that failed so often, or is lost again after it was written so often, is red."""


def differing_days(recorded: Mapping[date, str], stored: pd.DataFrame) -> list[date]:
    """Days whose hours in the store do not have the fingerprint that was recorded.

    Args:
        recorded: the fingerprint of each day, see `demand.figures.hours_fingerprints`.
        stored: all hours of these days, in the columns that the fingerprints are of.
    """
    found = hours_fingerprints(stored, recorded)
    return [day for day, fingerprint in recorded.items() if fingerprint != found[day]]


def check_complete(ledger: Ledger, audit: Audit) -> Finding:
    """Whether the store holds every materialized day and forecast, in words.

    Yellow while the sensors write lost days again; red if that fails, or does not last.
    """
    lost = sorted(audit.lost)
    in_vain = [day for day in lost if _fails(ledger, day)]
    refused = ledger.expired_days()
    short = ledger.closed_short_days()
    parts = [_describe_lost(audit)]
    if in_vain:
        parts.append(_describe_failure(ledger, in_vain))
    if audit.lost_forecasts:
        days = describe_days(audit.lost_forecasts)
        parts.append(f"Forecasts of {len(audit.lost_forecasts)} days are made again: {days}.")
    if refused and (kept := ledger.first_kept_day):
        parts.append(
            f"{describe_days(refused)} is older than the bucket keeps hours: set"
            f" DEMAND_START_DATE to {kept} or later, or extend the bucket's retention."
        )
    if aged := [day for day in sorted(ledger.stored) if ledger.is_expired(day)]:
        parts.append(f"{len(aged)} stored days are older than the bucket keeps hours.")
    if audit.surplus:
        parts.append(
            "The store also holds values that were not written here:"
            f" {describe_days(audit.surplus)}."
        )
    if audit.foreign_tags:
        tags = ", ".join(audit.foreign_tags)
        parts.append(
            f"Other programs write series with tag {tags} to the same measurement; they are not"
            " read here."
        )
    if short:
        records = {day: ledger.stored[day] for day in short}
        counts = [f"{day} ({one.hours} of {one.hours_expected})" for day, one in records.items()]
        parts.append(f"Closed short, with the hours that the operator has: {', '.join(counts)}.")
    return Finding(
        passed=not (lost or audit.lost_forecasts or refused or audit.surplus or audit.foreign_tags),
        text=" ".join(parts),
        red=bool(in_vain),
        figures={
            "days_audited": audit.days,
            "days_lost": len(lost),
            "forecasts_lost": len(audit.lost_forecasts),
            "days_closed_short": len(short),
        },
    )


def _fails(ledger: Ledger, day: date) -> bool:
    attempt = ledger.attempts.get(day)
    failures = attempt.number + 1 if attempt else 0
    return failures >= FAILURES_IN_A_ROW or ledger.stored[day].restores >= RESTORES_IN_A_ROW


def _describe_lost(audit: Audit) -> str:
    if not audit.lost:
        return f"All {audit.days} materialized days are in the store, value for value."
    when = f" They were there at {_moment(audit.complete_at)}." if audit.complete_at else ""
    fetched = audit.lost & audit.without_frame
    how = "from the frames on disk" if fetched != audit.lost else "from the API"
    text = (
        f"{len(audit.lost)} of {audit.days} materialized days are not in the store as they were"
        f" written: {describe_days(audit.lost)}.{when} They are written again {how}"
    )
    if fetched and fetched != audit.lost:
        text += f", {len(fetched)} of them from the API"
    return f"{text}."


def _describe_failure(ledger: Ledger, days: list[date]) -> str:
    attempt = ledger.attempts.get(days[0])
    if attempt:
        return f"That fails, run {attempt.run_id[:8]} the last: {attempt.error}"
    return (
        f"{describe_days(days)} was written {ledger.stored[days[0]].restores} times and is lost"
        " again: find the program that changes or deletes these points, or that stores the fields"
        " as another type."
    )


def _moment(moment: datetime) -> str:
    """A moment of the last days as a person reads it."""
    return f"{clock(moment)} on {local_date(moment)}"
