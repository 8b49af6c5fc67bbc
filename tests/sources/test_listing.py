from pathlib import Path
from typing import Any
from unicodedata import normalize

import pandas as pd
import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from pipeline import FieldmarkError, cli
from pipeline.sources import Item, Remark, Skipped, listing

COLUMNS = {
    key: value
    for key, value in OmegaConf.load("conf/ingest/listing.yaml").source.items()
    if key != "_target_"
}


def read(images: Path, **changes: str) -> list[Item | Skipped | Remark]:
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
    rows = [
        (i.name, i.label, i.group, i.given_split, i.metadata)
        for i in items(next(tmp_path.iterdir()))
    ]
    assert rows == [
        ("1.jpg", "猫", "a", "train", {"camera": "left"}),
        ("sub/2.jpg", "", "", "val", {}),
    ]


def test_a_path_is_relative_to_the_listing_or_absolute_or_an_address(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.jpg").write_bytes(b"one")
    (tmp_path / "2.jpg").write_bytes(b"two")
    write(tmp_path / "in", f"path,label\n1.jpg,a\n{tmp_path}/2.jpg,b\nhttp://127.0.0.1:9/3.jpg,c\n")
    one, two, three = items(tmp_path / "in")
    assert (one.load(), two.load()) == (b"one", b"two")
    with pytest.raises(OSError, match="private network"):
        three.load()


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
    rows = items(file, path_column="image", label_column="species", group_column="camera")
    assert [(item.name, item.label, item.group) for item in rows] == [("x.jpg", "fox", "3")]


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


@pytest.mark.parametrize("column", ["path", "label", "group", "split", "weight"])
@pytest.mark.parametrize("value", ['{"a": 1}', '["1.jpg"]', "{}", "[]"])
def test_a_list_or_an_object_is_no_cell(tmp_path: Path, column: str, value: str) -> None:
    """Python would write it out, and `{'a': 1}` would be a class."""
    row = {"path": '"1.jpg"', "label": '"a"', column: value}
    text = ", ".join(f'"{name}": {cell}' for name, cell in row.items())
    (reason,) = reasons(write(tmp_path, f"{{{text}}}\n", "labels.jsonl")).values()
    assert reason.startswith(f"line 1, column {column}: holds no text but ")


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


@pytest.mark.parametrize(("row", "disk"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
@pytest.mark.parametrize("path", ["café.jpg", "über/1.jpg", "über/ñ/é.jpg", "über\\é.jpg"])
def test_a_name_is_found_in_whichever_unicode_form_and_with_whichever_slashes(
    tmp_path: Path, row: str, disk: str, path: str
) -> None:
    there = tmp_path / normalize(disk, path.replace("\\", "/"))  # type: ignore[arg-type]
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_bytes(b"one")
    (item,) = items(write(tmp_path, f"path,label\n{normalize(row, path)},a\n"))  # type: ignore[arg-type]
    assert (item.load(), item.name) == (b"one", path)


def test_a_backslash_that_is_part_of_a_name_stays_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"other")
    (tmp_path / "a\\1.jpg").write_bytes(b"one")
    (item,) = items(write(tmp_path, "path,label\na\\1.jpg,a\n"))
    assert item.load() == b"one"


def test_two_spellings_of_one_file_are_a_second_row_of_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "é.jpg").write_bytes(b"one")
    file = write(tmp_path, "path,label\na/é.jpg,a\na\\é.jpg,a\na/e\u0301.jpg,b\n./a/é.jpg,a\n")
    assert [item.name for item in items(file)] == ["a/é.jpg"]
    assert all("stands in line 2 already" in reason for reason in reasons(file).values())


@pytest.mark.parametrize(
    ("prefix", "suffix", "row"),
    [
        ("train/", ".jpg", "17"),
        ("train/", "", "17.jpg"),
        ("", ".jpg", "train/17"),
        ("train/1", ".jpg", "7"),
        ("{folder}/train/", ".jpg", "17"),
        ("other/", ".jpg", "{folder}/train/17"),
    ],
)
def test_ids_become_files_by_a_prefix_and_a_suffix(
    tmp_path: Path, prefix: str, suffix: str, row: str
) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "17.jpg").write_bytes(b"one")
    file = write(tmp_path, f"id,label\n{row.format(folder=tmp_path)},a\n")
    (item,) = items(
        file,
        path_column="id",
        path_prefix=prefix.format(folder=tmp_path),
        path_suffix=suffix,
    )
    assert item.load() == b"one"
    assert item.name.endswith("17.jpg")


@pytest.mark.parametrize(
    ("row", "there", "hint"),
    [
        ("17", "train/17.jpg", "there is train/17.jpg: set path_prefix: train/, path_suffix: .jpg"),
        ("17", "17.jpg", "there is 17.jpg: set path_suffix: .jpg"),
        ("17.jpg", "train/17.jpg", "there is train/17.jpg: set path_prefix: train/"),
        ("img_17.JPG", "IMG_17.jpg", "the nearest is IMG_17.jpg"),
        ("17.png", "17.jpg", "the nearest is 17.jpg"),
        ("C:\\photos\\17.jpg", "17.jpg", "the nearest is 17.jpg"),
        ("image17.jpg", "image_17.jpg", "the nearest is image_17.jpg"),
        ("train/17.jpg", "test/17.jpg", "the nearest is test/17.jpg"),
    ],
)
def test_the_message_names_the_file_that_was_probably_meant(
    tmp_path: Path, row: str, there: str, hint: str
) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_bytes(b"one")
    (item,) = items(write(tmp_path, f"path,label\n{row},a\n"))
    with pytest.raises(FileNotFoundError) as error:
        item.load()
    assert error.value.strerror.startswith(f"No such file or directory; {hint}")


def test_a_name_that_resembles_nothing_gets_no_advice(tmp_path: Path) -> None:
    (item,) = items(write(tmp_path, "path,label\n17.jpg,a\n"))
    with pytest.raises(FileNotFoundError) as error:
        item.load()
    assert error.value.strerror == "No such file or directory"


HEADS = {
    "Excel's separator": "sep=;\npath;label\n1,5.jpg;a\n",
    "Excel's separator, quoted": '"sep=;"\r\npath;label\r\n1,5.jpg;a\r\n',
    "Excel's separator in a wide sheet": "SEP=;;;\npath;label\n1,5.jpg;a\n",
    "a tab as separator": "sep=\t\npath\tlabel\n1,5.jpg\ta\n",
    "a bar as separator": "path|label\n1,5.jpg|a\n",
    "an empty line": "\n\npath;label\n1,5.jpg;a\n",
    "an empty line of a sheet": ";;\n \npath;label\n1,5.jpg;a\n",
    "a comment": "# exported in May, by hand\npath;label\n1,5.jpg;a\n",
    "all of them": "# May\n\nsep=;\n#\npath;label\n1,5.jpg;a\n",
    "a head that looks like a comment": "#path;label\n1,5.jpg;a\n",
    "a head over two lines": '"path";"label";"a\nnote"\n1,5.jpg;a;x\n',
}
ENCODINGS = {
    "utf-8": "",
    "utf-8-sig": "",
    "utf-16": "",
    "utf-16-le": "\ufeff",
    "utf-16-be": "\ufeff",
    "utf-32": "",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("head", HEADS)
def test_what_spreadsheets_write_above_the_rows_is_read(
    tmp_path: Path, head: str, encoding: str
) -> None:
    (tmp_path / "labels.csv").write_bytes((ENCODINGS[encoding] + HEADS[head]).encode(encoding))
    assert [(item.name, item.label) for item in items(tmp_path)] == [("1,5.jpg", "a")]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_read_without_its_mark_too(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "labels.csv").write_bytes("path,label\nä.jpg,猫\n".encode(encoding))
    assert [(item.name, item.label) for item in items(tmp_path)] == [("ä.jpg", "猫")]
    (tmp_path / "rows.jsonl").write_bytes('{"path": "ä.jpg", "label": "猫"}\n'.encode(encoding))
    assert [item.label for item in items(tmp_path / "rows.jsonl")] == ["猫"]


def test_lines_are_counted_from_the_top_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "# May\nsep=;\n\npath;label\n1.jpg;a;x\n")
    assert [*reasons(file)] == ["labels.csv:5"]


def test_a_file_without_ends_of_lines_is_no_listing(tmp_path: Path) -> None:
    with (tmp_path / "labels.csv").open("wb") as file:
        file.truncate(3_000_000_000)
    with pytest.raises(FieldmarkError, match="line 1 is longer than"):
        read(tmp_path)


def remarks(images: Path, **changes: str) -> list[str]:
    return [entry.text for entry in read(images, **changes) if isinstance(entry, Remark)]


MEANING = (
    "path,label,weight,group,split,p_a,p_b\n1,a,72.5,x,train,,\n2,b,98,x,test,0.9,0.1\n3,b,,,,,\n"
)


def test_columns_that_mean_something_are_announced(tmp_path: Path) -> None:
    lines = remarks(write(tmp_path, MEANING))
    assert [line.partition(";")[0] for line in lines] == [
        "column group keeps rows of one value in one split, in 2 rows",
        "column split says which split a row is in, in 2 rows",
        "column weight says how much a row counts in training (72.5 to 98), in 2 rows",
        "columns p_a, p_b say how probable each class is: a soft label, in 1 row",
    ]
    assert lines[2].endswith('; if it means something else, set weight_column: "" in ingest.source')


def test_a_column_that_is_switched_off_is_a_note(tmp_path: Path) -> None:
    """And takes nothing from a column without a name, as pandas writes its index."""
    off = {
        "weight_column": "",
        "group_column": "",
        "split_column": "",
        "probability_prefix": "",
    }
    file = write(tmp_path, f",{MEANING.splitlines()[0]}\n7,1,a,72.5,x,train,0.9,0.1\n")
    assert remarks(file, **off) == []
    (item,) = items(file, **off)
    assert (item.weight, item.group, item.given_split, item.soft_label) == (1.0, "", "", None)
    assert {"weight": "72.5", "group": "x", "split": "train"}.items() <= item.metadata.items()


def test_a_listing_of_paths_and_labels_is_announced_by_nothing(tmp_path: Path) -> None:
    assert remarks(write(tmp_path, "path,label,camera\n1,a,left\n")) == []


@pytest.mark.usefixtures("project")
def test_check_announces_them_too(tmp_path: Path) -> None:
    write(tmp_path, MEANING)
    command = ["ingest", "--check", "listing", "--images", str(tmp_path)]
    text = CliRunner().invoke(cli.app, command).stdout
    assert "  column weight says how much a row counts in training (72.5 to 98), in 2 rows" in text


def test_secrets_of_addresses_are_in_no_record_and_files_stay_apart(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "path,label,group,page\n"
        "https://me:hush@h.example/1.jpg?token=hush,a,https://h.example/p?id=hush1,\n"
        "https://h.example/1.jpg?token=hush2,b,https://h.example/p?id=hush2,https://u:hush@h/x\n"
        "reference://me:hush@h/1.jpg,a,,\n",
    )
    assert "hush" not in repr([{**vars(entry), "load": ""} for entry in read(file)])
    first, second = items(file)
    assert (first.name, second.name) == ("https://h.example/1.jpg", "https://h.example/1.jpg (2)")
    assert (first.group, second.group) == ("https://h.example/p", "https://h.example/p (2)")
    assert second.metadata == {"page": "https://h/x"}
