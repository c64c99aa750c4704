"""Errors of the API client: one class for each reaction that a person or the client needs.

All derive from `demand.errors.DayError`: the text says which day, what the API answered, and what
to do. Which response is which error belongs in `responses`.
"""

from datetime import date

from demand_assets.demand.errors import DayError
from demand_assets.retry import backoff


class REDataError(DayError):
    """The API did not deliver a day."""


class NoDataError(REDataError):
    """REData answered, and has no data for the day."""

    advice = "Nothing was stored; materialize the day again once the operator has published it."


class RefusedError(REDataError):
    """REData does not accept the span or a parameter."""

    advice = "Check the partition's date and REDATA_MAX_DAYS_PER_REQUEST."


class AddressError(REDataError):
    """The server at the address is not the API. A shorter span would not help."""

    advice = "Nothing was stored; check REDATA_BASE_URL, then materialize the day again."


class MalformedAnswerError(REDataError):
    """The answer is JSON of another structure, or its values are not demand in MW."""

    advice = "Nothing wrong was stored; if materializing again does not help, the API has changed."


class UnansweredError(REDataError):
    """The API fails for this day, while it answers for others."""

    advice = "Nothing was stored; materialize the day again later. Other days are answered."


class UnavailableError(REDataError):
    """A temporary failure that outlasted the retry budget: an outage, a time-out, a broken body."""

    advice = (
        "Nothing was stored; materialize the day again when REData is back. If single days succeed"
        " and long ranges fail, lower REDATA_MAX_DAYS_PER_REQUEST."
    )

    def __init__(
        self, reason: str, day: date | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(reason, day)
        self.retry_after = retry_after

    @property
    def asks_to_wait(self) -> bool:
        """Whether the API is there, but wants fewer requests."""
        return bool(self.retry_after)

    def pause(self, attempt: int) -> float | None:
        """Seconds until the next attempt: as the server asks, else exponential; None for never."""
        return self.retry_after or backoff(attempt)


class ThrottledError(UnavailableError):
    """The API answers that requests come too fast."""

    advice = "Nothing was stored; the sensors request the day again, one request at a time."
    asks_to_wait = True


class ProxyError(UnavailableError):
    """The proxy that the environment names does not let the request through, or is down."""

    advice = "Nothing was stored; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY."


class BlockedError(ThrottledError):
    """The bot guard in front of the API blocks the client; more requests prolong the block."""

    advice = "Nothing was stored; wait an hour, then request fewer days at a time."
    max_attempts = 3

    def pause(self, attempt: int) -> float | None:
        return 10.0 * attempt if attempt < self.max_attempts else None
