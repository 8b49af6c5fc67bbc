"""The one memory of results: the same question has the same answer, whatever happens to the files."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline import FieldmarkError, cli
from pipeline.storage import code, memo, store

BY = {"code": ("pipeline.labels.folds",), "libraries": ("numpy",)}


def rows(first: int) -> list[memo.Row]:
    return [(f"{i:02d}".encode(), np.full(3, i, np.float16)) for i in range(first, first + 4)]


def stored(key: str = "new") -> dict[bytes, list[float]]:
    return {
        key: value.tolist()
        for keys, values in memo.read_rows("rows", key)
        for key, value in zip(keys.tolist(), values, strict=True)
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the memo of the test lies."""
    return tmp_path / "cache"


def test_rows_that_were_written_are_read() -> None:
    memo.write_rows("rows", "new", rows(0))
    memo.write_rows("rows", "new", rows(4))
    assert stored() == {f"{i:02d}".encode(): [float(i)] * 3 for i in range(8)}
    assert stored("other") == {}


def test_no_rows_make_no_file(folder: Path) -> None:
    memo.write_rows("rows", "new", [])
    assert stored() == {} and not folder.exists()


@given(
    st.lists(st.integers(0, 30), max_size=40),
    st.lists(st.integers(0, 40), max_size=12, unique=True),
)
def test_the_rows_of_a_key_are_all_that_have_it(held: list[int], numbers: list[int]) -> None:
    keys, queries = (
        np.array([f"{i:02d}".encode() for i in some], "S2") for some in (held, numbers)
    )
    here, which = memo.Rows(keys).of(queries)
    pairs = sorted(zip(here.tolist(), [numbers[i] for i in which], strict=True))
    assert pairs == [(row, key) for row, key in enumerate(held) if key in numbers]


@pytest.mark.parametrize("n_bytes", [0, 10, 300])
def test_a_file_of_rows_that_was_cut_short_is_as_good_as_none(n_bytes: int, folder: Path) -> None:
    memo.write_rows("rows", "new", rows(0))
    (whole,) = (folder / "rows" / "new").iterdir()
    whole.write_bytes(whole.read_bytes()[:n_bytes])
    memo.write_rows("rows", "new", rows(4))
    assert [*stored()] == [b"04", b"05", b"06", b"07"]
    assert not whole.exists()


def test_a_result_is_computed_once_and_comes_back_as_it_was() -> None:
    calls: list[int] = []

    def compute() -> memo.Arrays:
        calls.append(1)
        return {"a": np.arange(6.0).reshape(2, 3), "text": np.array("grün"), "none": np.zeros(0)}

    first, second = (memo.once("kind", "k", compute) for _ in range(2))
    assert len(calls) == 1 and first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)
        assert second[name].dtype == value.dtype
    memo.forget("kind", "k")
    memo.once("kind", "k", compute)
    assert len(calls) == 2


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_damaged_result_is_computed_again(
    place: float, flip: int, cut: bool, folder: Path
) -> None:
    """Whichever byte of it another program, a bad disk or a power cut has changed."""
    value = np.arange(40, dtype=np.float32)
    memo.put("kind", "k", {"values": value})
    file = folder / "kind" / "k.npz"
    whole = bytearray(file.read_bytes())
    at = int(place * len(whole))
    whole[at] ^= flip
    file.write_bytes(whole[:at] if cut else whole)
    arrays = memo.get("kind", "k")
    if arrays is not None and "values" in arrays:  # what numpy has no need of was changed
        np.testing.assert_array_equal(arrays["values"], value)
    memo.put("kind", "k", {"values": value})
    again = memo.get("kind", "k")
    assert again is not None
    np.testing.assert_array_equal(again["values"], value)


def test_the_memo_may_be_deleted_while_others_use_it(folder: Path) -> None:
    ended = threading.Event()

    def delete() -> None:
        while not ended.is_set():
            shutil.rmtree(folder, ignore_errors=True)

    thread = threading.Thread(target=delete)
    thread.start()
    try:
        for i in range(150):
            assert (
                memo.array("kind", str(i % 7), lambda i=i: np.full(3, i % 7)).tolist()
                == [  # type: ignore[misc]
                    i % 7
                ]
                * 3
            )
            memo.write_rows("rows", "new", rows(0))
            assert set(stored()) <= {b"00", b"01", b"02", b"03"}
    finally:
        ended.set()
        thread.join()


def used(folder: Path, name: str, second: int) -> None:
    os.utime(folder / "kind" / f"{name}.npz", (second, second))


@pytest.fixture
def small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for four results, of which there are three, used one after the other."""
    monkeypatch.setattr(memo, "_written", [])
    for second, name in enumerate("abc", 1):
        memo.put("kind", name, {"values": np.zeros(10_000, np.uint8)})
        used(folder, name, second)
    monkeypatch.setenv("FIELDMARK_CACHE_GB", "0.000042")


@pytest.mark.usefixtures("small")
def test_what_was_not_used_for_longest_goes_first(folder: Path) -> None:
    assert memo.get("kind", "a") is not None  # its last use is now
    for name in "de":
        memo.put("kind", name, {"values": np.zeros(10_000, np.uint8)})
    remaining = {file.stem for file in (folder / "kind").iterdir()}
    assert remaining == {"a", "d", "e"}
    assert sum(file.n_bytes for _, file in memo.files()) <= memo.limit_bytes()


@pytest.mark.usefixtures("small")
def test_the_packed_images_of_ingest_are_none_of_its_files(folder: Path) -> None:
    (folder / "ingest").mkdir()
    (folder / "ingest" / "images-0.parquet").write_bytes(bytes(10**6))
    memo.put("kind", "d", {"values": np.zeros(10_000, np.uint8)})
    memo.make_room()
    assert (folder / "ingest" / "images-0.parquet").exists()
    assert {file.stem for file in (folder / "kind").iterdir()} == {"a", "b", "c", "d"}


@pytest.mark.parametrize("size", ["many", "0", "-1", "nan"])
def test_a_size_that_is_none_is_named(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE_GB", size)
    with pytest.raises(FieldmarkError, match=f"FIELDMARK_CACHE_GB is '{size}'; give a number"):
        memo.limit_bytes()


def test_a_key_is_of_all_that_a_result_depends_on(tmp_path: Path) -> None:
    array = np.arange(12).reshape(3, 4)
    own = memo.key({"k": 1}, array, **BY)
    mapped = store.open_array(tmp_path / "a.npy", array.shape, array.dtype)
    mapped[:] = array
    assert own == memo.key({"k": 1}, store.read_array(tmp_path / "a.npy"), **BY)
    others = [
        memo.key({"k": 2}, array, **BY),
        memo.key({"k": 1}, array + 1, **BY),
        memo.key({"k": 1}, array.reshape(4, 3), **BY),
        memo.key({"k": 1}, array.astype(np.int32), **BY),
        memo.key({"k": 1}, array, array, **BY),
        memo.key({"k": 1}, array, **{**BY, "libraries": ()}),
        memo.key({"k": 1}, array, **{**BY, "code": ("pipeline.labels.splits",)}),
    ]
    assert len({own, *others}) == 1 + len(others)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of modules: one imports two more, one of these inside a function."""
    root = tmp_path / "pipeline"
    modules = {
        "__init__": "",
        "room/__init__": "",
        "room/one": "from pipeline.room import two\nfrom pipeline.config import places\n",
        "room/two": "def f():\n    from pipeline.room.three import g\n    return g()\n",
        "room/three": "def g():\n    return 1\n",
        "room/four": "x = 1\n",
        "config/__init__": "",
        "config/places": "y = 1\n",
    }
    for name, text in modules.items():
        file = root / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(code, "ROOT", root)
    code.code_hash.cache_clear()
    yield root
    code.code_hash.cache_clear()


@pytest.mark.parametrize(
    ("edited", "counts"),
    [
        ("room/one", True),
        ("room/two", True),
        ("room/three", True),
        ("room/__init__", True),
        ("room/four", False),
        ("config/places", False),
    ],
)
def test_code_is_all_that_a_module_imports_of_the_package(
    edited: str, counts: bool, package: Path
) -> None:
    before = code.code_hash("pipeline.room.one")
    file = package / f"{edited}.py"
    file.write_text(file.read_text() + "# edited\n")
    assert code.code_hash("pipeline.room.one") == before, "a process runs what it has imported"
    code.code_hash.cache_clear()
    assert (code.code_hash("pipeline.room.one") != before) == counts


def test_of_a_library_its_own_file_is_the_code() -> None:
    one, other = (code.code_hash(f"torch.nn.modules.{name}") for name in ("flatten", "linear"))
    assert one != other


def test_code_that_is_not_there_is_no_question(package: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no module pipeline.room.five"):
        code.code_hash("pipeline.room.five")


def test_the_command_shows_what_is_kept_and_clears_it() -> None:
    for kind, n in (("folds", 1), ("trials", 2)):
        for i in range(n):
            memo.put(kind, str(i), {"values": np.zeros(500_000, np.uint8)})
    memo.write_rows("trials", "rows", rows(0))

    def output(*arguments: str) -> str:
        return CliRunner().invoke(cli.app, ["cache", *arguments], catch_exceptions=False).stdout

    lines = {words[0]: words[1:] for line in output().splitlines() if (words := line.split())}
    assert lines["folds"][:2] == ["1", "0.5"] and lines["trials"][:2] == ["3", "1.0"]
    assert "10 GB" in output()
    assert "folds" not in output("trials")
    output("trials", "--clear")
    assert {kind for kind, _ in memo.files()} == {"folds"}
    with pytest.raises(FieldmarkError, match="the cache holds no fold; did you mean folds"):
        output("fold", "--clear")
    output("--clear")
    assert list(memo.files()) == []
