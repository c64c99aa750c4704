"""The code location: settings are read here and nowhere else, and everything is put together."""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from dagster import (
    AssetSelection,
    BetaWarning,
    Definitions,
    EnvVar,
    PreviewWarning,
    define_asset_job,
    in_process_executor,
)
from dotenv import load_dotenv
from upath import UPath

from demand_assets.assets import Store, build_assets
from demand_assets.checks import Freshness, build_checks
from demand_assets.influxdb import InfluxDBIOManager, InfluxDBResource
from demand_assets.io_managers import (
    EmbeddedStoreIOManager,
    JSONAnswerIOManager,
    ParquetFrameIOManager,
)
from demand_assets.partitions import daily_partitions
from demand_assets.resources import REDataResource
from demand_assets.sensors import build_sensors

PROJECT = Path(__file__).resolve().parents[1]
"""The folder of dagster.yaml, `.env` and, unless told otherwise, the data."""

DAYS_PER_RUN = 8 * 31
"""Eight full requests to the API. A run costs seconds before its first step, and of a long one more
is lost when it fails; docs/performance.md has the measurements."""
MEASUREMENT = "demand"

T = TypeVar("T")


class SettingError(ValueError):
    """A setting is missing or unusable. Its text names the environment variable."""


@dataclass(frozen=True)
class Settings:
    """What can be set from outside; README.md has the table."""

    redata_base_url: str = "https://apidatos.ree.es"
    redata_max_days_per_request: int = 31
    redata_retry_seconds: float = 60.0
    start_date: date = date(2022, 1, 1)
    data_dir: str = str(PROJECT / "data")
    refresh: timedelta = timedelta(minutes=10)
    settle: timedelta = timedelta(minutes=30)
    freshness: Freshness = field(default_factory=Freshness)
    influxdb_url: str | None = None
    influxdb_org: str = ""
    influxdb_bucket: str = "capstone7"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the settings; an empty variable counts as unset.

        Raises:
            SettingError: a value cannot be used, or InfluxDB's are incomplete.
        """

        def read(name: str, default: T, parse: Callable[[str], T]) -> T:
            text = environment.get(name, "").strip()
            try:
                return parse(text) if text else default
            except ValueError as error:
                raise SettingError(f"{name}={text}: {error}") from error

        url = read("INFLUXDB_V2_URL", None, _http_url)
        if url:
            names = ("INFLUXDB_V2_TOKEN", "INFLUXDB_V2_ORG")
            if missing := [n for n in names if not environment.get(n, "").strip()]:
                raise SettingError(
                    f"INFLUXDB_V2_URL is set, but {' and '.join(missing)} is not."
                    " Set it, or unset INFLUXDB_V2_URL to use the embedded store."
                )
        freshness = Freshness(
            warn_after=read("DEMAND_FRESH_WARN_MINUTES", Freshness.warn_after, _minutes),
            fail_after=read("DEMAND_FRESH_FAIL_MINUTES", Freshness.fail_after, _minutes),
        )
        if not timedelta(minutes=1) <= freshness.warn_after < freshness.fail_after:
            raise SettingError(
                "DEMAND_FRESH_WARN_MINUTES must be at least 1, and less than"
                " DEMAND_FRESH_FAIL_MINUTES."
            )
        data_dir = read("DEMAND_DATA_DIR", cls.data_dir, str)
        data_path = UPath(data_dir)
        if isinstance(data_path, os.PathLike):
            data_dir = str(PROJECT / Path(data_path).expanduser())
        elif not url:
            raise SettingError(
                f"DEMAND_DATA_DIR={data_dir} is not a local folder, and the embedded store needs"
                " one. Set INFLUXDB_V2_URL, or a folder."
            )
        return cls(
            redata_base_url=read("REDATA_BASE_URL", cls.redata_base_url, _http_url),
            redata_max_days_per_request=read(
                "REDATA_MAX_DAYS_PER_REQUEST", cls.redata_max_days_per_request, _at_least_one
            ),
            redata_retry_seconds=read("REDATA_RETRY_SECONDS", cls.redata_retry_seconds, _positive),
            start_date=read("DEMAND_START_DATE", cls.start_date, date.fromisoformat),
            data_dir=data_dir,
            refresh=read("DEMAND_REFRESH_MINUTES", cls.refresh, _minutes),
            settle=read("DEMAND_SETTLE_MINUTES", cls.settle, _minutes),
            freshness=freshness,
            influxdb_url=url,
            influxdb_org=read("INFLUXDB_V2_ORG", "", str),
            influxdb_bucket=read("INFLUXDB_V2_BUCKET", cls.influxdb_bucket, str),
        )


def build_definitions(settings: Settings) -> Definitions:
    """Assets, job, sensors and resources for the given settings.

    InfluxDB's token is not among them: it stays in the environment until a client needs it.
    """
    if settings.influxdb_url:
        influxdb = InfluxDBResource(
            url=settings.influxdb_url,
            token=EnvVar("INFLUXDB_V2_TOKEN"),
            org=settings.influxdb_org,
            bucket=settings.influxdb_bucket,
        )
        demand_store: InfluxDBIOManager | EmbeddedStoreIOManager = InfluxDBIOManager(
            influxdb=influxdb, measurement=MEASUREMENT
        )
        store = Store("influxdb", f"InfluxDB {influxdb.address}, bucket {influxdb.bucket}")
    else:
        database = f"{settings.data_dir}/demand.duckdb"
        demand_store = EmbeddedStoreIOManager(database=database)
        store = Store("duckdb", f"DuckDB {database}")

    partitions = daily_partitions(settings.start_date)
    assets = build_assets(partitions, store, settings.freshness, DAYS_PER_RUN)
    _, frame, points = (asset.key for asset in assets)
    demand_job = define_asset_job(
        "demand_job",
        selection=AssetSelection.assets(*assets),
        description="Fetch, average and store the demand of a day or of a range of days.",
    )
    return Definitions(
        assets=assets,
        jobs=[demand_job],
        asset_checks=build_checks(
            partitions,
            frame,
            points,
            settings.freshness,
            settings.refresh,
            settings.settle,
            settings.start_date,
        ),
        sensors=build_sensors(
            demand_job,
            points,
            settings.freshness,
            settings.refresh,
            settings.settle,
            settings.start_date,
            DAYS_PER_RUN,
        ),
        resources={
            "redata": REDataResource(
                base_url=settings.redata_base_url,
                max_days_per_request=settings.redata_max_days_per_request,
                retry_seconds=settings.redata_retry_seconds,
            ),
            "answer_files": JSONAnswerIOManager(base_dir=settings.data_dir),
            "frame_files": ParquetFrameIOManager(base_dir=settings.data_dir),
            "demand_store": demand_store,
        },
        # The steps of a day follow one another, so processes of their own would only cost time.
        executor=in_process_executor,
    )


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http(s) address")
    return text


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError("must be at least 1")
    return number


def _positive(text: str) -> float:
    if not 0 < (number := float(text)) < float("inf"):
        raise ValueError("must be a positive number")
    return number


def _minutes(text: str) -> timedelta:
    return timedelta(minutes=_positive(text))


# BackfillPolicy is called beta by Dagster, a check's partitions a preview; its users need not be
# told at every start.
warnings.simplefilter("ignore", BetaWarning)
warnings.simplefilter("ignore", PreviewWarning)
load_dotenv(PROJECT / ".env")
defs = build_definitions(Settings.from_environment(os.environ))
