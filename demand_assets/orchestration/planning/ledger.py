"""The ledger: the state of each day, derived from Dagster's records.

A day is *ingested* if the store holds its points, made from an answer of the API that came after
the day was over and settled. It is *open* if it is today, if its last answer came too early, if it
was revised since, or if hours are missing; *closed short* if hours are missing and the API keeps
answering the same; *missing* if it was never materialized, or if an audit did not find its points
in the store; *failed* if its last attempt failed; *in progress* while a run or a backfill includes
it.

How the records are read belongs in `ledger_reader.py`, which runs are requested in `plans.py`.
"""

from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

from demand_assets.demand.days import days_between
from demand_assets.grid import end_of, local_date, start_of

GRACE = timedelta(minutes=5)
"""How long after the full hour the API has the hour's last sample."""
RECENT = timedelta(days=2)
"""Within this time, points that are lost again are lost in a row. Pauses are at most a day."""
SAME_ANSWERS, SAME_FOR = 3, timedelta(days=3)
"""A short day is closed once so many answers were the same over so long a time."""


class State(StrEnum):
    INGESTED = "ingested"
    OPEN = "open"
    CLOSED_SHORT = "closed short"
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
    store_unavailable: bool = False
    """Whether the store did not answer."""
    kept_from: datetime | None = None
    """The instant before which the store drops hours, if the attempt failed for that reason."""


@dataclass(frozen=True)
class Stored:
    """The last materialization of a day's points."""

    at: datetime
    """When the API's answer was taken. Writing the same hours again does not change it."""
    hours: int | None
    hours_expected: int | None
    last_hour: datetime | None
    """Start of the newest hour with measured demand."""
    fingerprint: str | None = None
    """Fingerprint of the measured demand."""
    morning_fingerprint: str | None = None
    """Fingerprint of the hours before the next day's forecast is due."""
    hours_fingerprint: str | None = None
    """Fingerprint of all hours that were written, see `demand.figures.hours_fingerprints`."""
    written_at: datetime | None = None
    """When the points were written, if that was later than the answer."""
    same_answers: int = 1
    """How many answers in a row had these hours."""
    unchanged_since: datetime | None = None
    """When the first of these answers was taken."""
    accepted: bool = False
    """Whether a person has reported the day as complete."""
    store: str | None = None
    """Address of the store that was written, if it is on record."""
    restores: int = 0
    """How often in a row the points were written again, as they were lost."""
    revised_at: datetime | None = None
    """When the API was seen to have other hours."""

    @property
    def short(self) -> bool:
        """Whether measured hours are known to be missing."""
        return not self.accepted and (self.hours or 0) < (self.hours_expected or 0)

    @property
    def closed_short(self) -> bool:
        """Whether hours are missing that the API is not expected to deliver any more."""
        return self.short and is_final(self.same_answers, self.unchanged_since or self.at, self.at)

    @property
    def revised(self) -> bool:
        """Whether the API was seen to have other hours since."""
        return self.revised_at is not None and self.revised_at > self.at


def is_final(answers: int, since: datetime, until: datetime) -> bool:
    """Whether a short answer came so often, and over such a time, that no other is expected."""
    return answers >= SAME_ANSWERS and until - since >= SAME_FOR


def answer_history(
    previous: Stored | None, fingerprint: str, answered_at: datetime, now: datetime
) -> Stored:
    """What is recorded of a day's answers when its points are written now.

    Args:
        previous: the last record of the day.
        fingerprint: of all hours that are written.
        answered_at: when their answer was taken; one that is not newer than that of the record is
            written again because it was lost.
    """
    new = Stored(answered_at, None, None, None, hours_fingerprint=fingerprint, written_at=now)
    if previous is None:
        return replace(new, unchanged_since=answered_at)
    since = previous.unchanged_since or previous.at
    if answered_at <= previous.at:
        recent = now - (previous.written_at or previous.at) < RECENT
        return replace(
            new,
            # Only a materialization that was reported by hand has no hours.
            accepted=previous.accepted or previous.hours is None,
            same_answers=previous.same_answers,
            unchanged_since=since,
            restores=previous.restores + 1 if recent else 1,
        )
    if previous.hours_fingerprint == fingerprint:
        return replace(new, same_answers=previous.same_answers + 1, unchanged_since=since)
    return replace(new, unchanged_since=answered_at)


@dataclass(frozen=True)
class Audit:
    """What an audit of the store found."""

    at: datetime
    """When it began. Points that were written later are not lost."""
    days: int = 0
    """How many days were compared."""
    lost: frozenset[date] = frozenset()
    """Days of which the store lacks hours, or has them with other values."""
    without_frame: frozenset[date] = frozenset()
    """Those whose frame is not on disk, so that the API is asked again."""
    lost_forecasts: frozenset[date] = frozenset()
    surplus: frozenset[date] = frozenset()
    """Days of which the store also holds values that were not written here."""
    kept_from: datetime | None = None
    """The instant before which the store drops hours; None if it does not say."""
    foreign_tags: tuple[str, ...] = ()
    """Tags of series that other programs write to the same measurement."""
    complete_at: datetime | None = None
    """When the last audit began that found no loss."""

    @property
    def found_loss(self) -> bool:
        return bool(self.lost or self.lost_forecasts)


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
    audit: Audit | None = None
    """The last audit of the store."""
    last_reread: datetime | None = None
    """When the last days were last requested to look for revisions."""
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
        return min([*self.stored, *wanted], default=None)

    @property
    def first_kept_day(self) -> date | None:
        """The first day that the store keeps as a whole; None if it keeps all, or does not say."""
        bounds = [one.kept_from for one in self.attempts.values() if one.kept_from]
        if self.audit and self.audit.kept_from:
            bounds = [self.audit.kept_from]
        if not bounds:
            return None
        day = local_date(max(bounds))
        return day if start_of(day) >= max(bounds) else day + timedelta(days=1)

    def is_lost(self, day: date) -> bool:
        """Whether the last audit did not find the day's points, and none were written since."""
        stored = self.stored.get(day)
        if not self.audit or not stored or day not in self.audit.lost:
            return False
        return (stored.written_at or stored.at) < self.audit.at

    @property
    def is_restored(self) -> bool:
        """Whether the last audit found lost days, and all of them were written since."""
        lost = self.audit.lost if self.audit else ()
        return bool(lost) and not any(map(self.is_lost, lost))

    def lost_days(self) -> list[date]:
        """Days up to today that are lost and that no run includes, in order."""
        lost = self.audit.lost if self.audit else ()
        return [
            day
            for day in sorted(lost)
            if self.is_lost(day) and day not in self.under_way and not self.is_expired(day)
        ]

    def can_be_restored(self, day: date) -> bool:
        """Whether the day is lost, and its frame is on disk."""
        return self.is_lost(day) and self.audit is not None and day not in self.audit.without_frame

    def is_expired(self, day: date) -> bool:
        """Whether the store would drop hours of the day, as they are older than it keeps."""
        kept = self.first_kept_day
        return kept is not None and day < kept

    def expired_days(self) -> list[date]:
        """Days whose request failed because they are older than the store keeps hours."""
        return [day for day in sorted(self.attempts) if self.is_expired(day)]

    def closed_short_days(self) -> list[date]:
        return [day for day in sorted(self.stored) if self.state(day) == State.CLOSED_SHORT]

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
        if stored is None or self.is_lost(day):
            return State.MISSING
        if stored.at < self.settled_at(day) or stored.revised:
            return State.OPEN
        if stored.short:
            return State.CLOSED_SHORT if stored.closed_short else State.OPEN
        return State.INGESTED

    def days(self, *states: State) -> list[date]:
        """Past days in one of the states, in order.

        These are all days from the first stored one to yesterday, and earlier days whose last
        attempt failed; without those that are older than the store keeps.
        """
        first = self.first_day or self.today
        past = [day for day in sorted(self.attempts) if day < first]
        past += days_between(first, self.today - timedelta(days=1))
        return [d for d in past if self.state(d) in states and not self.is_expired(d)]
