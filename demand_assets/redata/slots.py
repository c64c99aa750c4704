"""Who may send a request now: at most a few requests are in flight, over all runs of this machine.

A slot is a locked file. The kernel releases the lock if the process dies, so no slot is ever lost.
How often a request is repeated belongs in `client`.
"""

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

POLL_SECONDS = 0.05
"""There is no way to wait for the first of several locks."""


class Slots:
    """Slots in a folder of this machine that all runs share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def take(
        self, limit: Callable[[], int], pause: Callable[[], float], urgent: bool = False
    ) -> Iterator[float]:
        """Hold a slot for one request, and yield how many seconds it was waited for.

        Args:
            limit: how many requests may be in flight now; asked again while all slots are taken.
            pause: seconds between two requests in the same slot.
            urgent: take the next slot that becomes free, before all that are not urgent.
        """
        started = time.monotonic()
        with self._first_free(limit, urgent) as slot:
            waited = time.monotonic() - started
            rest = pause()
            _wait(min(rest, _last_use(slot) + rest - time.time()))  # the clock may be set back
            try:
                yield waited
            finally:
                slot.truncate(0)
                slot.write(f"{time.time()}".encode())

    def _first_free(self, limit: Callable[[], int], urgent: bool) -> IO[bytes]:
        # An urgent request holds this lock with others of its kind while it waits; all others need
        # it alone before they may take a slot.
        with self._open("urgent") as turn:
            if urgent:
                fcntl.flock(turn, fcntl.LOCK_SH)
            while True:
                if urgent or _lock(turn):
                    for number in range(limit()):
                        slot = self._open(f"slot-{number}")
                        if _lock(slot):
                            return slot
                        slot.close()
                    if not urgent:
                        fcntl.flock(turn, fcntl.LOCK_UN)
                _wait(POLL_SECONDS)

    def _open(self, name: str) -> IO[bytes]:
        return (self.folder / f"{name}.lock").open("a+b")


def _last_use(slot: IO[bytes]) -> float:
    slot.seek(0)
    with suppress(ValueError):  # it was never used
        return float(slot.read())
    return 0.0


def _lock(file: IO[bytes]) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _wait(seconds: float) -> None:
    threading.Event().wait(max(0.0, seconds))
