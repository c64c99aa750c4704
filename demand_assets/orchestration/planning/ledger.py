"""The ledger: the state of each day, derived from Dagster's records.

A day is *ingested* if its points were materialized after the day was over and settled. It is
*open* if it is today, if its last materialization came too early, or if hours are missing;
*missing* if it was never materialized; *failed* if its last attempt failed; *in progress* while a
run or a backfill includes it.

How the records are read belongs in `ledger_reader.py`, which runs are requested in `plans.py`.
"""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from demand_assets.demand.days import days_between
from demand_assets.grid import end_of, local_date

GRACE = timedelta(minutes=5)
"""How long after the full hour the API has the hour's last sample."""


class State(StrEnum):
    INGESTED = "ingested"
    OPEN = "open"
    MISSING = "missing"
    FAILED = "failed"
    IN_PROGRESS = "in progress"


@dataclass(frozen=True)
class Attempt:
    """A run that ended without storing its days."""

    run_id: str
    ended: datetime
    number: int
    """How many attempts for the same days failed before it."""
    days: tuple[date, ...]
    failed_days: frozenset[date]
    """The days that caused the failure: all of them in an outage, none if the cause is unknown."""
    error: str
    """The error in one line."""


@dataclass(frozen=True)
class Stored:
    """The last materialization of a day's points."""

    at: datetime
    hours: int | None
    hours_expected: int | None
    last_hour: datetime | None
    """Start of the newest hour with measured demand."""
    fingerprint: str | None = None
    """Fingerprint of the measured demand."""
    morning_fingerprint: str | None = None
    """Fingerprint of the hours before the next day's forecast is due."""
    store: str | None = None
    """Address of the store that was written, if it is on record."""

    @property
    def short(self) -> bool:
        """Whether measured hours are known to be missing."""
        return (self.hours or 0) < (self.hours_expected or 0)


@dataclass(frozen=True)
class Ledger:
    """The state of all days at one moment."""

    now: datetime
    settle: timedelta
    stored: dict[date, Stored]
    attempts: dict[date, Attempt]
    """The last attempt of each day whose last attempt failed."""
    under_way: dict[date, tuple[str, datetime]] = field(default_factory=dict)
    """Days that a run or a backfill includes: a description of it, and since when."""
    elsewhere: frozenset[date] = frozenset()
    """Days that were written to a store that was configured before; this one lacks them."""
    load_from: date | None = None
    """The first day to load without a request of a person, if there is one."""

    @property
    def today(self) -> date:
        return local_date(self.now)

    @property
    def first_day(self) -> date | None:
        """The first day that is to be stored: the first that ever was, or an earlier ``load_from``.

        People load earlier days themselves.
        """
        wanted = [self.load_from] if self.load_from else []
        return min([*self.stored, *self.elsewhere, *wanted], default=None)

    def settled_at(self, day: date) -> datetime:
        """When a day's values count as final."""
        return end_of(day) + self.settle

    def refresh_due(self, refresh: timedelta) -> datetime:
        """When today is requested next: after the interval, or once an hour is complete."""
        if attempt := self.attempts.get(self.today):
            return attempt.ended + refresh
        stored = self.stored.get(self.today)
        if stored is None:
            return self.now
        hour = stored.at.replace(minute=0, second=0, microsecond=0)
        complete = hour + GRACE
        if stored.at >= complete:
            complete += timedelta(hours=1)
        return min(stored.at + refresh, complete)

    def state(self, day: date) -> State:
        if day in self.under_way:
            return State.IN_PROGRESS
        if day in self.attempts:
            return State.FAILED
        stored = self.stored.get(day)
        if stored is None:
            return State.MISSING
        if stored.at < self.settled_at(day) or stored.short:
            return State.OPEN
        return State.INGESTED

    def days(self, *states: State) -> list[date]:
        """Past days in one of the states, in order.

        These are all days from the first stored one to yesterday, and earlier days whose last
        attempt failed.
        """
        first = self.first_day or self.today
        past = [day for day in sorted(self.attempts) if day < first]
        past += days_between(first, self.today - timedelta(days=1))
        return [day for day in past if self.state(day) in states]
