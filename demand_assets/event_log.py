"""Dagster's event log in SQLite, with connections that stay open. `dagster.yaml` names it.

Dagster's own class opens an engine and a connection for every statement: 12 ms of CPU for an event,
of which a day of the project has about a dozen. Kept open they take 3 ms. Files, tables and
everything else are Dagster's: without the line in `dagster.yaml` the same folder goes on working.
"""

import os
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster import DagsterInstance, EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sql import create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, QueuePool
from sqlalchemy.event import listen

MOST_OPEN = 16
"""Databases kept open: the index, and one for each of the newest runs."""


class PooledSqliteEventLogStorage(SqliteEventLogStorage):
    """Dagster's SQLite event log, in the instance's own folder."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        # What opens the databases waits until the instance tells where they are.
        self._inst_data = inst_data
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._tables: set[str] = set()

    def register_instance(self, instance: DagsterInstance) -> None:
        folder = Path(instance.root_directory) / "history" / "runs"
        SqliteEventLogStorage.__init__(self, str(folder), self._inst_data)
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
        with self._db_lock, self._engine(shard).begin() as connection:
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
        if event.run_id:
            # The web page follows a run by watching its file; a commit goes to the file beside it.
            os.utime(self.path_for_shard(event.run_id))

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
