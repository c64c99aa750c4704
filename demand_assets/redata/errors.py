"""What can befall a day: one class per way in which a person or the client has to react."""

from datetime import date
from typing import ClassVar, Self

from demand_assets.patience import backoff


class REDataError(Exception):
    """A day that could not be had. Its text says which day, what came and what to do."""

    advice: ClassVar[str] = "Materialize the day again."

    def __init__(self, came: str, day: date | None = None):
        super().__init__(came, day)
        self.came = came
        self.day = day

    def of(self, day: date) -> Self:
        """The same error, said of one day of the span that it befell."""
        return type(self)(self.came, day)

    def __str__(self) -> str:
        return f"{self.day or 'span'}: {self.came}. {self.advice}"


class NoDataError(REDataError):
    """REData answered, and has nothing for the day."""

    advice = "Nothing was stored; materialize the day again once the operator has published it."


class RefusedError(REDataError):
    """REData does not accept the span or a parameter."""

    advice = "Check the partition's date and REDATA_MAX_DAYS_PER_REQUEST."


class AddressError(REDataError):
    """What stands at the address is not the API. A shorter span would not help."""

    advice = "Nothing was stored; check REDATA_BASE_URL, then materialize the day again."


class MalformedAnswerError(REDataError):
    """The answer is JSON of another shape, or its values are not demand in MW."""

    advice = "Nothing wrong was stored; if materializing again does not help, the API has changed."


class UnavailableError(REDataError):
    """Passing trouble that outlived the retry budget: an outage, a time-out, a broken body."""

    advice = "Nothing was stored; materialize the day again when REData is back."
    most_attempts: ClassVar[int] = 1000

    def __init__(self, came: str, day: date | None = None, retry_after: float | None = None):
        super().__init__(came, day)
        self.retry_after = retry_after

    def pause(self, attempt: int) -> float:
        """Seconds to wait after the given attempt: as told, else exponential with jitter."""
        if self.retry_after:
            return self.retry_after
        return backoff(attempt)


class BlockedError(UnavailableError):
    """The bot guard in front of the API turned the client away; insisting makes it worse."""

    advice = "Nothing was stored; wait an hour, then ask for fewer days at a time."
    most_attempts = 3

    def pause(self, attempt: int) -> float:
        return 10.0 * attempt
