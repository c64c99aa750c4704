"""Where hours are kept: InfluxDB or the embedded DuckDB, behind one protocol, and partition files.

A store overwrites and never deletes; a write returns once every point is acknowledged. Nothing of
Dagster belongs here: resources and IO managers are in `orchestration/`.
"""

import re
from datetime import datetime
from typing import Protocol

import pandas as pd


class StoreError(Exception):
    """The store could not be written or read. The text says what to do."""


class StoreUnreadableError(StoreError):
    """A server of this kind takes points and answers no queries. Trying again does not help."""


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

        A field that was never written is a column of NaN.

        Raises:
            StoreError: the store cannot be read.
        """


def hourly_rows(rows: pd.DataFrame, fields: list[str]) -> pd.DataFrame:
    """Rows with a column ``time`` as the frame that `Store.read` returns."""
    times = pd.to_datetime(rows["time"], utc=True).astype("datetime64[ns, UTC]")
    return rows.set_index(times).reindex(columns=fields).astype("float64")


def url_without_credentials(url: str) -> str:
    """A URL without user, password, query and fragment, for errors, logs and metadata.

    All text before the last ``@`` counts as credentials, as passwords may contain ``/`` or ``#``.
    """
    return re.split(r"[?#]", re.sub(r"^(\w+://)?.*@", r"\1", url))[0]
