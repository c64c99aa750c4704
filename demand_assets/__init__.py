"""Hourly electricity demand of Spain in InfluxDB, kept complete and fresh by Dagster."""

__version__ = "0.2.0"
