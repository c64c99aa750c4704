"""The code location: the settings are read here, and everything is put together."""

import os
import warnings

import dagster as dg

from demand_assets.orchestration import jobs, keys
from demand_assets.orchestration.assets.dashboard import demand_dashboard
from demand_assets.orchestration.assets.forecast import build_forecast_assets
from demand_assets.orchestration.assets.ingest import build_ingest_assets
from demand_assets.orchestration.checks import build_store_check, today_is_fresh
from demand_assets.orchestration.forecast_sensor import forecast_sensor
from demand_assets.orchestration.housekeeping import replaced_runs_sensor
from demand_assets.orchestration.io_managers import (
    EmbeddedStoreIOManager,
    InfluxDBIOManager,
    JSONAnswerIOManager,
    ParquetFrameIOManager,
    StoreIOManager,
)
from demand_assets.orchestration.partitions import daily_partitions
from demand_assets.orchestration.reread import reread_job
from demand_assets.orchestration.resources import InfluxDBResource, REDataResource
from demand_assets.orchestration.sensors import (
    current_day_sensor,
    missing_days_sensor,
    store_audit_sensor,
)
from demand_assets.orchestration.store_audit import store_is_complete
from demand_assets.settings import PROJECT, Settings, load_settings_file

MEASUREMENT = "demand"


def build_definitions(settings: Settings) -> dg.Definitions:
    """Assets, jobs, sensors and resources for the given settings.

    InfluxDB's token is not among them: it stays in the environment until a client needs it.
    """
    partitions = daily_partitions(settings.start_date)
    return dg.Definitions(
        assets=[
            *build_ingest_assets(partitions, settings),
            demand_dashboard,
            *build_forecast_assets(settings),
        ],
        asset_checks=[build_store_check(partitions), today_is_fresh, store_is_complete],
        jobs=[
            jobs.demand_job,
            jobs.today_job,
            jobs.restore_job,
            reread_job,
            jobs.forecast_model_job,
            jobs.forecast_job,
            jobs.forecast_score_job,
        ],
        sensors=[
            current_day_sensor,
            missing_days_sensor,
            store_audit_sensor,
            forecast_sensor,
            replaced_runs_sensor,
        ],
        resources={
            "settings": settings,
            "redata": REDataResource(
                base_url=settings.redata_base_url,
                max_days_per_request=settings.redata_max_days_per_request,
                retry_seconds=settings.redata_retry_seconds,
                concurrent_requests=settings.redata_concurrent_requests,
            ),
            keys.ANSWER_FILES: JSONAnswerIOManager(base_dir=settings.data_dir),
            keys.FRAME_FILES: ParquetFrameIOManager(base_dir=settings.data_dir),
            keys.STORE_RESOURCE: demand_store(settings),
        },
        # The steps of a day follow one another, so processes of their own would only cost time.
        executor=dg.in_process_executor,
    )


def demand_store(settings: Settings) -> StoreIOManager:
    """The IO manager of the store that the settings name."""
    if not settings.influxdb_url:
        return EmbeddedStoreIOManager(database=settings.database)
    influxdb = InfluxDBResource(
        url=settings.influxdb_address,
        token=dg.EnvVar("INFLUXDB_V2_TOKEN"),
        org=settings.influxdb_org,
        bucket=settings.influxdb_bucket,
        ca_certificate=settings.influxdb_ca_certificate,
    )
    return InfluxDBIOManager(influxdb=influxdb, measurement=MEASUREMENT)


# Dagster warns that BackfillPolicy is beta and partitions of checks a preview; users cannot act on
# that.
warnings.simplefilter("ignore", dg.BetaWarning)
warnings.simplefilter("ignore", dg.PreviewWarning)
load_settings_file(PROJECT / ".env")
defs = build_definitions(Settings.from_environment(os.environ))
