import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import write_images

from pipeline.storage import store

ITEMS = [(f"{number:02d}", bytes([number]) * 100) for number in range(10)]


@settings(max_examples=20)  # each writes to disk
@given(
    st.lists(st.tuples(st.text("abc"), st.binary(max_size=40)), max_size=12),
    st.integers(1, 100),
)
def test_images_come_back_in_order_however_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[str, bytes]], shard_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    write_images(folder, iter(items), shard_bytes)
    assert list(store.read_images(folder)) == items


def test_a_shard_holds_no_more_than_asked_for(tmp_path: Path) -> None:
    write_images(tmp_path, ITEMS, shard_bytes=350)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"images-{n:05d}.parquet" for n in range(4)
    ]


def test_an_image_larger_than_a_shard_has_one_to_itself(tmp_path: Path) -> None:
    write_images(tmp_path, ITEMS, shard_bytes=10)
    assert len(list(tmp_path.iterdir())) == len(ITEMS)


def test_a_shard_is_written_before_the_next_is_drawn(tmp_path: Path) -> None:
    written = []

    def drawn() -> Iterator[tuple[str, bytes]]:
        for item in ITEMS:
            written.append(len(list(tmp_path.iterdir())))
            yield item

    write_images(tmp_path, drawn(), shard_bytes=200)
    assert written == [0, 0, 0, 1, 1, 2, 2, 3, 3, 4]


def test_equal_images_give_equal_bytes(tmp_path: Path) -> None:
    write_images(tmp_path / "a", ITEMS, 10**6)
    write_images(tmp_path / "b", iter(ITEMS), 10**6)
    name = "images-00000.parquet"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_image_is_found_by_its_id_in_any_shard_and_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "GROUP_BYTES", 250)
    write_images(tmp_path, ITEMS, shard_bytes=550)
    packed = store.PackedImages(tmp_path)
    assert [packed[id] for id, _ in reversed(ITEMS)] == [data for _, data in reversed(ITEMS)]
    for id in ("none", ITEMS[0][0][:-1], f"{ITEMS[0][0]}\0", "x" * 99):
        assert id not in packed
        with pytest.raises(KeyError):
            packed[id]


def test_many_ids_take_little_memory(tmp_path: Path) -> None:
    write_images(tmp_path, ((f"{number:064x}", b"") for number in range(20_000)))
    tracemalloc.start()
    packed = store.PackedImages(tmp_path)
    n_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert f"{19_999:064x}" in packed and n_bytes < 20_000 * 80


def test_chunks_draw_no_more_than_they_give() -> None:
    stream = iter(range(5))
    pieces = store.chunks(stream, 2)
    assert next(pieces) == [0, 1]
    assert next(stream) == 2
    assert list(pieces) == [[3, 4]]


@pytest.mark.parametrize("shape", [(3, 4, 4, 3), (0, 4, 4, 3)])
def test_an_array_is_filled_row_by_row_and_read_from_disk(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    array = store.open_array(tmp_path / "new" / "images.npy", shape, np.uint8)
    array[:] = np.arange(array.size, dtype=np.uint8).reshape(shape)
    array.flush()
    read = store.read_array(tmp_path / "new" / "images.npy")
    assert read.shape == shape and read.dtype == np.uint8
    assert isinstance(read, np.memmap) and not read.flags.writeable
    np.testing.assert_array_equal(read, array)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="[Oo]bject"):
        store.read_array(tmp_path / "images.npy")


def test_what_is_released_is_still_there(tmp_path: Path) -> None:
    array = store.open_array(tmp_path / "images.npy", (50, 64, 64, 3), np.uint8)
    array[:] = 7
    store.release(array[10:20, None])
    assert (array == 7).all() and (store.read_array(tmp_path / "images.npy") == 7).all()
    store.release(np.ones(3))


def test_a_shard_of_small_images_ends_at_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SHARD_IMAGES", 4)
    write_images(tmp_path, ITEMS)
    assert [len(list(store.read_images(tmp_path))), len(list(tmp_path.iterdir()))] == [10, 3]


@pytest.mark.parametrize("beside", [None, "elsewhere"])
def test_a_file_that_is_not_written_to_its_end_leaves_the_one_before_and_nothing_else(
    tmp_path: Path, beside: str | None
) -> None:
    path, half_at = tmp_path / "new" / "note", tmp_path / beside if beside else None
    with store.whole(path, half_at) as half:
        half.write_text("whole")
    with pytest.raises(KeyboardInterrupt), store.whole(path, half_at) as half:
        half.write_text("ha")
        raise KeyboardInterrupt
    assert path.read_text() == "whole"
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]
