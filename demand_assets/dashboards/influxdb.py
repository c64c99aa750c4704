"""The dashboard's template, applied to an InfluxDB 2."""

from dataclasses import dataclass
from typing import Any

from influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException

from demand_assets.dashboards.template import build_template, dashboard_key
from demand_assets.stores.influxdb import InfluxDB, InfluxDBAccessError


@dataclass(frozen=True)
class Dashboard:
    """A dashboard as it is on the server."""

    name: str
    link: str
    """Its page."""


def apply_dashboard(influxdb: InfluxDB) -> Dashboard:
    """Bring the bucket's dashboard up to date; create it, and the bucket, where they are missing.

    Raises:
        InfluxDBAccessError: the server cannot be reached, or refuses.
    """
    with influxdb.get_client() as client:
        try:
            return _apply(client, influxdb)
        except ApiException as error:
            if not error.status:  # no answer
                raise
            # Templates answer 500 where a right is missing.
            if error.status in (401, 403) or "unauthorized" in str(error.body):
                raise _refusal(influxdb) from error
            said = " ".join(str(getattr(error, "message", None) or error.reason).split())
            raise InfluxDBAccessError(
                f"InfluxDB at {influxdb.address} answered {error.status} '{said}'."
                " The dashboard needs an InfluxDB 2: check INFLUXDB_V2_URL and INFLUXDB_V2_BUCKET."
            ) from error


def _apply(client: InfluxDBClient, influxdb: InfluxDB) -> Dashboard:
    org_id = _org_id(client, influxdb)
    _create_missing_bucket(client, org_id, influxdb.bucket)
    resources = build_template(influxdb.bucket)
    applied = _call(
        client,
        "POST",
        "templates/apply",
        body={
            "orgID": org_id,
            "template": {"contents": resources},
            # A template gives an existing bucket its own retention, and a stack removes what it
            # held and no longer holds, with all its points. So no stack ever holds the bucket.
            "actions": [{"action": "skipKind", "properties": {"kind": "Bucket"}}],
            **_stack(client, org_id, dashboard_key(influxdb.bucket)),
        },
    )
    # Template errors come with the status of a success.
    if errors := applied.get("errors"):
        raise InfluxDBAccessError(
            f"InfluxDB at {influxdb.address} does not accept the template: {errors}."
        )
    ((name, number),) = [(d["name"], d["id"]) for d in applied["summary"]["dashboards"]]
    page = f"{influxdb.address.rstrip('/')}/orgs/{org_id}/dashboards/{number:016x}"
    return Dashboard(name, page)


def _org_id(client: InfluxDBClient, influxdb: InfluxDB) -> str:
    """The organization's id, which may be what it is given by."""
    orgs = _call(client, "GET", "orgs", limit=100)["orgs"]
    if not orgs:  # those that the token may not read are left out
        raise _refusal(influxdb)
    for org in orgs:
        if influxdb.org in (org["name"], org["id"]):
            return org["id"]
    raise InfluxDBAccessError(
        f"Check INFLUXDB_V2_ORG: INFLUXDB_V2_TOKEN can read no organization {influxdb.org}."
    )


def _create_missing_bucket(client: InfluxDBClient, org_id: str, bucket: str) -> None:
    found = _call(client, "GET", "buckets", missing={}, orgID=org_id, name=bucket)
    if not found.get("buckets"):
        _call(client, "POST", "buckets", body={"orgID": org_id, "name": bucket})


def _stack(client: InfluxDBClient, org_id: str, key: str) -> dict[str, str]:
    """The stack that an earlier application left, as part of the next one; empty before the first.

    One that holds anything else, such as the bucket after `influx apply`, is somebody else's.
    """
    for stack in _call(client, "GET", "stacks", orgID=org_id)["stacks"]:
        held = [(r["kind"], r["templateMetaName"]) for r in stack["resources"]]
        if held == [("Dashboard", key)]:
            # One that the token may not read would be taken for a deleted one, and created again.
            _call(client, "GET", f"dashboards/{stack['resources'][0]['resourceID']}", missing={})
            return {"stackID": stack["id"]}
    return {}


def _call(
    client: InfluxDBClient,
    method: str,
    path: str,
    *,
    body: dict[str, Any] | None = None,
    missing: dict[str, Any] | None = None,
    **parameters: Any,
) -> dict[str, Any]:
    """The answer below `/api/v2/`, as JSON says it: the client's own types leave parts out.

    What `missing` holds, if it is given, stands for a 404.
    """
    try:
        answer = client.api_client.call_api(
            f"/api/v2/{path}",
            method,
            query_params=list(parameters.items()),
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            body=body,
            response_type=object,
            _return_http_data_only=True,
        )
    except ApiException as error:
        if error.status == 404 and missing is not None:
            return missing
        raise
    if not isinstance(answer, dict):
        raise InfluxDBAccessError(
            "What answers is no InfluxDB 2, or a proxy in front of it. Check INFLUXDB_V2_URL."
        )
    return answer


def _refusal(influxdb: InfluxDB) -> InfluxDBAccessError:
    return InfluxDBAccessError(
        f"InfluxDB at {influxdb.address} refuses INFLUXDB_V2_TOKEN. It must read the organization"
        f" {influxdb.org} and its buckets, read and write its dashboards and, where bucket"
        f" {influxdb.bucket} is missing, write buckets; an all-access token may. To read and write"
        " one bucket, which is all that storing needs, is not enough."
    )
