"""What is stored comes back: files whole or not at all, a database that forgets nothing."""

import errno
import os
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dagster import (
    AssetKey,
    DagsterInstance,
    Definitions,
    asset,
    build_input_context,
    build_output_context,
    materialize,
)

from demand_assets.hourly import day_hours
from demand_assets.io_managers import (
    EmbeddedStoreIOManager,
    JSONAnswerIOManager,
    ParquetFrameIOManager,
    PartitionFileError,
)
from demand_assets.partitions import daily_partitions
from demand_assets.simulator import Fault, Simulator
from demand_assets_tests.project import Project, failure_text

PARTITIONS = daily_partitions(date(2022, 1, 1))
DAY = "2022-10-30"


@pytest.fixture
def project(tmp_path: Path, synthetic_api: Simulator, instance: DagsterInstance) -> Project:
    return Project(tmp_path / "data", synthetic_api.url, instance)


def hours(*days: str) -> pd.DataFrame:
    """Whole days of made-up demand."""
    index = pd.DatetimeIndex(np.concatenate([day_hours(date.fromisoformat(d)) for d in days]))
    index = index.tz_localize("UTC") if index.tz is None else index
    real = 20_000 + np.arange(len(index)) / 7
    return pd.DataFrame(
        {"RealDemand": real, "ForecastDemand": real * 1.01}, index=index.rename("time")
    )


def test_the_same_answer_gives_the_same_bytes(project: Project) -> None:
    assert project.materialize(DAY).success
    paths = [p for p in project.folder.rglob(f"{DAY}*") if p.is_file()]
    assert len(paths) == 2
    before = [path.read_bytes() for path in paths]
    assert project.materialize(DAY).success
    assert [path.read_bytes() for path in paths] == before


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project.materialize(DAY).success
    files = {name: (project.folder / name).read_bytes() for name in project.files()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        result = project.materialize(DAY)
    assert "No space left" in failure_text(result)
    assert project.files() == set(files)
    assert all((project.folder / name).read_bytes() == was for name, was in files.items())


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        (f"raw_ree_json/{DAY}.json.gz", "Materialize raw_ree_json of this day"),
        (f"hourly_demand_frame/{DAY}.parquet", "Materialize hourly_demand_frame of this day"),
    ],
)
@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "other"])
def test_a_damaged_file_is_an_error_that_says_what_to_materialize(
    project: Project, name: str, mend: str, damage: str
) -> None:
    assert project.materialize(DAY).success
    path = project.folder / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-500], "empty": b"", "other": b"<html>"}[damage])
    with pytest.raises(PartitionFileError, match=f"{DAY}.*{mend}"):
        project.definitions.load_asset_value(
            AssetKey(name.split("/")[0]), partition_key=DAY, instance=project.instance
        )
    assert project.materialize(DAY).success
    assert path.read_bytes() == content


def test_files_may_lie_at_any_fsspec_address() -> None:
    frame, answers = hours(DAY), {DAY: {"data": {"é": None}, "included": []}}
    for manager, stored in (
        (ParquetFrameIOManager(base_dir="memory://files"), frame),
        (JSONAnswerIOManager(base_dir="memory://files"), answers),
    ):
        out = build_output_context(
            asset_key=AssetKey("kept"), partition_key=DAY, asset_partitions_def=PARTITIONS
        )
        manager.handle_output(out, stored)
        loaded = manager.load_input(
            build_input_context(
                asset_key=AssetKey("kept"),
                partition_key=DAY,
                asset_partitions_def=PARTITIONS,
                asset_partition_key_range=None,
            )
        )
        if isinstance(stored, pd.DataFrame):
            pd.testing.assert_frame_equal(loaded, stored)
        else:
            assert loaded == stored


def store_of(tmp_path: Path, frames: dict[str, pd.DataFrame]) -> Definitions:
    """The embedded store under one asset that gives whatever lies in ``frames`` for its day."""

    @asset(
        partitions_def=PARTITIONS,
        io_manager_key="store",
        metadata={"schema": "main", "partition_expr": "time AT TIME ZONE 'Europe/Madrid'"},
    )
    def points(context) -> pd.DataFrame:
        return frames[context.partition_key]

    return Definitions(
        [points],
        resources={"store": EmbeddedStoreIOManager(database=str(tmp_path / "a" / "b.duckdb"))},
    )


@pytest.mark.parametrize("day", ["2022-03-27", "2022-05-01", "2022-10-30"])
def test_days_of_23_24_and_25_hours_come_back_without_their_neighbours(
    tmp_path: Path, instance: DagsterInstance, day: str
) -> None:
    before, after = (str(date.fromisoformat(day) + pd.Timedelta(days=n)) for n in (-1, 1))
    frames = {key: hours(key) for key in (before, day, after)}
    store = store_of(tmp_path, frames)
    for key in frames:
        job = store.resolve_implicit_global_asset_job_def()
        assert job.execute_in_process(partition_key=key, instance=instance).success
    loaded = store.load_asset_value("points", partition_key=day, instance=instance)
    assert isinstance(loaded, pd.DataFrame)
    pd.testing.assert_frame_equal(loaded, frames[day], check_freq=False)


def test_a_missing_value_and_a_missing_hour_leave_what_is_stored(
    tmp_path: Path, instance: DagsterInstance
) -> None:
    frames = {DAY: hours(DAY)}
    store = store_of(tmp_path, frames)
    job = store.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(partition_key=DAY, instance=instance).success
    known = frames[DAY]
    later = known.iloc[:20] + 1
    later.iloc[3, 0] = np.nan
    frames[DAY] = later
    assert job.execute_in_process(partition_key=DAY, instance=instance).success
    loaded = store.load_asset_value("points", partition_key=DAY, instance=instance)
    assert isinstance(loaded, pd.DataFrame)
    pd.testing.assert_frame_equal(loaded, later.combine_first(known), check_freq=False)


def test_a_failed_write_does_not_leave_the_database_locked(
    tmp_path: Path, instance: DagsterInstance
) -> None:
    frames = {DAY: hours(DAY).assign(RealDemand="not a number")}
    store = store_of(tmp_path, frames)
    job = store.resolve_implicit_global_asset_job_def()
    run = job.execute_in_process(partition_key=DAY, instance=instance, raise_on_error=False)
    assert not run.success
    frames[DAY] = hours(DAY)
    assert job.execute_in_process(partition_key=DAY, instance=instance).success


def test_an_empty_day_round_trips(tmp_path: Path, instance: DagsterInstance) -> None:
    empty = hours(DAY).iloc[:0]
    seen: list[pd.DataFrame] = []

    @asset(partitions_def=PARTITIONS, io_manager_key="files")
    def frame() -> pd.DataFrame:
        return empty

    @asset(partitions_def=PARTITIONS)
    def reader(frame: pd.DataFrame) -> None:
        seen.append(frame)

    files = ParquetFrameIOManager(base_dir=str(tmp_path))
    assert materialize(
        [frame, reader], partition_key=DAY, resources={"files": files}, instance=instance
    ).success
    pd.testing.assert_frame_equal(seen[0], empty, check_freq=False)


def test_an_answer_without_the_day_leaves_yesterdays_file(
    project: Project, synthetic_api: Simulator
) -> None:
    assert project.materialize(DAY).success
    files = {name: (project.folder / name).read_bytes() for name in project.files()}
    synthetic_api.faults[DAY] = Fault.NO_DATA
    assert not project.materialize(DAY).success
    assert all((project.folder / name).read_bytes() == was for name, was in files.items())
