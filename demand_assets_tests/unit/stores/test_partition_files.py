"""Partition files appear whole or not at all, and leftovers of killed writers are removed."""

import gzip
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from upath import UPath

from demand_assets.atomic_write import UNFINISHED, write_whole
from demand_assets.stores.partition_files import decode_json, encode_json, write_partitions

KILLED_WRITER = """
import os, sys
from upath import UPath
from demand_assets.atomic_write import write_whole

def hang(_):
    print("written", flush=True)
    sys.stdin.read()

os.fsync = hang
write_whole(UPath(sys.argv[1]), b"new" * 100_000)
"""


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "day.json.gz"
    write_whole(UPath(file), b"old")
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED_WRITER, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout and writer.stdout.readline() == "written\n"
    assert file.read_bytes() == b"old"
    writer.kill()
    writer.communicate()
    assert file.read_bytes() == b"old"
    (leftover,) = set(tmp_path.iterdir()) - {file}
    assert leftover.name.startswith(".") and leftover.name.endswith(UNFINISHED)
    write_whole(UPath(file), b"new")
    assert file.read_bytes() == b"new"


def test_only_old_unfinished_files_are_removed(tmp_path: Path) -> None:
    at_work, killed = (tmp_path / f".day.{name}{UNFINISHED}" for name in ("at-work", "killed"))
    ages = {at_work: 50 * 60, killed: 70 * 60}
    for file, age in ages.items():
        file.write_bytes(b"half")
        os.utime(file, (time.time() - age,) * 2)
    old_day = tmp_path / "2022-01-01.json.gz"
    old_day.write_bytes(b"whole")
    os.utime(old_day, (0, 0))
    write_partitions(UPath(tmp_path), [("2022-01-02.json.gz", b"whole")])
    assert {file.name for file in tmp_path.iterdir()} == {
        at_work.name,
        old_day.name,
        "2022-01-02.json.gz",
    }


def test_equal_answers_are_equal_bytes_without_a_time() -> None:
    packed = encode_json({"data": "Demanda señalada"})
    assert packed[4:8] == bytes(4)
    assert "señalada" in gzip.decompress(packed).decode()
    assert decode_json(packed) == {"data": "Demanda señalada"}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "day"
    write_whole(UPath(file), b"old")

    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(UPath(file), b"new")
    assert [(path, path.read_bytes()) for path in tmp_path.iterdir()] == [(file, b"old")]
