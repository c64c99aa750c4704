"""Names that the web page shows and other code refers to: assets, jobs, checks, groups, pools."""

from dagster import AssetKey

RAW_REE_JSON = AssetKey("raw_ree_json")
HOURLY_DEMAND_FRAME = AssetKey("hourly_demand_frame")
INFLUX_DEMAND_POINTS = AssetKey("influx_demand_points")
DEMAND_DASHBOARD = AssetKey("demand_dashboard")
DEMAND_FORECAST_MODEL = AssetKey("demand_forecast_model")
DEMAND_FORECAST = AssetKey("demand_forecast")
DEMAND_FORECAST_SCORE = AssetKey("demand_forecast_score")

INGEST_ASSETS = (RAW_REE_JSON, HOURLY_DEMAND_FRAME, INFLUX_DEMAND_POINTS)
"""In the order in which a run makes them."""

DEMAND_JOB = "demand_job"
"""The ingest assets of any days."""
TODAY_JOB = "today_job"
"""The ingest assets of today, and the dashboard."""
RESTORE_JOB = "restore_job"
"""The points of any days, from the frames on disk."""
REREAD_JOB = "reread_job"
"""Looks for revisions of the last days."""
MODEL_JOB = "forecast_model_job"
FORECAST_JOB = "forecast_job"
SCORE_JOB = "forecast_score_job"
TARGET_OF_JOB = {
    DEMAND_JOB: INFLUX_DEMAND_POINTS,
    TODAY_JOB: INFLUX_DEMAND_POINTS,
    RESTORE_JOB: INFLUX_DEMAND_POINTS,
    FORECAST_JOB: DEMAND_FORECAST,
    MODEL_JOB: DEMAND_FORECAST_MODEL,
    SCORE_JOB: DEMAND_FORECAST_SCORE,
}
"""The partitioned asset that a job is run for."""

TODAY_IS_FRESH = "today_is_fresh"
HOURS_ARE_COMPLETE = "hours_are_complete"
DEMAND_IS_PLAUSIBLE = "demand_is_plausible"
FORECAST_IS_PRESENT = "forecast_is_present"
SAMPLES_ARE_PLAUSIBLE = "samples_are_plausible"
STORE_MATCHES_FRAME = "store_matches_frame"
STORE_IS_COMPLETE = "store_is_complete"
MODEL_BEATS_NAIVE = "model_beats_naive"

INGEST_GROUP, FORECAST_GROUP, DASHBOARD_GROUP = "electricity_demand", "forecast", "dashboards"
OWNERS = ["team:grid-data"]

STORE_POOL = "store"
"""One step at a time, as DuckDB has one writer. Requests of the API are limited in `redata/`."""

STORE_RESOURCE = "demand_store"
"""The IO manager of the store; assets that read it without partitions use it as a resource."""
ANSWER_FILES, FRAME_FILES = "answer_files", "frame_files"
"""The IO managers of the data folder."""
