"""What runs store comes back to other runs: partition files, and the embedded store."""

import errno
import os
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dagster import (
    AssetExecutionContext,
    AssetIn,
    AssetKey,
    AssetSpec,
    BackfillPolicy,
    DagsterInstance,
    DailyPartitionsDefinition,
    Definitions,
    asset,
    build_input_context,
    build_output_context,
    materialize,
)

from demand_assets.demand.days import day_hours
from demand_assets.grid import COLUMNS
from demand_assets.orchestration.assets.ingest import build_ingest_assets
from demand_assets.orchestration.io_managers import (
    EmbeddedStoreIOManager,
    JSONAnswerIOManager,
    ParquetFrameIOManager,
)
from demand_assets.orchestration.metadata import FIELDS
from demand_assets.orchestration.partitions import daily_partitions
from demand_assets.settings import Settings
from demand_assets.simulator import Fault, Simulator
from demand_assets.stores.partition_files import PartitionFileError
from demand_assets_tests.support.project import Project, failure_text

PARTITIONS = daily_partitions(date(2022, 1, 1))
METADATA = {FIELDS: COLUMNS}
DAY = "2022-10-30"


@pytest.fixture
def project(tmp_path: Path, synthetic_api: Simulator, instance: DagsterInstance) -> Project:
    return Project(tmp_path / "data", synthetic_api.url, instance)


def hours(*days: str) -> pd.DataFrame:
    """Whole days of made-up demand, in MW."""
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
    ("name", "advice"),
    [
        (f"raw_ree_json/{DAY}.json.gz", "Materialize raw_ree_json of this day"),
        (f"hourly_demand_frame/{DAY}.parquet", "Materialize hourly_demand_frame of this day"),
    ],
)
@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "other"])
def test_a_damaged_file_is_an_error_that_says_what_to_materialize(
    project: Project, name: str, advice: str, damage: str
) -> None:
    assert project.materialize(DAY).success
    path = project.folder / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-500], "empty": b"", "other": b"<html>"}[damage])
    with pytest.raises(PartitionFileError, match=f"{DAY}.*{advice}"):
        project.definitions.load_asset_value(
            AssetKey(name.split("/")[0]), partition_key=DAY, instance=project.instance
        )
    assert project.materialize(DAY).success
    assert path.read_bytes() == content


def test_a_flipped_bit_in_a_frame_is_noticed(project: Project) -> None:
    assert project.materialize(DAY).success
    asset = AssetKey("hourly_demand_frame")
    path = project.folder / f"{asset.path[0]}/{DAY}.parquet"
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    places = random.Random(6).sample(range(4, footer), 60)

    def load() -> pd.DataFrame:
        loaded = project.definitions.load_asset_value(
            asset, partition_key=DAY, instance=project.instance
        )
        assert isinstance(loaded, pd.DataFrame)
        return loaded

    whole = load()
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with suppress(PartitionFileError):
            pd.testing.assert_frame_equal(load(), whole)


def test_files_can_be_at_any_fsspec_address() -> None:
    frame, answers = hours(DAY), {DAY: {"data": {"é": None}, "included": []}}
    cases: list[tuple[Any, Any]] = [
        (ParquetFrameIOManager(base_dir="memory://files"), frame),
        (JSONAnswerIOManager(base_dir="memory://files"), answers),
    ]
    for manager, stored in cases:
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
    """The embedded store under one asset that returns the day's entry of ``frames``."""

    @asset(partitions_def=PARTITIONS, io_manager_key="store", metadata=METADATA)
    def points(context: AssetExecutionContext) -> pd.DataFrame:
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


# Ranges

RANGE = ["2022-10-29", "2022-10-30", "2022-10-31"]  # 24, 25 and 24 hours
FEW_DAYS = DailyPartitionsDefinition("2022-10-28", end_date="2022-11-02", timezone="Europe/Madrid")
POINTS = build_ingest_assets(FEW_DAYS, Settings())[-1]


def range_tags(first: str, last: str) -> dict[str, str]:
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }


def put(
    manager: Any,
    produce: Callable[[Sequence[str]], Any],
    first: str,
    last: str,
    fails: bool = False,
) -> None:
    """Store what `produce` returns for the keys of a range, as one run of an asset does."""

    @asset(
        key=POINTS.key,
        partitions_def=FEW_DAYS,
        backfill_policy=BackfillPolicy.single_run(),
        io_manager_key="io",
        metadata=METADATA,
    )
    def kept(context: AssetExecutionContext) -> Any:
        return produce(context.partition_keys)

    resources, tags = {"io": manager}, range_tags(first, last)
    run = materialize([kept], resources=resources, tags=tags, raise_on_error=not fails)
    assert run.success != fails


def take(manager: Any, first: str = "", last: str = "") -> Any:
    """What a downstream asset receives for a range, or for all days."""
    taken = []

    @asset(
        ins={"kept": AssetIn(POINTS.key)},
        partitions_def=FEW_DAYS if first else None,
        backfill_policy=BackfillPolicy.single_run() if first else None,
    )
    def reader(kept: Any) -> None:
        taken.append(kept)

    spec = AssetSpec(POINTS.key, partitions_def=FEW_DAYS, metadata=METADATA)
    materialize(
        [spec.with_io_manager_key("io"), reader],
        selection=[reader],
        resources={"io": manager},
        tags=range_tags(first, last) if first else None,
    )
    return taken[0]


def answers(keys: Sequence[str]) -> dict[str, Any]:
    return {key: {"data": "Demanda señalada", "included": [key]} for key in keys}


def frames(keys: Sequence[str]) -> pd.DataFrame:
    return pd.concat([hours(key) for key in keys])


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    else:
        assert one == other


def files_of(base_dir: str) -> dict[str, bytes]:
    folder = Path(base_dir, POINTS.key.to_user_string())
    return {path.name: path.read_bytes() for path in folder.iterdir()}


both_kinds = pytest.mark.parametrize(
    ("kind", "produce"), [(JSONAnswerIOManager, answers), (ParquetFrameIOManager, frames)]
)


@both_kinds
def test_a_day_alone_gives_the_same_bytes_as_in_a_range(
    kind: Any, produce: Any, tmp_path: Path
) -> None:
    together, alone = f"{tmp_path}/together", f"{tmp_path}/alone"
    put(kind(base_dir=together), produce, RANGE[0], RANGE[2])
    for day in reversed(RANGE):
        put(kind(base_dir=f"file://{alone}"), produce, day, day)
    assert set(files_of(together)) == {f"{day}{kind.extension}" for day in RANGE}
    assert files_of(together) == files_of(alone)
    for base_dir in (together, f"file://{alone}"):
        assert_same(take(kind(base_dir=base_dir), RANGE[0], RANGE[2]), produce(RANGE))
        assert_same(take(kind(base_dir=base_dir), RANGE[1], RANGE[1]), produce(RANGE[1:2]))


def test_a_day_without_hours_between_others_round_trips(tmp_path: Path) -> None:
    manager = ParquetFrameIOManager(base_dir=str(tmp_path))
    put(manager, lambda _: frames([RANGE[0], RANGE[2]]), RANGE[0], RANGE[2])
    assert len(files_of(str(tmp_path))) == 3
    assert_same(take(manager, RANGE[1], RANGE[1]), hours(RANGE[1])[:0])
    assert_same(take(manager, RANGE[0], RANGE[2]), frames([RANGE[0], RANGE[2]]))


@both_kinds
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_range_that_fails_midway_leaves_whole_files(
    kind: Any, produce: Any, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = hours(DAY) + 1 if produce is frames else {DAY: "old"}
    put(kind(base_dir=str(tmp_path)), lambda _: old, DAY, DAY)
    before = files_of(str(tmp_path))
    works, calls = getattr(os, step), []

    def full_from_the_second_file_on(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        works(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full_from_the_second_file_on)
        put(kind(base_dir=str(tmp_path)), produce, RANGE[0], RANGE[2], fails=True)
    after = files_of(str(tmp_path))
    assert set(after) == {f"{day}{kind.extension}" for day in RANGE[:2]}  # nothing beside them
    assert after | before == after
    assert_same(take(kind(base_dir=str(tmp_path)), RANGE[0], RANGE[0]), produce(RANGE[:1]))


@pytest.fixture
def embedded(tmp_path: Path) -> EmbeddedStoreIOManager:
    return EmbeddedStoreIOManager(database=str(tmp_path / "demand.duckdb"))


def test_ranges_and_all_days_come_back_however_often_they_are_stored(
    embedded: EmbeddedStoreIOManager,
) -> None:
    every = FEW_DAYS.get_partition_keys()
    put(embedded, frames, every[0], every[-1])
    put(embedded, frames, RANGE[1], RANGE[2])
    put(embedded, frames, DAY, DAY)
    assert_same(take(embedded, DAY, DAY), hours(DAY))
    assert_same(take(embedded, RANGE[0], RANGE[2]), frames(RANGE))
    assert_same(take(embedded), frames(every))


def test_the_table_of_the_store_is_in_the_metadata(embedded: EmbeddedStoreIOManager) -> None:
    with build_output_context() as context:
        embedded.handle_output(context, hours(DAY))
        logged = context.get_logged_metadata()
        assert {name: value.value for name, value in logged.items()} == {
            "dagster/relation_identifier": f"{embedded.database}.main.influx_demand_points"
        }


def test_a_failed_write_is_no_materialization(tmp_path: Path, instance: DagsterInstance) -> None:
    frames = {DAY: hours(DAY).assign(RealDemand="not a number")}
    store = store_of(tmp_path, frames)
    job = store.resolve_implicit_global_asset_job_def()
    run = job.execute_in_process(partition_key=DAY, instance=instance, raise_on_error=False)
    assert not run.success
    assert not run.asset_materializations_for_node("points")
    frames[DAY] = hours(DAY)
    assert job.execute_in_process(partition_key=DAY, instance=instance).success
