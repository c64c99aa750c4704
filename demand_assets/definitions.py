"""The code location: the environment is read here, and everything is put together."""

import os
import warnings

from dagster import (
    AssetSelection,
    BetaWarning,
    Definitions,
    EnvVar,
    PreviewWarning,
    define_asset_job,
    in_process_executor,
)

from demand_assets.assets import build_assets
from demand_assets.checks import build_checks
from demand_assets.dashboards.assets import build_dashboard
from demand_assets.forecast.assets import build_forecast
from demand_assets.forecast.sensors import build_forecast_sensor
from demand_assets.housekeeping import build_housekeeping
from demand_assets.influxdb import InfluxDBIOManager, InfluxDBResource
from demand_assets.io_managers import (
    EmbeddedStoreIOManager,
    JSONAnswerIOManager,
    ParquetFrameIOManager,
)
from demand_assets.ledger import DEMAND_JOB, FORECAST_JOB, MODEL_JOB, SCORE_JOB, TODAY_JOB
from demand_assets.partitions import daily_partitions
from demand_assets.resources import REDataResource
from demand_assets.sensors import build_sensors
from demand_assets.settings import PROJECT, Settings, load_settings_file

MEASUREMENT = "demand"


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
            ca_certificate=settings.influxdb_ca_certificate,
        )
        demand_store: InfluxDBIOManager | EmbeddedStoreIOManager = InfluxDBIOManager(
            influxdb=influxdb, measurement=MEASUREMENT
        )
    else:
        demand_store = EmbeddedStoreIOManager(database=settings.database)

    partitions = daily_partitions(settings.start_date)
    assets = build_assets(partitions, settings)
    _, frame, points = (asset.key for asset in assets)
    forecast = build_forecast(partitions, points, settings)
    model_key, forecast_key, score_key = (asset.key for asset in forecast)
    dashboard = build_dashboard([points, forecast_key], settings)
    demand_job = define_asset_job(
        DEMAND_JOB,
        selection=AssetSelection.assets(*assets),
        description="Fetch, average and store the demand of a day or of a range of days.",
    )
    today_job = define_asset_job(
        TODAY_JOB,
        selection=AssetSelection.assets(*assets, dashboard),
        description="The same for today, and what is shown of it.",
    )
    forecast_jobs = {
        name: define_asset_job(name, AssetSelection.assets(*keys), description=description)
        for name, keys, description in (
            (MODEL_JOB, [model_key], "Train the model that forecasts the days of a month."),
            (FORECAST_JOB, [forecast_key, dashboard.key], "Forecast a day, and show it."),
            (SCORE_JOB, [score_key], "Judge the forecasts of closed days."),
        )
    }
    return Definitions(
        assets=[*assets, dashboard, *forecast],
        jobs=[demand_job, today_job, *forecast_jobs.values()],
        asset_checks=build_checks(partitions, frame, points, settings),
        sensors=[
            *build_sensors(demand_job, today_job, points, settings),
            build_forecast_sensor(
                points, [model_key, forecast_key, score_key], forecast_jobs, settings
            ),
            build_housekeeping(
                [asset.key for asset in assets], [forecast_key], [model_key], [score_key]
            ),
        ],
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


# BackfillPolicy is called beta by Dagster, a check's partitions a preview; its users need not be
# told at every start.
warnings.simplefilter("ignore", BetaWarning)
warnings.simplefilter("ignore", PreviewWarning)
load_settings_file(PROJECT / ".env")
defs = build_definitions(Settings.from_environment(os.environ))
