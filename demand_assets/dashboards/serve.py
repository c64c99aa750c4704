"""Serves the page on this machine while a command runs: `python -m demand_assets.dashboards.serve`.

Browsers do not follow links from Dagster's web page to files, so the page needs an address.
"""

import argparse
import contextlib
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from upath import UPath

from demand_assets.dashboards.page import page_file
from demand_assets.processes import be_interruptible, run_command
from demand_assets.settings import PROJECT, Settings, load_settings_file

NO_PAGE_YET = b"""<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=5>
<title>Spain's electricity demand</title><p>Nothing is stored yet. The page appears after the first
refresh of today. You can also materialize <code>demand_dashboard</code> on Dagster's web page."""


class PageServer(ThreadingHTTPServer):
    """The page at `/` on 127.0.0.1; on a free port if the given one is in use."""

    daemon_threads = True

    def __init__(self, file: UPath, port: int) -> None:
        self.file = file
        try:
            super().__init__(("127.0.0.1", port), _PageHandler)
        except (OSError, OverflowError):
            super().__init__(("127.0.0.1", 0), _PageHandler)
        self.url = f"http://localhost:{self.server_port}/"


class _PageHandler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/":
            self.send_error(404)
            return
        try:
            status, page = 200, self.server.file.read_bytes()
        except FileNotFoundError:
            status, page = 503, NO_PAGE_YET
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Cache-Control", "no-store")
        with contextlib.suppress(ConnectionError):  # the browser may close the connection
            self.end_headers()
            self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing, so that the terminal shows Dagster's log only."""


def print_address_when_ready(server: PageServer) -> None:
    while not server.file.exists():
        time.sleep(1)
    print(f"\nThe dashboard: {server.url}\n", flush=True)


def main() -> int:
    """Serve the page until the command ends; the exit code of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m demand_assets.dashboards.serve", description=__doc__
    )
    parser.add_argument("--port", type=int, default=3001, help="default 3001, or a free one")
    parser.add_argument("command", nargs="+", metavar="-- COMMAND", help="the command to run")
    options = parser.parse_args()
    load_settings_file(PROJECT / ".env")
    settings = Settings.from_environment(os.environ)
    server = PageServer(page_file(settings.data_dir), options.port)
    be_interruptible()
    for target, args in ((server.serve_forever, ()), (print_address_when_ready, (server,))):
        threading.Thread(target=target, args=args, daemon=True).start()
    try:
        return run_command(options.command, DEMAND_PAGE_URL=settings.page_url or server.url)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
