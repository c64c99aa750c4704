"""Files that appear whole or not at all: the only function that writes into the data folder."""

import os
import uuid
from pathlib import Path

from upath import UPath

UNFINISHED = ".unfinished"
"""Suffix of a file's name while it is written."""


def write_whole(path: UPath, content: bytes) -> None:
    """Replace a file; a reader sees the old content or all of the new.

    An object store shows an object once its upload is complete; on a local disk a rename does the
    same.
    """
    if not isinstance(path, os.PathLike):
        path.write_bytes(content)
        return
    local = Path(path)  # a UPath of file:// cannot be renamed
    temporary = local.with_name(f".{local.name}.{uuid.uuid4().hex}{UNFINISHED}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(local)
    finally:
        temporary.unlink(missing_ok=True)
