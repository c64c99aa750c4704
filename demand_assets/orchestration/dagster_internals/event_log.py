"""Dagster's event log in SQLite, with connections that stay open. `dagster.yaml` names it.

Dagster's own class opens an engine and a connection for each statement: 12 ms of CPU per event, and
a day of the project has about a dozen events. Open connections take 3 ms; there is no public
setting for that. Files and tables are Dagster's, so a folder works with either class.

A run's event and its copy in the index are two transactions, here as in Dagster's class. After a
crash between them the index lacks a materialization, and the sensors request that day again.
"""

import os
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.event import listen

MOST_OPEN = 16
"""Databases kept open: the index, and one for each of the newest runs."""
BUSY_SECONDS = 60
"""How long a statement waits for another process; the same as in Dagster's class."""


class PooledSqliteEventLogStorage(SqliteEventLogStorage):
    """Dagster's SQLite event log, in the instance's own folder."""

    def __init__(self, inst_data: Any = None) -> None:
        # Dagster's class needs the folder, which is known in `register_instance`.
        self._inst_data = inst_data
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._tables: set[str] = set()

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        folder = Path(instance.root_directory) / "history" / "runs"
        super().__init__(str(folder), self._inst_data)
        super().register_instance(instance)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "PooledSqliteEventLogStorage":
        return cls(inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock, self._engine(shard).begin() as connection:
            yield connection

    def _engine(self, shard: str) -> Engine:
        """The database of a run or of the index, opened and, the first time, created."""
        if shard not in self._initialized_dbs:
            self._close(shard)  # its file may have been deleted
            engine = create_engine(
                self.conn_string_for_shard(shard), connect_args={"timeout": BUSY_SECONDS}
            )
            listen(engine, "connect", set_synchronous_normal)
            self._initdb(engine)
            self._engines[shard] = engine
            self._initialized_dbs.add(shard)
            if len(self._engines) > MOST_OPEN:
                self._close(next(iter(self._engines)))
        self._engines.move_to_end(shard)
        return self._engines[shard]

    def _close(self, shard: str) -> None:
        self._initialized_dbs.discard(shard)
        if engine := self._engines.pop(shard, None):
            engine.dispose()

    def store_event(self, event: dg.EventLogEntry) -> None:
        super().store_event(event)
        # The web page follows a run by watching its file, while commits go to the file beside it.
        with suppress(FileNotFoundError):  # the run has just been deleted, or there is none
            os.utime(self.path_for_shard(event.run_id))

    def delete_events(self, run_id: str) -> None:
        """Delete a run's events and, other than Dagster's class, its check results and file."""
        super().delete_events(run_id)
        with self.index_connection() as connection:
            statement = text("DELETE FROM asset_check_executions WHERE run_id = :run_id")
            connection.execute(statement, {"run_id": run_id})
        with self._db_lock:
            self._close(run_id)
            for suffix in ("", "-wal", "-shm"):
                Path(self.path_for_shard(run_id) + suffix).unlink(missing_ok=True)

    def has_table(self, table_name: str) -> bool:
        # Dagster's class looks a table up for each event.
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def dispose(self) -> None:
        for shard in list(self._engines):
            self._close(shard)
        super().dispose()


def set_synchronous_normal(connection: sqlite3.Connection, _: object) -> None:
    """Do not wait for the disk: a power cut may undo the last events, but damages no file.

    The sensors request a day again whose event is lost.
    """
    connection.execute("PRAGMA synchronous=NORMAL")
