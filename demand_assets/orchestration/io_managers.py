"""Where partitions are kept on disk: files, one a day, and the embedded DuckDB store."""

import gzip
import json
import math
import time
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pandas as pd
import pyarrow
from dagster import ConfigurableIOManager, InputContext, OutputContext
from dagster._core.storage.db_io_manager import DbIOManager, TableSlice
from dagster._utils.backoff import backoff
from dagster_duckdb.io_manager import DuckDbClient
from dagster_duckdb_pandas import DuckDBPandasIOManager
from dagster_duckdb_pandas.duckdb_pandas_type_handler import DuckDBPandasTypeHandler
from duckdb import DuckDBPyConnection
from pydantic import Field
from upath import UPath

from demand_assets.atomic_write import UNFINISHED, write_whole
from demand_assets.demand.days import frames_by_day
from demand_assets.orchestration.metadata import FIELDS as FIELDS_METADATA
from demand_assets.redata import Answer

TABLE = "influx_demand_points"
"""The embedded store's one table, whichever asset writes to it, as a bucket has one measurement."""


class PartitionFileError(Exception):
    """A partition's file is missing or unreadable. Its text says what to materialize again."""


class _PartitionFiles(ConfigurableIOManager):
    """One file a partition, whether it was materialized alone or in a range."""

    base_dir: str = Field(description="A folder or any fsspec address; files go below it.")

    extension: ClassVar[str]

    @abstractmethod
    def _encode(self, obj: Any, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]: ...

    @abstractmethod
    def _decode(self, files: Iterator[tuple[str, bytes]]) -> Any: ...

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        folder = self._folder(context)
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        for key, content in self._encode(obj, context.asset_partition_keys):
            write_whole(folder / f"{key}{self.extension}", content)
        context.add_output_metadata({"folder": str(folder)})

    def load_input(self, context: InputContext) -> Any:
        """What was stored of all partitions asked for.

        Raises:
            PartitionFileError: a file is missing, cut short or not what it should be.
        """
        asset, folder = context.asset_key.to_user_string(), self._folder(context)
        reading = ""

        def read() -> Iterator[tuple[str, bytes]]:
            nonlocal reading
            for reading in context.asset_partition_keys:
                yield reading, (folder / f"{reading}{self.extension}").read_bytes()

        try:
            return self._decode(read())
        except FileNotFoundError as error:
            raise PartitionFileError(
                f"{reading}: {asset} has no file in {folder}. Materialize {asset} of this day."
            ) from error
        except (
            *(OSError, EOFError, KeyError, TypeError, ValueError),
            *(zlib.error, pyarrow.ArrowException),
        ) as error:
            raise PartitionFileError(
                f"{reading}: the file of {asset} in {folder} is unreadable"
                f" ({type(error).__name__}). Materialize {asset} of this day again."
            ) from error

    def _folder(self, context: OutputContext | InputContext) -> UPath:
        return UPath(self.base_dir).joinpath(*context.asset_key.path)


class JSONAnswerIOManager(_PartitionFiles):
    """Answers of the API as gzipped JSON: ``{partition key: answer}`` in memory."""

    extension: ClassVar[str] = ".json.gz"

    def _encode(
        self, obj: Mapping[str, Answer], keys: Sequence[str]
    ) -> Iterator[tuple[str, bytes]]:
        for key in keys:
            text = json.dumps(obj[key], ensure_ascii=False, separators=(",", ":"))
            # Without a time of its own, the same answer gives the same bytes.
            yield key, gzip.compress(text.encode(), compresslevel=6, mtime=0)

    def _decode(self, files: Iterator[tuple[str, bytes]]) -> dict[str, Answer]:
        return {key: json.loads(gzip.decompress(content)) for key, content in files}


class ParquetFrameIOManager(_PartitionFiles):
    """Hourly frames as Parquet: one frame of all the partitions in memory, cut at Madrid's days."""

    extension: ClassVar[str] = ".parquet"

    def _encode(self, obj: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        for key, frame in frames_by_day(obj, keys).items():
            yield key, frame.to_parquet(write_page_checksum=True)

    def _decode(self, files: Iterator[tuple[str, bytes]]) -> pd.DataFrame:
        frames = [
            pd.read_parquet(BytesIO(content), page_checksum_verification=True)
            for _, content in files
        ]
        return pd.concat(frames)


def _remove_leftovers(folder: UPath) -> None:
    """What writers that were killed have left behind, once it cannot be one at work."""
    for left in folder.glob(f".*{UNFINISHED}"):
        with suppress(FileNotFoundError):  # another run is quicker
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()


class EmbeddedStoreIOManager(DuckDBPandasIOManager):
    """The store for those without InfluxDB: a DuckDB file that keeps what a bucket would.

    A frame's index becomes the column ``time``. As in InfluxDB, rows are written again and never
    deleted, and a NaN leaves the value that is there.
    """

    def create_io_manager(self, context: Any) -> DbIOManager:
        Path(self.database).parent.mkdir(parents=True, exist_ok=True)
        return EmbeddedStore(
            db_client=_Client(),
            database=self.database,
            schema=self.schema_,
            type_handlers=[_FrameHandler()],
            io_manager_name=type(self).__name__,
        )


class EmbeddedStore(DbIOManager):
    """The IO manager at work. It can be read without Dagster's partitions, as a bucket can."""

    def read(self, fields: list[str], start: datetime, stop: datetime) -> pd.DataFrame:
        """The hours in [start, stop) as a frame: UTC index ``time``, one column per field.

        As in a bucket, what nobody has written yet has no values.
        """
        if not Path(self._database).exists():
            return _as_frame(pd.DataFrame({"time": []})).reindex(columns=fields)
        # Somebody else may just be writing.
        connect = partial(duckdb.connect, self._database, read_only=True)
        with backoff(connect, retry_on=(duckdb.IOException,), max_retries=4) as connection:
            try:
                rows = connection.execute(
                    f"from main.{TABLE} where time >= $start and time < $stop order by time",
                    {"start": start, "stop": stop},
                ).df()
            except duckdb.CatalogException:  # whoever made the file has not come to the table
                rows = pd.DataFrame({"time": []})
        return _as_frame(rows).reindex(columns=fields, fill_value=math.nan)

    def _get_table_slice(
        self, context: OutputContext | InputContext, output_context: OutputContext
    ) -> TableSlice:
        return super()._get_table_slice(context, output_context)._replace(table=TABLE)


class _Client(DuckDbClient):
    @staticmethod
    @contextmanager
    def connect(
        context: OutputContext | InputContext, table_slice: TableSlice
    ) -> Iterator[DuckDBPyConnection]:
        with DuckDbClient.connect(context, table_slice) as connection:
            try:
                yield connection
            finally:
                # dagster-duckdb leaves the file locked when what happens in between fails.
                connection.close()

    @staticmethod
    def delete_table_slice(
        context: OutputContext, table_slice: TableSlice, connection: DuckDBPyConnection
    ) -> None:
        """Nothing is deleted: a crash before the insert would lose a day that was stored."""


class _FrameHandler(DuckDBPandasTypeHandler):
    def handle_output(
        self,
        context: OutputContext,
        table_slice: TableSlice,
        obj: pd.DataFrame,
        connection: DuckDBPyConnection,
    ) -> None:
        table = f"{table_slice.schema}.{table_slice.table}"
        rows = obj.reset_index()
        connection.execute(f"create table if not exists {table} (time TIMESTAMPTZ PRIMARY KEY)")
        for column in obj.columns:
            connection.execute(f'alter table {table} add column if not exists "{column}" DOUBLE')
        kept = ", ".join(f'"{c}" = coalesce(excluded."{c}", "{c}")' for c in obj.columns)
        connection.register("rows", rows)  # DuckDB reads a NaN as NULL
        connection.execute(
            f"insert into {table} by name select * from rows"
            f" on conflict (time) do update set {kept}"
        )

    def load_input(
        self, context: InputContext, table_slice: TableSlice, connection: DuckDBPyConnection
    ) -> pd.DataFrame:
        frame = _as_frame(super().load_input(context, table_slice, connection)).sort_index()
        asset = context.upstream_output
        fields = (asset.definition_metadata if asset else {}).get(FIELDS_METADATA, frame.columns)
        return frame[list(fields)]


def _as_frame(rows: pd.DataFrame) -> pd.DataFrame:
    rows["time"] = pd.to_datetime(rows["time"], utc=True).astype("datetime64[ns, UTC]")
    return rows.set_index("time")
