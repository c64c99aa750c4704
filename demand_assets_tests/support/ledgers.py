"""Ledgers for tests of planning, built from values without a Dagster instance."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta

from demand_assets.demand.days import days_between
from demand_assets.grid import TIME_ZONE, local_date
from demand_assets.orchestration.planning.ledger import Attempt, Ledger, Stored

MINUTES = timedelta(minutes=1)
HOURS = timedelta(hours=1)
REFRESH, SETTLE = 10 * MINUTES, 30 * MINUTES


def madrid(text: str) -> datetime:
    """The instant, in UTC, of a time on Madrid's clock such as ``2023-05-10T12:00``."""
    return datetime.fromisoformat(text).replace(tzinfo=TIME_ZONE).astimezone(UTC)


def may(*numbers: int) -> list[date]:
    """Days of May 2023."""
    return [date(2023, 5, number) for number in numbers]


def may_range(first: int, last: int) -> list[date]:
    return days_between(*may(first, last))


def stored(at: datetime, hours: int = 24, last_hour: datetime | None = None) -> Stored:
    return Stored(at, hours, 24, last_hour)


def complete(days: Iterable[date], at: datetime) -> dict[date, Stored]:
    """Days that were all materialized with 24 hours at one time."""
    return {day: stored(at) for day in days}


def attempt(
    days: Collection[date],
    failed_days: Iterable[date] = (),
    number: int = 0,
    ended: datetime | None = None,
) -> Attempt:
    """A failed run, by default on 31 May at noon, of which the cause is unknown."""
    return Attempt(
        run_id=f"run-of-{min(days)}",
        ended=ended or madrid("2023-05-31T12:00"),
        number=number,
        days=tuple(days),
        failed_days=frozenset(failed_days),
        error="it broke",
    )


def ledger(
    now: datetime,
    stored: Mapping[date, Stored],
    *attempts: Attempt,
    under_way: Mapping[date, tuple[str, datetime]] | None = None,
) -> Ledger:
    """The ledger at a time, with attempts that are newer than the materializations."""
    return Ledger(
        now=now,
        settle=SETTLE,
        stored=dict(stored),
        attempts={day: one for one in attempts for day in one.days},
        under_way=dict(under_way or {}),
    )


def all_stored_but(now: datetime, *attempts: Attempt) -> Ledger:
    """May is stored as a whole until yesterday, except for the days of the attempts."""
    failed = {day for one in attempts for day in one.days}
    days = days_between(date(2023, 4, 30), local_date(now) - timedelta(days=1))
    return ledger(now, complete(set(days) - failed, now - 2 * HOURS), *attempts)
