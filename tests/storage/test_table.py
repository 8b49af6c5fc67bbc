import json
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.storage import table

CLASSES = ["ant", "bee", "cat"]


def rows(**columns: Sequence[object]) -> pd.DataFrame:
    n = len(next(iter(columns.values()))) if columns else 2
    blank = {
        name: [""] * n if dtype == "str" else [1] * n
        for name, dtype in table.INGEST_COLUMNS.items()
    }
    return pd.DataFrame({**blank, **columns})


@settings(max_examples=20)  # each writes to disk
@given(text=st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=5))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, text: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    written = table.write(rows(name=text, metadata=text), folder)
    pd.testing.assert_frame_equal(table.read(folder), written)
    assert written["name"].tolist() == text


def test_ids_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    ids = ["0012", "12e45", "nan", ""]
    table.write(rows(id=ids), tmp_path)
    assert table.read(tmp_path)["id"].tolist() == ids


def test_types_are_fixed(tmp_path: Path) -> None:
    table.write(rows(), tmp_path)
    assert {
        name: str(dtype) for name, dtype in table.read(tmp_path).dtypes.items()
    } == table.INGEST_COLUMNS


def test_no_rows_are_a_table_too(tmp_path: Path) -> None:
    table.write(rows(id=[]), tmp_path)
    read = table.read(tmp_path)
    assert len(read) == 0 and str(read["width"].dtype) == "int32"


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    whole = rows(id=list("abcdef"), suspect=[True, False] * 3)
    pieces = pd.concat([whole[:2], whole[2:]])
    table.write(whole, tmp_path / "whole")
    table.write(pieces, tmp_path / "pieces")
    assert (tmp_path / "whole" / table.FILE).read_bytes() == (
        tmp_path / "pieces" / table.FILE
    ).read_bytes()


@pytest.mark.parametrize("n", [0, 3, 7, 9])
def test_rows_that_are_written_as_they_come_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    monkeypatch.setattr(table, "GROUP_ROWS", 3)
    whole = rows(id=[f"{i}" for i in range(n)])
    table.write_each(iter(whole.to_dict("records")), tmp_path / "each")
    table.write(whole, tmp_path / "whole")
    assert (tmp_path / "each" / table.FILE).read_bytes() == (
        tmp_path / "whole" / table.FILE
    ).read_bytes()


def test_only_a_piece_of_what_is_written_as_it_comes_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "GROUP_ROWS", 50)

    def each(n: int) -> Iterator[dict[str, object]]:
        row = rows(id=["x"]).to_dict("records")[0]
        for i in range(n):
            yield {**row, "metadata": f"{i:01000d}"}

    def peak(n: int) -> int:
        tracemalloc.start()
        table.write_each(each(n), tmp_path / str(n))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(50)  # what is imported late
    assert peak(2000) < 1.5 * peak(100)


@pytest.mark.parametrize("values", [["train"], ["train", ""], ["none"]])
def test_the_rows_of_some_values_are_a_table_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[str]
) -> None:
    monkeypatch.setattr(table, "GROUP_ROWS", 2)
    whole = table.write(
        rows(id=list("abcdef"), split=["train", "", "test"] * 2), tmp_path / "whole"
    )
    table.write_where(tmp_path / "whole", "split", values, tmp_path / "some")
    pd.testing.assert_frame_equal(
        table.read(tmp_path / "some"), whole[whole["split"].isin(values)].reset_index(drop=True)
    )


def test_some_columns_are_read_alone(tmp_path: Path) -> None:
    whole = table.write(rows(id=list("abc"), split=["train", "", "test"]), tmp_path)
    pd.testing.assert_frame_equal(
        table.read(tmp_path, ["id", "width", "split"]), whole[["id", "width", "split"]]
    )


def test_weights_that_are_all_1_are_none() -> None:
    assert table.weights(rows(weight=[1.0, 1.0])) is None
    assert table.weights(rows(weight=[1.0, 0.5])).tolist() == [1, 0.5]


def test_rows_are_counted_from_0(tmp_path: Path) -> None:
    four = rows(id=list("abcd"))
    assert table.write(four[four["id"] > "b"], tmp_path).index.tolist() == [0, 1]


def test_further_columns_are_kept_behind_the_others(tmp_path: Path) -> None:
    table.write(
        rows(suspect=[True, False], suspect_score=[0.5, np.nan], split=["train", ""]), tmp_path
    )
    read = table.read(tmp_path)
    assert list(read)[-3:] == ["suspect", "suspect_score", "split"]
    assert read["suspect"].dtype == bool and read["suspect_score"].dtype == np.float64
    assert read["split"].tolist() == ["train", ""]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"label": ["ant", None]}, "label holds something other than text"),
        ({"id": [1, 2]}, "id holds something other than text"),
        ({"note": ["x", 1]}, "note holds something other than text"),
        ({"width": [1.0, 2.5]}, "width holds something other than whole numbers"),
        ({"width": [1, 2**40]}, "width holds numbers too large"),
    ],
)
def test_wrong_values_are_refused(
    tmp_path: Path, wrong: dict[str, Sequence[object]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        table.write(rows(**wrong), tmp_path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks the columns .'stratum'"):
        table.write(rows().drop(columns="stratum"), tmp_path)


def test_a_label_becomes_a_certainty() -> None:
    assert table.targets(rows(label=["bee", "ant"]), CLASSES).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_a_soft_label_is_used_where_it_agrees() -> None:
    soft = json.dumps({"bee": 0.75, "cat": 0.25})
    assert table.targets(rows(label=["bee"], soft_label=[soft]), CLASSES).tolist() == [
        [0, 0.75, 0.25]
    ]


def test_a_person_wins_over_a_soft_label() -> None:
    soft = json.dumps({"bee": 0.75, "cat": 0.25})
    assert table.targets(rows(label=["cat"], soft_label=[soft]), CLASSES).tolist() == [[0, 0, 1]]


def test_a_soft_label_of_zeros_says_nothing() -> None:
    assert table.targets(rows(label=["cat"], soft_label=['{"cat": 0}']), CLASSES).tolist() == [
        [0, 0, 1]
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from(CLASSES), st.lists(st.floats(0, 1), min_size=4, max_size=4)),
        max_size=6,
    )
)
def test_targets_sum_to_one_and_favour_the_label(pairs: list[tuple[str, list[float]]]) -> None:
    soft = [json.dumps(dict(zip([*CLASSES, "gone"], chances, strict=True))) for _, chances in pairs]
    targets = table.targets(rows(label=[label for label, _ in pairs], soft_label=soft), CLASSES)
    place = [CLASSES.index(label) for label, _ in pairs]
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(targets[range(len(pairs)), place], targets.max(axis=1, initial=0))


def test_a_label_outside_the_classes_is_named() -> None:
    with pytest.raises(ValueError, match="'dog'"):
        table.targets(rows(label=["dog"]), CLASSES)
