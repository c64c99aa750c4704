"""Dagster's records in PostgreSQL, for comparison: a new server for each measurement."""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BATCHES = {"DAGSTER_EVENT_BATCH_SIZE": "500"}
"""Set for the whole system, so that a step sends its materializations together."""


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    url: str
    pid: int

    @property
    def storage(self) -> str:
        """The part of dagster.yaml in place of `event_log_storage`."""
        return f"storage:\n  postgres:\n    postgres_url: {self.url}\n"


def with_storage(instance: str, block: str) -> str:
    """dagster.yaml with another storage, or with Dagster's default."""
    changed, times = re.subn(r"event_log_storage:\n(  .*\n)+", block, instance)
    assert times == 1
    return changed


@contextmanager
def postgres(port: int) -> Iterator[Postgres | None]:
    """A new server until the block ends; None if it or dagster-postgres is not installed."""
    found = shutil.which("initdb") or max(
        map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None
    )
    if not found or not importlib.util.find_spec("dagster_postgres"):
        yield None
        return
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory() as folder:
        data, log = f"{folder}/data", Path(folder, "log")
        if user:
            shutil.chown(folder, user)
        create = [found, "-D", data, "-U", "dagster", "-A", "trust"]
        subprocess.run(create, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
        start = [str(Path(found).with_name("postgres")), "-D", data, "-k", folder, "-p", str(port)]
        with log.open("w") as output:
            server = subprocess.Popen(start, user=user, cwd=folder, stdout=output, stderr=output)
        try:
            while "ready to accept" not in log.read_text():
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
            yield Postgres(f"postgresql://dagster@127.0.0.1:{port}/postgres", server.pid)
        finally:
            server.terminate()
            server.wait()
