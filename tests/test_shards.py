"""What is kept by a key comes back; what is damaged is gone, and takes nothing else with it."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import shards


def rows(first: int) -> list[shards.Row]:
    return [(f"{i:02d}".encode(), np.full(3, i, np.float16)) for i in range(first, first + 4)]


def kept(folder: Path) -> dict[bytes, list[float]]:
    return {key: value.tolist() for shard in shards.read(folder) for key, value in shard}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    shards.write(tmp_path / "new", rows(0))
    shards.write(tmp_path / "new", rows(4))
    assert kept(tmp_path / "new") == {f"{i:02d}".encode(): [float(i)] * 3 for i in range(8)}


def test_nothing_makes_no_file(tmp_path: Path) -> None:
    shards.write(tmp_path / "new", [])
    assert kept(tmp_path / "new") == {}


@pytest.mark.parametrize("n_bytes", [0, 10, 300])
def test_a_file_cut_short_is_as_good_as_none(tmp_path: Path, n_bytes: int) -> None:
    shards.write(tmp_path, rows(0))
    (whole,) = tmp_path.iterdir()
    whole.write_bytes(whole.read_bytes()[:n_bytes])
    shards.write(tmp_path, rows(4))
    assert [*kept(tmp_path)] == [b"04", b"05", b"06", b"07"]
    assert not whole.exists()
