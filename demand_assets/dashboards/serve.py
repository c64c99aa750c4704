"""Serves the page on this machine. Who starts it belongs in `launcher/`.

Browsers do not follow links from Dagster's web page to files, so the page needs an address.
"""

import contextlib
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from upath import UPath

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
    """Wait until the page exists, and print its address."""
    while not server.file.exists():
        time.sleep(1)
    print(f"\nThe dashboard: {server.url}\n", flush=True)
