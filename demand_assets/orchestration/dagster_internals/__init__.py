"""The only place that imports private modules of Dagster (`dagster._…`).

Each module says which public API is missing. Look here first after an upgrade of Dagster.
"""
