"""The whole project as a test drives it: settings in, runs in this process, the store read back."""

from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
from dagster import DagsterInstance, Definitions, ExecuteInProcessResult

from demand_assets.definitions import build_definitions, demand_store
from demand_assets.orchestration import keys
from demand_assets.orchestration.io_managers import ParquetFrameIOManager
from demand_assets.settings import Settings

ASSETS = ("raw_ree_json", "hourly_demand_frame", "influx_demand_points")


@dataclass
class Project:
    """A project over a folder of its own, storing in the embedded database."""

    folder: Path
    api: str
    instance: DagsterInstance
    settings: Settings = field(
        default_factory=lambda: Settings(start_date=date(2021, 1, 1), reread_days=0)
    )
    retry_seconds: float = 4.0
    """Short, as some tests wait for its end; long enough for a request on a busy machine."""

    def __post_init__(self) -> None:
        self.settings = replace(
            self.settings,
            redata_base_url=self.api,
            data_dir=str(self.folder),
            redata_retry_seconds=self.retry_seconds,
        )
        self.definitions: Definitions = build_definitions(self.settings)

    def materialize(self, first: str, last: str | None = None) -> ExecuteInProcessResult:
        """Run all assets for a day, or for a range as a backfill tags it."""
        job = self.definitions.resolve_job_def("demand_job")
        if last is None:
            return job.execute_in_process(
                partition_key=first, instance=self.instance, raise_on_error=False
            )
        tags = {
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        }
        return job.execute_in_process(tags=tags, instance=self.instance, raise_on_error=False)

    def resources(self) -> dict[str, Any]:
        """What sensors use."""
        return {
            "settings": self.settings,
            keys.STORE_RESOURCE: demand_store(self.settings),
            keys.FRAME_FILES: ParquetFrameIOManager(base_dir=self.settings.data_dir),
        }

    def stored(self) -> pd.DataFrame:
        """All hours in the embedded database."""
        return stored_hours(self.folder / "demand.duckdb")

    def files(self) -> set[str]:
        """What lies in the data folder, as paths relative to it."""
        return {str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file()}


def stored_hours(database: Path) -> pd.DataFrame:
    """All hours in an embedded database."""
    with closing(duckdb.connect(str(database), read_only=True)) as base:
        frame = base.sql("from main.influx_demand_points order by time").df()
    frame["time"] = pd.to_datetime(frame["time"], utc=True).astype("datetime64[ns, UTC]")
    return frame.set_index("time")


def failure_text(result: ExecuteInProcessResult) -> str:
    """The error that a person reads in the web page: its innermost cause."""
    failed = [e for e in result.all_events if e.is_step_failure]
    assert failed, "the run did not fail"
    error = failed[0].step_failure_data.error
    assert error is not None
    while error.cause:
        error = error.cause
    return error.message.strip()
