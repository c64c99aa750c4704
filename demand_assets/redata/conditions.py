"""What the requests of all runs have found out about the API, kept between runs in a small file.

Runs are processes of their own, so each reads the file before it requests anything. What follows
from a response for one span belongs in `client`.
"""

import fcntl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from upath import UPath

from demand_assets.atomic_write import write_whole

GROWTH_SECONDS = 86_400
"""After this time without a failure, spans of twice the accepted length are tried."""
SLOW_SECONDS = 900
"""How long requests are sent one at a time after the API has answered that they come too fast."""
LONGEST_WAIT_SECONDS = 3_600
"""A longer `Retry-After` is a mistake, or the API asks again."""
OUTAGE_SECONDS = 3_600
"""Age from which a failure says nothing about the API any more."""


@dataclass(frozen=True)
class Conditions:
    """Points in time are seconds since 1970."""

    accepted_days: int | None = None
    """The longest span that was answered after longer ones had failed; None: none has failed."""
    accepted_at: float = 0.0
    failures: int = 0
    """Failed requests since the last answer, of the kind that an outage causes."""
    failed_at: float = 0.0
    gave_up: bool = False
    """Whether a run has spent its retry budget since the last answer."""
    slow_until: float = 0.0
    """Until then, requests are sent one at a time."""
    not_before: float = 0.0
    """The API has asked for no request before this time."""

    def longest_span(self, most: int, now: float) -> int:
        """Days to request at once: the accepted length, doubled for each day since."""
        if self.accepted_days is None:
            return most
        doublings = min(max(0, int((now - self.accepted_at) / GROWTH_SECONDS)), 10)
        return min(most, self.accepted_days << doublings)

    def outage(self, now: float) -> bool:
        """Whether a run has given up waiting for the API, and no answer has come since."""
        return self.gave_up and now - self.failed_at < OUTAGE_SECONDS

    def slow(self, now: float) -> bool:
        return now < self.slow_until

    def failed(self, now: float) -> "Conditions":
        recent = now - self.failed_at < OUTAGE_SECONDS
        return replace(self, failures=self.failures + 1 if recent else 1, failed_at=now)

    def answered(self) -> "Conditions":
        return replace(self, failures=0, failed_at=0.0, gave_up=False)

    def throttled(self, now: float, wait: float) -> "Conditions":
        wait = min(wait, LONGEST_WAIT_SECONDS)
        return replace(self, slow_until=now + max(SLOW_SECONDS, wait), not_before=now + wait)

    def accepted(self, days: int, most: int, now: float) -> "Conditions":
        """After a span of this length was answered; ``most`` is the setting."""
        if days >= most:
            return replace(self, accepted_days=None, accepted_at=0.0)
        return replace(self, accepted_days=days, accepted_at=now)


CONTENT = TypeAdapter(Conditions)


class ConditionsFile:
    """The conditions in a folder of this machine that all runs share."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "conditions.json"
        self.lock = folder / "conditions.lock"

    def read(self) -> Conditions:
        """The conditions; the initial ones if there is no file, or one of another content."""
        with suppress(FileNotFoundError, ValidationError):
            return CONTENT.validate_json(self.path.read_bytes())
        return Conditions()

    def update(self, change: Callable[[Conditions, float], Conditions]) -> Conditions:
        """Apply a change to what is in the file; the change gets the present as well."""
        with self.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.read()
            after = change(before, time.time())
            if after != before:
                write_whole(UPath(self.path), CONTENT.dump_json(after))
        return after
