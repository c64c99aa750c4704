"""Dashboards: a page of one file, a template for InfluxDB, and a chart of one day.

What is drawn follows from `grid.SERIES` and `grid.MODEL_FORECAST`, and changes color at the values
in `thresholds.py`. Nothing of Dagster belongs here: the asset that writes the page is in
`orchestration/assets/dashboard.py`.
"""
