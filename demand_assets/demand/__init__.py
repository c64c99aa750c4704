"""The domain: from samples to hours, rules of quality, and the figures of a day.

Pure functions over pandas objects. This package imports `grid` only: nothing of the API client,
of Dagster or of a store belongs here.
"""
