"""`make doctor`: what is wrong with this machine, the settings, the network or the store.

Each check returns results; it changes nothing and stores nothing. `machine` has the checks of this
machine and of the settings, `servers` those of the API and the store.
"""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"
    WRONG = "WRONG"


@dataclass(frozen=True)
class Result:
    """One line of the report."""

    name: str
    level: Level
    text: str
    """What was found and, if it is wrong, what to do."""

    def __str__(self) -> str:
        return f"{self.level:5}  {self.name:12}  {self.text}"
