"""Where hours are kept: InfluxDB or the embedded DuckDB, behind one protocol, and partition files.

A store writes frames again and never deletes; a write returns once every point is acknowledged.
Nothing of Dagster belongs here: resources and IO managers are in `orchestration/`.
"""

from datetime import datetime
from typing import Protocol

import pandas as pd


class StoreError(Exception):
    """The store could not be written or read. The text names the setting to correct."""


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
