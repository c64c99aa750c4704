"""The embedded store, for users without InfluxDB: a DuckDB file that holds one table of hours."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import duckdb
import pandas as pd

from demand_assets.retry import RetryBudget, backoff, call_with_retries
from demand_assets.stores import KEPT_FOR_EVER, StoreError, StoreUnavailableError, hourly_rows

TABLE = "main.influx_demand_points"
"""The only table, whichever asset writes to it, as a bucket has one measurement."""
WAIT_SECONDS = 20.0
"""How long to wait for a file that another process has open. A write takes less than a second."""


class DuckDBAccessError(StoreError):
    """The database could not be written or read. The text names the file."""


class DuckDBLockedError(DuckDBAccessError, StoreUnavailableError):
    """Another program has the database open."""


@dataclass(frozen=True)
class DuckDBStore:
    """A `Store` in a DuckDB file: column ``time`` and one DOUBLE column per field."""

    database: str
    """Path of the file; it and its folder are created by the first write."""

    def write(self, frame: pd.DataFrame) -> None:
        """See `Store.write`; all rows are stored in one transaction, or none."""
        rows = frame.dropna(how="all").rename_axis("time").reset_index()
        kept = ", ".join(f'"{c}" = coalesce(excluded."{c}", "{c}")' for c in frame.columns)
        with self._connection() as connection:
            connection.begin()  # Closing the connection rolls back what is not committed.
            connection.execute(f"create table if not exists {TABLE} (time TIMESTAMPTZ PRIMARY KEY)")
            for column in frame.columns:
                connection.execute(
                    f'alter table {TABLE} add column if not exists "{column}" DOUBLE'
                )
            connection.register("rows", rows)  # DuckDB reads a NaN as NULL.
            connection.execute(
                f"insert into {TABLE} by name select * from rows"
                f" on conflict (time) do update set {kept}"
            )
            connection.commit()

    def read(
        self, fields: list[str], start: datetime | None = None, stop: datetime | None = None
    ) -> pd.DataFrame:
        """See `Store.read`."""
        rows = pd.DataFrame({"time": []})
        if Path(self.database).exists():
            with (
                self._connection(read_only=True) as connection,
                suppress(duckdb.CatalogException),  # The table has not been created yet.
            ):
                rows = connection.execute(
                    f"from {TABLE} where time >= coalesce($start::TIMESTAMPTZ, time)"
                    " and time < coalesce($stop::TIMESTAMPTZ, 'infinity') order by time",
                    {"start": start, "stop": stop},
                ).df()
        return hourly_rows(rows, fields)

    def kept_from(self) -> datetime:
        """See `Store.kept_from`; a file keeps all hours."""
        return KEPT_FOR_EVER

    def foreign_tags(self) -> list[str]:
        """See `Store.foreign_tags`; the table has no tags."""
        return []

    @contextmanager
    def _connection(self, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        connect = partial(duckdb.connect, self.database, read_only=read_only)
        try:
            Path(self.database).parent.mkdir(parents=True, exist_ok=True)
            connection = call_with_retries(connect, _pause_after, RetryBudget(WAIT_SECONDS))
            with closing(connection):
                yield connection
        except (duckdb.Error, OSError) as error:
            verb, reason = "read" if read_only else "written", str(error).partition("\n")[0]
            kind = DuckDBLockedError if _is_locked(error) else DuckDBAccessError
            advice = f"{reason}. Check DEMAND_DATA_DIR, its free space and its permissions."
            if _is_locked(error):
                advice = (
                    f"Another program has it open, {_holder(reason)}: close it there; the next try"
                    " stores the day."
                )
            raise kind(f"DuckDB {self.database} cannot be {verb}: {advice}") from error


def _is_locked(error: Exception) -> bool:
    return isinstance(error, duckdb.IOException) and "Could not set lock" in str(error)


def _holder(text: str) -> str:
    """The program that holds the file, as DuckDB's error names it."""
    held = re.search(r"held in (.+?) \(PID (\d+)\)", text)
    return f"{held[1]} (PID {held[2]})" if held else "unknown which"


def _pause_after(error: Exception, attempt: int) -> float | None:
    return backoff(attempt) / 5 if _is_locked(error) else None
