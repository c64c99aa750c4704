"""Keys of metadata that other code reads back, and how values become metadata."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import dagster as dg

from demand_assets.orchestration.planning.ledger import Audit, Stored

FIELDS = "influxdb/fields"
"""Of an asset's definition: the columns of its frame, which are the fields of the store."""
FAILED_DAYS = "failed_days"
"""Of a failure: the partition keys of the days that made the run fail."""
KEPT_FROM = "kept_from"
"""Of a failure: the instant before which the store drops hours."""
AUDIT = "audit"
"""Of a result of `store_is_complete`: the `planning.ledger.Audit`, as JSON."""
REVISED_HOURS = "revised_hours"
"""Of an observation: how many hours of the day the API has changed since it was stored."""
STORE = "store"
"""Of a materialization: the address of the store that was written."""
HOURS_FINGERPRINT = "hours_fingerprint"
"""Of a materialization: `demand.figures.hours_fingerprints` of the day in the store."""
ANSWERED_AT, UNCHANGED_SINCE = "answered_at", "unchanged_since"
SAME_ANSWERS, RESTORES, ACCEPTED = "same_answers", "restores", "accepted"
"""Of a materialization: the fields of `planning.ledger.Stored` with similar names."""
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


def of_history(stored: Stored) -> dict[str, Any]:
    """What `planning.ledger.answer_history` returns, as metadata of a materialization."""
    return {
        HOURS_FINGERPRINT: stored.hours_fingerprint,
        ANSWERED_AT: stored.at,
        UNCHANGED_SINCE: stored.unchanged_since,
        SAME_ANSWERS: stored.same_answers,
        RESTORES: stored.restores,
        ACCEPTED: stored.accepted,
    }


def audit_to_json(audit: Audit) -> dict[str, Any]:
    return {
        "at": audit.at.isoformat(),
        "days": audit.days,
        "lost": sorted(map(str, audit.lost)),
        "without_frame": sorted(map(str, audit.without_frame)),
        "lost_forecasts": sorted(map(str, audit.lost_forecasts)),
        "surplus": sorted(map(str, audit.surplus)),
        "kept_from": audit.kept_from.isoformat() if audit.kept_from else None,
        "foreign_tags": list(audit.foreign_tags),
        "complete_at": audit.complete_at.isoformat() if audit.complete_at else None,
    }


def audit_from_json(content: Any) -> Audit:
    def days(name: str) -> frozenset[date]:
        return frozenset(map(date.fromisoformat, content[name]))

    def instant(name: str) -> datetime | None:
        return datetime.fromisoformat(content[name]) if content[name] else None

    return Audit(
        at=datetime.fromisoformat(content["at"]),
        days=content["days"],
        lost=days("lost"),
        without_frame=days("without_frame"),
        lost_forecasts=days("lost_forecasts"),
        surplus=days("surplus"),
        kept_from=instant("kept_from"),
        foreign_tags=tuple(content["foreign_tags"]),
        complete_at=instant("complete_at"),
    )


def metadata_of(record: dg.EventLogRecord) -> dict[str, Any]:
    """The metadata of a materialization; one that was reported by hand has none."""
    event = record.asset_materialization
    return {name: value.value for name, value in event.metadata.items()} if event else {}
