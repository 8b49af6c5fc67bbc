from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import write_forty_photos
from typer.testing import CliRunner

from pipeline import FieldmarkError, cli, config
from pipeline.sources import Item, Skipped, preview
from pipeline.sources.encode import png
from pipeline.stages import ingest


def grey(value: int) -> Callable[[], bytes]:
    return lambda: png(np.full((4, 4), value % 256))


def lines(*entries: Item | Skipped) -> list[str]:
    """What is said of them, less the warning that they are few."""
    report = preview.describe(entries, max_pixels=100).splitlines()
    return [line for line in report if not line.startswith("few images: ")]


def test_classes_of_few_images_are_named_before_anything_is_trained() -> None:
    counts = {"cat": 3, "dog": 29, "hen": 30, preview.UNLABELLED: 1}
    assert preview.few(counts) == [
        "few images: 3 of cat, 29 of dog; 3 a class is too few, from about 30 figures mean "
        "something, about 100 is a good start"
    ]
    assert preview.few({"cat": 30, "dog": 4000}) == []
    report = preview.describe([Item("a", grey(1), "cat"), Item("b", grey(2), "dog")], 100)
    assert "few images: 1 of cat, 1 of dog;" in report


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("place", ["photos", "my photos, 'old'"])
def test_the_lines_of_params_yaml_that_would_use_a_folder_are_printed_and_do_so(
    place: str,
) -> None:
    for name in ("cat", "dog"):
        Path(place, name).mkdir(parents=True)
        Path(place, name, "a.png").write_bytes(grey(len(name + place))())
    command = ["ingest", "--check", "folder", "--images", place]
    report = CliRunner().invoke(cli.app, command).stdout
    printed = report.partition("these lines of params.yaml would use it:\n")[2].splitlines()
    params = Path("params.yaml").read_text(encoding="utf-8").splitlines()
    keys = [line.strip().partition(":")[0] for line in printed]
    others = [line for line in params if line.partition(":")[0] not in keys]
    Path("params.yaml").write_text("\n".join([*others, *map(str.strip, printed)]))
    cfg = config.load("images", "ingest", "augment")
    assert cfg.images == place
    assert cfg.ingest == config.load("ingest", use={"ingest": "folder"}).ingest
    assert keys == ["images", "ingest", "augment"]


@pytest.mark.usefixtures("project")
def test_a_listing_that_is_in_use_is_looked_at_with_the_columns_of_params_yaml() -> None:
    Path("birds").mkdir()
    for name in ("cat", "dog"):
        Path("birds", f"{name}.png").write_bytes(grey(len(name) + ord(name[0]))())
    Path("birds", "labels.csv").write_text("filename,species\ncat.png,cat\ndog.png,dog\n")
    lines = Path("params.yaml").read_text(encoding="utf-8").splitlines()
    used = "ingest: {use: listing, source: {path_column: filename, label_column: species}}"
    kept = [line for line in lines if not line.startswith("ingest:")]
    Path("params.yaml").write_text("\n".join([*kept, used]))
    command = ["ingest", "--check", "listing", "--images", "birds"]
    report = CliRunner().invoke(cli.app, command).stdout
    assert "2 files in 2 classes" in report
    assert report.endswith('these lines of params.yaml would use it:\n  images: "birds"\n')


def test_it_says_what_would_be_taken_in_by_class_and_split() -> None:
    report = lines(
        Item("a", grey(1), "cat", given_split="train"),
        Item("b", grey(2), "dog"),
        Item("c", grey(3), ""),
    )
    assert report == [
        "3 files in 2 classes",
        "  class (unlabelled): 1",
        "  class cat: 1",
        "  class dog: 1",
        "  split (to be dealt): 2",
        "  split train: 1",
        "decoded all: 3 are images, 0 are not, 0 are exact duplicates",
        "nothing else would be left out",
    ]


def test_it_says_what_would_be_left_out_with_examples() -> None:
    skipped = [Skipped(f"{number}.tmp", "litter") for number in range(5)]
    report = lines(
        Item("a", grey(1), "cat"),
        Item("b", grey(1), "dog"),
        Item("c", lambda: b"no", "cat"),
        *skipped,
    )
    assert report[-4] == "decoded all: 2 are images, 1 are not, 1 are exact duplicates"
    assert report[-3:-1] == ["left out, 6 in all:", "  5 x litter: 0.tmp, 1.tmp, 2.tmp, ..."]
    assert report[-1].startswith("  1 x not an image of a known format")


def test_a_listing_whose_every_row_is_wrong_in_its_own_way_is_told_in_few_lines() -> None:
    report = lines(
        *(
            Skipped(f"{row}.jpg", f"line {row}, column weight: 'n/a' is no number")
            for row in range(1000)
        )
    )
    assert report[3] == "  1 x line 0, column weight: 'n/a' is no number: 0.jpg"
    assert report[-2] == "  980 more, for 980 other reasons"


def test_classes_that_read_alike_are_named() -> None:
    classes = ["hat", "Hat", "hat ", "cap", "t-shirt", "T shirt", "ｃａｐ"]
    report = lines(*(Item(name, grey(i), name) for i, name in enumerate(classes)))
    assert [line.partition(" differ")[0] for line in report[-3:]] == [
        "the classes 'Hat', 'hat', 'hat '",
        "the classes 'T shirt', 't-shirt'",
        "the classes 'cap', 'ｃａｐ'",
    ]


def test_classes_that_read_apart_are_not_named() -> None:
    classes = ["hat", "hats", "cat", "a1", "a2", "_", "-", "1.5", "15"]
    report = lines(*(Item(name, grey(i), name) for i, name in enumerate(classes)))
    assert report[-1] == "nothing else would be left out"


def test_a_single_class_is_told_to_be_too_few() -> None:
    """It is what ingest refuses; images without a label may still become another one."""
    assert (
        lines(Item("a", grey(1), "cat"))[-1]
        == "at least two classes are needed, or images without a label"
    )
    assert (
        lines(Item("a", grey(1), "cat"), Item("b", grey(2), ""))[-1]
        == "nothing else would be left out"
    )


def test_of_many_images_a_sample_is_decoded() -> None:
    loaded = []

    def load(number: int) -> bytes:
        loaded.append(number)
        return grey(number)()

    def source() -> Iterator[Item]:
        for number in range(2000):
            yield Item(str(number), lambda number=number: load(number), "cat")  # type: ignore[misc]

    report = preview.describe(source(), max_pixels=100)
    assert "decoded a sample of 250, one in 8: 250 are images" in report
    assert sorted(loaded) == list(range(0, 2000, 8))


def test_what_check_calls_an_image_is_what_run_takes(project: Path) -> None:
    write_forty_photos(project / "photos")
    report = (
        CliRunner().invoke(cli.app, ["ingest", "--check", "folder", "--images", "photos"]).stdout
    )
    cfg = config.load("images", "ingest", use={"ingest": "folder"})
    metrics = ingest.run(
        cfg, images=project / "photos", feedback=project / "data" / "feedback", out=project / "out"
    )
    n = round(metrics["n_images"] + metrics["n_exact_duplicates"])
    assert f"decoded all: {n} are images, 2 are not, 1 are exact duplicates" in report
    assert "class folder holds no files: nothing here/" in report


@pytest.mark.usefixtures("project")
def test_a_slip_in_the_name_of_a_source_is_named() -> None:
    with pytest.raises(
        FieldmarkError, match="^there is no conf/ingest/foldr.yaml; did you mean folder"
    ):
        CliRunner().invoke(cli.app, ["ingest", "--check", "foldr"], catch_exceptions=False)


@pytest.mark.usefixtures("project")
def test_a_source_is_named_only_to_check_it() -> None:
    with pytest.raises(FieldmarkError, match="only with --check"):
        CliRunner().invoke(cli.app, ["ingest", "folder"], catch_exceptions=False)
