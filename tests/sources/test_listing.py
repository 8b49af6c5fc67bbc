from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf

from pipeline import FieldmarkError
from pipeline.sources import Item, Skipped, listing

COLUMNS = {
    key: value
    for key, value in OmegaConf.load("conf/ingest/listing.yaml").source.items()
    if key != "_target_"
}


def read(images: Path, **changes: str) -> list[Item | Skipped]:
    return list(listing.read(images=images, **{**COLUMNS, **changes}))


def write(folder: Path, text: str, name: str = "labels.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def items(images: Path, **changes: str) -> list[Item]:
    return [entry for entry in read(images, **changes) if isinstance(entry, Item)]


def reasons(images: Path) -> dict[str, str]:
    return {entry.name: entry.reason for entry in read(images) if isinstance(entry, Skipped)}


ROWS = [
    {"path": "1.jpg", "label": "猫", "group": "a", "split": "train", "camera": "left"},
    {"path": "sub/2.jpg", "label": "", "group": "", "split": "Validation", "camera": ""},
]


@pytest.mark.parametrize(
    "ending", ["csv", "tsv", "jsonl", "parquet", "semicolons", "byte order mark"]
)
def test_every_format_gives_the_same_items(tmp_path: Path, ending: str) -> None:
    rows = pd.DataFrame(ROWS)
    file = tmp_path / f"labels.{ending if len(ending) < 8 and ' ' not in ending else 'csv'}"
    writers: dict[str, Any] = {
        "csv": lambda: rows.to_csv(file, index=False),
        "tsv": lambda: rows.to_csv(file, index=False, sep="\t"),
        "jsonl": lambda: rows.to_json(file, orient="records", lines=True, force_ascii=False),
        "parquet": lambda: rows.to_parquet(file),
        "semicolons": lambda: rows.to_csv(tmp_path / "labels.csv", index=False, sep=";"),
        "byte order mark": lambda: rows.to_csv(file, index=False, encoding="utf-8-sig"),
    }
    writers[ending]()
    found = [
        (i.name, i.label, i.group, i.given_split, i.metadata)
        for i in items(next(tmp_path.iterdir()))
    ]
    assert found == [
        ("1.jpg", "猫", "a", "train", {"camera": "left"}),
        ("sub/2.jpg", "", "", "val", {}),
    ]


def test_a_path_is_relative_to_the_listing_or_absolute_or_an_address(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.jpg").write_bytes(b"one")
    (tmp_path / "2.jpg").write_bytes(b"two")
    write(
        tmp_path / "in", f"path,label\n1.jpg,a\n{tmp_path}/2.jpg,b\nfile://{tmp_path}/in/1.jpg,c\n"
    )
    assert [item.load() for item in items(tmp_path / "in")] == [b"one", b"two", b"one"]


def test_soft_labels_are_one_column_a_class(tmp_path: Path) -> None:
    file = write(tmp_path, "path,label,p_cat,p_dog\n1,dog,0.25,0.75\n2,,0.9,0.1\n3,cat,,\n")
    assert [(item.label, item.soft_label) for item in items(file)] == [
        ("dog", {"cat": 0.25, "dog": 0.75}),
        ("cat", {"cat": 0.9, "dog": 0.1}),
        ("cat", None),
    ]


def test_without_a_prefix_no_column_is_a_probability(tmp_path: Path) -> None:
    file = write(tmp_path, "path,label,p_cat,camera\n1,dog,7,left\n")
    assert [(item.soft_label, item.metadata) for item in items(file, probability_prefix="")] == [
        (None, {"p_cat": "7", "camera": "left"})
    ]
    with pytest.raises(FieldmarkError, match="no column 'label'"):
        items(write(tmp_path, "path,camera\n1,left\n"), probability_prefix="")


def test_columns_go_by_the_names_in_conf(tmp_path: Path) -> None:
    file = write(tmp_path, "image,species,camera\nx.jpg,fox,3\n")
    found = items(file, path_column="image", label_column="species", group_column="camera")
    assert [(item.name, item.label, item.group) for item in found] == [("x.jpg", "fox", "3")]


@pytest.mark.parametrize(
    ("row", "name", "reason"),
    [
        (
            "1.jpg,a,tset,",
            "1.jpg",
            "line 2, column split: 'tset' is unknown; use train, val or test",
        ),
        (",a,,", "line 2", "line 2, column path: empty"),
        ("1.jpg,a", "labels.csv:2", "2 cells, where the first line names 4 columns"),
        (
            "1.jpg,a,,2",
            "1.jpg",
            "line 2, column p_x: 2 is no probability, which lies between 0 and 1",
        ),
        ("1.jpg,a,,much", "1.jpg", "line 2, column p_x: 'much' is no number"),
        (
            "1.jpg,a,,nan",
            "1.jpg",
            "line 2, column p_x: nan is no probability, which lies between 0 and 1",
        ),
        ("1.jpg,a,,0", "1.jpg", "line 2, column p_...: all probabilities are 0"),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out_by_line_and_column(
    tmp_path: Path, row: str, name: str, reason: str
) -> None:
    file = write(tmp_path, f"path,label,split,p_x\n{row}\n2.jpg,b,,\n")
    assert reasons(file) == {name: reason}
    assert [item.name for item in items(file)] == ["2.jpg"]


def test_a_weight_is_a_finite_number_of_at_least_0_and_1_where_none_is_given(
    tmp_path: Path,
) -> None:
    good, bad = (
        {"0": 0.0, "2.5": 2.5, "": 1.0},
        {
            name: f"{name} is no weight, which is finite and not negative"
            for name in ("-1", "inf", "nan")
        },
    )
    bad["heavy"] = "'heavy' is no number"
    file = write(
        tmp_path,
        "path,label,weight\n" + "".join(f"{i},a,{cell}\n" for i, cell in enumerate([*good, *bad])),
    )
    assert [(item.weight, item.metadata) for item in items(file)] == [
        (weight, {}) for weight in good.values()
    ]
    assert [*reasons(file).values()] == [
        f"line {5 + i}, column weight: {why}" for i, why in enumerate(bad.values())
    ]


def test_a_second_row_of_a_path_is_left_out(tmp_path: Path) -> None:
    file = write(tmp_path, "path,label\n1.jpg,a\n2.jpg,b\n1.jpg,b\n\n2.jpg,b\n")
    assert reasons(file) == {
        "1.jpg": "line 4, column path: stands in line 2 already, labelled a there and b here",
        "2.jpg": "line 6, column path: stands in line 3 already",
    }


def test_a_line_that_is_no_json_is_left_out(tmp_path: Path) -> None:
    file = write(tmp_path, '{"path": "1", "label": "a"}\n{"path": \n\n[1]\n', "labels.jsonl")
    assert [*reasons(file)] == ["labels.jsonl:2", "labels.jsonl:4"]


@pytest.mark.parametrize("name", ["\\u0000.jpg", "\\ud800.jpg"])
def test_a_name_that_no_file_can_have_is_found_when_it_is_read(tmp_path: Path, name: str) -> None:
    (item,) = items(write(tmp_path, f'{{"path": "{name}", "label": "a"}}\n', "labels.jsonl"))
    with pytest.raises(OSError, match="no file can have"):
        item.load()


def test_what_a_table_cannot_hold_is_escaped_in_groups_and_metadata(tmp_path: Path) -> None:
    (item,) = items(
        write(
            tmp_path,
            '{"path": "1", "label": "a", "group": "\\ud800", "k\\ud800": "v\\ud800"}\n',
            "labels.jsonl",
        )
    )
    assert (item.group, item.metadata) == ("\\ud800", {"k\\ud800": "v\\ud800"})


def test_spaces_around_the_names_of_columns_are_none_of_theirs(tmp_path: Path) -> None:
    assert [(i.name, i.label) for i in items(write(tmp_path, "path, label\n1.jpg, a\n"))] == [
        ("1.jpg", "a")
    ]


def test_a_missing_file_is_found_when_it_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, "path,label\nnowhere.jpg,a\n")
    with pytest.raises(FileNotFoundError):
        items(file)[0].load()


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (
            "file,label\n1,a\n",
            "x.csv",
            "no column 'path'; it has file, label: name it with path_column",
        ),
        (
            "path,class\n1,a\n",
            "x.csv",
            "no column 'label'; it has class, path: name it with label_column",
        ),
        ("path,label,label\n1,a,b\n", "x.csv", "two columns 'label'"),
        ("", "x.parquet", "cannot be read as PARQUET"),
        ("path,label\n1,\0\n", "x.xls", "holds no|cannot be opened"),
    ],
)
def test_a_listing_that_cannot_be_used_says_why(
    tmp_path: Path, text: str, name: str, message: str
) -> None:
    with pytest.raises(FieldmarkError, match=message):
        read(write(tmp_path, text, name))


def test_a_listing_in_another_encoding_says_so(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("path,label\n1,Bär\n".encode("latin-1"))
    with pytest.raises(FieldmarkError, match="cannot be read as CSV in UTF-8"):
        read(tmp_path)


def test_a_folder_without_a_listing_says_so(tmp_path: Path) -> None:
    with pytest.raises(FieldmarkError, match="labels.csv cannot be opened: No such file"):
        read(tmp_path)
