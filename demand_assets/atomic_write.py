"""Files that appear whole or not at all."""

import os
import uuid
from pathlib import Path

from upath import UPath

UNFINISHED = ".unfinished"
"""How the name of a file ends while it is written."""


def write_whole(path: UPath, content: bytes) -> None:
    """Make the file appear whole or not at all.

    An object store shows an object only once its upload is complete; on a local disk a rename
    does the same.
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
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
