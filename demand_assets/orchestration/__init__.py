"""Everything that imports Dagster: assets, IO managers, checks, sensors, and what they plan.

Rules about demand belong in `demand/`, requests in `redata/`, storage in `stores/`.
"""
