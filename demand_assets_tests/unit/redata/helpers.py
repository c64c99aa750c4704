"""What the tests of the client share: a server that sends given bytes, and one fetch in a line."""

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from typing import Any, Self

from demand_assets.demand.days import days_between
from demand_assets.redata import Answer, REDataClient, REDataError
from demand_assets.simulator import Simulator

DAY = date(2025, 3, 10)
MONTH = days_between(date(2025, 3, 1), date(2025, 3, 31))
RETRY_SECONDS = 20
"""A budget for five pauses of the shortest kind (0.5, 1, 2, 4 and 7.5 s), but not for a sixth,
however slow the machine is."""


def client(url: str, **options: Any) -> REDataClient:
    return REDataClient(url, **{"retry_seconds": RETRY_SECONDS, **options})


def answer_of(result: Answer | REDataError) -> Answer:
    assert not isinstance(result, REDataError), result
    return result


def error_of(url: str, day: date = DAY, **options: Any) -> REDataError:
    """The error of a fetch of one day."""
    result = client(url, **options).fetch([day])[day]
    assert isinstance(result, REDataError)
    return result


def samples_of(answer: Answer | REDataError) -> dict[str, list[Any]]:
    return {s["id"]: s["attributes"]["values"] for s in answer_of(answer)["included"]}


def lengths(api: Simulator) -> list[int]:
    """The days of each request that was made."""
    return [(last - first).days + 1 for first, last in api.requests]


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fails if the block takes longer. A slow machine gets 5 s more, fewer than a failure takes."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + 5


class ByteServer(socketserver.ThreadingTCPServer):
    """Sends the n-th reply, byte for byte, to the n-th request; the last one to all later ones."""

    daemon_threads = True

    def __init__(self, *replies: bytes | Callable[[], Iterable[bytes]]) -> None:
        self.replies = replies
        self.requests: list[str] = []
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def slowly(self, prompt: bytes, rest: bytes, pause: float) -> Callable[[], Iterable[bytes]]:
        """A reply of a prompt part, and of bytes with a pause in seconds before each."""

        def send() -> Iterator[bytes]:
            yield prompt
            for byte in rest:
                if self.closing.wait(pause):
                    return
                yield bytes([byte])

        return send


class Handler(socketserver.StreamRequestHandler):
    server: ByteServer

    def handle(self) -> None:
        request = b"".join(iter(self.rfile.readline, b"\r\n")).decode()
        number = len(self.server.requests)
        self.server.requests.append(request)
        reply = self.server.replies[min(number, len(self.server.replies) - 1)]
        with suppress(ConnectionError):  # a client may leave at any time
            for part in [reply] if isinstance(reply, bytes) else reply():
                self.wfile.write(part)


def head(status: str = "200 OK", **headers: str | int) -> bytes:
    named = {"Connection": "close", **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode()


def reply(body: bytes, status: str = "200 OK", **headers: str | int) -> bytes:
    return head(status, Content_Length=len(body), **headers) + body


def as_json(document: Any) -> bytes:
    return reply(json.dumps(document).encode())


def tiny_answer(*stamps: str, ids: Iterable[str] = ("1293",)) -> dict[str, Any]:
    """An answer with one value for each timestamp."""
    values = [{"value": 25_000, "datetime": stamp} for stamp in stamps]
    return {"included": [{"id": id_, "attributes": {"values": values}} for id_ in ids]}


GOOD = tiny_answer("2025-03-10T00:00:00.000+01:00")
