"""IO managers: partition files of the data folder, and the store of hours.

They translate Dagster's contexts into partition keys, fields and time windows. How files and stores
are written and read belongs in `stores/`.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import ClassVar, TypeVar

import dagster as dg
import pandas as pd
from pydantic import Field
from upath import UPath

from demand_assets.demand.days import describe_days, frames_by_day
from demand_assets.grid import TIME_ZONE, start_of
from demand_assets.orchestration import metadata
from demand_assets.orchestration.resources import InfluxDBResource
from demand_assets.redata import Answer
from demand_assets.stores import ExpiredHoursError, Store
from demand_assets.stores.duckdb_store import TABLE, DuckDBStore
from demand_assets.stores.influxdb import InfluxDBStore
from demand_assets.stores.partition_files import (
    EncodedJSON,
    PartitionFileError,
    decode_frame,
    decode_json,
    encode_frame,
    encode_json,
    read_partition,
    write_partitions,
)

T = TypeVar("T")


class _PartitionFilesIOManager(dg.ConfigurableIOManager):
    """One file per partition, whether it was materialized alone or in a range."""

    base_dir: str = Field(description="A folder or any fsspec address; files go below it.")

    extension: ClassVar[str]

    def _write(self, context: dg.OutputContext, files: Mapping[str, bytes]) -> None:
        folder = self._folder(context)
        write_partitions(folder, ((f"{k}{self.extension}", files[k]) for k in files))
        context.add_output_metadata({"folder": str(folder)})

    def _read(self, context: dg.InputContext, decode: Callable[[bytes], T]) -> dict[str, T]:
        asset, folder = context.asset_key.to_user_string(), self._folder(context)
        return {
            key: read_partition(folder, key, self.extension, decode, asset)
            for key in context.asset_partition_keys
        }

    def _folder(self, context: dg.OutputContext | dg.InputContext) -> UPath:
        return UPath(self.base_dir).joinpath(*context.asset_key.path)


class JSONAnswerIOManager(_PartitionFilesIOManager):
    """Answers of the API as gzipped JSON: ``{partition key: answer}`` in memory.

    An asset may encode them itself, to do so while it waits for the next ones.
    """

    extension: ClassVar[str] = ".json.gz"

    def handle_output(
        self, context: dg.OutputContext, obj: Mapping[str, Answer | EncodedJSON]
    ) -> None:
        self._write(context, {key: encode_json(obj[key]) for key in context.asset_partition_keys})

    def load_input(self, context: dg.InputContext) -> dict[str, Answer]:
        return self._read(context, decode_json)


class ParquetFrameIOManager(_PartitionFilesIOManager):
    """Hourly frames as Parquet: one frame of all partitions in memory, one file per Madrid day."""

    extension: ClassVar[str] = ".parquet"

    def handle_output(self, context: dg.OutputContext, obj: pd.DataFrame) -> None:
        frames = frames_by_day(obj, context.asset_partition_keys)
        self._write(context, {key: encode_frame(frame) for key, frame in frames.items()})

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        return pd.concat(self._read(context, decode_frame).values())

    def stored_frame(self, asset: dg.AssetKey, key: str) -> pd.DataFrame | None:
        """The frame of a partition; None if there is no file, or it is unreadable."""
        folder = UPath(self.base_dir).joinpath(*asset.path)
        try:
            return read_partition(folder, key, self.extension, decode_frame, asset.path[-1])
        except PartitionFileError:
            return None


def expired_failure(keys: Sequence[str], kept_from: datetime) -> dg.Failure:
    """The failure of days that the store would drop, as they are older than it keeps hours."""
    return dg.Failure(
        f"{describe_days([date.fromisoformat(key) for key in keys])} is older than the bucket keeps"
        f" hours: it drops all before {kept_from.astimezone(TIME_ZONE):%F %R}, Madrid time. Set"
        " DEMAND_START_DATE to a later day, or extend the bucket's retention.",
        metadata={
            metadata.FAILED_DAYS: dg.MetadataValue.json(list(keys)),
            metadata.KEPT_FROM: dg.MetadataValue.timestamp(kept_from),
        },
    )


class StoreIOManager(dg.ConfigurableIOManager):
    """Keeps partitions of a frame in a store of hours; assets can also use it to read the store.

    A frame has a UTC ``DatetimeIndex`` (start of the hour) and one float64 column per field; a NaN
    leaves the stored value. An asset names its columns in its definition metadata, under
    ``influxdb/fields``.
    """

    @property
    @abstractmethod
    def store(self) -> Store:
        """The store that the configuration names."""

    def handle_output(self, context: dg.OutputContext, obj: pd.DataFrame) -> None:
        """Write a partition's or a range's points; return once all are acknowledged.

        Raises:
            Failure: the store dropped hours that are older than it keeps; names their days.
        """
        try:
            self.store.write(obj)
        except ExpiredHoursError as error:
            starts = {
                key: start_of(date.fromisoformat(key)) for key in context.asset_partition_keys
            }
            expired = [key for key, start in starts.items() if start < error.kept_from]
            raise expired_failure(expired, error.kept_from) from error

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """The points of a partition, of a range or, without partitions, all of them."""
        upstream = context.upstream_output
        fields = (upstream.definition_metadata if upstream else {})[metadata.FIELDS]
        if context.has_asset_partitions:
            start, stop = context.asset_partitions_time_window
            return self.read(fields, start, stop)
        return self.read(fields)

    def read(
        self, fields: list[str], start: datetime | None = None, stop: datetime | None = None
    ) -> pd.DataFrame:
        """The hours in [start, stop), see `Store.read`."""
        return self.store.read(fields, start, stop)

    def write(self, frame: pd.DataFrame) -> None:
        """See `Store.write`."""
        self.store.write(frame)

    def kept_from(self) -> datetime | None:
        """See `Store.kept_from`."""
        return self.store.kept_from()

    def foreign_tags(self) -> list[str]:
        """See `Store.foreign_tags`."""
        return self.store.foreign_tags()


class InfluxDBIOManager(StoreIOManager):
    """Keeps partitions of a frame as points of one measurement, without tags.

    Example:
        .. code-block:: python

            Definitions(
                assets=[influx_demand_points],
                resources={
                    "demand_store": InfluxDBIOManager(influxdb=influxdb, measurement="demand")
                },
            )
    """

    influxdb: dg.ResourceDependency[InfluxDBResource]
    measurement: str = Field(description="Measurement that the points belong to.")
    batch_size: int = Field(default=5_000, ge=1, description="Rows sent in one request.")

    @property
    def store(self) -> InfluxDBStore:
        return InfluxDBStore(self.influxdb, self.measurement, self.batch_size)

    def handle_output(self, context: dg.OutputContext, obj: pd.DataFrame) -> None:
        super().handle_output(context, obj)
        context.add_output_metadata(
            {"bucket": self.influxdb.bucket, "measurement": self.measurement}
        )


class EmbeddedStoreIOManager(StoreIOManager):
    """Keeps partitions of a frame in a DuckDB file, for users without InfluxDB."""

    database: str = Field(description="Path of the DuckDB file.")

    @property
    def store(self) -> DuckDBStore:
        return DuckDBStore(self.database)

    def handle_output(self, context: dg.OutputContext, obj: pd.DataFrame) -> None:
        super().handle_output(context, obj)
        context.add_output_metadata({"dagster/relation_identifier": f"{self.database}.{TABLE}"})
