"""Starts and stops a system: `python -m demand_assets.launcher live` or `… demo`.

`make run` and `make demo` call it. It ends when Dagster ends, when a signal comes, or when its
parent has ended; then it stops everything that it has started, in order.
"""

import os
import sys
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import IO

from demand_assets.dashboards.page import page_file
from demand_assets.dashboards.serve import PageServer, print_address_when_ready
from demand_assets.grid import TIME_ZONE
from demand_assets.launcher import demo, places
from demand_assets.launcher.dagster_web import DagsterWeb
from demand_assets.processes import POLL_SECONDS, Guarded, StopRequest
from demand_assets.settings import (
    PROJECT,
    SERVED_PAGE_URL,
    SettingError,
    Settings,
    read_settings_file,
)
from demand_assets.simulator import Simulator

ENV_FILE = PROJECT / ".env"


def main(arguments: list[str]) -> int:
    if arguments not in (["live"], ["demo"]):
        print("usage: python -m demand_assets.launcher live|demo", file=sys.stderr)
        return 2
    request = StopRequest(with_parent=True)
    try:
        with ExitStack() as stack:
            start = _start_demo if arguments == ["demo"] else _start_live
            return _wait(start(stack), request)
    except (places.StartError, SettingError) as error:
        print(error, file=sys.stderr)
        return 1


def _start_live(stack: ExitStack) -> Guarded:
    folders = places.live_places(os.environ)
    lock = stack.enter_context(places.lock(folders.home))
    settings = Settings.from_environment(read_settings_file(ENV_FILE, os.environ))
    if "://" not in settings.data_dir:
        places.refuse_demo(Path(settings.data_dir), "DEMAND_DATA_DIR")
    dagster, page = _addresses(stack, settings, lock)
    print(f"Starting. Record: {_short(folders.home)}; data: {_short(settings.data_dir)};", end=" ")
    print(f"store: {settings.store.address}.", flush=True)
    # The variables of `.env` are not handed down: a reload on the web page reads the file again.
    environment = {**os.environ, SERVED_PAGE_URL: page.url}
    guarded = _start_dagster(folders.home, environment, dagster, lock)
    Thread(target=_announce, args=(dagster, page), daemon=True).start()
    return guarded


def _start_demo(stack: ExitStack) -> Guarded:
    folders = places.demo_places(os.environ)
    lock = stack.enter_context(places.lock(folders.home))
    api = stack.enter_context(Simulator())
    defaults = demo.settings(datetime.now(TIME_ZONE).date())
    environment = places.demo_environment(os.environ, folders, api.url, defaults)
    settings = Settings.from_environment(read_settings_file(ENV_FILE, environment))
    dagster, page = _addresses(stack, settings, lock)
    environment[SERVED_PAGE_URL] = page.url
    print("Demo: simulated API, embedded database. Dagster needs about 20 s to start.")
    print(f"Data: {_short(folders.data)}; record: {_short(folders.home)};", end=" ")
    print(f"Dagster's log: {_short(folders.log)}", flush=True)
    output = stack.enter_context(folders.log.open("wb"))
    guarded = _start_dagster(folders.home, environment, dagster, lock, output)
    Thread(target=demo.accompany, args=(dagster, page, settings), daemon=True).start()
    return guarded


def _addresses(
    stack: ExitStack, settings: Settings, lock: IO[str]
) -> tuple[DagsterWeb, PageServer]:
    """The web page of Dagster, which is yet to be started, and the served page."""
    port, why_another = places.choose_port(os.environ)
    if why_another:
        print(why_another)
    page_port = os.environ.get("PAGE_PORT", "").strip() or str(port + 1)
    if not page_port.isdecimal():
        raise places.StartError(f"PAGE_PORT={page_port} is not a port.")
    page = stack.enter_context(PageServer(page_file(settings.data_dir), int(page_port)))
    Thread(target=page.serve_forever, daemon=True).start()
    dagster = DagsterWeb(port)
    places.write_lock(lock, dagster.address)
    return dagster, page


def _start_dagster(
    home: Path,
    environment: dict[str, str],
    dagster: DagsterWeb,
    lock: IO[str],
    output: IO[bytes] | None = None,
) -> Guarded:
    places.link_configuration(home)
    command = [sys.executable, "-m", "dagster", "dev"]
    command += ["--workspace", str(PROJECT / "workspace.yaml")]
    command += ["--host", "127.0.0.1", "--port", str(dagster.port)]
    # Dagster reads the `.env` of the folder in which it is started and lets it override the
    # environment, so the demo would write to the live bucket. There is none in its home.
    return Guarded(
        command,
        folder=home,
        environment={**environment, "DAGSTER_HOME": str(home)},
        output=output,
        kept_open=[lock.fileno()],
    )


def _announce(dagster: DagsterWeb, page: PageServer) -> None:
    """Print the addresses, each as soon as something is there."""
    dagster.wait_until_up()
    print(f"\nDagster:       {dagster.address}", flush=True)
    print_address_when_ready(page)


def _wait(guarded: Guarded, request: StopRequest) -> int:
    """Wait until Dagster ends or a stop is requested; the exit code."""
    while guarded.poll() is None:
        if request:
            print("\nStopping Dagster; this takes up to a minute.", flush=True)
            guarded.stop()
            return 0
        time.sleep(POLL_SECONDS)
    print("Dagster has ended, see the end of its log.", file=sys.stderr)
    return guarded.stop() or 1


def _short(path: object) -> str:
    """A path relative to the project, if it is in it."""
    return str(path).removeprefix(f"{PROJECT}/")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
