"""Why a day could not be had: the base class of all such errors, and those of the domain.

The API client derives its own errors from `DayError`, so that assets handle one class.
"""

from datetime import date
from typing import ClassVar, Self


class DayError(Exception):
    """A day that cannot be stored. The text says which day, the reason and what to do."""

    advice: ClassVar[str] = "Materialize the day again."

    def __init__(self, reason: str, day: date | None = None) -> None:
        super().__init__(reason, day)
        self.reason = reason
        self.day = day

    def for_day(self, day: date) -> Self:
        """The same error for one day of the span that failed."""
        return type(self)(self.reason, day)

    def __str__(self) -> str:
        return f"{self.day or 'span'}: {self.reason}. {self.advice}"


class ImplausibleDemandError(DayError):
    """A sample is outside of the plausible range of its series."""

    advice = "Nothing of it was stored; materialize the day again once it is revised."


class NoRealDemandError(DayError):
    """A past day has no measured demand."""

    advice = "Nothing of it was stored; materialize the day again later."
