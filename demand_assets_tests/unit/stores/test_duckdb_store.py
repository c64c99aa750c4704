"""The embedded store: its layout, and what it does while another process has the file open."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from demand_assets.stores import duckdb_store
from demand_assets.stores.duckdb_store import DuckDBAccessError, DuckDBStore
from demand_assets_tests.support.stores import DAY, FIELDS, hours


@pytest.fixture
def store(tmp_path: Path) -> DuckDBStore:
    return DuckDBStore(str(tmp_path / "folder" / "demand.duckdb"))


def query(store: DuckDBStore, text: str) -> list[tuple[Any, ...]]:
    with closing(duckdb.connect(store.database, read_only=True)) as connection:
        return connection.sql(text).fetchall()


def test_the_table_has_the_documented_columns(store: DuckDBStore) -> None:
    store.write(hours(DAY))
    columns = query(
        store,
        "select table_schema, table_name, column_name, data_type"
        " from information_schema.columns order by ordinal_position",
    )
    assert columns == [
        ("main", "influx_demand_points", "time", "TIMESTAMP WITH TIME ZONE"),
        ("main", "influx_demand_points", "RealDemand", "DOUBLE"),
        ("main", "influx_demand_points", "ForecastDemand", "DOUBLE"),
    ]


def test_a_file_of_the_first_version_keeps_working(store: DuckDBStore) -> None:
    Path(store.database).parent.mkdir()
    with closing(duckdb.connect(store.database)) as connection:
        connection.execute(
            "create table main.influx_demand_points"
            " (time TIMESTAMPTZ PRIMARY KEY, RealDemand DOUBLE, ForecastDemand DOUBLE);"
            "insert into main.influx_demand_points values ('2024-06-15 21:00:00+00', 1.5, null)"
        )
    store.write(hours(DAY).assign(ForecastModel=7.0))
    read = store.read([*FIELDS, "ForecastModel"])
    pd.testing.assert_frame_equal(read.iloc[1:][FIELDS], hours(DAY))
    assert read.iloc[0].fillna(0).tolist() == [1.5, 0, 0]
    assert read.index[0] == pd.Timestamp("2024-06-15 21:00", tz="UTC")


def test_hours_come_back_however_often_they_are_stored(store: DuckDBStore) -> None:
    days = ["2024-06-15", "2024-06-16", "2024-06-17"]
    for stored in (days, days[1:], days[1:2]):
        store.write(hours(*stored))
    frame = hours(*days)
    pd.testing.assert_frame_equal(store.read(FIELDS), frame)
    between = store.read(FIELDS, frame.index[20].to_pydatetime(), frame.index[30].to_pydatetime())
    pd.testing.assert_frame_equal(between, frame.iloc[20:30])


def test_a_missing_value_and_a_missing_hour_leave_what_is_stored(store: DuckDBStore) -> None:
    known = hours(DAY)
    store.write(known)
    revised = known.iloc[:20] + 1
    revised.iloc[3] = np.nan
    revised.iloc[4, 0] = np.nan
    store.write(revised)
    pd.testing.assert_frame_equal(store.read(FIELDS), revised.combine_first(known))


def test_an_hour_without_values_is_not_stored(store: DuckDBStore) -> None:
    frame = hours(DAY)
    frame.iloc[5] = np.nan
    store.write(frame)
    pd.testing.assert_frame_equal(store.read(FIELDS), frame.dropna(how="all"))


def test_frames_with_fewer_or_more_columns_can_be_stored(store: DuckDBStore) -> None:
    store.write(hours(DAY)[FIELDS[:1]])
    store.write(hours("2024-06-17").assign(Wind=1.5))
    read = store.read([*FIELDS, "Wind", "Unknown"])
    expected = pd.concat([hours(DAY)[FIELDS[:1]], hours("2024-06-17").assign(Wind=1.5)])
    expected = expected.dropna(how="all")
    pd.testing.assert_frame_equal(read.drop(columns="Unknown"), expected)
    assert read["Unknown"].isna().all() and read["Unknown"].dtype == "float64"


def test_a_missing_file_and_a_missing_table_are_empty(store: DuckDBStore) -> None:
    expected = hours(DAY).iloc[:0]
    pd.testing.assert_frame_equal(store.read(FIELDS), expected)
    assert not Path(store.database).exists()
    Path(store.database).parent.mkdir(exist_ok=True)
    duckdb.connect(store.database).close()
    pd.testing.assert_frame_equal(store.read(FIELDS), expected)


# What fails


OPEN_TO_WRITE = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('select 1')"


def assert_unlocked(store: DuckDBStore) -> None:
    """Another process can open the file to write."""
    subprocess.run([sys.executable, "-c", OPEN_TO_WRITE, store.database], check=True)


def test_a_failed_write_stores_nothing_and_does_not_leave_the_database_locked(
    store: DuckDBStore,
) -> None:
    store.write(hours(DAY))
    bad = hours("2024-06-17").astype({"RealDemand": object}).assign(Wind=1.5)
    bad.iloc[-5, 0] = "many"
    # The error's traceback would keep an open connection alive.
    with pytest.raises(DuckDBAccessError, match="cannot be written") as error:
        store.write(bad)
    assert_unlocked(store)
    assert query(store, "select count(*) from main.influx_demand_points") == [(24,)]
    assert query(store, "select count(*) from duckdb_columns() where column_name='Wind'") == [(0,)]
    assert error.value.__cause__


def test_a_failed_read_does_not_leave_the_database_locked(store: DuckDBStore) -> None:
    Path(store.database).parent.mkdir()
    with closing(duckdb.connect(store.database)) as connection:
        connection.execute("create table main.influx_demand_points (moment INTEGER)")
    with pytest.raises(DuckDBAccessError, match=r"cannot be read.*DEMAND_DATA_DIR") as error:
        store.read(FIELDS)
    assert_unlocked(store)
    assert error.value.__cause__


def test_a_file_that_is_no_database_is_an_error_without_a_wait(
    store: DuckDBStore, pauses: list[float]
) -> None:
    Path(store.database).parent.mkdir()
    Path(store.database).write_bytes(b"no database" * 1_000)
    for attempt in (lambda: store.write(hours(DAY)), lambda: store.read(FIELDS)):
        with pytest.raises(DuckDBAccessError, match=r"not a valid DuckDB.*DEMAND_DATA_DIR"):
            attempt()
    assert pauses == []


# Another process

HOLDER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "reader")
print("open", flush=True)
sys.stdin.readline()
"""


@contextmanager
def another_process(store: DuckDBStore, role: str) -> Iterator[Callable[[], None]]:
    """A process that has the file open; gives a function that closes it."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, store.database, role],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def close() -> None:
        holder.communicate("\n", timeout=30)

    try:
        assert holder.stdout and holder.stdout.readline() == "open\n"
        yield close
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize("role", ["reader", "writer"])
def test_a_file_that_another_process_has_open_is_waited_for(
    store: DuckDBStore, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(hours(DAY))
    waited = threading.Event()
    with another_process(store, role) as close:

        def sleep(_: float) -> None:
            if not waited.is_set():
                waited.set()
                close()

        monkeypatch.setattr("time.sleep", sleep)
        if role == "writer":
            pd.testing.assert_frame_equal(store.read(FIELDS), hours(DAY))
        else:
            store.write(hours(DAY) + 1)
    assert waited.is_set()
    assert len(store.read(FIELDS)) == 24


def test_readers_do_not_wait_for_readers(store: DuckDBStore, pauses: list[float]) -> None:
    store.write(hours(DAY))
    with another_process(store, "reader"):
        pd.testing.assert_frame_equal(store.read(FIELDS), hours(DAY))
    assert pauses == []


def test_a_file_that_stays_open_is_an_error_that_says_so(
    store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_store, "WAIT_SECONDS", 0.5)
    store.write(hours(DAY))
    with another_process(store, "writer"):
        for attempt in (lambda: store.write(hours(DAY)), lambda: store.read(FIELDS)):
            with pytest.raises(DuckDBAccessError, match=r"PID.*close it there") as e:
                attempt()
            assert store.database in str(e.value) and Path(sys.executable).resolve().name in str(
                e.value
            )
            assert "the next try stores the day" in str(e.value)
