"""The jobs: which assets one run makes. Sensors request them, people find them under Jobs."""

import dagster as dg

from demand_assets.orchestration import keys

demand_job = dg.define_asset_job(
    keys.DEMAND_JOB,
    selection=dg.AssetSelection.assets(*keys.INGEST_ASSETS),
    description="Fetch, average and store the demand of a day or of a range of days.",
)
today_job = dg.define_asset_job(
    keys.TODAY_JOB,
    selection=dg.AssetSelection.assets(*keys.INGEST_ASSETS, keys.DEMAND_DASHBOARD),
    description="The same for today, and the dashboard.",
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
