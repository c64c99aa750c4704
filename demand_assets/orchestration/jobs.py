"""The jobs: which assets one run makes. Sensors request them, people find them under Jobs."""

import dagster as dg

from demand_assets.orchestration import keys

NOT_IN_JOBS = dg.AssetSelection.checks(
    dg.AssetCheckKey(keys.INFLUX_DEMAND_POINTS, keys.STORE_IS_COMPLETE)
)
"""The audit reads all hours of the store, which a run of one day does not need."""

demand_job = dg.define_asset_job(
    keys.DEMAND_JOB,
    selection=dg.AssetSelection.assets(*keys.INGEST_ASSETS) - NOT_IN_JOBS,
    description="Fetch, average and store the demand of a day or of a range of days.",
)
today_job = dg.define_asset_job(
    keys.TODAY_JOB,
    selection=dg.AssetSelection.assets(*keys.INGEST_ASSETS, keys.DEMAND_DASHBOARD) - NOT_IN_JOBS,
    description="The same for today, and the dashboard.",
)
restore_job = dg.define_asset_job(
    keys.RESTORE_JOB,
    selection=dg.AssetSelection.assets(keys.INFLUX_DEMAND_POINTS) - NOT_IN_JOBS,
    description="Write the frames on disk to the store again, without a request to the API.",
)
forecast_model_job = dg.define_asset_job(
    keys.MODEL_JOB,
    selection=dg.AssetSelection.assets(keys.DEMAND_FORECAST_MODEL),
    description="Train the model that forecasts the days of a month.",
)
forecast_job = dg.define_asset_job(
    keys.FORECAST_JOB,
    selection=dg.AssetSelection.assets(keys.DEMAND_FORECAST, keys.DEMAND_DASHBOARD),
    description="Forecast a day, and update the dashboard.",
)
forecast_score_job = dg.define_asset_job(
    keys.SCORE_JOB,
    selection=dg.AssetSelection.assets(keys.DEMAND_FORECAST_SCORE),
    description="Score the forecasts of closed days.",
)
