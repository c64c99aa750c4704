"""Materializes one day and prints what became of each series, as JSON.

test_adding_a_series.py runs it in a copy of the project whose `grid.py` has one more entry.
"""

import json
import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from dagster import AssetKey, AssetRecordsFilter, DagsterInstance

from demand_assets import grid
from demand_assets.dashboards.template import build_template
from demand_assets.orchestration import keys
from demand_assets.settings import Settings
from demand_assets.simulator import Simulator, SyntheticDays
from demand_assets_tests.support.project import Project

DAY = "2023-02-19"


def main(folder: Path, influxdb: Mapping[str, str]) -> dict[str, Any]:
    """Follow the day through the assets, the store and the dashboards."""
    present = datetime(2026, 1, 15, tzinfo=UTC)
    with ExitStack() as stack:
        api = stack.enter_context(Simulator(SyntheticDays(), clock=lambda: present))
        instance = stack.enter_context(DagsterInstance.ephemeral(tempdir=str(folder)))
        settings = Settings.from_environment({"DEMAND_START_DATE": "2023-01-01", **influxdb})
        project = Project(folder / "data", api.url, instance, settings)
        assert project.materialize(DAY).success
        dashboard = project.definitions.resolve_implicit_global_asset_job_def()
        selection = [keys.DEMAND_DASHBOARD]
        assert dashboard.execute_in_process(instance=instance, asset_selection=selection).success

        points = keys.INFLUX_DEMAND_POINTS
        read_back = project.definitions.load_asset_value(
            points, partition_key=DAY, instance=instance
        )
        assert isinstance(read_back, pd.DataFrame)
        checks = instance.event_log_storage.get_latest_asset_check_execution_by_key(
            [key for key in project.definitions.resolve_asset_graph().asset_check_keys]
        )
        answer = api.source.day(datetime.fromisoformat(DAY).date())
        assert answer is not None
        return {
            "columns": grid.COLUMNS,
            "frame_files": list(
                pd.read_parquet(folder / f"data/hourly_demand_frame/{DAY}.parquet").columns
            ),
            "read_back": {
                str(column): hours.dropna().round(6).tolist() for column, hours in read_back.items()
            },
            "published": {id_: _hourly_means(samples) for id_, samples in answer.items()},
            "metadata": sorted(_metadata(instance, points)),
            "checks": {
                key.name: bool(record.evaluation and record.evaluation.passed)
                for key, record in checks.items()
                if record.evaluation and key.name != keys.TODAY_IS_FRESH
            },
            "code_version": str(
                project.definitions.resolve_assets_def(points).code_versions_by_key[points]
            ),
            "page": _page_series(folder / "data/demand_dashboard/index.html"),
            "template": json.dumps(build_template()),
            "picture": _metadata(instance, points)["picture"],
        }


def _hourly_means(samples: list[Any]) -> list[float]:
    values = pd.Series(
        [s.value for s in samples], pd.DatetimeIndex([s.at for s in samples], tz="UTC")
    )
    return values.resample("h").mean().round(6).tolist()


def _metadata(instance: DagsterInstance, asset: AssetKey) -> dict[str, Any]:
    records = instance.fetch_materializations(
        AssetRecordsFilter(asset_key=asset, asset_partitions=[DAY]), limit=1
    ).records
    event = records[0].asset_materialization
    assert event is not None
    return {name: value.value for name, value in event.metadata.items()}


def _page_series(page: Path) -> dict[str, int]:
    """The number of known hours of each series that the page holds."""
    (data,) = re.findall(
        r'<script id="demand" type="application/json">(.*?)</script>', page.read_text(), re.S
    )
    return {
        name: sum(value is not None for value in values)
        for name, values in json.loads(data).items()
        if name in grid.COLUMNS
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), json.loads(sys.argv[2]))))
