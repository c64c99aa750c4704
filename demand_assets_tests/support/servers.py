"""Real servers for the tests, each for as long as a `with` block. Standard library only.

Everything listens on free ports of the loopback interface and keeps its files in a temporary
folder. A program that is not installed raises `ProgramMissing`, whose text is a reason to skip.
"""

import csv
import json
import os
import re
import secrets
import shutil
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

READY_SECONDS = 30.0


class ProgramMissing(Exception):
    """A server's program is not installed here."""


class ServerFailed(Exception):
    """A server did not come up. Its text ends with the last lines of the server's log."""


# InfluxDB 2


@dataclass(frozen=True)
class InfluxDB2:
    """An InfluxDB 2 that was set up a moment ago, and its operator's token."""

    url: str
    org: str
    bucket: str
    token: str = field(repr=False)

    def api(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer of `GET` or, with a body, of `POST` below `/api/v2/`."""
        return json.loads(self._ask(path, body, "application/json"))

    def create_bucket(self, kept_seconds: int | None = None) -> str:
        """The name of a new bucket; without ``kept_seconds`` it keeps points for ever."""
        name = f"bucket-{secrets.token_hex(4)}"
        rules = [{"type": "expire", "everySeconds": kept_seconds}] if kept_seconds else []
        self.api("buckets", {"name": name, "orgID": self._org_id(), "retentionRules": rules})
        return name

    def create_token(self, bucket: str, *actions: str) -> str:
        """A token for one bucket; the actions are `read` and `write`."""
        ((bucket_id),) = [b["id"] for b in self.api(f"buckets?name={bucket}")["buckets"]]
        resource = {"type": "buckets", "id": bucket_id, "orgID": self._org_id()}
        permissions = [{"action": action, "resource": resource} for action in actions]
        return self.api("authorizations", {"orgID": self._org_id(), "permissions": permissions})[
            "token"
        ]

    def flux(self, query: str) -> list[dict[str, str]]:
        """The rows that a query returns, as text."""
        answer = self._ask(f"query?org={self.org}", {"query": query}, "application/csv").decode()
        # Tables of other columns follow after an empty line.
        blocks = answer.strip().split("\r\n\r\n")
        return [row for block in blocks for row in csv.DictReader(block.splitlines())]

    def _org_id(self) -> str:
        return self.api(f"orgs?org={self.org}")["orgs"][0]["id"]

    def _ask(self, path: str, body: Mapping[str, Any] | None, accept: str) -> bytes:
        headers = {"Authorization": f"Token {self.token}", "Accept": accept}
        return _request(f"{self.url}/api/v2/{path}", body, headers)


@contextmanager
def influxdb2_server(bucket: str = "capstone7") -> Iterator[InfluxDB2]:
    """The InfluxDB 2 that `INFLUXD` names or PATH holds, set up with one bucket.

    Raises:
        ProgramMissing: there is none; Debian's `influxd` is an InfluxDB 1.
    """
    program, port = find_influxd(2), free_port()
    token = secrets.token_urlsafe(24)
    server = InfluxDB2(f"http://127.0.0.1:{port}", "grid", bucket, token)
    with ExitStack() as stack:
        folder = stack.enter_context(_temporary_folder())
        log = stack.enter_context(
            _process(
                program,
                "--http-bind-address",
                f"127.0.0.1:{port}",
                "--bolt-path",
                f"{folder}/influxd.bolt",
                "--sqlite-path",
                f"{folder}/influxd.sqlite",
                "--engine-path",
                f"{folder}/engine",
                "--reporting-disabled",
                folder=folder,
            )
        )
        log.wait_for(f"{server.url}/health")
        setup = {"username": "tests", "password": secrets.token_urlsafe(16), "token": token}
        place = {"org": server.org, "bucket": bucket, "retentionPeriodSeconds": 0}
        _request(f"{server.url}/api/v2/setup", {**setup, **place})
        yield server


# InfluxDB 1


@dataclass(frozen=True)
class InfluxDB1:
    """An InfluxDB 1 that takes the version 2 client's writes, and answers InfluxQL."""

    url: str
    """Where `/api/v2/write` is."""
    query_url: str

    def create_database(self) -> str:
        """The name of a new database."""
        name = f"db_{secrets.token_hex(4)}"
        self.influxql(f"CREATE DATABASE {name}")
        return name

    def influxql(self, query: str, database: str = "") -> list[list[Any]]:
        """The rows that a query returns; times are seconds since 1970."""
        body = urllib.parse.urlencode({"q": query, "db": database, "epoch": "s"}).encode()
        (result,) = json.loads(_request(f"{self.query_url}/query", body))["results"]
        assert "error" not in result, result["error"]
        return [row for series in result.get("series", []) for row in series["values"]]


@contextmanager
def influxdb1_server() -> Iterator[InfluxDB1]:
    """Debian's InfluxDB 1.6, whose engine takes the writes of the version 2 client behind nginx.

    Raises:
        ProgramMissing: `influxd` or nginx is not installed.
    """
    influxd, _ = find_influxd(1), _find_nginx()
    port, front_port = free_port(), free_port()
    with ExitStack() as stack:
        folder = stack.enter_context(_temporary_folder())
        config = folder / "influxdb.conf"
        config.write_text(INFLUXDB1_CONFIG.format(folder=folder, port=port))
        log = stack.enter_context(_process(influxd, "run", "-config", str(config), folder=folder))
        log.wait_for(f"http://127.0.0.1:{port}/ping")

        block = INFLUXDB1_FRONT.format(port=port, front_port=front_port)
        stack.enter_context(nginx_server(block, f"http://127.0.0.1:{front_port}/ping"))
        yield InfluxDB1(f"http://127.0.0.1:{front_port}", f"http://127.0.0.1:{port}")


INFLUXDB1_CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
[http]
bind-address = "127.0.0.1:{port}"
"""

INFLUXDB1_FRONT = """\
server {{
    listen 127.0.0.1:{front_port};
    location = /ping {{ return 204; }}
    location = /api/v2/write {{
        rewrite ^ /write?db=$arg_bucket&precision=$arg_precision? break;
        proxy_pass http://127.0.0.1:{port};
    }}
}}
"""


# nginx


@contextmanager
def nginx_server(block: str, ready: str) -> Iterator[None]:
    """nginx with one `server` block, once it answers the address `ready`.

    Raises:
        ProgramMissing: it is not installed.
    """
    nginx = _find_nginx()
    with _temporary_folder() as folder:
        config = folder / "nginx.conf"
        config.write_text(NGINX_CONFIG.format(folder=folder, block=block))
        command = (nginx, "-p", str(folder), "-c", str(config), "-e", "stderr")
        with _process(*command, folder=folder) as log:
            log.wait_for(ready)
            yield


# One process without a master changes no user, so root and others get the same server.
NGINX_CONFIG = """\
daemon off;
master_process off;
error_log stderr;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {block}
}}
"""


# The Flux compiler

FluxCompiler = Callable[[list[str]], list[list[str]]]
"""Queries in; out come, of each, the compiler's errors."""


@contextmanager
def flux_compiler() -> Iterator[FluxCompiler]:
    """The npm package `@influxdata/flux-lsp-node`, which holds InfluxDB's compiler.

    Raises:
        ProgramMissing: neither the folder that `FLUX_LSP_NODE` names nor `node_modules` holds it,
            or there is no Node.js.
    """
    here = Path(__file__).resolve()
    installed = here.parents[2] / "node_modules" / "@influxdata" / "flux-lsp-node"
    package = Path(os.environ.get("FLUX_LSP_NODE") or installed).resolve()
    if not (package / "package.json").is_file():
        raise ProgramMissing(f"no @influxdata/flux-lsp-node in {package}; FLUX_LSP_NODE names it")
    if not (node := shutil.which("node")):
        raise ProgramMissing("node is not installed")

    def compile_all(queries: list[str]) -> list[list[str]]:
        done = subprocess.run(
            [node, str(here.with_name("flux_compiler.cjs")), str(package)],
            input=json.dumps(queries),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    yield compile_all


# A server with scripted answers


@dataclass(frozen=True)
class Reply:
    """What to answer a request with; status 0 cuts the connection instead."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class ScriptedServer:
    """What was asked of it so far."""

    url: str = ""
    times: list[float] = field(default_factory=list)
    """When the requests came, in seconds of the monotonic clock."""
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def scripted_server(*replies: Reply, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """Answers one request after the other; the last reply is given for ever."""
    asked = ScriptedServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked.times.append(time.monotonic())
            asked.bodies.append(self.rfile.read(int(self.headers["Content-Length"] or 0)))
            reply = replies[min(len(asked.times), len(replies)) - 1]
            if not reply.status:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST
        do_CONNECT = do_POST  # as a proxy that refuses

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        asked.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


# A network that fails


class Trouble(StrEnum):
    """What happens to a connection on its way to a real server."""

    NONE = "none"
    CUT = "cut off after half of the request"
    SILENCE = "taken and never answered"
    UNHEARD = "carried out, and the answer is lost"


@dataclass
class Network:
    """What stands between a client and a server."""

    url: str
    connections: int = 0


@contextmanager
def network(server: str, *troubles: Trouble, port: int = 0) -> Iterator[Network]:
    """Passes each connection on to a server, after its trouble; the last trouble is for ever."""
    target = urllib.parse.urlsplit(server)
    closing = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            trouble = troubles[min(link.connections, len(troubles) - 1)]
            link.connections += 1
            if trouble == Trouble.SILENCE:
                closing.wait()
                return
            with socket.create_connection((target.hostname, target.port)) as upstream:
                request = self._read_request()
                if trouble == Trouble.CUT:
                    upstream.sendall(request[: len(request) // 2])
                    return
                # The server closes what it has answered, so that one connection is one request.
                upstream.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
                answer = b"".join(iter(lambda: upstream.recv(2**16), b""))
                if trouble == Trouble.NONE:
                    self.request.sendall(answer)

        def _read_request(self) -> bytes:
            head = b""
            while b"\r\n\r\n" not in head:
                head += self.request.recv(2**16)
            head, _, body = head.partition(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
            while len(body) < length:
                body += self.request.recv(2**16)
            return head + b"\r\n\r\n" + body

    with _Network(("127.0.0.1", port), Handler) as listener:
        link = Network(f"http://127.0.0.1:{listener.server_address[1]}")
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield link
        finally:
            closing.set()
            listener.shutdown()
            thread.join()


class _Network(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


# Programs and processes


def free_port() -> int:
    """A port of the loopback interface on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listening_addresses(port: int) -> set[str]:
    """The IPv4 and IPv6 addresses on which something listens at a port, as Linux lists them."""
    listening = "0A"
    addresses = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for row in Path("/proc/net", table).read_text().splitlines()[1:]:
            address, row_port = row.split()[1].split(":")
            if row.split()[3] == listening and int(row_port, 16) == port:
                # Words of 32 bits, each with the bytes of this machine in reverse.
                words = [bytes.fromhex(address[n : n + 8])[::-1] for n in range(0, len(address), 8)]
                addresses.add(socket.inet_ntop(family, b"".join(words)))
    return addresses


def find_influxd(major: int) -> str:
    """The `influxd` of the given major version; two of them go by that name.

    Raises:
        ProgramMissing: neither `INFLUXD` nor PATH names one.
    """
    named = [os.environ.get("INFLUXD"), shutil.which("influxd"), "/usr/bin/influxd"]
    candidates = dict.fromkeys(p for name in named if name and (p := shutil.which(name)))
    found = []
    for program in candidates:
        said = subprocess.run(
            [program, "version"], capture_output=True, text=True, timeout=20, env=_environment()
        ).stdout
        if said.startswith(f"InfluxDB v{major}."):
            return program
        found.append(f"{program} says '{said.strip()[:40]}'")
    raise ProgramMissing(
        f"no influxd of InfluxDB {major} on PATH or in INFLUXD"
        f" ({'; '.join(found) or 'none at all'})"
    )


def _find_nginx() -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    if not (program := shutil.which("nginx", path=path)):
        raise ProgramMissing("nginx is not installed")
    return program


def _environment() -> dict[str, str]:
    """The environment without what influxd would take for its own settings."""
    return {k: v for k, v in os.environ.items() if not k.startswith("INFLUX")}


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="demand-tests-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@dataclass(frozen=True)
class _Process:
    popen: subprocess.Popen[bytes]
    log: Path

    def wait_for(self, url: str) -> None:
        """Return once the address answers with success."""
        deadline = time.monotonic() + READY_SECONDS
        while self.popen.poll() is None and time.monotonic() < deadline:
            try:
                _request(url)
            except urllib.error.HTTPError as refusal:
                if refusal.code == 401:  # it is there, and asks for a name
                    return
                time.sleep(0.05)
            except OSError:
                time.sleep(0.05)
            else:
                return
        code = self.popen.poll()
        ended = f"did not answer {url}" if code is None else f"ended with {code}"
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        raise ServerFailed(f"{self.popen.args!r} {ended}. The end of its log:\n{tail}")


@contextmanager
def _process(*command: str, folder: Path) -> Iterator[_Process]:
    log = folder / "log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=_environment() | {"HOME": str(folder)},
        )
    try:
        yield _Process(popen, log)
    finally:
        popen.terminate()
        try:
            popen.wait(10)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


# A proxy that the environment names has no business with the loopback interface.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _request(
    url: str,
    body: Mapping[str, Any] | bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The answer to `GET` or, with a body, to `POST` of a form or of JSON."""
    headers = dict(headers or {})
    if isinstance(body, Mapping):
        body = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    with _DIRECT.open(urllib.request.Request(url, body, headers), timeout=10) as answer:
        return answer.read()
