"""Keys of metadata that other code reads back, and how values become metadata."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import dagster as dg

FIELDS = "influxdb/fields"
"""Of an asset's definition: the columns of its frame, which are the fields of the store."""
FAILED_DAYS = "failed_days"
"""Of a failure: the partition keys of the days that made the run fail."""
STORE = "store"
"""Of a materialization: the address of the store that was written."""
FINGERPRINT, MORNING_FINGERPRINT = "fingerprint", "morning_fingerprint"
"""Of a materialization: `demand.figures.fingerprint` of the day's measured demand, and of the hours
that are known when the next day's forecast is made. A forecast has the one of its inputs."""
UNUSUAL_HOURS = "unusual_hours"
"""Of a frame: the UTC hours whose measured demand predicts nothing, see `demand.quality.Review`."""
FROZEN_SINCE = "frozen_since"
"""Of a frame: since when measured demand has had the value of the day's last sample."""
MADE_BY = "made_by"
"""Of a forecast: `forecast.TRAINED_MODEL` or `forecast.WEEKLY_NAIVE`."""


def metadata_values(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures as metadata: points in time become timestamps, all else is left to Dagster."""
    return {
        name: dg.MetadataValue.timestamp(value) if isinstance(value, datetime) else value
        for name, value in figures.items()
    }


def metadata_of(record: dg.EventLogRecord) -> dict[str, Any]:
    """The metadata of a materialization; one that was reported by hand has none."""
    event = record.asset_materialization
    return {name: value.value for name, value in event.metadata.items()} if event else {}
