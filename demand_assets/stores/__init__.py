"""Where hours are kept: InfluxDB or the embedded DuckDB, behind one protocol, and partition files.

A store overwrites and never deletes; a write returns once every point is acknowledged. Nothing of
Dagster belongs here: resources and IO managers are in `orchestration/`.
"""

import re
from datetime import UTC, datetime
from typing import Protocol

import pandas as pd


class StoreError(Exception):
    """The store could not be written or read. The text says what to do."""


class StoreUnreadableError(StoreError):
    """A server of this kind takes points and answers no queries. Trying again does not help."""


class StoreUnavailableError(StoreError):
    """The store does not answer for now; the same request may succeed later."""


class ExpiredHoursError(StoreError):
    """The store dropped hours that are older than it keeps; it has stored all others."""

    def __init__(self, reason: str, kept_from: datetime) -> None:
        super().__init__(reason)
        self.kept_from = kept_from


class Store(Protocol):
    """A measurement of hours: one float64 column per field, over UTC starts of the hour."""

    def write(self, frame: pd.DataFrame) -> None:
        """Store the hours of a frame; return once the store has acknowledged all of them.

        A NaN leaves the value that is stored.

        Raises:
            StoreError: some hours were not acknowledged.
        """

    def read(
        self, fields: list[str], start: datetime | None = None, stop: datetime | None = None
    ) -> pd.DataFrame:
        """The hours in [start, stop): UTC index ``time``, sorted, one column per field.

        A field that was never written is a column of NaN. Series of other programs in the same
        measurement are left out.

        Raises:
            StoreError: the store cannot be read.
        """

    def kept_from(self) -> datetime | None:
        """The instant before which the store drops hours; None if it does not say.

        Raises:
            StoreUnavailableError: the store does not answer.
        """

    def foreign_tags(self) -> list[str]:
        """Tags of the series that other programs write to the same measurement.

        Raises:
            StoreError: the store cannot be read.
        """


KEPT_FOR_EVER = datetime(1970, 1, 1, tzinfo=UTC)
"""What `Store.kept_from` returns if the store drops nothing."""


def hourly_rows(rows: pd.DataFrame, fields: list[str]) -> pd.DataFrame:
    """Rows with a column ``time`` as the frame that `Store.read` returns."""
    times = pd.to_datetime(rows["time"], utc=True).astype("datetime64[ns, UTC]")
    return rows.set_index(times).reindex(columns=fields).astype("float64")


def url_without_credentials(url: str) -> str:
    """A URL without user, password, query and fragment, for errors, logs and metadata.

    All text before the last ``@`` counts as credentials, as passwords may contain ``/`` or ``#``.
    """
    return re.split(r"[?#]", re.sub(r"^(\w+://)?.*@", r"\1", url))[0]
