"""Made-up hours, and stores over servers for the tests of stores, dashboards and crashes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from influxdb_client import WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS

from demand_assets.demand.days import day_hours
from demand_assets.grid import FORECAST, REAL
from demand_assets.stores.influxdb import InfluxDB, InfluxDBAccessError, InfluxDBStore
from demand_assets_tests.support.servers import InfluxDB1, Reply

FIELDS = [REAL, FORECAST]
DAY = "2024-06-16"
SECRET = "sesame-0123456789"
WRITTEN = Reply(204)


def hours(*days: str) -> pd.DataFrame:
    """Made-up days whose values use all digits of a float.

    The first hour has only the demand, the last three have only the forecast.
    """

    def one(day: str) -> pd.DataFrame:
        index = day_hours(date.fromisoformat(day))
        real = 20_000 + index.day_of_year + np.arange(len(index)) / 7
        frame = pd.DataFrame({REAL: real, FORECAST: real * 1.01}, index=index)
        frame.iloc[-3:, 0] = np.nan
        frame.iloc[0, 1] = np.nan
        return frame

    return pd.concat([one(day) for day in days])


def over(url: str, batch_size: int = 5_000, **changes: Any) -> InfluxDBStore:
    """The InfluxDB store over a server; it gives up after half a second unless set otherwise."""
    settings = {"org": "grid", "token": SECRET, "retry_seconds": 0.5, **changes}
    return InfluxDBStore(InfluxDB(url=url, **settings), "demand", batch_size)


def write_lines(store: InfluxDBStore, *lines: str) -> None:
    """Points in line protocol, times in seconds, as another program writes them."""
    with store.influxdb.get_client() as client:
        client.write_api(SYNCHRONOUS).write(
            store.influxdb.bucket,
            record=list(lines),
            write_precision=WritePrecision.S,  # type: ignore[arg-type]
        )


@contextmanager
def refused(*, naming: str, without: str = SECRET) -> Iterator[None]:
    """The block fails in time with an error that names the setting and shows no secret."""
    started = time.monotonic()
    with pytest.raises(InfluxDBAccessError, match=naming) as caught:
        yield
    assert time.monotonic() - started < 20
    assert without not in str(caught.getrepr(style="native", chain=True))


def stored(influxdb1: InfluxDB1, database: str) -> pd.DataFrame:
    """All hours in a database of InfluxDB 1."""
    rows = influxdb1.influxql(f"SELECT {REAL}, {FORECAST} FROM demand", database)
    frame = pd.DataFrame(rows, columns=["time", *FIELDS]).astype(dict.fromkeys(FIELDS, "float64"))
    frame["time"] = pd.to_datetime(frame["time"], unit="s", utc=True)
    return frame.set_index("time")
