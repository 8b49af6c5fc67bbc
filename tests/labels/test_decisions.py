"""Decisions: what people say holds, disagreement holds nothing, a malformed file is named, nothing
written is lost.
"""

import multiprocessing
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from pipeline import FieldmarkError
from pipeline.labels.decisions import COLUMNS, append, apply, read, standing, unmatched

HEADER = "id,decision,label,by,when\n"


def said(*lines: str) -> pd.DataFrame:
    return pd.DataFrame([line.split(",") for line in lines], columns=COLUMNS, dtype=str)


def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {"id": ["a", "b"], "label": ["cat", "dog"], "soft_label": ["{}", "{}"]}, dtype=str
    )


def written(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "text", [None, "", HEADER, HEADER.strip()], ids=["no file", "empty", "header", "no newline"]
)
def test_no_decisions_change_nothing(tmp_path: Path, text: str | None) -> None:
    folder = tmp_path if text is None else written(tmp_path, text)
    changed = apply(rows(), read(folder))
    pd.testing.assert_frame_equal(changed, rows().assign(decision=pd.Series(["", ""], dtype=str)))


def test_a_file_is_read_with_quotes_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = (
        "\ufeff"
        + HEADER
        + 'a,relabel,"cat, big",Zoë,2026-01-31\n\n"007",keep,,Zoë,2026-01-31T10:00:00Z\n'
    )
    decisions = read(written(tmp_path, text))
    assert decisions["id"].tolist() == ["a", "007"]
    assert decisions["label"].tolist() == ["cat, big", ""]
    assert decisions["by"].tolist() == ["Zoë", "Zoë"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,decision\n", "line 1: the columns must be id,decision,label,by,when"),
        (
            HEADER + "a,keep,,z,2026-01-01\na,maybe,,z,2026-01-01\n",
            "line 3: .*'maybe'.* keep, relabel, drop, unsure, withdraw",
        ),
        (HEADER + "a,keep,,z\n", "line 2: 4 fields"),
        (HEADER + ",keep,,z,2026-01-01\n", "line 2: the id is empty"),
        (HEADER + "a,relabel,,z,2026-01-01\n", "line 2: relabel without a label"),
        (HEADER + "a,keep,,z,yesterday\n", "line 2: .*'yesterday'.* ISO 8601"),
        (HEADER + 'a,keep,"x"y,z,2026-01-01\n', "not readable as CSV"),
    ],
    ids=["columns", "decision", "fields", "id", "label", "time", "quotes"],
)
def test_a_malformed_file_is_refused_with_line_and_valid_values(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(FieldmarkError, match=f"(?s)labels.csv.*{message}"):
        read(written(tmp_path, text))


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(HEADER.encode() + b"a,relabel,\xff,z,2026-01-01\n")
    with pytest.raises(FieldmarkError, match=r"labels\.csv is not UTF-8"):
        read(tmp_path)


@pytest.mark.parametrize("decision", ["keep", "drop", "unsure"])
def test_only_relabel_changes_a_label(decision: str) -> None:
    changed = apply(rows(), said(f"a,{decision},dog,z,2026-01-01"))
    assert changed["decision"].tolist() == [decision, ""]
    assert changed["label"].tolist() == ["cat", "dog"]


def test_relabel_gives_a_certain_label_to_its_row_only() -> None:
    before = rows()
    changed = apply(before, said("a,relabel,bird,z,2026-01-01"))
    assert changed["label"].tolist() == ["bird", "dog"]
    assert changed["soft_label"].tolist() == ["", "{}"]
    pd.testing.assert_frame_equal(before, rows())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2026-01-01T10:00", "2026-01-01T11:00"),
        ("2026-01-01T12:00+03:00", "2026-01-01T10:00"),
        ("2026-01-01",) * 2,
    ],
    ids=["later", "time zones", "same time, later line"],
)
def test_the_last_decision_of_one_person_counts(first: str, second: str) -> None:
    changed = apply(rows(), said(f"a,drop,,z,{first}", f"a,keep,,z,{second}"))
    assert changed["decision"].tolist() == ["keep", ""]


def test_the_later_decision_counts_even_where_its_line_comes_first() -> None:
    changed = apply(rows(), said("a,keep,,z,2026-01-02", "a,drop,,z,2026-01-01"))
    assert changed["decision"].tolist() == ["keep", ""]


@pytest.mark.parametrize("other", ["keep,", "drop,", "unsure,", "relabel,fish"])
def test_people_who_differ_make_a_conflict_that_changes_nothing(other: str) -> None:
    changed = apply(rows(), said("a,relabel,bird,y,2026-01-01", f"a,{other},z,2026-01-02"))
    assert changed["decision"].tolist() == ["conflict", ""]
    assert changed["label"].tolist() == ["cat", "dog"]
    assert changed["soft_label"].tolist() == ["{}", "{}"]


def test_people_who_agree_in_the_end_are_no_conflict() -> None:
    lines = ["a,drop,,y,2026-01-01", "a,relabel,bird,z,2026-01-02", "a,relabel,bird,y,2026-01-03"]
    changed = apply(rows(), said(*lines))
    assert changed["decision"].tolist() == ["relabel", ""]
    assert changed["label"].tolist() == ["bird", "dog"]


def test_decisions_on_images_that_are_not_there_are_counted() -> None:
    decisions = said("a,keep,,z,2026-01-01", "gone,drop,,z,2026-01-01", "gone,keep,,z,2026-01-02")
    assert unmatched(rows(), decisions) == 1
    assert apply(rows(), decisions)["decision"].tolist() == ["keep", ""]


@given(data=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("decisions")
    (folder / "labels.csv").write_bytes(HEADER.encode() + data)
    with suppress(FieldmarkError):
        assert set(read(folder)["decision"]) <= {"keep", "relabel", "drop", "unsure", "withdraw"}


def test_a_withdrawal_brings_back_what_the_same_person_said_before() -> None:
    lines = [
        f"a,{said},,z,2026-01-0{day}"
        for day, said in enumerate(["keep", "drop", "withdraw"], start=1)
    ]
    assert apply(rows(), said(*lines))["decision"].tolist() == ["keep", ""]
    everything = said(*lines, "a,withdraw,,z,2026-01-04", "a,withdraw,,z,2026-01-05")
    pd.testing.assert_frame_equal(apply(rows(), everything), apply(rows(), said()))


def test_a_withdrawal_leaves_what_others_said() -> None:
    lines = ["a,keep,,y,2026-01-01", "a,drop,,z,2026-01-02", "a,withdraw,,z,2026-01-03"]
    assert apply(rows(), said(*lines))["decision"].tolist() == ["keep", ""]
    assert standing(said(*lines))[["id", "by"]].to_numpy().tolist() == [["a", "y"]]


def test_git_merges_what_two_people_added_also_by_a_spreadsheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, file = Path("data/decisions"), Path("data/decisions/labels.csv")

    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words],
            check=True,
            capture_output=True,
        )

    folder.mkdir(parents=True)
    file.write_text(HEADER)
    shutil.copy(ROOT / ".gitattributes", tmp_path)
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "start")
    git("checkout", "-qb", "ada")
    append(
        folder,
        [["a", "relabel", "bird", "Ada", "2026-01-02"], ["b", "keep", "", "Ada", "2026-01-02"]],
        tmp_path / "lock",
    )
    git("commit", "-qam", "Ada")
    git("checkout", "-q", "main")
    file.write_bytes(f"{HEADER}a,relabel,fish,Zoë,2026-01-01\n".replace("\n", "\r\n").encode())
    git("commit", "-qam", "Zoë")
    git("merge", "-q", "--no-edit", "ada")
    assert (
        sorted(read(folder)["by"]) == ["Ada", "Ada", "Zoë"] and file.read_text().count(HEADER) == 1
    )
    assert apply(rows(), read(folder))["decision"].tolist() == ["conflict", "keep"]


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "that of a spreadsheet"])
def test_a_first_line_that_a_merge_kept_twice_is_none(tmp_path: Path, mark: str) -> None:
    assert read(written(tmp_path, f"{HEADER}a,keep,,z,2026-01-01\n{mark}{HEADER}"))[
        "id"
    ].tolist() == ["a"]


def test_added_lines_are_read_back_and_what_was_there_keeps_its_bytes(tmp_path: Path) -> None:
    before = (
        "\ufeff" + HEADER + "a,keep,,Zoë,2026-01-01"
    )  # a hand-edited file without its last newline
    new = ["b", "relabel", 'a "big", cat\nor two', "Zoë", "2026-01-02"]
    append(written(tmp_path, before), [new], tmp_path / "lock")
    assert (tmp_path / "labels.csv").read_text().startswith(before + "\n")
    assert read(tmp_path).to_numpy().tolist()[1] == new


@pytest.mark.parametrize(
    "wrong",
    [["", "keep", "", "z", "2026-01-01"], ["a", "keep", "", "z", "soon"]],
    ids=["id", "time"],
)
def test_a_line_that_could_not_be_read_is_never_written(tmp_path: Path, wrong: list[str]) -> None:
    right = ["a", "keep", "", "z", "2026-01-01"]
    with pytest.raises(FieldmarkError, match="not written"):
        append(tmp_path, [right, wrong], tmp_path / "lock")
    assert len(read(tmp_path)) == 0


def add_many(folder: Path, by: str, n: int) -> None:
    for i in range(n):
        append(folder, [[f"{by}{i}", "keep", "", by, "2026-01-01"]], folder / "lock")


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=add_many, args=(tmp_path, by, 20)) for by in "yz"]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert sorted(read(tmp_path)["id"]) == sorted(f"{by}{i}" for by in "yz" for i in range(20))


def test_a_kill_leaves_whole_lines_in_order(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("spawn").Process(
        target=add_many, args=(tmp_path, "z", 100_000)
    )
    writer.start()
    while len(read(tmp_path)) < 5:
        time.sleep(0.01)
    writer.kill()
    writer.join()
    ids = read(tmp_path)["id"].tolist()
    assert len(ids) > 0
    assert ids == [f"z{i}" for i in range(len(ids))]
    append(
        tmp_path, [["next", "keep", "", "z", "2026-01-01"]], tmp_path / "lock"
    )  # the lock is free again
    assert read(tmp_path)["id"].tolist() == [*ids, "next"]
