"""Partition files: one file per day, written whole, read with errors that say what to materialize.

The formats are here, and how a folder is written and read. Which asset has which format is decided
in `orchestration/io_managers.py`.
"""

import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BytesIO
from typing import Any, TypeVar

import pandas as pd
from pyarrow import ArrowException
from upath import UPath

from demand_assets.atomic_write import UNFINISHED, write_whole

T = TypeVar("T")

KILLED_AFTER_SECONDS = 3_600
"""Age from which an unfinished file belongs to a writer that was killed."""
READ_ERRORS = (OSError, EOFError, ValueError, TypeError, KeyError, zlib.error, ArrowException)
"""What reading a damaged file can raise."""


class PartitionFileError(Exception):
    """A partition's file is missing or unreadable. The text says what to materialize again."""


class EncodedJSON(bytes):
    """The content of a file, encoded before it is handed over to be written."""


def encode_json(content: Any) -> EncodedJSON:
    """Gzipped JSON; equal content gives equal bytes, as the header has no time."""
    if isinstance(content, EncodedJSON):
        return content
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return EncodedJSON(gzip.compress(text.encode(), compresslevel=6, mtime=0))


def decode_json(content: bytes) -> Any:
    return json.loads(gzip.decompress(content))


def encode_frame(frame: pd.DataFrame) -> bytes:
    """Parquet with checksums, so that a flipped bit is noticed."""
    return frame.to_parquet(write_page_checksum=True)


def decode_frame(content: bytes) -> pd.DataFrame:
    return pd.read_parquet(BytesIO(content), page_checksum_verification=True)


def write_partitions(folder: UPath, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files, given as name and content; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    for name, content in files:
        write_whole(folder / name, content)


def read_partition(
    folder: UPath, key: str, extension: str, decode: Callable[[bytes], T], asset: str
) -> T:
    """The decoded file of one partition of an asset.

    Raises:
        PartitionFileError: the file is missing, truncated or damaged.
    """
    try:
        return decode((folder / f"{key}{extension}").read_bytes())
    except FileNotFoundError as error:
        raise PartitionFileError(
            f"{key}: {asset} has no file in {folder}. Materialize {asset} of this day."
        ) from error
    except READ_ERRORS as error:
        raise PartitionFileError(
            f"{key}: the file of {asset} in {folder} is unreadable"
            f" ({type(error).__name__}). Materialize {asset} of this day again."
        ) from error


def _remove_leftovers(folder: UPath) -> None:
    """Remove unfinished files that killed writers have left."""
    for file in folder.glob(f".*{UNFINISHED}"):
        with suppress(FileNotFoundError):  # another run was faster
            if time.time() - file.stat().st_mtime > KILLED_AFTER_SECONDS:
                file.unlink()
