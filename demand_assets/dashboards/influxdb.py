"""Applies the dashboard's template to an InfluxDB 2, through its API for templates and stacks."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException

from demand_assets.dashboards.template import TEMPLATE, build_template, dashboard_key
from demand_assets.stores.influxdb import InfluxDB, InfluxDBAccessError

RANGE = "lower=now%28%29%20-%207d"
"""The range that the page opens with: its default, the past hour, holds no finished hour."""


class Dashboard(NamedTuple):
    """A dashboard on the server, and the address of its page."""

    name: str
    link: str


def apply_dashboard(influxdb: InfluxDB) -> Dashboard:
    """Create or update the dashboard of a bucket, and create the bucket if it is missing.

    Raises:
        InfluxDBAccessError: the server cannot be reached, or refuses a request.
    """
    with influxdb.get_client() as client, _alone():
        try:
            return _apply(client, influxdb)
        except ApiException as error:
            if not error.status:  # no answer, which `get_client` explains
                raise
            # A template that needs a missing permission is answered with status 500.
            if error.status in (401, 403) or "unauthorized" in str(error.body):
                raise _refusal(influxdb) from error
            message = " ".join(str(getattr(error, "message", None) or error.reason).split())
            raise InfluxDBAccessError(
                f"InfluxDB at {influxdb.address} answered {error.status} '{message}'."
                " The dashboard needs an InfluxDB 2: check INFLUXDB_V2_URL and INFLUXDB_V2_BUCKET."
            ) from error


@contextmanager
def _alone() -> Iterator[None]:
    """Wait for other calls on this machine: InfluxDB would give each of them a new dashboard."""
    with TEMPLATE.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        yield


def _apply(client: InfluxDBClient, influxdb: InfluxDB) -> Dashboard:
    org_id, bucket = _org_id(client, influxdb), influxdb.bucket
    if not _call(client, "GET", "buckets", default={}, orgID=org_id, name=bucket).get("buckets"):
        _call(client, "POST", "buckets", body={"orgID": org_id, "name": bucket})
    request = {
        "orgID": org_id,
        "template": {"contents": build_template(bucket)},
        # A template overwrites the retention of an existing bucket, and a stack deletes resources
        # that are no longer in it, with all points. So the stack must never contain the bucket.
        "actions": [{"action": "skipKind", "properties": {"kind": "Bucket"}}],
        "stackID": _stack_id(client, org_id, dashboard_key(bucket)),
    }
    applied = _call(client, "POST", "templates/apply", body=request)
    if errors := applied.get("errors"):  # the status is that of a success
        raise InfluxDBAccessError(
            f"InfluxDB at {influxdb.address} does not accept the template: {errors}."
        )
    (dashboard,) = applied["summary"]["dashboards"]
    page = f"{influxdb.address.rstrip('/')}/orgs/{org_id}/dashboards/{dashboard['id']:016x}"
    return Dashboard(dashboard["name"], f"{page}?{RANGE}")


def _org_id(client: InfluxDBClient, influxdb: InfluxDB) -> str:
    """The id of the organization, which the settings name by name or id."""
    orgs = _call(client, "GET", "orgs", limit=100)["orgs"]
    if not orgs:  # the answer leaves out organizations that the token may not read
        raise _refusal(influxdb)
    for org in orgs:
        if influxdb.org in (org["name"], org["id"]):
            return str(org["id"])
    raise InfluxDBAccessError(
        f"Check INFLUXDB_V2_ORG: INFLUXDB_V2_TOKEN can read no organization {influxdb.org}."
    )


def _stack_id(client: InfluxDBClient, org_id: str, key: str) -> str | None:
    """The stack of the dashboard from an earlier call, or None.

    A stack with other resources, such as the bucket after `influx apply`, is somebody else's.
    """
    for stack in _call(client, "GET", "stacks", orgID=org_id)["stacks"]:
        resources = [(r["kind"], r["templateMetaName"]) for r in stack["resources"]]
        if resources == [("Dashboard", key)]:
            # InfluxDB takes a dashboard that the token may not read for a deleted one, and would
            # create a second one. This request fails instead.
            _call(client, "GET", f"dashboards/{stack['resources'][0]['resourceID']}", default={})
            return str(stack["id"])
    return None


def _call(
    client: InfluxDBClient,
    method: str,
    path: str,
    *,
    body: dict[str, Any] | None = None,
    default: dict[str, Any] | None = None,
    **parameters: Any,
) -> dict[str, Any]:
    """The JSON answer of the API below `/api/v2/`, or the default, if there is one, for a 404.

    The client's own types for templates leave out parts of the answers.
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
        if error.status == 404 and default is not None:
            return default
        raise
    if not isinstance(answer, dict):
        raise InfluxDBAccessError(
            "The answer is not that of an InfluxDB 2, or of a proxy before it."
            " Check INFLUXDB_V2_URL."
        )
    return answer


def _refusal(influxdb: InfluxDB) -> InfluxDBAccessError:
    return InfluxDBAccessError(
        f"InfluxDB at {influxdb.address} refuses INFLUXDB_V2_TOKEN. It must read the organization"
        f" {influxdb.org} and its buckets, read and write its dashboards and, if bucket"
        f" {influxdb.bucket} is missing, write buckets; an all-access token may. To read and write"
        " one bucket, which is all that storing needs, is not enough."
    )
