"""What is kept by a key comes back; what is damaged is gone, and takes nothing else with it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage import shards


def rows(first: int) -> list[shards.Row]:
    return [(f"{i:02d}".encode(), np.full(3, i, np.float16)) for i in range(first, first + 4)]


def kept(folder: Path) -> dict[bytes, list[float]]:
    return {
        key: value.tolist()
        for keys, values in shards.read(folder)
        for key, value in zip(keys.tolist(), values, strict=True)
    }


def test_what_was_written_is_read(tmp_path: Path) -> None:
    shards.write(tmp_path / "new", rows(0))
    shards.write(tmp_path / "new", rows(4))
    assert kept(tmp_path / "new") == {f"{i:02d}".encode(): [float(i)] * 3 for i in range(8)}


def test_nothing_makes_no_file(tmp_path: Path) -> None:
    shards.write(tmp_path / "new", [])
    assert kept(tmp_path / "new") == {}


@given(
    st.lists(st.integers(0, 30), max_size=40),
    st.lists(st.integers(0, 40), max_size=12, unique=True),
)
def test_the_rows_of_a_key_are_all_that_have_it(held: list[int], asked: list[int]) -> None:
    keys, wanted = (np.array([f"{i:02d}".encode() for i in some], "S2") for some in (held, asked))
    rows, which = shards.Rows(keys).of(wanted)
    found = sorted(zip(rows.tolist(), [asked[i] for i in which], strict=True))
    assert found == [(row, key) for row, key in enumerate(held) if key in asked]


@pytest.mark.parametrize("n_bytes", [0, 10, 300])
def test_a_file_cut_short_is_as_good_as_none(tmp_path: Path, n_bytes: int) -> None:
    shards.write(tmp_path, rows(0))
    (whole,) = tmp_path.iterdir()
    whole.write_bytes(whole.read_bytes()[:n_bytes])
    shards.write(tmp_path, rows(4))
    assert [*kept(tmp_path)] == [b"04", b"05", b"06", b"07"]
    assert not whole.exists()
