"""Dagster's event log in SQLite, with connections that stay open. `dagster.yaml` names it.

Dagster's own class opens an engine and a connection for every statement: 12 ms of CPU for an event,
of which a day of the project has about a dozen. Kept open they take 3 ms. Files, tables and
everything else are Dagster's: without the line in `dagster.yaml` the same folder goes on working.
"""

import os
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Any

from dagster import DagsterInstance, EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sql import create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, QueuePool
from sqlalchemy.event import listen

# Unless told otherwise, Dagster hands over each event alone.
os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "500")

MOST_OPEN = 16
"""Databases kept open: the index, and one for each of the newest runs."""


class PooledSqliteEventLogStorage(SqliteEventLogStorage):
    """Dagster's SQLite event log, in the instance's own folder."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        # What opens the databases waits until the instance tells where they are.
        self._inst_data = inst_data
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._tables: set[str] = set()
        self._batch: dict[str, Connection] = {}

    def register_instance(self, instance: DagsterInstance) -> None:
        folder = Path(instance.root_directory) / "history" / "runs"
        SqliteEventLogStorage.__init__(self, str(folder), self._inst_data)
        self._db_lock = RLock()  # type: ignore[assignment]  # a batch holds it throughout
        super().register_instance(instance)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData | None, config_value: dict[str, Any]
    ) -> "PooledSqliteEventLogStorage":
        return cls(inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            if shard in self._batch:
                yield self._batch[shard]
                return
            with self._engine(shard).begin() as connection:
                yield connection

    def _engine(self, shard: str) -> Engine:
        """The database of a run or of the index, opened and, the first time, created."""
        if shard not in self._initialized_dbs:
            self._close(shard)  # its file may have been deleted
            self._engines[shard] = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=QueuePool,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            listen(self._engines[shard], "connect", _wait_for_no_disk)
            self._initdb(self._engines[shard])
            self._initialized_dbs.add(shard)
            while len(self._engines) > MOST_OPEN:
                self._close(next(iter(self._engines)))
        self._engines.move_to_end(shard)
        return self._engines[shard]

    def _close(self, shard: str) -> None:
        self._initialized_dbs.discard(shard)
        if engine := self._engines.pop(shard, None):
            engine.dispose()

    def store_event(self, event: EventLogEntry) -> None:
        super().store_event(event)
        if event.run_id and not self._batch:
            self._show(event.run_id)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store a step's events in one transaction for each database, or none of them."""
        with self._db_lock, ExitStack() as stack:
            try:
                for shard in (INDEX_SHARD_NAME, events[0].run_id):
                    self._batch[shard] = stack.enter_context(self._connect(shard))
                super().store_event_batch(events)
            finally:
                self._batch.clear()
        self._show(events[0].run_id)

    def _show(self, run_id: str) -> None:
        # The web page follows a run by watching its file; a commit goes to the file beside it.
        with suppress(FileNotFoundError):  # the run has just been deleted from the page
            os.utime(self.path_for_shard(run_id))

    def delete_events(self, run_id: str) -> None:
        # Dagster's own class leaves the verdicts, and the run's file, which does not shrink.
        checks = AssetCheckExecutionsTable
        with self._db_lock:
            super().delete_events(run_id)
            with self.index_connection() as connection:
                connection.execute(checks.delete().where(checks.c.run_id == run_id))
            self._close(run_id)
            for part in ("", "-wal", "-shm"):
                Path(self.path_for_shard(run_id) + part).unlink(missing_ok=True)

    def has_table(self, table_name: str) -> bool:
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def dispose(self) -> None:
        for shard in list(self._engines):
            self._close(shard)
        super().dispose()


def _wait_for_no_disk(connection: sqlite3.Connection, _: object) -> None:
    # A power cut may undo the last events, never damage the file. A day whose event is gone is
    # fetched again.
    connection.execute("PRAGMA synchronous=NORMAL")
