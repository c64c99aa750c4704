"""The ledger: which days are in the store, told by Dagster's own records and nothing else.

A day is *ingested* if its points were materialized after the day was over and settled. It is
*open* if it is today, or was last materialized too early, or came with hours missing; *missing* if
it never was materialized; *failed* if its last attempt failed; *in progress* while a run or a
backfill has it.
A handful of queries answers for any number of days.
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
    """A run that ended without storing the days that it was for."""

    run_id: str
    ended: datetime
    number: int
    days: tuple[date, ...]
    """All days that the run was for."""
    blamed: frozenset[date]
    """The days that made it fail, as far as it named them."""
    error: str
    """What a person reads about it, in one line."""


@dataclass(frozen=True)
class Stored:
    """The last materialization of a day's points."""

    at: datetime
    hours: int | None
    hours_expected: int | None
    last_hour: datetime | None
    """Start of the newest hour with measured demand."""
    fingerprint: str | None = None
    """Of the measured demand; it changes when that does."""
    morning_fingerprint: str | None = None
    """The same of the hours before the next day's forecast is due."""
    store: str | None = None
    """The address of the store that it went to, where that was told."""

    @property
    def short(self) -> bool:
        """Whether measured hours are known to be missing."""
        return (
            self.hours is not None
            and self.hours_expected is not None
            and self.hours < self.hours_expected
        )


@dataclass(frozen=True)
class Ledger:
    """What was known of all days at one moment."""

    now: datetime
    settle: timedelta
    stored: dict[date, Stored]
    attempts: dict[date, Attempt]
    """Days whose last attempt failed."""
    under_way: dict[date, tuple[str, datetime]] = field(default_factory=dict)
    """Days that a run or a backfill has: what has them, and since when."""
    elsewhere: frozenset[date] = frozenset()
    """Days that went to another store, which was set before: of this one they are missing."""

    @property
    def today(self) -> date:
        return local_date(self.now)

    @property
    def first_day(self) -> date | None:
        """The first day that was ever stored; what lies before is a person's to load."""
        return min(self.stored.keys() | self.elsewhere, default=None)

    def settled_at(self, day: date) -> datetime:
        """When a day's numbers count as final."""
        return end_of(day) + self.settle

    def refresh_due(self, refresh: timedelta) -> datetime:
        """When today is to be asked for next: after the interval, or when an hour has closed."""
        if attempt := self.attempts.get(self.today):
            return attempt.ended + refresh
        stored = self.stored.get(self.today)
        if stored is None:
            return self.now
        hour = stored.at.replace(minute=0, second=0, microsecond=0)
        closes = hour + GRACE
        if stored.at >= closes:
            closes += timedelta(hours=1)
        return min(stored.at + refresh, closes)

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
        """Past days that are in one of the states: all from the first stored one to yesterday.

        Of earlier days, those that somebody asked for in vain.
        """
        first = self.first_day or self.today
        past = [day for day in sorted(self.attempts) if day < first]
        past += days_between(first, self.today - timedelta(days=1))
        return [day for day in past if self.state(day) in states]
