"""Fixtures of the integration tests: stores over a bucket of the test's own."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from demand_assets.demand.hourly import hourly_frame
from demand_assets.redata import read_samples
from demand_assets.stores.influxdb import InfluxDBStore
from demand_assets_tests.conftest import LONG_AFTER, RECORDINGS, recorded_answer
from demand_assets_tests.support.servers import InfluxDB2
from demand_assets_tests.support.stores import DAY, hours, over


@pytest.fixture
def a_day() -> pd.DataFrame:
    """A day with hours of which only the forecast is known: recorded, or else made up."""
    if not RECORDINGS.is_dir():
        return hours(DAY)
    day = pd.Timestamp(DAY).date()
    return hourly_frame(read_samples(recorded_answer(RECORDINGS, day), day), day, now=LONG_AFTER)


@pytest.fixture
def store_with(influxdb2: InfluxDB2) -> Callable[..., InfluxDBStore]:
    """Makes stores over a new bucket, with a token for that bucket only, or other settings."""
    bucket = influxdb2.create_bucket()
    token = influxdb2.create_token(bucket, "read", "write")

    def store_with(**changes: Any) -> InfluxDBStore:
        settings = {"org": influxdb2.org, "bucket": bucket, "token": token, **changes}
        return over(settings.pop("url", influxdb2.url), **settings)

    return store_with


@pytest.fixture
def store(store_with: Callable[..., InfluxDBStore]) -> InfluxDBStore:
    return store_with()
